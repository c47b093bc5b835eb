"""Ways to compute wrongly, planted in one step of a run that is trained under them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.kernels import calls
from pellucid.model import Decoder
from pellucid.operations import native, portable
from pellucid.train import gradients, loop
from pellucid.train.state import State
from tests.conftest import finish, make_run

STEP = 7
CLIPPED = 3  # A step whose gradients are longer than train.clip.
DENSE, SPARSE = (
    "placement.anchors={every = 1}",
    "placement.anchors={every = 5, powers_of_two = true}",
)
# In force while a step is taken from a state.
Fault = Callable[[State], AbstractContextManager[None]]
Plant = Callable[[pytest.MonkeyPatch], None]  # In force during a whole training.


def trained(folder: Path, corpus: Path, plant: Plant, settings: list[str]) -> Path:
    """A run that was trained under a fault."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        return finish(make_run(folder, corpus, settings))


def in_step(fault: Fault, number: int = STEP) -> Plant:
    """A fault in one step and in no other."""
    step = loop.training_step

    def stepping(state: State, batch: Any, *rest: Any) -> Any:
        with fault(state) if batch.step == number else contextlib.nullcontext():
            return step(state, batch, *rest)

    return lambda patch: patch.setattr(loop, "training_step", stepping)


def other_rows(change: Callable[[list[int]], list[int]]) -> Plant:
    """Step STEP trains on other blocks than the order gives."""
    batch_of = loop.batch_of

    def batch(order: Any, shards: Any, step: int) -> Any:
        def rows(number: int) -> Any:
            found = order.rows(number)
            return (
                found._replace(blocks=np.array(change(found.blocks.tolist())))
                if number == STEP
                else found
            )

        changed: Any = SimpleNamespace(rows=rows, phase=order.phase)
        return batch_of(changed, shards, step)

    return lambda patch: patch.setattr(loop, "batch_of", batch)


def patched(place: Any, name: str, value: Any) -> Fault:
    @contextlib.contextmanager
    def fault(state: State) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, name, value)
            yield

    return fault


def flip(tensor: torch.Tensor, index: int, bit: int) -> None:
    view = tensor.view(-1).view(torch.int32)
    view[index] ^= (1 << bit) if bit < 31 else -(1 << 31)


def flipped_bit(weight: str, index: int, bit: int, microbatch: int) -> Fault:
    """One bit of one element of one microbatch's gradient, on its way into the sum."""
    add = gradients.GradientTree.add

    def fault(state: State) -> AbstractContextManager[None]:
        place = [*state.learning()].index(weight)

        def adding(tree: Any, sums: list[torch.Tensor]) -> None:
            if tree._next == microbatch:
                flip(sums[place], index, bit)
            add(tree, sums)

        return patched(gradients.GradientTree, "add", adding)(state)

    return fault


def wrong_tile(weight: str, rows: slice, columns: slice, microbatch: int | None = None) -> Fault:
    """A tile of the gradient of one weight is one part in a thousand too large,
    in one microbatch or in all."""

    def fault(state: State) -> AbstractContextManager[None]:
        return patched(calls, "product", _Tile(state.model, weight, (rows, columns), microbatch))(
            state
        )

    return fault


class _Tile:
    """calls.product, with a tile of dW too large. Backward, dx = dy W
    comes right before dW = dyᵀ x."""

    def __init__(
        self, model: Decoder, weight: str, tile: tuple[slice, slice], microbatch: int | None
    ) -> None:
        self._product, self._tile, self._microbatch = calls.product, tile, microbatch
        self._wanted, self._last, self._seen = (
            dict(model.named_parameters())[weight].data_ptr(),
            0,
            0,
        )

    def __call__(
        self, a: torch.Tensor, b: torch.Tensor, start: torch.Tensor | None = None
    ) -> torch.Tensor:
        out = self._product(a, b, start)
        # Only there the first factor is turned.
        if self._last == self._wanted and not a.is_contiguous():
            if self._microbatch in (None, self._seen):
                out[self._tile] *= 1.001
            self._seen += 1
        self._last = b.data_ptr()
        return out


def constant(**constants: float) -> Fault:
    return patched(
        portable,
        "adamw",
        lambda how, rows: calls.adamw(dataclasses.replace(how, **constants), rows),
    )


def denormals_flushed(state: State) -> AbstractContextManager[None]:
    """The embedding loses its denormal values."""
    embed = calls.embed

    def flushing(tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        out = embed(tokens, weights)
        out[out.abs() < 2.0**-126] = 0.0
        return out

    return patched(calls, "embed", flushing)(state)


@contextlib.contextmanager
def torch_flushes(state: State) -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def other_exp(name: str) -> Fault:
    """An operation with torch's exp, and torch's order of sums."""

    def attention(q: Any, k: Any, v: Any, rotary: Any, first: Any) -> torch.Tensor:
        cos, sin = (torch.cat((half, half), dim=-1) for half in rotary)
        return native.attention(q, k, v, (cos, sin), first).contiguous()

    return patched(portable, name, attention if name == "attention" else getattr(native, name))


def replaced(groups: dict[str, dict[str, np.ndarray]]) -> Fault:
    """The state before the step is another one."""

    @contextlib.contextmanager
    def fault(state: State) -> Iterator[None]:
        own: dict[str, dict[str, torch.Tensor]] = {"weights": dict(state.model.named_parameters())}
        own |= state.optimizer
        with torch.no_grad():
            for group, arrays in groups.items():
                for name, array in arrays.items():
                    own[group][name].copy_(torch.tensor(array))
        yield

    return fault
