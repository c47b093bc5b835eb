"""What the tests of diff and of its causes ask, and how they read the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.inputs import Inputs
from pellucid.recipe import load
from pellucid.replay.explain import Difference, words
from tests.replay.faults import (
    DENSE,
    SPARSE,
)

Q_PROJ, UP_PROJ = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"
BOTH = pytest.mark.parametrize(
    "kept", [DENSE, SPARSE], ids=["every step stored", "few steps stored"]
)


def quiet(done: int, total: int) -> None:
    pass


def inputs_of(folder: Path) -> Inputs:
    return Inputs.load(folder, load(folder))


def named(found: Difference) -> tuple[str, str]:
    assert found.cause is not None
    return found.cause.name, found.cause.certainty


def explained(found: Difference) -> str:
    return "\n".join(words(found))
