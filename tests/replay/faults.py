"""Ways to compute wrongly, each planted in one step of a run that is trained under it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.data.order import Order
from pellucid.kernels import calls
from pellucid.operations import native, portable
from pellucid.train import loop, optimizer
from pellucid.train.state import State
from tests.conftest import finish, make_run

STEP = 7
DENSE, SPARSE = "placement.anchors={every = 1}", "placement.anchors={every = 5, powers_of_two = true}"
Fault = Callable[[State], AbstractContextManager[None]]


def trained(folder: Path, corpus: Path, fault: Fault, settings: list[str], step: int = STEP) -> Path:
    """A run whose step `step`, and no other, was taken under a fault."""
    original = loop.training_step

    def stepping(state: State, batch: Any, recipe: Any) -> Any:
        with fault(state) if batch.step == step else contextlib.nullcontext():
            return original(state, batch, recipe)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "training_step", stepping)
        return finish(make_run(folder, corpus, settings))


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


def flipped_bit(parameter: int, index: int, bit: int, microbatch: int) -> Fault:
    """One bit of one element of one microbatch's gradient, on its way into the sum."""
    add = optimizer.GradientTree.add

    def adding(tree: Any, gradients: list[torch.Tensor]) -> None:
        if tree._count == microbatch:
            flip(gradients[parameter], index, bit)
        add(tree, gradients)

    return patched(optimizer.GradientTree, "add", adding)


def constant(**constants: float) -> Fault:
    return patched(portable, "adamw", lambda how, rows: calls.adamw(dataclasses.replace(how, **constants), rows))


def wrong_tile(weight: str, rows: slice, columns: slice) -> Fault:
    """A tile of the gradient of one weight is one part in a thousand too large, in every microbatch."""

    @contextlib.contextmanager
    def fault(state: State) -> Iterator[None]:
        product, near = calls.product, [0]
        wanted = dict(state.model.named_parameters())[weight].data_ptr()

        def wrong(a: torch.Tensor, b: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
            out = product(a, b, start)
            # Backward, dx = dy W comes right before dW = dyᵀ x, which alone has its first factor turned.
            if near[0] == wanted and not a.is_contiguous():
                out[rows, columns] *= 1.001
            near[0] = b.data_ptr()
            return out

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calls, "product", wrong)
            yield

    return fault


def other_rows(change: Callable[[list[int]], list[int]]) -> Callable[[pytest.MonkeyPatch], None]:
    """The order gives the rows of step STEP in another order."""
    original = Order.batches

    def batches(self: Order, first: int, last: int) -> np.ndarray:
        found = original(self, first, last).copy()
        if first <= STEP <= last:
            found[STEP - first] = change(found[STEP - first].tolist())
        return found

    return lambda patch: patch.setattr(Order, "batches", batches)


def denormals_flushed(state: State) -> AbstractContextManager[None]:
    product = calls.product

    def flushing(*arguments: Any) -> torch.Tensor:
        out = product(*arguments)
        out[out.abs() < 2.0**-126] = 0.0
        return out

    return patched(calls, "product", flushing)(state)


def other_exp(state: State) -> AbstractContextManager[None]:
    return patched(portable, "swiglu", native.swiglu)(state)


def replaced(groups: dict[str, dict[str, np.ndarray]]) -> Fault:
    """The state before the step is another one."""

    @contextlib.contextmanager
    def fault(state: State) -> Iterator[None]:
        own = {"weights": dict(state.model.named_parameters())}
        own |= {"first_moment": state.first_moment, "second_moment": state.second_moment}
        with torch.no_grad():
            for group, arrays in groups.items():
                for name, array in arrays.items():
                    own[group][name].copy_(torch.tensor(array))
        yield

    return fault
