"""Runs whose ledgers commit to every microbatch, and runs that were trained under a fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid.replay.diff import diff
from pellucid.replay.explain import Difference
from tests.conftest import finish, make_run
from tests.replay.differences import quiet
from tests.replay.faults import (
    STEP,
    Plant,
    trained,
)


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """Four microbatches a step, anchors at 0 and 5 and 10 and 13. Only to be read."""
    settings = [
        "record.commitment=microbatches",
        "train.batch=8",
        "placement.anchors.powers_of_two=false",
    ]
    return finish(make_run(tmp_path_factory.mktemp("runs") / "committed", corpus, settings))


@pytest.fixture
def committed_copy(committed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(committed, tmp_path / "committed"))


@pytest.fixture
def against(finished: Path, corpus: Path, tmp_path: Path) -> Callable[..., Difference]:
    """The diff of the finished run and one of which a step was taken under a fault."""

    def found(
        plant: Plant, kept: str, *settings: str, a: Path = finished, step: int = STEP
    ) -> Difference:
        b = trained(tmp_path / "faulty", corpus, plant, [*settings, kept])
        result = diff(a, b, quiet)
        json.dumps(result.as_json())
        assert (
            not result.equal
            and result.kind == "step"
            and result.step == step
            and result.agrees == "A"
        )
        return result

    return found
