"""A step that was recorded otherwise than this machine takes it, and what it is
asked: the step is taken again with one thing changed, and where that makes the entry
bit for bit, the cause is proven."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pellucid.data.stage import Progress, silent
from pellucid.errors import NotFinite
from pellucid.recipe import Recipe
from pellucid.replay import blame, tracing
from pellucid.replay.again import Again
from pellucid.replay.ledgers import differing
from pellucid.replay.tracing import Around
from pellucid.train.events import Batch, Groups

PROVEN, FITS, UNKNOWN = "proven", "fits", "unknown"


@dataclass(frozen=True, slots=True)
class Cause:
    """What explains a difference, and how sure that is: proven (its bits were
    made again), fits, or unknown."""

    name: str
    certainty: str
    description: str
    operation: dict[str, Any] | None = None
    microbatch: int | None = None
    batch: Batch | None = None  # The one that made the bits, where it is another.
    tensor: blame.Tensor | None = None  # The gradient that made them.

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "certainty": self.certainty, "detail": self.description}


@dataclass(frozen=True, slots=True)
class Question:
    """A step as this machine takes it, and the entry, made elsewhere, that is to be explained."""

    again: Again
    found: dict[str, Any]
    target: dict[str, Any]
    stored: Groups | None  # The other side's state after the step, or its weights.
    # Of the two recipes that differ, with the other side's value under "b".
    fields: list[dict[str, Any]]
    other: Recipe | None  # The recipe that made the entry, where it is another.
    states: list[tuple[str, Groups]]  # Earlier states, in words and arrays.
    search: Progress = silent  # Hears how far a search is.

    @property
    def phase(self) -> str:
        return phase_of(differing(self.found, self.target))


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One thing that may have been otherwise; `changed` gives what Again.take is to be told."""

    name: str
    description: str
    changed: Callable[[Around], dict[str, Any]]
    under: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    passing: tuple[str, ...] = ()  # Fields of the entry that the experiment says nothing of.
    operation: dict[str, Any] | None = None  # Known without a trace.
    microbatch: int | None = None
    tensor: blame.Tensor | None = None


def phase_of(fields: list[str]) -> str:
    """The part of a step at which entries begin to differ; "record" where
    what it computed is the same."""
    if "batch" in fields:
        return "order"
    if "state" not in fields:
        return "record"
    if {"loss", "segments"} & set(fields):
        return "forward"
    if {"grad_norm", "microbatches"} & set(fields):
        return "backward"
    return "schedule" if "lr" in fields else "optimizer"


def proven(question: Question, hypotheses: Iterator[Hypothesis], tried: list[str]) -> Cause | None:
    """The first hypothesis that makes the other side's bits; `tried` gets the
    names of all that were tried."""
    for hypothesis in hypotheses:
        note(tried, hypothesis)
        entry = experiment(question, hypothesis)
        if entry and not set(differing(entry, question.target)) - set(hypothesis.passing):
            operation = hypothesis.operation or operation_of(question, hypothesis)
            microbatch = (
                hypothesis.microbatch
                if operation is None
                else operation.get("microbatch", hypothesis.microbatch)
            )
            batch = hypothesis.changed(tracing.plain).get("batch")
            return Cause(
                hypothesis.name,
                PROVEN,
                hypothesis.description,
                operation,
                microbatch,
                batch,
                hypothesis.tensor,
            )
    return None


def note(tried: list[str], hypothesis: Hypothesis) -> None:
    """Write its name down, once."""
    if hypothesis.name not in tried:
        tried.append(hypothesis.name)


def experiment(question: Question, hypothesis: Hypothesis) -> dict[str, Any]:
    """The entry that the step makes under a hypothesis; empty where it is not finite."""
    try:
        with hypothesis.under():
            return question.again.take(**hypothesis.changed(tracing.plain)).entry
    except NotFinite:
        return {}


def operation_of(question: Question, hypothesis: Hypothesis) -> dict[str, Any] | None:
    """The first operation at which the step and the step under the hypothesis part."""
    recipe = hypothesis.changed(tracing.plain).get("recipe", question.again.recipe)
    if recipe.train.arithmetic != question.again.recipe.train.arithmetic:
        return {
            "name": "every operation: another arithmetic",
            "phase": question.phase,
            "microbatch": None,
        }
    plain, changed_trace = tracing.Trace(), tracing.Trace()
    question.again.take(ops=question.again.operations(plain), watch=plain.watch)
    with hypothesis.under():
        changed = {
            "ops": question.again.operations(changed_trace),
            **hypothesis.changed(changed_trace),
        }
        question.again.take(watch=changed_trace.watch, **changed)
    fork = tracing.parting(plain, changed_trace)
    return fork.as_json() if fork else None
