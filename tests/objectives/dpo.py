"""Direct preference optimization (arXiv:2305.18290): an objective of pairs, in one file.

Of each group the first row is the answer that was chosen, the second the one that was rejected;
weights leave the question out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

from pellucid.objectives.base import Functions, Objective, Said, Use
from pellucid.sections import Positive


class DPO(Objective):
    kind: Literal["dpo"] = "dpo"
    beta: Positive = 0.1

    @property
    def asks(self) -> bool:
        return True

    def divisor_of(self, use: Use) -> int:
        return len(np.unique(use.groups_B))

    def coefficients(
        self, functions: Functions, said: Said | None, use: Use
    ) -> tuple[np.ndarray, np.ndarray]:
        assert said is not None
        signs_B = np.zeros(len(use.groups_B))
        for chosen, rejected, margin in self._pairs(said, use):
            # The derivative of -ln(sigmoid(margin)) by what the chosen answer's log-probability is.
            signs_B[chosen] = self.beta / (1.0 + functions.exp(margin))
            signs_B[rejected] = -signs_B[chosen]
        both_BT = signs_B[:, None] * use.weights_BT
        return both_BT, both_BT

    def value(self, functions: Functions, said: Said, use: Use) -> float:
        margins = [margin for _, _, margin in self._pairs(said, use)]
        return math.fsum(functions.ln(1.0 + functions.exp(-margin)) for margin in margins)

    def _pairs(self, said: Said, use: Use) -> Iterator[tuple[int, int, float]]:
        """The rows of each pair, and by how much more the chosen one is preferred than a reference
        prefers it."""
        assert use.references_B is not None
        terms_BT = said.losses_BT.astype("f8") * use.weights_BT
        sums = [-math.fsum(row) for row in terms_BT.tolist()]
        for group in np.unique(use.groups_B):
            chosen, rejected = np.flatnonzero(use.groups_B == group).tolist()
            gained, lost = (sums[row] - float(use.references_B[row]) for row in (chosen, rejected))
            yield chosen, rejected, self.beta * (gained - lost)
