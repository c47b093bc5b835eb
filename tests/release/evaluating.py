"""Evaluations of a run as somebody else would make them: their examples, and their chain."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from unittest import mock

from pellucid.evaluate.suite.memorization import Drawn, memorization
from pellucid.evaluate.task import Task
from pellucid.look.show import Shown
from pellucid.record import chain, evaluations, metrics
from pellucid.record.requests import Answer, Choices, Example, Ids, Likelihoods, Rolling
from pellucid.release import evaluations as check
from pellucid.release.publish import publish
from pellucid.store import files, layout
from pellucid.store.ledger import LedgerFile
from pellucid.store.log import Log

CHAIN = layout.EVALUATIONS


def evaluate(folder: Path, steps: list[int]) -> list[dict[str, Any]]:
    """Write an evaluation of each of these steps; returns the entries of the chain."""
    made = [evaluations.genesis(LedgerFile(folder).head)]
    made += [evaluated(folder, step, number) for number, step in enumerate(steps, 1)]
    rewrite(folder, made)
    return made


def evaluated(
    folder: Path,
    step: int,
    number: int,
    settings: evaluations.Settings | None = None,
    count: int = 5,
    word: str = "yes",
) -> dict[str, Any]:
    """Write the examples of an evaluation; returns its entry."""
    lines = [example(f"doc {i}", i % 2, (-1.0, -2.0), f"{word} {i}") for i in range(count)]
    told = {"shots": step} if settings is None else settings
    return _written(folder, step, number, lines, "accuracy", "arc_easy", ("lm-eval", "0.4.9"), told)


def memorised(folder: Path, step: int, number: int) -> dict[str, Any]:
    """Write the examples of the task memorization as if every answer were its first token alone,
    again and again; returns the entry."""
    shown = Shown(folder)
    drawn = Drawn(9, 7, ranges=2, sequences=2)
    task = memorization(shown.recipe, shown.shards, shown.order, drawn)
    return answered(folder, step, number, task)


def answered(folder: Path, step: int, number: int, task: Task) -> dict[str, Any]:
    """Write the examples of a task with answers that no model gave; returns the entry."""
    lines = list[bytes]()
    for one in task.examples:
        answer: Answer = Likelihoods((-1.0, -2.0), (True, False))
        if isinstance(one.request, Rolling):
            answer = Likelihoods((-1.0,), (True,))
        if isinstance(one.target, tuple):
            answer = Ids(one.target[:1] * len(one.target))
        numbers = metrics.numbers_of(task.metric, one.request, one.target, answer)
        assert numbers is not None
        lines.append(evaluations.line_of(one, answer, numbers))
    return _written(
        folder, step, number, lines, task.metric, task.name, task.harness, task.settings
    )


def _written(
    folder: Path,
    step: int,
    number: int,
    lines: list[bytes],
    metric: str,
    task: str,
    harness: tuple[str, str],
    settings: evaluations.Settings,
) -> dict[str, Any]:
    ledger, examples = LedgerFile(folder), evaluations.Examples(metric)
    assert [examples.take(line) for line in lines] == [""] * len(lines)
    files.write_bytes(folder / layout.examples(number), b"".join(lines))
    return evaluations.evaluation(
        head=ledger.head,
        step=step,
        weights=ledger.step(step)["weights"],
        task=task,
        harness=harness,
        settings=settings,
        examples=examples,
        sha256=hashlib.sha256(b"".join(lines)).hexdigest(),
    )


def example(name: str, target: int, nats: tuple[float, ...], context: str = "yes") -> bytes:
    """A line of an evaluation by accuracy."""
    request = Choices(context, tuple(f" {place}" for place in range(len(nats))))
    answer = Likelihoods(nats, (False,) * len(nats))
    numbers = metrics.numbers_of("accuracy", request, target, answer)
    assert numbers is not None
    return evaluations.line_of(Example(name, request, target, name), answer, numbers)


def seal_as_it_is(folder: Path, site: bool = False) -> None:
    """Seal a run whose evaluations publish refuses, as a forger does."""
    with mock.patch.object(check, "require", lambda _: None):
        publish(folder, site=site)


def rewrite(folder: Path, bodies: list[dict[str, Any]]) -> None:
    """The chain of these entries, as a forger makes it again."""
    (folder / CHAIN).unlink(missing_ok=True)
    log = Log(folder / CHAIN, chain.Tip())
    for body in bodies:
        log.append(body)
    log.close()
