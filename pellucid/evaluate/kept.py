"""Evaluations kept beside a run: an entry in the chain of evaluations/, and a file of examples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import EvaluationBroken, FolderUnfit, TaskUnfit
from pellucid.evaluate.task import Task
from pellucid.journal import Journal
from pellucid.measured import stored
from pellucid.record import chain, evaluations
from pellucid.record.requests import Answer
from pellucid.store import files, layout, log
from pellucid.store.ledger import LedgerFile


class Made(NamedTuple):
    """An evaluation before it has a place in a chain."""

    body: dict[str, Any]
    written: list[bytes]  # The lines of its examples.

    def lines(self) -> Iterator[evaluations.Line]:
        return stored.read(Path(self.body["task"]), 0, self.body, self.written)


def evaluation(folder: Path, step: int, task: Task, answers: Sequence[Answer]) -> Made:
    """An evaluation of the weights after a step. Raises EvaluationBroken for an example that no
    line can hold, TaskUnfit for a name or setting that no entry can hold."""
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
    if wrong := evaluations.wrong(1, {"prev": chain.START, "n": 1, **body}):
        raise TaskUnfit(task=task.name, detail=f"its entry {wrong}")
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
    LinkInside, LedgerBroken, FormatInvalid, FolderUnfit."""
    with layout.writing(folder), Journal(folder) as journal:
        place = (folder / layout.EVALUATIONS).parent
        if place.exists() and not place.is_dir():
            raise FolderUnfit(path=place, detail=f"{place} is not a folder")
        if stored.is_there(folder):
            log.Log(folder / layout.EVALUATIONS, chain.Tip()).close()  # A torn last line goes.
        names = ", ".join(task.name for task in tasks)
        journal.note("evaluate", tasks=names, steps=", ".join(map(str, steps)))
        yield
