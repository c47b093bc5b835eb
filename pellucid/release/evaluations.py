"""The chain of evaluations beside a run, held against the ledger, the examples' files, and the
built-in tasks that it names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pellucid.data import tokenizer
from pellucid.errors import EvaluationsUnfit, PellucidError, StepUnknown
from pellucid.evaluate.builtin import BuiltIn
from pellucid.measured import stored
from pellucid.recipe import load
from pellucid.record import chain, evaluations
from pellucid.record.verdict import Problem
from pellucid.store import files, layout, log
from pellucid.store.ledger import LedgerFile, places

_MOST_BROKEN = 100  # Entries: a chain that has so many is not read on.


def strays(folder: Path, inside: set[str]) -> set[str]:
    """Those of these '/'-paths in evaluations/ that no entry of the chain has."""
    if not inside or not (folder / layout.EVALUATIONS).is_file():
        return inside
    last = stored.count(folder)
    numbers = {path: Path(path).stem for path in inside - {layout.EVALUATIONS}}
    return {path for path, number in numbers.items() if not 0 < int(number) <= last}


def check(folder: Path) -> Iterator[Problem]:
    """Every problem of the evaluations of a run or release that has some; of a chain with many
    broken entries, the first of them."""
    if not stored.is_there(folder):
        detail = "is missing, but the folder has answers to evaluations"
        yield Problem("FileMissing", layout.EVALUATIONS, detail)
        return
    sound, broken = [], 0
    for entry in log.read(folder / layout.EVALUATIONS):
        detail = entry.problem or evaluations.wrong(entry.n, entry.body)
        if detail:
            yield Problem("EvaluationBroken", _place_of(entry.n), detail)
            broken += 1
        else:
            sound.append(entry.body)
        if broken == _MOST_BROKEN:
            return
    yield from _of_ledger(folder, sound)
    bounds, made = _bounds(folder), [body for body in sound if body["n"]]
    for body in made:
        path = layout.examples(body["n"])
        try:
            yield from _of_examples(folder, path, body, bounds)
        except PellucidError as error:
            yield Problem(error.name, path, str(error))
    yield from islice(_of_tasks(folder, made), _MOST_BROKEN)


def require(folder: Path) -> None:
    """Raises EvaluationsUnfit for the first problem of a run that has evaluations."""
    if not (folder / layout.EVALUATIONS).parent.exists():
        return
    try:
        found = next(check(folder), None)
    except PellucidError as error:
        found = Problem(error.name, layout.EVALUATIONS, str(error))
    if found:
        about = {"error": found.error, "where": found.where, "detail": found.detail}
        raise EvaluationsUnfit(path=folder, **about)


def _place_of(n: int) -> str:
    return f"{layout.EVALUATIONS}: entry {n}"


def _of_ledger(folder: Path, bodies: list[dict[str, Any]]) -> Iterator[Problem]:
    """Heads that the ledger never had, or in another order, and weights that it had not by then."""
    heads = places(folder, {body["head"] for body in bodies})
    weights = _weights(folder, {body["step"] for body in bodies if body["n"]})
    latest = 0
    for body in bodies:
        place = heads.get(body["head"], -1)
        if place < latest:
            detail = "names a head that the ledger never had, or had before that of an entry above"
            yield Problem("EvaluationDiffers", _place_of(body["n"]), detail)
            continue
        latest = place
        recorded = weights.get(body.get("step", -1), [])
        if body["n"] and not any(n <= place and root == body["weights"] for n, root in recorded):
            detail = f"its weights are not those of step {body['step']}, recorded up to its head"
            yield Problem("EvaluationDiffers", _place_of(body["n"]), detail)


def _weights(folder: Path, steps: Iterable[int]) -> dict[int, list[tuple[int, str]]]:
    """The weights after steps, on every branch, with the numbers of their entries."""
    ledger = LedgerFile(folder)
    weights: dict[int, list[tuple[int, str]]] = {step: [] for step in steps}
    for step, roots in weights.items():
        try:
            entry = ledger.step(step)
        except StepUnknown:
            continue
        roots.append((entry["n"], entry["weights"]))
    for rollback in ledger.rollbacks:
        for entry in ledger.abandoned(rollback):
            if entry["kind"] == "step" and entry["step"] in weights:
                weights[entry["step"]].append((entry["n"], entry["weights"]))
    return weights


def _bounds(folder: Path) -> evaluations.Bounds | None:
    """None where the check of the data names what is wrong."""
    try:
        context = load(folder).model.context
        return evaluations.Bounds(tokenizer.recorded(folder).vocabulary, context)
    except PellucidError:
        return None


def _of_tasks(folder: Path, bodies: list[dict[str, Any]]) -> Iterator[Problem]:
    """Entries that say that a built-in task was asked, and do not ask what it asks."""
    known = BuiltIn(folder, bodies)
    for body in bodies:
        try:
            detail = known.wrong(body)
        except PellucidError as error:
            yield Problem(error.name, _place_of(body["n"]), f"cannot be drawn again: {error}")
            return  # Nor can the others: what is wrong with the data is named by their own check.
        if detail:
            told = f"does not ask the task {body['task']}: {detail}"
            yield Problem("TaskDiffers", _place_of(body["n"]), told)


def _of_examples(
    folder: Path, path: str, body: dict[str, Any], bounds: evaluations.Bounds | None
) -> Iterator[Problem]:
    """A file of examples that is not the entry's, or gives other numbers."""
    if files.sha256_file(folder / path) != body["sha256"]:
        yield Problem("EvaluationDiffers", path, f"does not have the SHA-256 of entry {body['n']}")
        return
    examples = evaluations.Examples(body["metric"], bounds)
    with files.open_file(folder / path) as file:
        for line in iter(lambda: file.readline(chain.MAX_LINE + 2), b""):
            if detail := examples.take(line):
                place = f"{path}: line {examples.tree.count + 1}"
                yield Problem("EvaluationBroken", place, detail)
                return
    if examples.questions.root().hex() != body["task_digest"]:
        detail = f"does not ask what the task digest of entry {body['n']} says"
        yield Problem("EvaluationDiffers", path, detail)
    elif examples.tree.root().hex() != body["results"]:
        yield Problem("EvaluationDiffers", path, f"does not have the results of entry {body['n']}")
    elif examples.numbers() != body["numbers"]:
        detail = f"its examples give other numbers than entry {body['n']} says"
        yield Problem("EvaluationDiffers", path, detail)
