"""From gradients to new weights: the tree over microbatches, and AdamW (arXiv:1711.05101)."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import torch
from torch import nn

from pellucid.operations.portable import AdamW
from pellucid.recipe import Train
from pellucid.train.state import State


def optimize(state: State, parameters: dict[str, nn.Parameter], train: Train, lr: float, clip: float) -> float:
    """Move the weights and both moments of step state.step in place; returns the new weights' norm, float64.

    clip is the factor on all gradients. Weight decay on matrices only.
    """
    how = AdamW(lr, train.beta1, train.beta2, train.epsilon, train.weight_decay, state.step, clip)
    with torch.no_grad():
        rows = [(p, p.grad, state.first_moment[name], state.second_moment[name]) for name, p in parameters.items()]
        return state.model.ops.adamw(how, rows)


class GradientTree:
    """The sum of microbatch gradients in a fixed binary tree over the microbatch index.

    The sum over start … stop - 1 is that over start … middle - 1 plus that over middle … stop - 1, so whoever
    computes which microbatch, the additions and their order are the same. Here are those of one process,
    joined as soon as both sides exist: at most 2 log2(n) + 1 sets of gradients; log2(n) + 1 where it has all.
    """

    def __init__(self, ops: ModuleType, first: int = 0) -> None:
        self._ops, self._next = ops, first
        self.blocks: dict[tuple[int, int], list[torch.Tensor]] = {}  # (start, stop): the sum.

    def add(self, gradients: list[torch.Tensor]) -> None:
        """The gradients of the next microbatch."""
        start, size = self._next, 1
        while start % (2 * size) and (start - size, start) in self.blocks:
            gradients = self.join(self.blocks.pop((start - size, start)), gradients)
            start, size = start - size, 2 * size
        self._next += 1
        self.blocks[start, self._next] = gradients

    @staticmethod
    def middle(start: int, stop: int) -> int:
        """Where the sum over start … stop - 1 is divided: the left part is the largest power of two below the whole."""
        return start + (1 << ((stop - start - 1).bit_length() - 1))

    def join(self, left: list[torch.Tensor], right: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        return [self._ops.add_into(a, b) for a, b in zip(left, right, strict=True)]
