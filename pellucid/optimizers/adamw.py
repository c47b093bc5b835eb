"""AdamW (arXiv:1711.05101): running means of gradients and of their
squares, weight decay beside them."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field

from pellucid.optimizers.base import Kept, Optimizer, Shapes, Update
from pellucid.sections import Fraction, Positive


class Moments(Optimizer):
    """AdamW's constants and its update: an optimizer may leave to it
    what it does not move itself."""

    beta1: Fraction = 0.9
    beta2: Fraction = 0.95
    epsilon: Positive = 1e-8
    # Not of tensors of one dimension.
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1

    def moments(self, weights: Shapes) -> dict[str, dict[str, Kept]]:
        """The two means of weights, in the weights' shapes."""
        return {
            group: {n: Kept("F32", shape) for n, shape in weights.items()}
            for group in ("exp_avg", "exp_avg_sq")
        }

    def move(self, ops: ModuleType, update: Update, names: Iterable[str]) -> float:
        """AdamW's step for these weights; returns their norm alone."""
        how = ops.AdamW(
            lr=update.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            step=update.step,
            clip=update.clip,
        )
        tensors = (
            update.weights,
            update.gradients,
            update.state["exp_avg"],
            update.state["exp_avg_sq"],
        )
        return ops.adamw(how, [tuple(of[name] for of in tensors) for name in names])


class AdamW(Moments):
    kind: Literal["adamw"] = "adamw"

    def groups(self, weights: Shapes) -> dict[str, dict[str, Kept]]:
        return self.moments(weights)

    def update(self, ops: ModuleType, update: Update) -> float:
        norm = self.move(ops, update, update.gradients)
        # Where every weight was moved, their norm came with it, without reading them once more.
        frozen = len(update.gradients) < len(update.weights)
        return ops.norm_of([*update.weights.values()]) if frozen else norm
