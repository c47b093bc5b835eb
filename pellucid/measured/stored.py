"""The evaluations that a run keeps, read: the chain in evaluations/, and the examples of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pellucid.errors import EvaluationBroken, FileMissing, StepUnknown
from pellucid.measured.summary import Summary, summary
from pellucid.record import chain, evaluations, merkle
from pellucid.store import files, layout, log
from pellucid.store.ledger import LedgerFile, begun


def is_there(folder: Path) -> bool:
    """Whether a run keeps evaluations. Raises FormatInvalid if something else has their place."""
    try:
        files.require_file(folder / layout.EVALUATIONS)
    except FileMissing:
        return False
    return True


def entries(folder: Path) -> list[dict[str, Any]]:
    """What a run's chain holds, without its genesis. Raises EvaluationBroken."""
    path, bodies = folder / layout.EVALUATIONS, []
    if not is_there(folder):
        return []
    for entry in log.read(path):
        if detail := entry.problem or evaluations.wrong(entry.n, entry.body):
            raise EvaluationBroken(path=path, entry=entry.n, detail=detail)
        bodies.append(entry.body)
    return bodies[1:]


def count(folder: Path) -> int:
    """How many entries a run's chain has, sound or not, without its genesis."""
    path = folder / layout.EVALUATIONS
    if not is_there(folder):
        return 0
    with files.open_file(path) as file:
        listed = sum(1 for _ in iter(lambda: file.readline(chain.MAX_LINE + 2), b""))
    return max(0, listed - 1)


def of_run(folder: Path) -> list[dict[str, Any]]:
    """The entries of weights that the run has: not those of steps that a rollback abandoned. Raises
    EvaluationBroken."""
    listed = entries(folder)
    ledger = begun(folder) if listed else None
    return [entry for entry in listed if ledger and _is_of(ledger, entry)]


def _is_of(ledger: LedgerFile, entry: Mapping[str, Any]) -> bool:
    try:
        return ledger.step(entry["step"])["weights"] == entry["weights"]
    except StepUnknown:
        return False


def lines(folder: Path, entry: Mapping[str, Any]) -> Iterator[evaluations.Line]:
    """The examples of an evaluation. Raises EvaluationBroken, also where they ask other questions
    than the entry says: whoever reads on to the last one knows."""
    path, asked = folder / layout.examples(entry["n"]), merkle.Tree()
    with files.open_file(path) as file:
        written = iter(lambda: file.readline(chain.MAX_LINE + 2), b"")
        for line in read(path, entry["n"], entry, written):
            asked.add(evaluations.question_leaf(line.example))
            yield line
    if asked.root().hex() != entry["task_digest"]:
        detail = "asks other questions than its entry"
        raise EvaluationBroken(path=path, entry=entry["n"], detail=detail)


def read(
    path: Path, n: int, entry: Mapping[str, Any], written: Iterable[bytes]
) -> Iterator[evaluations.Line]:
    """The examples of an entry that has the number n, from their lines. Raises EvaluationBroken."""
    names, count = [*entry["numbers"]], 0
    for line in written:
        known = evaluations.line_from(line, entry["metric"])
        if isinstance(known, str):
            raise EvaluationBroken(path=path, entry=n, detail=known)
        if [*known.numbers] != names:
            raise EvaluationBroken(path=path, entry=n, detail="has other numbers than its entry")
        count += 1
        yield known
    if not count:
        raise EvaluationBroken(path=path, entry=n, detail="has no example")


def summaries(
    folder: Path, listed: Iterable[Mapping[str, Any]], joined: bool = True
) -> Iterator[Summary]:
    """What each of these entries comes to; joined: as in summary. Raises EvaluationBroken."""
    return (summary(entry, lines(folder, entry), joined) for entry in listed)
