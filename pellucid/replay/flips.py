"""Faults of a gradient: one flipped bit, found and proven; a wrong tile, found where the
state after the step is stored.

One bit of one gradient changes one element's update and, by the norm, the clipping of all the
others. The recorded norm tells how much the sum of squares changed, and few bits of few
elements change it by just that."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from pellucid import counts
from pellucid.data.stage import Meter
from pellucid.record import digests
from pellucid.replay import blame
from pellucid.replay.again import Gradients, with_gradient, with_update
from pellucid.replay.experiments import FITS, Cause, Hypothesis, Question
from pellucid.train.events import Groups
from pellucid.train.gradients import GradientTree
from pellucid.train.processes import ALONE

_ROUNDINGS = 8  # Of the two norms and of their squares, in units of 2^-52 of the sum of squares.
_BITS = 32  # Of an element.
_MOST = 4096  # Candidates whose norm is computed.


def isolated(question: Question) -> list[blame.Tensor]:
    """Where the other side's gradients differ, by what its optimizer keeps. Ours
    are clipped by its recorded norm.

    Without that stored, by its weights. Empty where nothing is stored.
    """
    if question.stored is None:
        return []
    ours = _with_recorded_norm(question)
    # Each tensor by the first of the optimizer's groups that has it:
    # there a gradient goes in unmixed.
    first: dict[str, str] = {}
    for group in [*(group for group in ours if group != "weights"), "weights"]:
        if group in question.stored:
            first = dict.fromkeys(ours[group], group) | first
    chosen = {
        group: {name: array for name, array in arrays.items() if first.get(name) == group}
        for group, arrays in ours.items()
    }
    return blame.differing(chosen, question.stored)


def _with_recorded_norm(question: Question) -> Groups:
    train, norm = question.again.recipe.train, digests.bits_float(question.target["grad_norm"])
    clip = train.clip / norm if norm > train.clip else 1.0
    return question.again.take(recipe=with_update(question.again.recipe, clip=clip)).after


def fitting(question: Question, tensors: list[blame.Tensor]) -> Cause | None:
    """What the places of the differences say, where no experiment made the bits again."""
    names = [tensor.name for tensor in tensors]
    if not names:
        return None
    operation = {"name": blame.makers(names, question.again.recipe.model), "phase": question.phase}
    tiles = [tensor for tensor in tensors if tensor.tile]
    if len(tensors) == 1 and tiles:
        description = (
            f"one tile of a product is wrong: the gradient of {names[0]} differs in rows "
            f"{_span(tiles[0].rows)}"
        )
        description += f" and columns {_span(tiles[0].columns)} and nowhere else"
        return Cause("wrong tile", FITS, description, operation)
    if len(tensors) == 1:
        count = f"{tensors[0].elements:,} of {tensors[0].of:,} elements"
        return Cause(
            "wrong gradient",
            FITS,
            f"only the gradient of {names[0]} differs, in {count}",
            operation,
        )
    description = (
        f"the gradients of {len(names)} tensors differ, of {len(question.again.before['weights'])}"
    )
    return Cause("wrong gradients", FITS, description, operation)


def _span(bounds: tuple[int, int]) -> str:
    return f"{bounds[0]} to {bounds[1]}"


def flipped(question: Question, tensors: list[blame.Tensor]) -> Iterator[Hypothesis]:
    """Every bit of a gradient, summed or of one microbatch, that fits what is
    stored, or else the recorded norm."""
    if tensors and (len(tensors) > 1 or tensors[0].elements > 1):
        return
    total, separate = question.again.gradients()
    sources: list[tuple[int | None, Gradients]] = [(None, total)]
    if len(separate) > 1:
        sources += list(enumerate(separate))
    names = [tensors[0].name] if tensors else sorted(total, key=str.encode)
    count = _BITS * len(sources) * (1 if tensors else sum(total[name].size for name in names))
    search = _Search(
        question, total, separate, Meter(question.search, "search", "flips", total=count)
    )
    for name in names:
        place = (
            tensors[0].rows[0] * total[name].shape[-1] + tensors[0].columns[0] if tensors else None
        )
        # Flips of one element that give one value give one state: no
        # experiment can tell them apart.
        flips: dict[tuple[int, float], list[tuple[int, int | None]]] = {}
        for microbatch, gradients in sources:
            for index, bit, value in search.candidates(name, microbatch, gradients[name], place):
                flips.setdefault((index, value), []).append((bit, microbatch))
        for (index, value), alike in flips.items():
            if search.has_norm(name, index, value):
                yield _flip(question, name, index, value, alike)
    search.meter.tell()


class _Search:
    """Which single changes of the summed gradients give the recorded norm."""

    def __init__(
        self, question: Question, total: Gradients, separate: list[Gradients], meter: Meter
    ) -> None:
        self.meter = meter
        self._total, self._each, self._left = total, separate, _MOST
        self._ops, self._wanted = question.again.operations(), question.target["grad_norm"]
        squares = digests.bits_float(question.found["grad_norm"]) ** 2
        self._change = digests.bits_float(self._wanted) ** 2 - squares
        self._tolerance = _ROUNDINGS * 2.0**-52 * squares
        self._names = sorted(total, key=str.encode)
        self._tensors = [torch.from_numpy(total[name].copy()) for name in self._names]

    def candidates(
        self, name: str, microbatch: int | None, gradient: np.ndarray, place: int | None
    ) -> Iterator[tuple[int, int, float]]:
        """(element, bit, value of the sum) of each flip in a tensor's
        gradient, or in one element of it."""
        if place is None and abs(self._change) <= self._tolerance:
            self.meter.add(_BITS * gradient.size)
            return  # The norm tells nothing: a changed sign, or a change too small for it.
        chosen = slice(None) if place is None else slice(place, place + 1)
        old = self._total[name].reshape(-1)[chosen]
        bits = np.ascontiguousarray(gradient).reshape(-1)[chosen].view(np.uint32)
        for bit in range(_BITS):
            self.meter.add(old.size)
            values = (bits ^ np.uint32(1 << bit)).view(np.float32)
            with np.errstate(over="ignore", invalid="ignore"):
                new = (
                    values if microbatch is None else self._summed(name, microbatch, values, chosen)
                )
                change = new.astype(np.float64) ** 2 - old.astype(np.float64) ** 2
                fits = np.abs(change - self._change) <= self._tolerance + 2.0**-50 * np.abs(change)
            for index in np.flatnonzero(fits & np.isfinite(new)).tolist():
                yield index + (place or 0), bit, float(new[index])

    def _summed(self, name: str, microbatch: int, values: np.ndarray, chosen: slice) -> np.ndarray:
        """The sum over microbatches where one of them has these values; one rounding an
        addition, as the kernels do."""
        tree: Any = GradientTree(SimpleNamespace(add_into=np.add))  # type: ignore[arg-type]
        for index, gradients in enumerate(self._each):
            tree.add([values if index == microbatch else gradients[name].reshape(-1)[chosen]])
        return ALONE.total(tree, len(self._each), [])[0]  # type: ignore[return-value]

    def has_norm(self, name: str, index: int, value: float) -> bool:
        if not self._left:
            return False
        self._left -= 1
        self.meter.add(0)  # A norm takes as long as thousands of flips.
        flat = self._tensors[self._names.index(name)].view(-1)
        old = flat[index].item()
        flat[index] = value
        norm = self._ops.norm_of(self._tensors)
        flat[index] = old
        return digests.float_bits(norm) == self._wanted


def _flip(
    question: Question, name: str, index: int, value: float, flips: list[tuple[int, int | None]]
) -> Hypothesis:
    again = question.again
    place = sorted(counts.learning(again.recipe, again.inputs.vocabulary), key=str.encode).index(
        name
    )
    size = again.before["weights"][name].size
    row, column = divmod(index, again.before["weights"][name].shape[-1])
    described = " or ".join(f"bit {bit} of {_which(microbatch)}" for bit, microbatch in flips)
    more = "; all of them give the same sum" if len(flips) > 1 else ""
    bit, microbatch = flips[0] if len(flips) == 1 else (None, None)
    return Hypothesis(
        "flipped bit",
        f"{described} was flipped, in the gradient of {name}, row {row}, column {column}{more}",
        lambda around: {"ops": with_gradient(again.operations(around), place, index, value)},
        passing=("microbatches",),
        operation={
            "name": f"between {blame.maker(name)} and the gradient norm",
            "phase": "backward",
            "microbatch": microbatch,
        },
        microbatch=microbatch,
        tensor=blame.Tensor("gradient", name, 1, size, (row, row), (column, column), False, bit),
    )


def _which(microbatch: int | None) -> str:
    return "the summed gradient" if microbatch is None else f"microbatch {microbatch}'s gradient"
