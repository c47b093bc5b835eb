"""What an optimizer is to the rest of the code: the tensors that it keeps, its
update, and what that costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pellucid.sections import Section

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]  # Of weights, by their names.


class Kept(NamedTuple):
    """A tensor of a state, not its values."""

    dtype: str  # As safetensors names it.
    shape: tuple[int, ...]


class Together(Protocol):
    """The processes that take a step together (train/processes.py)."""

    def each(
        self,
        costs: Mapping[str, int],
        like: Mapping[str, Tensor],
        make: Callable[[str], Tensor],
    ) -> Iterator[tuple[str, Tensor]]:
        """For each name in the order of costs, a tensor with the shape of the one like it: one
        process makes it, and all have it."""
        ...


@dataclass(frozen=True, slots=True)
class Update:
    """What a step hands to its optimizer. Weights and gradients are sorted by
    their names as UTF-8 bytes."""

    step: int  # From 1.
    lr: float
    clip: float  # The factor on all gradients: 1, or train.clip / norm.
    # All of the model's; those that have a gradient are moved in place.
    weights: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor]  # Not clipped yet; an optimizer may use their memory.
    state: Mapping[str, Mapping[str, Tensor]]  # Group -> name -> tensor, moved in place.
    together: Together  # All of them take this update; what takes long each does for a part.


class Optimizer(Section, ABC):
    """A section of the recipe that moves weights. The first state of
    everything that it keeps is zero."""

    @abstractmethod
    def groups(self, weights: Shapes) -> dict[str, dict[str, Kept]]:
        """What it keeps beside weights of these names and shapes, of those that
        learn: group -> name -> tensor.

        Groups have the field's names (`exp_avg`), none is `weights` or
        `gradients`, and none holds a slash."""

    @abstractmethod
    def update(self, ops: ModuleType, update: Update) -> float:
        """Move weights and state in place with the operations of an arithmetic
        (pellucid/operations); returns the norm of all weights after that, float64."""

    def flops(self, weights: Shapes) -> int:
        """Floating-point operations of its matrix products in one update."""
        return 0

    def scratch(self, weights: Shapes) -> int:
        """Bytes that an update needs at once, besides weights, gradients and state."""
        return 0
