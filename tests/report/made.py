"""Evaluations of a run with answers of our own, kept as `pellucid evaluate` keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pellucid.evaluate import kept
from pellucid.evaluate.task import Task
from pellucid.record.requests import Choices, Example, Likelihoods, Rolling
from pellucid.store.ledger import LedgerFile

NAMES = "abcdefgh"


def choices(name: str = "halves", clusters: Sequence[str] = ("",) * len(NAMES)) -> Task:
    """Questions whose first choice is right."""
    examples = [
        Example(one, Choices(one, (" 0", " 1")), 0, cluster)
        for one, cluster in zip(NAMES, clusters, strict=True)
    ]
    return Task(name, "accuracy", examples, {"shots": 0}, harness=("made", "1"))


def texts(name: str = "facts") -> Task:
    """Texts whose likelihood is asked for."""
    examples = [Example(one, Rolling(one * 5), None, one) for one in NAMES]
    return Task(name, "bits_per_byte", examples, {}, harness=("made", "1"))


def keep(folder: Path, task: Task, by_step: dict[int, Sequence[float]]) -> None:
    """By step, of each example whether it is right, or the log-likelihood of its text."""
    ledger = LedgerFile(folder)
    with kept.writing(folder, [task], [*by_step]) as chain:
        for step, values in by_step.items():
            answers = [_answer(task, value) for value in values]
            chain.keep(kept.evaluation(ledger, step, task, answers))


def _answer(task: Task, value: float) -> Likelihoods:
    if task.metric == "accuracy":
        return Likelihoods((-1.0, -2.0) if value else (-2.0, -1.0), (False, False))
    return Likelihoods((value,), (False,))
