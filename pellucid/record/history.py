"""Which branch of a run each of its steps lies in.

A rollback abandons the steps after an earlier one and passes over their batches. What is trained from there on is a
new branch; what it goes on from stays. So the steps of a run are those of a few branches, one after the other, and
each branch takes its batches from further on in the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Span(NamedTuple):
    """The steps of one branch that have not been abandoned: those after `after`, up to the next span's."""

    branch: int
    after: int
    passed_over: int  # Batches of the order, so far: step k trains on batch k + passed_over.


@dataclass(frozen=True, slots=True)
class History:
    """The spans of a run, in order of their steps."""

    spans: tuple[Span, ...]

    @classmethod
    def begun(cls, first: int = 0) -> History:
        """A run that begins with the state after step `first`: 0, or a fork's."""
        return cls((Span(0, first, 0),))

    @property
    def branch(self) -> int:
        """The branch that is trained on."""
        return self.spans[-1].branch

    def at(self, step: int) -> Span:
        """The span that a step lies in; for the very first state the first."""
        return next((span for span in reversed(self.spans) if span.after < step), self.spans[0])

    def batch(self, step: int) -> int:
        """Which batch of the order a step trains on."""
        return step + self.at(step).passed_over

    def step(self, batch: int, last: int) -> int | None:
        """The step up to `last` that trains on a batch of the order; None where none does: it was passed over, or seen
        only before the run."""
        for span, end in self.ends(last):
            if span.after < batch - span.passed_over <= end:
                return batch - span.passed_over
        return None

    def ends(self, last: int) -> list[tuple[Span, int]]:
        """Every span with its last step, the run having come to step `last`."""
        return list(zip(self.spans, [*(span.after for span in self.spans[1:]), last], strict=True))

    def rolled_back(self, incident: Mapping[str, Any]) -> History:
        """The history after an incident that rolls back."""
        first, *later = self.spans  # The very first state stays, whatever is abandoned.
        kept = [span for span in later if span.after < incident["to"]]
        return History((first, *kept, Span(incident["branch"], incident["to"], incident["passed_over"])))


def rolls_back(body: Mapping[str, Any]) -> bool:
    """Whether an entry begins a new branch."""
    return body.get("kind") == "incident" and body.get("action") == "rollback"


def with_branch(body: dict[str, Any], branch: int) -> dict[str, Any]:
    """An entry as a branch's: all but the first branch's say so, and an incident that rolls back names the next."""
    return {**body, "branch": branch} if branch and "branch" not in body else body
