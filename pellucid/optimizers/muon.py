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
        others = {name: shape for name, shape in weights.items() if not _orthogonal(name, shape)}
        matrices = {
            name: Kept("F32", shape) for name, shape in weights.items() if _orthogonal(name, shape)
        }
        return {**self.moments(others), "momentum_buffer": matrices}

    def update(self, ops: ModuleType, update: Update) -> float:
        buffers = update.state.get("momentum_buffer", {})
        for name in update.gradients:
            if name in buffers:
                self._move_matrix(
                    ops, update, update.weights[name], update.gradients[name], buffers[name]
                )
        if others := [name for name in update.gradients if name not in buffers]:
            self.move(ops, update, others)
        return ops.norm_of([*update.weights.values()])

    def _move_matrix(
        self, ops: ModuleType, update: Update, w_MN: Tensor, g_MN: Tensor, m_MN: Tensor
    ) -> None:
        ops.axpby_into(m_MN, self.momentum, update.clip, g_MN)
        u_MN = ops.axpby_into(g_MN, update.clip, self.momentum, m_MN)
        ops.axpby_into(u_MN, 1.0 / (ops.norm_of([u_MN]) + _EPSILON))
        rate = update.lr * (_SCALE * math.sqrt(max(w_MN.shape)))
        ops.axpby_into(w_MN, 1.0 - update.lr * self.weight_decay, -rate, orthogonalised(ops, u_MN))

    def flops(self, weights: Shapes) -> int:
        matrices = (sorted(shape) for name, shape in weights.items() if _orthogonal(name, shape))
        return sum(
            ITERATIONS * 2 * (2 * short * short * long + short**3) for short, long in matrices
        )

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


def orthogonalised(ops: ModuleType, x_MN: Tensor) -> Tensor:
    """U Vᵀ of x = U S Vᵀ, about: singular values between 0.7 and 1.2 where x's are not small
    beside its norm, which is at most 1. By Newton and Schulz: x becomes a·x + (b·s + c·s²) x with
    s = x xᵀ, on the smaller side."""
    tall = x_MN.shape[0] > x_MN.shape[1]
    for _ in range(ITERATIONS):
        s_KK = ops.product(x_MN.t(), x_MN) if tall else ops.product(x_MN, x_MN.t())
        p_KK = ops.axpby_into(ops.product(s_KK, s_KK), C, B, s_KK)
        y_MN = ops.product(x_MN, p_KK) if tall else ops.product(p_KK, x_MN)
        x_MN = ops.axpby_into(y_MN, 1.0, A, x_MN)
    return x_MN
