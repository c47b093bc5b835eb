"""The full training state: the weights, what the optimizer keeps, and the number of the step.

There is no random state to keep: every draw is a function of the seed and a counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import nn

from pellucid import counts, machine, operations, philox
from pellucid.errors import FormatInvalid, MemoryTooSmall
from pellucid.model import Decoder
from pellucid.optimizers.base import Kept
from pellucid.recipe import Recipe
from pellucid.record import elements
from pellucid.record.entries import StateRoots
from pellucid.store import tensors
from pellucid.train.events import Groups

# By safetensors' name: torch's type, and the integers that its bits are read as
# where NumPy does not know it.
_TYPES: dict[str, tuple[torch.dtype, torch.dtype]] = {
    "F32": (torch.float32, torch.float32),
    "F64": (torch.float64, torch.float64),
    "F16": (torch.float16, torch.float16),
    "BF16": (torch.bfloat16, torch.uint16),
    "F8_E4M3": (torch.float8_e4m3fn, torch.uint8),
    "F8_E5M2": (torch.float8_e5m2, torch.uint8),
    "I64": (torch.int64, torch.int64),
    "U16": (torch.uint16, torch.uint16),
    "U32": (torch.uint32, torch.uint32),
}
_NAMES = {dtype: name for name, (dtype, _) in _TYPES.items()}


@dataclass
class State:
    """The state after `step` steps."""

    step: int
    model: Decoder
    # Group -> tensor name -> tensor, as the recipe's optimizer says.
    optimizer: dict[str, dict[str, torch.Tensor]]

    def weights(self) -> dict[str, nn.Parameter]:
        """Every weight, sorted by name as UTF-8 bytes: the order of both norms."""
        return dict(sorted(self.model.named_parameters(), key=lambda item: item[0].encode()))

    def learning(self) -> dict[str, nn.Parameter]:
        """The weights that the phase which the model has entered moves, in the same order."""
        return {name: weight for name, weight in self.weights().items() if weight.requires_grad}

    def groups(self) -> Groups:
        """Views, not copies, of every tensor: {"weights" or a group of
        the optimizer: {name: array}}."""
        groups = {"weights": dict(self.model.named_parameters()), **self.optimizer}
        return {
            group: {name: array_of(tensor) for name, tensor in of.items()}
            for group, of in groups.items()
        }

    def tensors(self) -> list[torch.Tensor]:
        """Every tensor itself, in the same order in every process."""
        weights = [parameter.detach() for parameter in self.model.parameters()]
        return [
            *weights,
            *(tensor for group in self.optimizer.values() for tensor in group.values()),
        ]

    def roots(self) -> StateRoots:
        """The digest of every tensor."""
        return tensors.state_roots(self.step, self.groups())


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's array, a view of it on the CPU; of a type that NumPy does not
    know its bits, under its name."""
    name = _NAMES[tensor.dtype]
    _, bits = _TYPES[name]
    return tensor.detach().view(bits).numpy(force=True).view(elements.DTYPES[name])


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """The inverse of array_of, in memory of its own."""
    dtype, bits = _TYPES[elements.dtype_of(array)]
    integers = np.array(array).view(str(bits).removeprefix("torch."))
    return torch.from_numpy(integers).view(dtype)


def initial(recipe: Recipe, vocabulary: int) -> State:
    """The state before the first step, from the recipe's seed alone."""
    state = empty(recipe, vocabulary)
    state.model.enter(recipe.phases[0])
    with torch.no_grad():
        for name, parameter in state.model.named_parameters():
            parameter.copy_(initial_values(state.model.ops, recipe, name, tuple(parameter.shape)))
    return state


def restored(recipe: Recipe, vocabulary: int, step: int, groups: Groups) -> State:
    """The state after `step` steps, from stored arrays. Raises FormatInvalid
    where they are another recipe's."""
    _require_groups(recipe, vocabulary, step, groups)
    state = empty(recipe, vocabulary)
    state.step = step
    state.model.enter(recipe.schedule.at(step))
    with torch.no_grad():
        for group, own in {
            "weights": dict(state.model.named_parameters()),
            **state.optimizer,
        }.items():
            for name, tensor in own.items():
                tensor.copy_(tensor_of(groups[group][name]))
    return state


def _require_groups(recipe: Recipe, vocabulary: int, step: int, groups: Groups) -> None:
    """Raises FormatInvalid for the first tensor that the recipe's state lacks, or has otherwise."""
    expected = _flat(counts.state(recipe, vocabulary))
    actual = _flat(
        {
            g: {n: Kept(elements.dtype_of(a), a.shape) for n, a in of.items()}
            for g, of in groups.items()
        }
    )
    for key in sorted({*expected, *actual}):
        if actual.get(key) != expected.get(key):
            group, name = key
            shown, due = (
                f"{tensor[0]} {tensor[1]}" if tensor else "absent"
                for tensor in (actual.get(key), expected.get(key))
            )
            detail = f"its {group} {name} is {shown}, and the recipe's state has it {due}"
            raise FormatInvalid(path=f"anchors/step{step}", detail=detail)


def _flat(groups: Mapping[str, Mapping[str, Kept]]) -> dict[tuple[str, str], Kept]:
    return {(group, name): tensor for group, of in groups.items() for name, tensor in of.items()}


def empty(recipe: Recipe, vocabulary: int) -> State:
    """Weights that hold whatever memory held, and an optimizer that has seen nothing: all zero.

    Raises MemoryTooSmall.
    """
    if recipe.placement.device == "cpu":
        _require_memory(recipe, vocabulary)
    model = Decoder(
        recipe.model, vocabulary, operations.of(recipe.train.arithmetic, recipe.placement.device)
    ).to(recipe.placement.device)
    groups = counts.state(recipe, vocabulary)
    groups.pop("weights")
    return State(
        0,
        model,
        {
            g: {n: _zeros(tensor, model.device) for n, tensor in of.items()}
            for g, of in groups.items()
        },
    )


def _zeros(tensor: Kept, device: torch.device) -> torch.Tensor:
    return torch.zeros(tensor.shape, dtype=_TYPES[tensor.dtype][0], device=device)


def _require_memory(recipe: Recipe, vocabulary: int) -> None:
    """Before a tensor is made: somebody else's recipe may ask for any size."""
    needed, available = counts.state_bytes(recipe, vocabulary), machine.memory()
    if needed > available:
        parameters = counts.parameters(recipe.model, vocabulary).total
        subject = f"The training state of a model of {parameters:,} parameters"
        raise MemoryTooSmall(
            what=subject, needed=f"{needed / 1e9:,.1f}", found=f"{available / 1e9:,.1f}"
        )


def initial_values(
    ops: ModuleType, recipe: Recipe, name: str, shape: tuple[int, ...]
) -> torch.Tensor:
    """The initial values of one tensor, keyed by its name; element i is draw i.

    Norm weights are one, biases zero. Matrices are uniform with standard deviation
    initial_std, those that write into the residual stream divided by sqrt(2 * layers).
    Uniform, because a uniform value takes one exact draw and one rounding, where a normal one
    would need somebody's logarithm."""
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith(".bias") else torch.ones(shape)
    into_stream = name.endswith(("o_proj.weight", "down_proj.weight"))
    key = philox.key_of(recipe.seed, f"initial {name}")
    return ops.initial_values(
        key, shape, recipe.model.initial_std, 2.0 * recipe.model.layers if into_stream else 0.0
    )
