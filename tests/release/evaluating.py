"""Evaluations of a run as somebody else would make them: their examples, and their chain."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pellucid.record import chain, evaluations, metrics
from pellucid.record.requests import Choices, Example, Likelihoods
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


def evaluated(folder: Path, step: int, number: int) -> dict[str, Any]:
    """Write the examples of an evaluation; returns its entry."""
    ledger, examples = LedgerFile(folder), evaluations.Examples("accuracy")
    lines = [example(f"doc {i}", i % 2, (-1.0, -2.0)) for i in range(5)]
    assert [examples.take(line) for line in lines] == [""] * 5
    files.write_bytes(folder / layout.examples(number), b"".join(lines))
    return evaluations.evaluation(
        head=ledger.head,
        step=step,
        weights=ledger.step(step)["weights"],
        task="arc_easy",
        harness=("lm-eval", "0.4.9"),
        settings={"shots": step},
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


def rewrite(folder: Path, bodies: list[dict[str, Any]]) -> None:
    """The chain of these entries, as a forger makes it again."""
    (folder / CHAIN).unlink(missing_ok=True)
    log = Log(folder / CHAIN, chain.Tip())
    for body in bodies:
        log.append(body)
    log.close()
