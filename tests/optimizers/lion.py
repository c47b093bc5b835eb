"""An optimizer that is no part of the package, in one file: Lion (arXiv:2302.06675)."""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, Literal

import torch
from pydantic import Field

from pellucid.optimizers.base import Kept, Optimizer, Shapes, Update
from pellucid.sections import Fraction


class Lion(Optimizer):
    kind: Literal["lion"] = "lion"
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    weight_decay: Annotated[float, Field(ge=0)] = 0.1

    def groups(self, weights: Shapes) -> dict[str, dict[str, Kept]]:
        return {"exp_avg": {name: Kept("F32", shape) for name, shape in weights.items()}}

    def update(self, ops: ModuleType, update: Update) -> float:
        for name, g in update.gradients.items():
            w, m = update.weights[name], update.state["exp_avg"][name]
            mixed = ops.axpby_into(m.clone(), self.beta1, update.clip * (1.0 - self.beta1), g)
            ops.axpby_into(w, 1.0 - update.lr * self.weight_decay, -update.lr, torch.sign(mixed))
            ops.axpby_into(m, self.beta2, update.clip * (1.0 - self.beta2), g)
        return ops.norm_of([*update.weights.values()])
