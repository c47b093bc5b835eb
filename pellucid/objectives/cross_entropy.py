"""Cross-entropy of the next token: pre-training, and tuning on some of the targets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pellucid.objectives.base import Functions, Objective, Said, Use

if TYPE_CHECKING:
    import numpy as np


class CrossEntropy(Objective):
    """The mean loss of the targets, each counted by its weight; with z_loss also that much of the
    square of each log-sum-exp, which keeps logits small (arXiv:2204.02311, section 5)."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    divisor: Literal["weights", "targets"] = "weights"  # What the step's sum is divided by.
    z_loss: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0

    @property
    def asks(self) -> bool:
        return self.z_loss > 0

    def divisor_of(self, use: Use) -> int:
        weights_BT = use.weights_BT
        return weights_BT.size if self.divisor == "targets" else int(weights_BT.sum(dtype="u8"))

    def coefficients(
        self, functions: Functions, said: Said | None, use: Use
    ) -> tuple[np.ndarray, np.ndarray]:
        weights_BT = use.weights_BT.astype("f8")
        if said is None:
            return weights_BT, weights_BT
        # The derivative of z·s² by a logit is 2·z·s·softmax, s the log-sum-exp.
        return (2.0 * self.z_loss * _log_sums(said) + 1.0) * weights_BT, weights_BT

    def value(self, functions: Functions, said: Said, use: Use) -> float:
        terms_BT = said.losses_BT.astype("f8")
        if self.asks:
            sums_BT = _log_sums(said)
            terms_BT = self.z_loss * (sums_BT * sums_BT) + terms_BT
        return math.fsum((terms_BT * use.weights_BT).ravel().tolist())


def _log_sums(said: Said) -> np.ndarray:
    assert said.log_sums_BT is not None, "the objective asks"
    return said.log_sums_BT.astype("f8")
