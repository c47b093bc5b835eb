"""Which tensors of two states differ, where in them, and which operation makes what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import FormatInvalid, StateDiffers
from pellucid.families.base import Model, Reached
from pellucid.store import anchors, layout, tensors
from pellucid.train.events import Groups

_FULL = 0.75  # Of a rectangle: values that come out equal by chance leave holes in a wrong tile.


@dataclass(frozen=True, slots=True)
class Tensor:
    """How one tensor differs between two states."""

    group: str
    name: str
    elements: int  # That differ …
    of: int  # … of so many.
    rows: tuple[int, int]  # First and last row that differs; of a tensor of one dimension (0, 0).
    columns: tuple[int, int]
    tile: bool  # Whether what differs fills a rectangle that is smaller than the tensor.
    bit: int | None  # Where one element differs by one bit: which, 0 the lowest.
    unlike: str = ""  # Where no element has a counterpart: both shapes or types.

    def as_json(self) -> dict[str, Any]:
        named = {name: getattr(self, name) for name in self.__slots__}
        return named if self.unlike else {key: named[key] for key in named if key != "unlike"}

    @property
    def words(self) -> str:
        of = f"{self.group} of {self.name}"
        if self.unlike:
            return f"{of}: {self.unlike}"
        if self.elements == 1:
            bit = "" if self.bit is None else f", bit {self.bit}"
            return f"{of}: one element, row {self.rows[0]}, column {self.columns[0]}{bit}"
        place = f"rows {_span(self.rows)}, columns {_span(self.columns)}"
        shape = (
            f"a tile, {place}"
            if self.tile
            else f"{self.elements:,} of {self.of:,} elements, in {place}"
        )
        return f"{of}: {shape}"


def _span(bounds: tuple[int, int]) -> str:
    return f"{bounds[0]} to {bounds[1]}"


def differing(ours: Groups, theirs: Mapping[str, Mapping[str, np.ndarray]]) -> list[Tensor]:
    """Every tensor that differs, of the groups and names that both have."""
    return [
        compare(group, name, array, theirs[group][name])
        for group, arrays in ours.items()
        if group in theirs
        for name, array in arrays.items()
        if name in theirs[group] and not _same(array, theirs[group][name])
    ]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool((_bits(a) == _bits(b)).all())


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(f"u{array.itemsize}")


def compare(group: str, name: str, a: np.ndarray, b: np.ndarray) -> Tensor:
    """Where two tensors that differ do so."""
    if a.shape != b.shape or a.dtype != b.dtype:
        what = ("shapes", a.shape, b.shape) if a.shape != b.shape else ("types", a.dtype, b.dtype)
        unlike = "{} differ: {} and {}".format(*what)
        return Tensor(group, name, a.size, a.size, (0, 0), (0, 0), False, None, unlike)
    width = a.shape[-1] if a.ndim else 1
    places = np.flatnonzero(_bits(a) != _bits(b))
    rows, columns = np.divmod(places, width)
    low, high = (int(rows.min()), int(columns.min())), (int(rows.max()), int(columns.max()))
    box = (high[0] - low[0] + 1) * (high[1] - low[1] + 1)
    tile = len(places) > 1 and a.ndim == 2 and box < a.size and len(places) >= _FULL * box
    bit = None
    if len(places) == 1:
        changed = int(_bits(a)[places[0]] ^ _bits(b)[places[0]])
        bit = changed.bit_length() - 1 if changed.bit_count() == 1 else None
    return Tensor(group, name, len(places), a.size, (low[0], high[0]), (low[1], high[1]), tile, bit)


def stored(folder: Path, step: int, recorded: Mapping[str, Any]) -> tuple[Groups | None, str]:
    """The state that a run keeps of a step, and in words what that is: its anchor, or
    the weights of its checkpoint.

    None where nothing is kept there, or where what is kept is not what its own ledger records.
    """
    if layout.anchor(folder, step).is_dir():
        try:
            groups, _ = anchors.check(layout.anchor(folder, step), step, str(recorded["state"]))
        except (StateDiffers, FormatInvalid) as error:
            return None, f"no usable tensor of step {step} ({error})"
        return groups, f"the anchor of step {step}"
    path = layout.checkpoint(folder, step) / anchors.WEIGHTS
    if path.is_file():
        return {
            "weights": tensors.Tensors(path).arrays()
        }, f"the weights of the checkpoint of step {step}"
    later = [one for one in layout.steps_in(folder / layout.ANCHORS) if one > step]
    following = f" (the next anchor is that of step {later[0]})" if later else ""
    return None, f"no tensor of step {step}{following}"


def backward_order(shape: Model) -> list[Reached]:
    """Every weight by the order in which backward reaches its gradient; those that are
    made side by side together."""
    order = [] if shape.tied else [Reached(("lm_head.weight",), "loss")]
    order.append(Reached(("model.norm.weight",), "loss or norm_backward, model.norm"))
    for number in reversed(range(shape.layers)):
        layer = f"model.layers.{number}"
        order += [
            Reached(tuple(f"{layer}.{name}" for name in names), between.format(layer))
            for names, between in shape.backward()
        ]
    last = ("model.embed_tokens.weight",)
    between = "norm_backward or add_into, the last one before model.embed_tokens is reached"
    return [*order, Reached(last, between)]


def makers(wrong: Iterable[str], shape: Model) -> str:
    """The operation, or the few, that a set of wrong gradients points to, in words."""
    order, wrong = backward_order(shape), set(wrong)
    first = next((reached for reached in order if wrong & set(reached.names)), None)
    if first is None:
        return ""
    below = {name for reached in order[order.index(first) + 1 :] for name in reached.names}
    if wrong & below:
        return f"backward, {first.between}: what is reached after it differs too"
    return " or ".join(maker(name) for name in first.names if name in wrong)


def maker(name: str) -> str:
    """The operation that makes a tensor's gradient and nothing else."""
    if name == "model.embed_tokens.weight":
        return "the gradient of model.embed_tokens: loss, embed_backward, or the sum of the two"
    if name.endswith("norm.weight"):
        return f"norm_backward, {name.removesuffix('.weight')}"
    if name == "lm_head.weight":
        return "loss, lm_head"
    if name.endswith(".bias"):
        return f"product (gradient of the bias: ones by dy), {name.removesuffix('.bias')}"
    return f"product (gradient of the weight: dyᵀ x), {name.removesuffix('.weight')}"
