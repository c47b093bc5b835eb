"""The full training state: the weights, the optimizer's two moments, and the number of the step.

There is no random state to keep: every draw is a function of the seed and a counter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from pellucid import philox
from pellucid.model import Decoder
from pellucid.recipe import Recipe
from pellucid.record.entries import StateRoots
from pellucid.store import tensors
from pellucid.train.events import Groups
from pellucid.train.optimizer import MOMENTS, adamw


@dataclass
class State:
    """The state after `step` steps."""

    step: int
    model: Decoder
    optimizer: torch.optim.AdamW

    def groups(self) -> Groups:
        """Views, not copies, of every tensor: {"weights" | "first_moment" | "second_moment": {name: array}}."""
        groups: Groups = {"weights": {}, "first_moment": {}, "second_moment": {}}
        for name, parameter in self.model.named_parameters():
            groups["weights"][name] = _array(parameter)
            for group, key in MOMENTS.items():
                groups[group][name] = _array(self.optimizer.state[parameter][key])
        return groups

    def roots(self) -> StateRoots:
        """The digest of every tensor."""
        return tensors.state_roots(self.step, self.groups())


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def initial(recipe: Recipe, vocabulary: int) -> State:
    """The state before the first step, from the recipe's seed alone."""
    state = _empty(recipe, vocabulary)
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            parameter.copy_(torch.from_numpy(initial_values(recipe, name, tuple(parameter.shape))))
    return state


def restored(recipe: Recipe, vocabulary: int, step: int, groups: Groups) -> State:
    """The state after `step` steps, from stored arrays."""
    state = _empty(recipe, vocabulary)
    state.step = step
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            parameter.copy_(torch.tensor(groups["weights"][name]))
            memory = state.optimizer.state[parameter]
            memory["step"].fill_(step)
            for group, key in MOMENTS.items():
                memory[key].copy_(torch.tensor(groups[group][name]))
    return state


def _empty(recipe: Recipe, vocabulary: int) -> State:
    model = Decoder(recipe.model, vocabulary).to(recipe.placement.device)
    return State(0, model, adamw(model, recipe.train))


def initial_values(recipe: Recipe, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The initial values of one tensor, keyed by its name; element i is draw i.

    Norm weights are one. Matrices are uniform with standard deviation initial_std, those that write
    into the residual stream divided by sqrt(2 * layers). Uniform, because a uniform value takes one
    exact draw and one rounding, where a normal one would need somebody's logarithm.
    """
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    std = recipe.model.initial_std
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        std = std / math.sqrt(2.0 * recipe.model.layers)
    key = philox.key_of(recipe.seed, f"initial {name}")
    values = philox.uniform_signed(key, 0, math.prod(shape)) * (std * math.sqrt(3.0))
    return values.astype(np.float32).reshape(shape)
