"""The folder of a report: report.html, report.md, and the pictures that the latter shows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import ReportInside, RunTwice
from pellucid.recipe import FILE
from pellucid.report import analysed, beside, describe, evaluated, happened, trained
from pellucid.report.blocks import Report, Section, Words, say
from pellucid.report.chart import alone
from pellucid.report.markdown import MARK, PICTURES, markdown
from pellucid.report.page import page
from pellucid.report.reported import Reported
from pellucid.store import file_kinds, files

# The sections of a report of one run, in their order. Another one is a function more.
SECTIONS: tuple[Callable[[Reported], Section], ...] = (
    describe.model,
    describe.texts,
    trained.training,
    trained.validation,
    evaluated.evaluations,
    analysed.contamination,
    analysed.memorization,
    happened.incidents,
    happened.environment,
)
_MARKDOWN, _PAGE = "report.md", "report.html"
_OWN = re.compile(rf"report\.md|report\.html|{PICTURES}/[a-z0-9-]+\.svg").fullmatch
_LONGEST = 100  # Characters of the name that a report gets by itself.


def of_run(run: Reported) -> Report:
    """A report of one run. Raises what its readers raise."""
    lead = say(Words(f"All numbers are from the record of the run. {_CHECKED}"))
    return Report(run.recipe.name, lead, [section(run) for section in SECTIONS])


def of_runs(first: Reported, others: Sequence[Reported]) -> Report:
    """A run and others beside it. Raises what its readers raise."""
    known = {first.label: 1}
    for run in others:
        known[run.recipe.name] = number = known.get(run.recipe.name, 0) + 1
        run.label = run.recipe.name if number == 1 else f"{run.recipe.name} ({number})"
    compared = [beside.compared(first, run) for run in others]
    title = f"{first.label} beside {', '.join(run.label for run in others)}"
    lead = say(Words(f"All numbers are from the records of the runs. {_CHECKED}"))
    sections = [beside.runs(first, compared), *beside.several(first, compared)]
    sections += [beside.one(first, one, place) for place, one in enumerate(compared, 1)]
    return Report(title, lead, sections)


_CHECKED = "Each section ends with the commands that check it or compute it again."


def report(runs: Sequence[str], to: Path | None) -> tuple[Path, dict[str, Any]]:
    """Write the report of a run, or of a run and others beside it; the folder and the numbers.

    to: the folder to write; None: one that is named after the runs, in the current folder. Raises
    RunMissing, RunTwice, FolderTaken, ReportInside, and what reading the runs raises."""
    first, *others = opened(runs)
    target = to or Path(_named((first, *others)))
    if file_kinds.is_link(target):  # Else the link is replaced.
        target = target.resolve()
    require_place(target)
    made = of_runs(first, others) if others else of_run(first)
    with files.whole_folder(target) as partial:
        files.write_text(partial / _MARKDOWN, markdown(made))
        files.write_text(partial / _PAGE, page(made))
        for picture in made.pictures:
            files.write_text(partial / PICTURES / f"{picture.name}.svg", alone(picture.chart))
    return target, {str(section.title): section.numbers for section in made.sections}


def _named(runs: Sequence[Reported]) -> str:
    """A name that no report of other runs has, whatever the runs are called."""
    names = "-".join(run.recipe.name for run in runs)[:_LONGEST]
    digest = hashlib.sha256("\n".join(run.identity for run in runs).encode()).hexdigest()
    return f"{names}-{digest[:8]}-report"


def opened(runs: Sequence[str]) -> list[Reported]:
    """Runs, each of them once. Raises RunMissing, RunTwice."""
    found, known = list[Reported](), set[str]()
    for run in runs:
        one = Reported(run)
        place = run.rstrip("/") if "://" in run else str(one.folder.resolve())
        if place in known:
            raise RunTwice(path=run, verb="report")
        known.add(place)
        found.append(one)
    return found


def require_place(target: Path) -> None:
    """Raises FolderTaken where other files lie, and ReportInside in a run's folder: `verify` names
    what does not belong there."""
    for above in (target.resolve(), *target.resolve().parents):
        if files.is_file(above / FILE):
            raise ReportInside(path=target, run=above, name=target.resolve().name)
    if not _is_report(target):
        files.require_free(target, fix=". Or choose the folder of an earlier report")


def _is_report(folder: Path) -> bool:
    """Whether a folder holds a report of ours and nothing else."""
    if not files.is_file(folder / _MARKDOWN) or not all(map(_OWN, files.walk(folder))):
        return False
    with files.open_file(folder / _MARKDOWN) as file:
        return file.readline(len(MARK) + 1) == f"{MARK}\n".encode()
