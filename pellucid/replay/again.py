"""One step taken again, as it was or with one thing changed: the experiment that diff repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pellucid.model import Decoder
from pellucid.recipe import Recipe
from pellucid.record.entries import Microbatch, Segment
from pellucid.recorder import segments_of, step_entry
from pellucid.replay import tracing
from pellucid.replay.inputs import Inputs
from pellucid.train.events import Batch, Groups
from pellucid.train.state import restored
from pellucid.train.step import training_step

Gradients = dict[str, np.ndarray]  # By the tensor's name, float32.


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step gave: its ledger entry, and the state after it."""

    entry: dict[str, Any]
    after: Groups
    segments: list[Segment]
    microbatches: list[Microbatch]


@dataclass(frozen=True, slots=True)
class Again:
    """A step of a run and the state before it."""

    inputs: Inputs
    number: int
    before: Groups

    @property
    def recipe(self) -> Recipe:
        return self.inputs.recipe

    @property
    def native(self) -> bool:
        return self.recipe.train.arithmetic == "native"

    @property
    def batch(self) -> Batch:
        return self.batch_of(self.number)

    def batch_of(self, step: int) -> Batch:
        """The batch that the order and the shards give for a step."""
        return self.inputs.batch(step)

    def operations(self, around: tracing.Around = tracing.plain) -> ModuleType:
        """The operations of this run's arithmetic, for one experiment."""
        return tracing.operations(self.recipe.train.arithmetic, around)

    def take(
        self,
        *,
        recipe: Recipe | None = None,
        before: Groups | None = None,
        batch: Batch | None = None,
        ops: ModuleType | None = None,
        watch: Callable[[Decoder], None] | None = None,
    ) -> Taken:
        """Take the step, with what is given in place of the run's own. Raises NotFinite."""
        recipe = recipe or self.recipe
        state = restored(recipe, self.inputs.vocabulary, self.number - 1, before or self.before)
        if ops is not None:
            state.model.ops = ops
        if watch is not None:
            watch(state.model)
        stepped = training_step(state, batch or self.batch, recipe)
        segments = segments_of(stepped.batch, stepped.losses_BT)
        entry = step_entry(stepped, segments, state.roots(), recipe, self.inputs.identity)
        return Taken(self.inputs.branched(entry), state.groups(), segments, stepped.microbatches)

    def gradients(self) -> tuple[Gradients, list[Gradients]]:
        """The gradients summed over microbatches, before clipping, and those of every microbatch."""
        total: Gradients = {}
        each: list[Gradients] = []
        ops, names = self.operations(), []
        norm_of = ops.norm_of

        def note(tensors: list[torch.Tensor]) -> float:
            total.update({name: tensor.numpy().copy() for name, tensor in zip(names, tensors, strict=True)})
            return norm_of(tensors)

        def watch(model: Decoder) -> None:
            names.extend(sorted((name for name, _ in model.named_parameters()), key=str.encode))
            for name, parameter in model.named_parameters():
                parameter.register_post_accumulate_grad_hook(_keep(each, name))

        vars(ops)["norm_of"] = _first_only(note, norm_of) if self.native else note
        self.take(ops=ops, watch=watch)
        return total, each


def _keep(each: list[Gradients], name: str) -> Callable[[torch.Tensor], None]:
    """A hook that puts a tensor's gradient into the first microbatch that has none of it yet."""

    def hook(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        own = next((one for one in each if name not in one), None)
        if own is None:
            each.append(own := {})
        own[name] = parameter.grad.cpu().numpy().copy()

    return hook


def _first_only(first: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """The native optimizer asks for the norm of the weights by the same name."""
    waiting = [first]
    return lambda tensors: (waiting.pop() if waiting else then)(tensors)


def with_gradient(ops: ModuleType, place: int, index: int, value: float, native: bool) -> ModuleType:
    """Operations under which one element of the summed gradients has another value; place counts tensors by name."""
    norm_of = ops.norm_of

    def changed(tensors: list[torch.Tensor]) -> float:
        tensors[place].view(-1)[index] = value
        return norm_of(tensors)

    vars(ops)["norm_of"] = _first_only(changed, norm_of) if native else changed
    return ops


def with_optimizer(ops: ModuleType, **constants: float) -> ModuleType:
    """Operations whose optimizer has other constants (lr, beta1, …, clip: the factor on gradients)."""
    adamw = ops.adamw
    vars(ops)["adamw"] = lambda how, rows: adamw(replace(how, **constants), rows)
    return ops


def copied(groups: Groups) -> Groups:
    """The arrays themselves, for a state that will move on."""
    return {group: {name: array.copy() for name, array in arrays.items()} for group, arrays in groups.items()}
