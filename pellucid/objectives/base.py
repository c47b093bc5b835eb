"""What an objective is to the rest of the code: from the losses of a microbatch's targets to two
coefficients for each, and to the number that is minimised.

The gradient of a target's logits is `softmax * the first - onehot * the second`, whatever is
minimised: so one kernel serves every objective (docs/arithmetic.md, section 2.2). Shapes: B rows of
a microbatch, T targets of a row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pellucid.sections import Section

if TYPE_CHECKING:
    import numpy as np  # Whoever reads a recipe needs none.


class Functions(NamedTuple):
    """Functions of a float64 that an arithmetic has in its own way."""

    ln: Callable[[float], float]
    exp: Callable[[float], float]


class Said(NamedTuple):
    """What a model says of a microbatch's targets, (B, T), float32."""

    losses_BT: np.ndarray  # Minus the log-probability of each, nats.
    # The log-sum-exp of the logits it was taken from; None where the objective does not ask.
    log_sums_BT: np.ndarray | None


class Use(NamedTuple):
    """How a microbatch's rows are trained on."""

    weights_BT: np.ndarray  # uint32: of each target.
    groups_B: np.ndarray  # uint64: rows of one group are trained on together; rows.NO_GROUP: none.
    references_B: np.ndarray | None  # float64: the log-probability that a reference gave each row.

    def of(self, rows: slice) -> Use:
        """How some of the rows are trained on: views."""
        references_B = None if self.references_B is None else self.references_B[rows]
        return Use(self.weights_BT[rows], self.groups_B[rows], references_B)


class Objective(Section, ABC):
    """A section of the recipe that says what a step minimises: a sum over its microbatches, divided
    by the step's divisor. A group of rows lies in one microbatch."""

    @property
    @abstractmethod
    def asks(self) -> bool:
        """Whether coefficients depend on what the model says. If not, both are the same; if they
        do, the logits are computed twice: for what the model says, then for the gradients."""

    @abstractmethod
    def divisor_of(self, use: Use) -> int:
        """What the sums of a step are divided by, from how all of its rows are used."""

    @abstractmethod
    def coefficients(
        self, functions: Functions, said: Said | None, use: Use
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the softmax and of the one-hot, (B, T), float64, before they are divided. said is None
        for an objective that does not ask."""

    @abstractmethod
    def value(self, functions: Functions, said: Said, use: Use) -> float:
        """A microbatch's part of what is minimised, before it is divided: an exactly rounded sum
        over its targets or its groups."""


@dataclass(frozen=True, slots=True)
class Minimised:
    """What the rows of a step, or of one of its microbatches, add to the step's objective."""

    objective: Objective
    use: Use
    divisor: int  # The step's.

    def of(self, rows: slice) -> Minimised:
        """What some of the rows add."""
        return Minimised(self.objective, self.use.of(rows), self.divisor)

    @property
    def asks(self) -> bool:
        return self.objective.asks

    def coefficients(
        self, functions: Functions, said: Said | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the softmax and of the one-hot, (B, T), float32: the quotients, each rounded from
        float64."""
        softmax_BT, onehot_BT = self.objective.coefficients(functions, said, self.use)
        return (softmax_BT / self.divisor).astype("f4"), (onehot_BT / self.divisor).astype("f4")

    def value(self, functions: Functions, said: Said) -> float:
        """Before it is divided, nats."""
        return self.objective.value(functions, said, self.use)
