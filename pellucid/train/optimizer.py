"""From gradients to new weights: the tree over microbatches, and AdamW (arXiv:1711.05101)."""

from __future__ import annotations

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

    Whoever computes which microbatch, the additions and their order are the same. Holds at most
    ceil(log2 n) + 1 sets of gradients.
    """

    def __init__(self, ops: ModuleType) -> None:
        self._ops, self._count = ops, 0
        self._peaks: list[list[torch.Tensor]] = []

    def add(self, gradients: list[torch.Tensor]) -> None:
        carry, bits = gradients, self._count
        while bits & 1:
            carry = self._sum(self._peaks.pop(), carry)
            bits >>= 1
        self._peaks.append(carry)
        self._count += 1

    def total(self) -> list[torch.Tensor]:
        total = self._peaks.pop()
        while self._peaks:
            total = self._sum(self._peaks.pop(), total)
        return total

    def _sum(self, left: list[torch.Tensor], right: list[torch.Tensor]) -> list[torch.Tensor]:
        return [self._ops.add_into(a, b) for a, b in zip(left, right, strict=True)]
