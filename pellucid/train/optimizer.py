"""AdamW (arXiv:1711.05101) on native arithmetic: PyTorch's own, one fused pass over each tensor."""

from __future__ import annotations

import torch
from torch import nn

from pellucid.recipe import Train

# The state's group names and PyTorch's.
MOMENTS = {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"}


def adamw(model: nn.Module, train: Train) -> torch.optim.AdamW:
    """Weight decay on matrices only; both moments exist, at zero, before the first step."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, train.lr, (train.beta1, train.beta2), train.epsilon, fused=True)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            **{key: torch.zeros_like(parameter) for key in MOMENTS.values()},
        }
    return optimizer


class GradientTree:
    """The sum of microbatch gradients in a fixed binary tree over the microbatch index.

    Whoever computes which microbatch, the additions and their order are the same. Holds at most
    ceil(log2 n) + 1 sets of gradients.
    """

    def __init__(self) -> None:
        self._count = 0
        self._peaks: list[list[torch.Tensor]] = []

    def add(self, gradients: list[torch.Tensor]) -> None:
        carry, bits = gradients, self._count
        while bits & 1:
            carry = _sum(self._peaks.pop(), carry)
            bits >>= 1
        self._peaks.append(carry)
        self._count += 1

    def total(self) -> list[torch.Tensor]:
        total = self._peaks.pop()
        while self._peaks:
            total = _sum(self._peaks.pop(), total)
        return total


def _sum(left: list[torch.Tensor], right: list[torch.Tensor]) -> list[torch.Tensor]:
    for a, b in zip(left, right, strict=True):
        a.add_(b)
    return left
