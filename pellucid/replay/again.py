"""One step taken again, as it was or with one thing changed: the experiment that diff repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pellucid import operations
from pellucid.inputs import Inputs
from pellucid.model import Decoder
from pellucid.optimizers.base import Optimizer, Update
from pellucid.recipe import Recipe
from pellucid.record.arithmetics import ARITHMETICS
from pellucid.record.entries import Microbatch, Segment
from pellucid.recorder import segments_of, step_entry
from pellucid.replay import tracing
from pellucid.schedule import Phase
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
        """Whether its bits follow from the stack."""
        return ARITHMETICS[self.recipe.train.arithmetic].stack

    @property
    def phase(self) -> Phase:
        return self.recipe.schedule.at(self.number)

    @property
    def batch(self) -> Batch:
        return self.batch_of(self.number)

    def batch_of(self, step: int) -> Batch:
        """The batch that the order and the shards give for a step."""
        return self.inputs.batch(step)

    def operations(self, around: tracing.Around = tracing.plain) -> ModuleType:
        """The operations of this run's arithmetic, for one experiment."""
        recipe = self.recipe
        own = operations.of(recipe.train.arithmetic, recipe.placement.device)
        return tracing.copied(own, around)

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
        state.model.enter(recipe.schedule.at(self.number))
        if ops is not None:
            state.model.ops = ops
        if watch is not None:
            watch(state.model)
        stepped = training_step(state, batch or self.batch, recipe)
        segments = segments_of(stepped.batch, stepped.losses_BT)
        entry = step_entry(stepped, segments, state.roots(), recipe, self.inputs.identity)
        return Taken(self.inputs.branched(entry), state.groups(), segments, stepped.microbatches)

    def gradients(self) -> tuple[Gradients, list[Gradients]]:
        """The gradients summed over microbatches, before clipping,
        and those of every microbatch."""
        total: Gradients = {}
        separate: list[Gradients] = []
        ops, names = self.operations(), []
        norm_of = ops.norm_of

        def note(tensors: list[torch.Tensor]) -> float:
            total.update(
                {name: tensor.numpy().copy() for name, tensor in zip(names, tensors, strict=True)}
            )
            return norm_of(tensors)

        def watch(model: Decoder) -> None:
            learning = {
                name: weight for name, weight in model.named_parameters() if weight.requires_grad
            }
            names.extend(sorted(learning, key=str.encode))
            for name, weight in learning.items():
                weight.register_post_accumulate_grad_hook(_keep(separate, name))

        vars(ops)["norm_of"] = _first_only(note, norm_of)
        self.take(ops=ops, watch=watch)
        return total, separate


def _keep(separate: list[Gradients], name: str) -> Callable[[torch.Tensor], None]:
    """A hook that puts a tensor's gradient into the first microbatch that has none of it yet."""

    def hook(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        own = next((gradients for gradients in separate if name not in gradients), None)
        if own is None:
            separate.append(own := {})
        own[name] = parameter.grad.cpu().numpy().copy()

    return hook


def _first_only(first: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """An optimizer asks for norms of its own by the same name, after that of the gradients."""
    waiting = [first]
    return lambda tensors: (waiting.pop() if waiting else then)(tensors)


def with_gradient(ops: ModuleType, place: int, index: int, value: float) -> ModuleType:
    """Operations under which one element of the summed gradients has another value;
    place counts tensors by name."""
    norm_of = ops.norm_of

    def changed(tensors: list[torch.Tensor]) -> float:
        tensors[place].view(-1)[index] = value
        return norm_of(tensors)

    vars(ops)["norm_of"] = _first_only(changed, norm_of)
    return ops


class _Overridden:
    """An optimizer that is told another step, learning rate or clipping
    than the training step says."""

    def __init__(self, optimizer: Optimizer, overrides: dict[str, float]) -> None:
        self._optimizer, self._overrides = optimizer, overrides

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)

    def update(self, ops: ModuleType, update: Update) -> float:
        return self._optimizer.update(ops, replace(update, **self._overrides))


def with_update(recipe: Recipe, **overrides: float) -> Recipe:
    """The recipe, whose optimizer is told something else (step, lr,
    clip: the factor on gradients)."""
    return recipe.model_copy(update={"optimizer": _Overridden(recipe.optimizer, overrides)})


def with_constant(recipe: Recipe, name: str, value: float) -> Recipe:
    """The recipe, with another constant of its optimizer."""
    return recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={name: value})}
    )


def copied(groups: Groups) -> Groups:
    """The arrays themselves, for a state that will move on."""
    return {
        group: {name: array.copy() for name, array in arrays.items()}
        for group, arrays in groups.items()
    }
