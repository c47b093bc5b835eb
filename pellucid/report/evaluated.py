"""The evaluations that a run keeps, over its steps."""

from __future__ import annotations

from pellucid.measured.summary import Summary
from pellucid.report.blocks import (
    Command,
    Picture,
    Pictures,
    Section,
    Table,
    Words,
    missing,
    say,
)
from pellucid.report.chart import Chart, Level, Line
from pellucid.report.reported import Reported

MOST_DRAWN = 48  # Tasks that have a picture.
_HEAD = ("task", "number", "step", "value", "95% interval", "chance", "examples")


def evaluations(run: Reported) -> Section:
    """Each task over the steps, and in a table at its last step."""
    if not (tasks := [*run.tasks.values()]):
        made = run.command("evaluate", "--steps log")
        return missing("Evaluations", "The run keeps no evaluation.", made)
    last = [rows[-1] for rows in tasks]
    rows = [(row.task, row.number, f"{row.step:,}", *row.cells()) for row in last]
    table = Table(Words("The last step of each task"), tuple(map(Words, _HEAD)), rows, 2)
    charts = [
        Picture(f"evaluation-{place}", chart_of(own[-1], [line_of(run.label, own)]))
        for place, own in enumerate(tasks[:MOST_DRAWN], 1)
    ]
    section = Section(Words("Evaluations"), [table, Pictures(charts), say(Words(_METHODS))])
    section.blocks.append(say(Words(f"Methods: {methods([row for own in tasks for row in own])}.")))
    section.numbers = {"evaluations": [row.as_json() for own in tasks for row in own]}
    section.checks = [
        Command(run.command("verify"), Words("rates every answer again")),
        Command(
            run.command("audit", "--evaluations 20"),
            Words("asks the model 20 examples again and compares bits"),
        ),
        Command(run.command("sql", '"FROM evaluations"'), Words("lists all numbers of all steps")),
    ]
    return section


_METHODS = (
    "The band is the 95% interval: how the value would vary with other examples made by the same "
    "rule. Examples that share a document, a noun or a template count as one cluster."
)


def methods(rows: list[Summary]) -> str:
    """How the intervals of some rows are computed."""
    named = sorted({row.interval.method for row in rows if row.interval})
    return "; ".join(named) or "none, since every task has one cluster"


def line_of(label: str, rows: list[Summary]) -> Line:
    points = [(float(row.step), row.value) for row in rows]
    known = [(row.step, row.interval) for row in rows if row.interval]
    band = [(float(step), between.low, between.high) for step, between in known]
    return Line(label, points, band)


def chart_of(last: Summary, lines: list[Line]) -> Chart:
    """The picture of a task. last: a row of it."""
    levels = [] if last.chance is None else [Level("chance", last.chance)]
    return Chart(last.task, last.number, lines, levels)
