"""The evaluations that a run keeps: the chain in evaluations/, and a file of examples for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import EvaluationBroken
from pellucid.evaluate.task import Task
from pellucid.journal import Journal
from pellucid.record import chain, evaluations
from pellucid.record.requests import Answer
from pellucid.store import files, layout, log
from pellucid.store.ledger import LedgerFile


def entries(folder: Path) -> list[dict[str, Any]]:
    """What a run's chain holds, without its genesis. Raises EvaluationBroken."""
    path, bodies = folder / layout.EVALUATIONS, []
    if not files.is_file(path):
        return []
    for entry in log.read(path):
        if detail := entry.problem or evaluations.wrong(entry.n, entry.body):
            raise EvaluationBroken(path=path, entry=entry.n, detail=detail)
        bodies.append(entry.body)
    return bodies[1:]


def lines(folder: Path, entry: Mapping[str, Any]) -> Iterator[evaluations.Line]:
    """The examples of an evaluation. Raises EvaluationBroken."""
    path = folder / layout.examples(entry["n"])
    with files.open_file(path) as file:
        written = iter(lambda: file.readline(chain.MAX_LINE + 2), b"")
        yield from _read(path, entry["n"], entry["metric"], written)


class Made(NamedTuple):
    """An evaluation before it has a place in a chain."""

    body: dict[str, Any]
    written: list[bytes]  # The lines of its examples.

    def lines(self) -> Iterator[evaluations.Line]:
        return _read(Path(self.body["task"]), 0, self.body["metric"], self.written)


def _read(
    path: Path, entry: int, metric: str, written: Iterable[bytes]
) -> Iterator[evaluations.Line]:
    for line in written:
        read = evaluations.line_from(line, metric)
        if isinstance(read, str):
            raise EvaluationBroken(path=path, entry=entry, detail=read)
        yield read


def evaluation(folder: Path, step: int, task: Task, answers: Sequence[Answer]) -> Made:
    """An evaluation of the weights after a step. Raises EvaluationBroken for an example that no
    line can hold."""
    metric, numbers = task.rated(answers)
    examples, ledger = evaluations.Examples(metric), LedgerFile(folder)
    rows = zip(task.examples, answers, numbers, strict=True)
    written = [evaluations.line_of(*row) for row in rows]
    for line in written:
        if wrong := examples.take(line):
            raise EvaluationBroken(path=task.name, entry=examples.tree.count + 1, detail=wrong)
    body = evaluations.evaluation(
        head=ledger.head,
        step=step,
        weights=ledger.step(step)["weights"],
        task=task.name,
        harness=task.harness,
        settings=task.settings,
        examples=examples,
        sha256=hashlib.sha256(b"".join(written)).hexdigest(),
    )
    return Made(body, written)


def keep(folder: Path, made: Made) -> None:
    """Give an evaluation its place in the run's chain. The examples are complete before the entry
    names them: a file without an entry is written anew."""
    chained = log.Log(folder / layout.EVALUATIONS, chain.Tip())
    try:
        if not chained.tip.n:
            chained.append(evaluations.genesis(made.body["head"]))
        files.write_bytes(folder / layout.examples(chained.tip.n), b"".join(made.written))
        chained.append(made.body)
        chained.sync()
    finally:
        chained.close()


@contextmanager
def writing(folder: Path, tasks: Sequence[Task], steps: Sequence[int]) -> Iterator[None]:
    """Hold a run for evaluations that it keeps, and note them in its journal. Raises RunBusy,
    LinkInside, LedgerBroken."""
    with layout.writing(folder), Journal(folder) as journal:
        if files.is_file(folder / layout.EVALUATIONS):
            log.Log(folder / layout.EVALUATIONS, chain.Tip()).close()  # A torn last line goes.
        names = ", ".join(task.name for task in tasks)
        journal.note("evaluate", tasks=names, steps=", ".join(map(str, steps)))
        yield
