"""Evaluations kept beside a run: an entry in the chain of evaluations/, and a file of examples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import EvaluationBroken, FolderUnfit, TaskUnfit
from pellucid.evaluate import builtin
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


def evaluation(ledger: LedgerFile, step: int, task: Task, answers: Sequence[Answer]) -> Made:
    """An evaluation of the weights after a step of the ledger's run. Raises EvaluationBroken for an
    example that no line can hold, TaskUnfit for a name or setting that no entry can hold."""
    if (task.name in builtin.NAMES) != (task.harness[0] == evaluations.OURS):
        detail = f"it is made by {task.harness[0]}, and only built-in tasks are made by pellucid"
        raise TaskUnfit(task=task.name, detail=detail)
    metric, numbers = task.rated(answers)
    examples = evaluations.Examples(metric)
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


class Chain:
    """The chain of a run's evaluations, open for writing from the first that is kept on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log: log.Log | None = None

    def keep(self, made: Made) -> None:
        """Give an evaluation its place. The examples are complete before the entry names them: a
        file without an entry is written anew."""
        if self._log is None:
            self._log = log.Log(self._folder / layout.EVALUATIONS, chain.Tip())
        if not self._log.tip.n:
            self._log.append(evaluations.genesis(made.body["head"]))
        path = self._folder / layout.examples(self._log.tip.n)
        files.write_bytes(path, b"".join(made.written))
        self._log.append(made.body)
        self._log.sync()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()


@contextmanager
def writing(folder: Path, tasks: Sequence[Task], steps: Sequence[int]) -> Iterator[Chain]:
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
        with closing(Chain(folder)) as kept:
            yield kept
