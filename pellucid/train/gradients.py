"""The sum of the gradients of microbatches, in one order however they are computed."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import torch


class GradientTree:
    """The sum of microbatch gradients in a fixed binary tree over the microbatch index.

    The sum over start … stop - 1 is that over start … middle - 1 plus that over middle … stop - 1,
    so whoever computes which microbatch, the additions and their order are the same. Here are those
    of one process, joined as soon as both sides exist: at most 2 log2(n) + 1 sets of gradients;
    log2(n) + 1 where it has all."""

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
        """Where the sum over start … stop - 1 is divided: the left part is the largest
        power of two below the whole."""
        return start + (1 << ((stop - start - 1).bit_length() - 1))

    def join(self, left: list[torch.Tensor], right: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        return [self._ops.add_into(a, b) for a, b in zip(left, right, strict=True)]
