"""Which branch of a run each of its steps lies in.

A rollback abandons the steps after an earlier one and passes over their rows. What is
trained from there on is a new branch; what it goes on from stays. So the steps of a run are
those of a few branches, one after the other, and each branch takes its rows from further on
in the order (schedule.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Rollback(NamedTuple):
    """A run went back from an offending step."""

    offending: int
    to: int


class Span(NamedTuple):
    """The steps of one branch that have not been abandoned: those after
    `after`, up to the next span's."""

    branch: int
    after: int
    passed_over: int  # Steps whose rows no kept step has, so far.


@dataclass(frozen=True, slots=True)
class History:
    """The spans of a run, in order of their steps, and every rollback that led to them."""

    spans: tuple[Span, ...]
    rollbacks: tuple[Rollback, ...] = ()

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

    def ends(self, last: int) -> list[tuple[Span, int]]:
        """Every span with its last step, the run having come to step `last`."""
        return list(zip(self.spans, [*(span.after for span in self.spans[1:]), last], strict=True))

    def rolled_back(self, incident: Mapping[str, Any]) -> History:
        """The history after an incident that rolls back."""
        first, *later = self.spans  # The very first state stays, whatever is abandoned.
        to, passed_over = incident["to"], incident["passed_over"]
        spans = [span for span in later if span.after < to]
        rollback = Rollback(passed_over - self.spans[-1].passed_over + to, to)
        return History(
            (first, *spans, Span(incident["branch"], to, passed_over)), (*self.rollbacks, rollback)
        )


def rolls_back(body: Mapping[str, Any]) -> bool:
    """Whether an entry begins a new branch."""
    return body.get("kind") == "incident" and body.get("action") == "rollback"


def with_branch(body: dict[str, Any], branch: int) -> dict[str, Any]:
    """An entry as a branch's: all but the first branch's say so, and an incident
    that rolls back names the next."""
    return {**body, "branch": branch} if branch and "branch" not in body else body
