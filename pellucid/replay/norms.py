"""How large the weights are and how far a step moves them, tensor by tensor: from the states before
and after a step, which are materialised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pellucid.inputs import Inputs
from pellucid.recipe import load
from pellucid.replay.materialise import Watch, require_step, walk
from pellucid.train.state import State, array_of


class Row(NamedTuple):
    """L2 norms of one tensor, or of all of them together."""

    step: int
    tensor: str  # As in the checkpoint; empty: all tensors.
    weight: float  # Of the weights after the step.
    update: float  # Of what the step added to them.

    @property
    def relative(self) -> float:
        """The update by the weights; NaN where all of them are 0."""
        return self.update / self.weight if self.weight else math.nan


def norms(folder: Path, steps: Sequence[int], watch: Watch) -> list[Row]:
    """Of each of these steps a row for every tensor and one for all, in their order; norms are
    taken in float64. watch is told (steps replayed, steps to replay), for a step is replayed from
    the nearest state stored.

    Raises StepUnknown, also for the first state, which no step made; StateDiffers, LedgerDiffers.
    """
    inputs = Inputs.load(folder, load(folder))
    wanted = sorted(set(steps))
    for step in wanted:
        require_step(inputs, step, taken=True)
    rows, before = list[Row](), dict[str, np.ndarray]()
    both = sorted({at for step in wanted for at in (step - 1, step)})
    for state in walk(inputs, both, watch):
        if state.step in wanted:
            rows += _rows(state, before)
        before = {name: array.copy() for name, array in _weights(state).items()}
    return rows


def _weights(state: State) -> dict[str, np.ndarray]:
    return {name: array_of(tensor) for name, tensor in state.model.named_parameters()}


def _rows(state: State, before: dict[str, np.ndarray]) -> list[Row]:
    rows = [
        Row(state.step, name, _norm(after), _norm(after - before[name].astype(np.float64)))
        for name, after in _weights(state).items()
    ]
    weight, update = (math.hypot(*column) for column in list(zip(*rows, strict=True))[2:])
    return [Row(state.step, "", weight, update), *rows]


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(array.astype(np.float64).ravel()))


def lines(rows: Sequence[Row]) -> list[str]:
    """A table for a terminal: the layers of a kind of tensor together."""
    written = [f"{'step':>8}  {'tensors':<34}{'weights':>10}  {'update':>10}  update / weights"]
    for step in dict.fromkeys(row.step for row in rows):
        kinds = dict[str, list[Row]]()
        for row in rows:
            if row.step == step:
                kinds.setdefault(_kind(row.tensor), []).append(row)
        for kind, group in kinds.items():
            weight, update = (math.hypot(*norms) for norms in list(zip(*group, strict=True))[2:])
            one = Row(step, kind, weight, update)
            number = f"{step:>8,}" if kind == "all" else " " * 8
            figures = f"{weight:>10.4g}  {update:>10.4g}  {one.relative:.3g}"
            written.append(f"{number}  {kind:<34}{figures}")
    return written


def _kind(tensor: str) -> str:
    """A tensor's name without its layer's number."""
    parts = [part for part in tensor.removesuffix(".weight").split(".") if not part.isdigit()]
    return ".".join(parts).removeprefix("model.").removeprefix("layers.") or "all"
