"""The evaluations that a run keeps, over its steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pellucid.evaluate.builtin import VALIDATION
from pellucid.evaluate.suite import calibration, texts
from pellucid.measured import stored, variants
from pellucid.measured.summary import Summary
from pellucid.record.evaluations import OURS
from pellucid.record.evaluations import Line as Example
from pellucid.record.requests import Likelihoods
from pellucid.report.blocks import (
    Block,
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
_HEAD = ("task", "metric", "number", "step", "value", "95% interval", "chance", "examples")


def evaluations(run: Reported) -> Section:
    """Each task over the steps, and in a table at its last step."""
    if not (tasks := [*run.tasks.values()]):
        made = run.command("evaluate", "--steps log")
        return missing("Evaluations", "The run keeps no evaluation.", made)
    last = {asked: own[-1] for asked, own in run.tasks.items()}
    rows = [
        (row.named, metric, row.number, f"{row.step:,}", *row.cells())
        for (_, _, _, metric, *_), row in last.items()
    ]
    table = Table(Words("The last step of each task"), tuple(map(Words, _HEAD)), rows, 3)
    charts = [
        Picture(f"evaluation-{place}", chart_of(own[-1], [line_of(run.label, own)]))
        for place, own in enumerate(tasks[:MOST_DRAWN], 1)
    ]
    section = Section(Words("Evaluations"), [table, Pictures(charts), say(Words(_METHODS))])
    section.blocks.append(say(Words(f"Methods: {methods([row for own in tasks for row in own])}.")))
    calibrated, by_text = _calibrated(run), _by_text(run)
    section.blocks += [*calibrated, *by_text]
    section.numbers = {"evaluations": [row.as_json() for own in tasks for row in own]}
    section.checks = [
        Command(
            run.command("verify"), Words("rates every answer again, but for the metric `measured`")
        ),
        Command(
            run.command("audit", "--evaluations 20"),
            Words("asks the model 20 examples again and compares bits"),
        ),
        Command(run.command("sql", '"FROM evaluations"'), Words("lists all numbers of all steps")),
    ]
    return section


def _last(run: Reported, metric: str) -> Iterator[tuple[Mapping[str, Any], str, list[Example]]]:
    """The entries of a metric at their tasks' last steps, with their names and lines."""
    for asked, own in run.newest.items():
        entry = own[max(own)]
        if entry["metric"] == metric:
            named = variants.shown(entry["task"], run.variants[asked])
            yield entry, named, [*stored.lines(run.folder, entry)]


def _calibrated(run: Reported) -> Iterator[Block]:
    """How sure the model is of its choices, and how often it is right."""
    rows = []
    for entry, named, lines in _last(run, "accuracy"):
        nats = [line.answer.nats for line in lines if isinstance(line.answer, Likelihoods)]
        bins = calibration.bins([line.example for line in lines], nats)
        sure, right = (
            math.fsum(getattr(each, name) * each.examples for each in bins) / len(lines)
            for name in ("confidence", "accuracy")
        )
        told = (f"{value:.3f}" for value in (sure, right, calibration.error(bins)))
        rows.append((named, f"{entry['step']:,}", *told))
    if rows:
        yield Table(Words("Calibration at the last step"), tuple(map(Words, _SURE)), rows)
        yield say(Words(_CALIBRATION))


def _by_text(run: Reported) -> Iterator[Block]:
    """Bits per byte of the run's own validation texts, by source and by length."""
    for entry, _, lines in _last(run, "bits_per_byte"):
        if (entry["harness"], entry["task"]) != (OURS, VALIDATION):
            continue
        nats = [line.numbers["nats"] for line in lines]
        rows = [
            (row.group, f"{row.documents:,}", f"{row.bytes:,}", f"{row.bits_per_byte:.3f}",
             "-" if row.interval is None else f"{row.interval.low:.3f}-{row.interval.high:.3f}")
            for row in texts.table([line.example for line in lines], nats)
        ]  # fmt: skip
        caption = Words(f"Validation texts by source and length, step {entry['step']:,}")
        yield Table(caption, tuple(map(Words, _TEXTS)), rows)
        yield say(Words(_FEW))


_SURE = ("task", "step", "mean probability of the choice", "share that is right", "mean distance")
_CALIBRATION = (
    "The probability of a choice is its share of the likelihoods of all choices. The mean distance "
    "of probability and share, over ten ranges of the probability, is the expected calibration "
    "error."
)
_TEXTS = ("texts", "documents", "bytes", "bits per byte", "95% interval")
_FEW = (
    "Few documents hardly tell how much documents differ: an interval over less than some 20 "
    "documents is wide for that reason."
)
_METHODS = (
    "The band is the 95% interval: how the value would vary with other examples made by the same "
    "rule. Examples that share a document, a noun or a template count as one cluster, and so do "
    "equal questions. Numbers of the metric `measured` come from their harness alone."
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
    return Chart(last.named, last.number, lines, levels)
