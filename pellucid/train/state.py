"""The full training state: the weights, the optimizer's two moments, and the number of the step.

There is no random state to keep: every draw is a function of the seed and a counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch

from pellucid import counts, machine, operations, philox
from pellucid.errors import FormatInvalid, MemoryTooSmall
from pellucid.model import Decoder
from pellucid.recipe import Model, Recipe
from pellucid.record.entries import StateRoots
from pellucid.store import tensors
from pellucid.train.events import Groups


@dataclass
class State:
    """The state after `step` steps."""

    step: int
    model: Decoder
    first_moment: dict[str, torch.Tensor]
    second_moment: dict[str, torch.Tensor]

    def groups(self) -> Groups:
        """Views, not copies, of every tensor: {"weights" | "first_moment" | "second_moment": {name: array}}."""
        weights = dict(self.model.named_parameters())
        groups = {"weights": weights, "first_moment": self.first_moment, "second_moment": self.second_moment}
        return {group: {name: _array(tensor) for name, tensor in of.items()} for group, of in groups.items()}

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor itself, in the same order in every process."""
        weights = [parameter.detach() for parameter in self.model.parameters()]
        return [*weights, *self.first_moment.values(), *self.second_moment.values()]

    def roots(self) -> StateRoots:
        """The digest of every tensor."""
        return tensors.state_roots(self.step, self.groups())


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy(force=True)


def initial(recipe: Recipe, vocabulary: int) -> State:
    """The state before the first step, from the recipe's seed alone."""
    state = empty(recipe, vocabulary)
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            parameter.copy_(initial_values(state.model.ops, recipe, name, tuple(parameter.shape)))
    return state


def restored(recipe: Recipe, vocabulary: int, step: int, groups: Groups) -> State:
    """The state after `step` steps, from stored arrays. Raises FormatInvalid where they are another model's."""
    state = empty(recipe, vocabulary)
    state.step = step
    for group, wanted in state.groups().items():
        found = groups.get(group, {})
        if _shapes(found) != _shapes(wanted):
            raise FormatInvalid(path=f"anchors/step{step}", detail=f"its {group} are not those of the recipe's model")
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            parameter.copy_(torch.tensor(groups["weights"][name]))
            state.first_moment[name].copy_(torch.tensor(groups["first_moment"][name]))
            state.second_moment[name].copy_(torch.tensor(groups["second_moment"][name]))
    return state


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[object, ...]]:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def empty(recipe: Recipe, vocabulary: int) -> State:
    """Weights that hold whatever memory held, and both moments at zero. Raises MemoryTooSmall."""
    if recipe.placement.device == "cpu":
        _require_memory(recipe.model, vocabulary)
    model = Decoder(recipe.model, vocabulary, operations.of(recipe.train.arithmetic)).to(recipe.placement.device)
    moments = [{name: torch.zeros_like(p) for name, p in model.named_parameters()} for _ in range(2)]
    return State(0, model, *moments)


def _require_memory(shape: Model, vocabulary: int) -> None:
    """Before a tensor is made: somebody else's recipe may ask for any size."""
    parameters = counts.parameters(shape, vocabulary).total
    needed, found = counts.STATE * parameters, machine.memory()
    if needed > found:
        what = f"The training state of a model of {parameters:,} parameters"
        raise MemoryTooSmall(what=what, needed=f"{needed / 1e9:,.1f}", found=f"{found / 1e9:,.1f}")


def initial_values(ops: ModuleType, recipe: Recipe, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The initial values of one tensor, keyed by its name; element i is draw i.

    Norm weights are one. Matrices are uniform with standard deviation initial_std, those that write
    into the residual stream divided by sqrt(2 * layers). Uniform, because a uniform value takes one
    exact draw and one rounding, where a normal one would need somebody's logarithm.
    """
    if len(shape) == 1:
        return torch.ones(shape)
    into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
    key = philox.key_of(recipe.seed, f"initial {name}")
    return ops.initial_values(key, shape, recipe.model.initial_std, 2.0 * recipe.model.layers if into_stream else 0.0)
