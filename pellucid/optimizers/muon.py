"""Muon as in Moonlight (arXiv:2502.16982): the matrices of attention and MLP move by their
orthogonalised momentum, everything else by AdamW, all with one learning rate.

The step of a matrix has singular values near 1, whatever the gradient's were
(github.com/KellerJordan/Muon). Scaled by 0.2 · sqrt(its larger side) it is about as long as
AdamW's, so what is tuned for AdamW fits."""

from __future__ import annotations

import math
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from pellucid.optimizers.adamw import Moments
from pellucid.optimizers.base import Kept, Shapes, Update
from pellucid.sections import Fraction

if TYPE_CHECKING:
    from torch import Tensor

ITERATIONS = 5
A, B, C = (
    3.4445,
    -4.7750,
    2.0315,
)  # Of x ↦ a·x + b·x³ + c·x⁵, which takes singular values towards 1.
_EPSILON = 1e-7  # Beside the norm, so that nothing is divided by 0.
_SCALE = 0.2  # About the root mean square of AdamW's steps.


class Muon(Moments):
    kind: Literal["muon"]
    momentum: Fraction = 0.95  # Nesterov's.

    def groups(self, weights: Shapes) -> dict[str, dict[str, Kept]]:
        remaining = {name: shape for name, shape in weights.items() if not _orthogonal(name, shape)}
        matrices = {
            name: Kept("F32", shape) for name, shape in weights.items() if _orthogonal(name, shape)
        }
        return {**self.moments(remaining), "momentum_buffer": matrices}

    def update(self, ops: ModuleType, update: Update) -> float:
        buffers = update.state.get("momentum_buffer", {})
        matrices = [name for name in update.gradients if name in buffers]
        for name in matrices:
            ops.axpby_into(buffers[name], self.momentum, update.clip, update.gradients[name])

        def step(name: str) -> Tensor:
            u_MN = update.gradients[name]
            ops.axpby_into(u_MN, update.clip, self.momentum, buffers[name])
            ops.axpby_into(u_MN, 1.0 / (ops.norm_of([u_MN]) + _EPSILON))
            return orthogonalised(ops, u_MN)

        costs = {name: _products(tuple(buffers[name].shape)) for name in matrices}
        for name, o_MN in update.together.each(costs, buffers, step):
            rate = update.lr * (_SCALE * math.sqrt(max(o_MN.shape)))
            ops.axpby_into(update.weights[name], 1.0 - update.lr * self.weight_decay, -rate, o_MN)
        if remaining := [name for name in update.gradients if name not in buffers]:
            self.move(ops, update, remaining)
        return ops.norm_of([*update.weights.values()])

    def flops(self, weights: Shapes) -> int:
        return sum(_products(shape) for name, shape in weights.items() if _orthogonal(name, shape))

    def scratch(self, weights: Shapes) -> int:
        """Two squares of the smaller side, and what the matrix becomes beside what it was."""
        matrices = (sorted(shape) for name, shape in weights.items() if _orthogonal(name, shape))
        return max(
            (4 * (2 * short * short + 2 * short * long) for short, long in matrices), default=0
        )


def _orthogonal(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight is a matrix of attention or MLP: neither an embedding, nor the
    output projection, nor a norm."""
    return name.startswith("model.layers.") and len(shape) == 2


def _products(shape: tuple[int, ...]) -> int:
    """Floating-point operations of the products of one matrix; of what is
    symmetric those of one half."""
    short, long = sorted(shape)
    half = short * (short + 1) // 2
    return ITERATIONS * 2 * (half * long + half * short + short * short * long)


def orthogonalised(ops: ModuleType, x_MN: Tensor) -> Tensor:
    """U Vᵀ of x = U S Vᵀ, about: singular values between 0.7 and 1.2 where x's are not small
    beside its norm, which is at most 1. By Newton and Schulz: x becomes a·x + (b·s + c·s²) x with
    s = x xᵀ, on the smaller side."""
    tall = x_MN.shape[0] > x_MN.shape[1]
    for _ in range(ITERATIONS):
        s_KK = ops.gram(x_MN.t() if tall else x_MN)
        p_KK = ops.axpby_into(ops.gram(s_KK), C, B, s_KK)  # s is its own transpose.
        y_MN = ops.product(x_MN, p_KK) if tall else ops.product(p_KK, x_MN)
        x_MN = ops.axpby_into(y_MN, 1.0, A, x_MN)
    return x_MN
