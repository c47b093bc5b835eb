"""Norms of weights and updates are those of the states before and after a step."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pellucid.errors import StepUnknown
from pellucid.inputs import Inputs
from pellucid.opened import Run
from pellucid.recipe import load
from pellucid.replay.materialise import materialise
from pellucid.replay.norms import Row, lines, norms
from pellucid.train.state import array_of

STEPS = (1, 4, 5, 9)


def unwatched(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def found(finished: Path) -> list[Row]:
    return norms(finished, [5, *STEPS], unwatched)


def weights(folder: Path, step: int) -> dict[str, np.ndarray]:
    state = materialise(Inputs.load(folder, load(folder)), step, unwatched)
    return {
        name: array_of(tensor).astype(np.float64).copy()
        for name, tensor in state.model.named_parameters()
    }


def test_each_row_is_of_the_states_before_and_after(finished: Path, found: list[Row]) -> None:
    assert list(dict.fromkeys(row.step for row in found)) == [*STEPS]
    for step in (1, 9):
        before, after = weights(finished, step - 1), weights(finished, step)
        rows = {row.tensor: row for row in found if row.step == step}
        assert list(rows) == ["", *after]
        for name, values in after.items():
            change = values - before[name]
            assert rows[name].weight == pytest.approx(math.sqrt((values**2).sum()), rel=1e-12)
            assert rows[name].update == pytest.approx(math.sqrt((change**2).sum()), rel=1e-12)


def test_all_weights_together_have_the_recorded_norm(finished: Path, found: list[Row]) -> None:
    rows = Run(finished).sql("select step, weight_norm from steps").to_pylist()
    recorded = {row["step"]: row["weight_norm"] for row in rows}
    for row in found:
        if not row.tensor:
            assert row.weight == pytest.approx(recorded[row.step], rel=1e-6)
            assert 0 < row.relative == row.update / row.weight < 1


def test_the_table_joins_the_layers_of_a_kind(found: list[Row]) -> None:
    head, *table = lines(found)
    assert head.split() == ["step", "tensors", "weights", "update", "update", "/", "weights"]
    assert [line.split()[0] for line in table if " all " in line] == [str(step) for step in STEPS]
    own = [row for row in found if row.step == 1 and row.tensor.endswith("up_proj.weight")]
    (line,) = [line for line in table[: len(table) // len(STEPS)] if "mlp.up_proj" in line]
    update = math.hypot(*(row.update for row in own))
    assert len(own) > 1 and line.split()[2] == f"{update:.4g}"


@pytest.mark.parametrize("step", [-1, 0, 10_000])
def test_a_step_that_nothing_took_is_named(finished: Path, step: int) -> None:
    with pytest.raises(StepUnknown, match=f"Step {step}"):
        norms(finished, [step, 3], unwatched)
