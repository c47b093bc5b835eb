"""A run whose ledger commits to every microbatch's gradient."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import finish, make_run


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """Four microbatches a step, anchors at 0 and 5 and 10 and 13. Only to be read."""
    settings = ["record.commitment=microbatches", "train.batch=8", "placement.anchors.powers_of_two=false"]
    return finish(make_run(tmp_path_factory.mktemp("runs") / "committed", corpus, settings))


@pytest.fixture
def committed_copy(committed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(committed, tmp_path / "committed"))
