"""Verify: everything a release claims that can be checked without
computing a step, and without torch.

Files against the manifest; the chains; the recipe, the data, every step's batch, the published
numbers and every stored state against the ledger."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid import huggingface, journal, machine
from pellucid.cards import write as cards
from pellucid.data import tokenizer
from pellucid.data.roots import recompute_root
from pellucid.errors import FormatInvalid, FormatTooNew, LinkInside, PellucidError, RunMissing
from pellucid.recipe import FILE, Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import notes
from pellucid.record.arithmetics import ARITHMETICS
from pellucid.record.verdict import Plan, Problem, judge
from pellucid.release import evaluations, manifest, readme, tables
from pellucid.release.states import States
from pellucid.release.steps import Steps
from pellucid.site.check import check as check_site
from pellucid.site.check import check_pages
from pellucid.store import files, layout, log, sealed
from pellucid.store.ledger import LedgerFile
from pellucid.trace.check import check as check_index

Watch = Callable[[str], None]
# What has to be right before the site's data are made from it again.
_SITE_NEEDS = {"data", "tables", "steps", "evaluations"}


@dataclass
class Report:
    """What was checked, and every problem found."""

    sealed: bool
    seconds: float = 0.0
    checked: list[str] = field(default_factory=list)
    # In a run that is not sealed: what is no part of one.
    unlisted: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "sealed": self.sealed,
            "seconds": round(self.seconds, 3),
            "checked": self.checked,
            "unlisted": self.unlisted,
            "problems": [problem._asdict() for problem in self.problems],
        }


def verify(folder: Path, watch: Watch) -> Report:
    """Check a run or a release. Wrong content is a problem in the report, never an exception.

    Raises RunMissing where there is nothing to check, and NotTrained where nothing was trained yet.
    """
    started = time.perf_counter()
    if not (folder / layout.MANIFEST).exists() and not (folder / FILE).exists():
        raise RunMissing(path=folder)
    report = Report(sealed=(folder / layout.MANIFEST).is_file())
    try:
        layout.refuse_links(folder)
    except LinkInside as error:  # Nothing is read that lies at its other end.
        report.problems.append(
            _relative(folder, Problem(error.name, str(error.fields["path"]), str(error)))
        )
        return report
    if not report.sealed:
        _require_begun(folder)
    wrong = set[str]()  # The checks that found a problem.
    checks: list[tuple[str, Callable[[], Iterator[Problem]]]] = [
        ("files", lambda: _files(folder, report.sealed)),
        ("ledger", lambda: _ledger(folder)),
        ("journal", lambda: _journal(folder)),
        ("data", lambda: _data(folder)),
        ("tables", lambda: tables.check(folder)),
        ("steps", lambda: Steps(folder).check()),
        ("states", lambda: States(folder).check()),
        ("record", lambda: _record(folder, report.sealed)),
    ]
    if (folder / layout.TRACE).exists():
        checks.append(("index", lambda: check_index(folder)))
    if (folder / layout.EVALUATIONS).parent.exists():
        checks.append(("evaluations", lambda: evaluations.check(folder)))
    # A run that is not sealed may have gone on since its pages were made; publish makes them anew.
    if report.sealed and (folder / layout.SITE).exists():
        checks.append(("site", lambda: check_site(folder, sound=not wrong & _SITE_NEEDS)))
    if report.sealed and any(
        (folder / name).exists() for name in (layout.PAGES, layout.SITE_PAGES)
    ):
        checks.append(("pages", lambda: check_pages(folder)))
    if report.sealed and (folder / layout.CARDS).exists():
        checks.append(("cards", lambda: cards.check(folder)))
    for name, check in checks:
        watch(name)
        if problems := [_relative(folder, problem) for problem in _collected(name, check)]:
            wrong.add(name)
        report.problems += problems
        without_data = name == "site" and wrong & _SITE_NEEDS
        report.checked.append("site (without its data)" if without_data else name)
    report.unlisted = [] if report.sealed else _unlisted(folder)
    report.seconds = time.perf_counter() - started
    return report


def _require_begun(folder: Path) -> None:
    """Raises NotTrained where a run has no ledger yet, and nothing
    either that only training leaves."""
    left = [
        *layout.steps_in(folder / layout.ANCHORS),
        *layout.steps_in(folder / layout.CHECKPOINTS),
    ]
    if not left and not any(
        (folder / name).exists() for name in (huggingface.WEIGHTS, readme.FILE)
    ):
        # Those are problems, for the report.
        with contextlib.suppress(FormatInvalid, FormatTooNew):
            LedgerFile(folder)


def _unlisted(folder: Path) -> list[str]:
    """What lies in a finished run and is no part of it, first what may change what people load; a
    run that goes on has unfinished work there."""
    with contextlib.suppress(PellucidError):
        if LedgerFile(folder).ended:
            return sorted(manifest.listed(folder)[1], key=lambda path: not layout.is_loaded(path))
    return []


def _relative(folder: Path, problem: Problem) -> Problem:
    """The problem with its place named from the run folder, whoever named it."""
    place = problem.where.removeprefix(f"{folder}/") if problem.where != str(folder) else "."
    return problem._replace(where=place)


def _collected(name: str, check: Callable[[], Iterator[Problem]]) -> list[Problem]:
    """The problems of one check; content that it stumbles over is one more.

    Raises LimitReached: a limit of this shell or machine says nothing about the release.
    """
    problems = []
    try:
        problems.extend(check())
    except Exception as error:
        if reached := machine.limit_reached(error):
            raise reached from error
        problems.append(_problem(name, error))
    return problems


def _problem(name: str, error: Exception) -> Problem:
    if isinstance(error, PellucidError):
        return Problem(error.name, str(error.fields.get("path", name)), str(error))
    if isinstance(error, FileNotFoundError):
        return Problem("FileMissing", str(error.filename), "is missing, but this check needs it")
    if isinstance(error, MemoryError):
        return Problem("FormatInvalid", name, "takes more memory than this process may have")
    return Problem("FormatInvalid", name, f"{type(error).__name__}: {error}")


def plan_of(recipe: Recipe) -> Plan:
    schedule = recipe.schedule
    return Plan(
        recipe=recipe.digest().hex(),
        steps=recipe.train.steps,
        tokens=schedule.tokens,
        tokens_of=schedule.tokens_of,
        validates=lambda step: recipe.scheduled(recipe.validation.every, step),
        checkpoints=lambda step: recipe.scheduled(recipe.checkpoints.every, step),
        learning_rate=schedule.learning_rate,
        genesis={
            "arithmetic": ARITHMETICS[recipe.train.arithmetic].name,
            "pipeline": recipe.data.pipeline,
            "recipe_version": recipe.version,
            "parent": recipe.fork.parent or None,
            **(_begun(recipe) if recipe.fork.parent else {"step": None, "tokens": None}),
        },
        rules=recipe.rules(),
        first=recipe.first,
    )


def _begun(recipe: Recipe) -> dict[str, Any]:
    """What a fork's genesis says of the state it begins with."""
    return {"tokens": str(recipe.fork.tokens), "state": recipe.fork.state}


def _files(folder: Path, is_sealed: bool) -> Iterator[Problem]:
    if is_sealed:
        yield from manifest.check(folder)
    elif (folder / "README.md").exists() and LedgerFile(folder).ended:
        yield Problem(
            "FileMissing",
            layout.MANIFEST,
            "is missing, but the folder has the README of a sealed release. If it was removed to "
            f"evaluate the run, seal the run again: pellucid publish {folder}",
        )


def _ledger(folder: Path) -> Iterator[Problem]:
    yield from judge(
        layout.LEDGER, log.read_together(folder / layout.LEDGER), plan_of(load_recipe(folder))
    )
    if (folder / layout.MANIFEST).is_file():
        head, promised = LedgerFile(folder).head, sealed.read(folder).head
        if head != promised:
            detail = f"the head is {head}, but was {promised} when sealed"
            yield Problem("LedgerBroken", f"{layout.LEDGER}: last entry", detail)


def _journal(folder: Path) -> Iterator[Problem]:
    """The journal, and the code and versions kept beside it: what its
    starts name, and nothing else."""
    yield from notes.problems(layout.JOURNAL, log.read(folder / layout.JOURNAL))
    named: dict[str, set[str]] = {}
    for entry in log.read(folder / layout.JOURNAL):
        for about in (
            (entry.body.get("code"), entry.body.get("environment")) if not entry.problem else ()
        ):
            if isinstance(about, dict):
                named.setdefault(str(about.get("file")), set()).add(str(about.get("sha256")))
    stored = {f"record/{path.name}" for path in (folder / layout.JOURNAL).parent.iterdir()} - {
        layout.LEDGER,
        layout.JOURNAL,
    }
    for name in sorted(file for file in stored | set(named) if layout.room_of(file)):
        if name not in named:
            yield Problem("JournalBroken", name, "is not named by a start in the journal")
        elif {files.sha256_file(folder / name)} != named[name]:
            yield Problem(
                "JournalBroken",
                name,
                f"does not have the SHA-256 that the journal names: {min(named[name])[:64]}",
            )
        elif name.endswith(".tar"):
            try:
                journal.code_in(folder / name)
            except FormatInvalid as error:
                yield Problem("JournalBroken", name, str(error.fields["detail"]))
    for name in sorted(file for file in named if not layout.room_of(file)):
        yield Problem(
            "JournalBroken", layout.JOURNAL, f"names {name[:100]!r}, which a release cannot hold"
        )


def _record(folder: Path, is_sealed: bool) -> Iterator[Problem]:
    """What a sealed release says of itself where people look first."""
    if is_sealed:
        named, run = sealed.read(folder), load_recipe(folder).name
        if named.run != run:
            yield Problem(
                "FormatInvalid",
                layout.MANIFEST,
                f"names the run {named.run[:64]!r}, but the recipe names {run!r}",
            )
        if detail := readme.check(folder, named.readme):
            yield Problem("FileDiffers", readme.FILE, detail)


def _data(folder: Path) -> Iterator[Problem]:
    """The data root from every document and every token, and the tokenizer's digest."""
    genesis = LedgerFile(folder).genesis
    digest = tokenizer.recorded(folder).digest
    if digest != genesis["tokenizer"]:
        yield Problem(
            "DataDiffers", layout.TOKENIZER, f"has the digest {digest}, not {genesis['tokenizer']}"
        )
    root, problems = recompute_root(folder, load_recipe(folder))
    for place, detail in problems:
        yield Problem("DataDiffers", place, detail)
    pinned = load_recipe(folder).data.root
    if pinned not in ("", genesis["data"]):
        yield Problem(
            "DataDiffers",
            FILE,
            f"data.root pins {pinned[:64]}, but the data has the root {genesis['data']}",
        )
    if root != genesis["data"]:
        yield Problem(
            "DataDiffers",
            "data",
            f"the documents and tokens give the root {root}, not {genesis['data']}",
        )
