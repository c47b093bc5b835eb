"""Training and validation: curves, speed, losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.data.tokenizer import LOSSY
from pellucid.look import baselines
from pellucid.plan.tables import counted, lasting
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
from pellucid.report.chart import COLOURS, Chart, Level, Line
from pellucid.report.reported import Reported
from pellucid.site.curves import bins

POINTS = 400  # Of a curve: as many as a picture shows apart.
LAST = 50  # Steps over which the last loss is averaged.
_DRAWN = {
    "loss": ("Training loss", "nats per token"),
    "lr": ("Learning rate", "learning rate"),
    "grad_norm": ("Norm of the gradient, before clipping", "norm"),
    "weight_norm": ("Norm of the weights", "norm"),
    "tokens_per_second": ("Speed", "tokens per second"),
}


def training(run: Reported) -> Section:
    """Loss, learning rate, norms and speed over the steps."""
    if run.done == run.first:
        return missing("Training", "No step is taken yet.", run.command("run"))
    marks = [float(one["step"]) for one in run.about["incidents"]]
    charts = [
        Picture(name.replace("_", "-"), Chart(title, unit, [line], marks=marks))
        for name, (title, unit) in _DRAWN.items()
        if (line := curve(run, name, unit)).points
    ]
    charts += _by_source(run)
    numbers = told(run)
    section = Section(Words("Training"), [_table(numbers), Pictures(charts)], numbers=numbers)
    between = Words(
        "A curve has at most 400 points. Where a point stands for several steps, the band is from "
        "their smallest value to their largest."
    )
    section.blocks.append(say(between))
    section.checks = [
        Command(
            run.command("audit", f"--step {run.done}"),
            Words("computes the last step again and compares every bit"),
        ),
        Command(
            run.command("sql", '"SELECT step, loss, lr, grad_norm FROM steps"'),
            Words("prints the numbers of the curves"),
        ),
    ]
    return section


def curve(run: Reported, name: str, label: str) -> Line:
    """A series of a run, in so few points that a picture shows each."""
    values = run.series(name)
    width = max(1, -(-len(values) // POINTS))
    points, band = [], []
    for place, one in enumerate(bins(values, width)):
        if one is None:
            continue
        step = run.first + min((place + 1) * width, len(values))
        mean, low, high = one if isinstance(one, list) else (one, one, one)
        points.append((float(step), mean))
        band.append((float(step), low, high))
    return Line(label, points, band if width > 1 else [])


def _by_source(run: Reported) -> list[Picture]:
    names = [source.name for source in run.recipe.data.sources][:COLOURS]
    if len(names) < 2:
        return []
    lines = [curve(run, f"loss of {name}", name)._replace(band=[]) for name in names]
    lines = [line for line in lines if line.points]
    return [Picture("loss-by-source", Chart("Training loss by source", "nats per token", lines))]


def told(run: Reported) -> dict[str, Any]:
    """The numbers of a training."""
    losses = run.series("loss")
    known = losses[np.isfinite(losses)]
    last = known[-LAST:].tolist()
    before = run.recipe.fork.tokens
    seconds, tokens = _spent(run, before)
    return {
        "steps": run.done - run.first,
        "tokens": int(run.about["tokens"]) - before,
        "last_loss": run.about["loss"],
        "mean_loss": math.fsum(value / len(last) for value in last) if last else None,
        "mean_over_steps": len(last),
        "flops": run.flops(),
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if seconds and seconds > 0 else None,
    }


def _spent(run: Reported, before: int) -> tuple[float | None, float]:
    """The time of the steps whose rows are written, and their tokens."""
    seconds, tokens = run.series("time"), run.series("tokens")
    written = np.flatnonzero(np.isfinite(seconds) & np.isfinite(tokens))
    if not len(written):
        return None, 0.0
    return float(seconds[written[-1]]), float(tokens[written[-1]]) - before


def _table(numbers: dict[str, Any]) -> Table:
    over = Words(f"mean loss of the last {numbers['mean_over_steps']:,} steps")
    shown = [
        (Words("steps of this run"), numbers["steps"], "{:,}"),
        (Words("tokens"), numbers["tokens"], "{:,}"),
        (Words("loss of the last step, nats per token"), numbers["last_loss"], "{:.4f}"),
        (over, numbers["mean_loss"], "{:.4f}"),
        (Words("tokens per second"), numbers["tokens_per_second"], "{:,.0f}"),
    ]
    rows = [(name, "-" if value is None else form.format(value)) for name, value, form in shown]
    flops, seconds = numbers["flops"], numbers["seconds"]
    rows.append((Words("floating-point operations"), "-" if flops is None else counted(flops)))
    rows.append((Words("time of the steps"), "-" if not seconds else lasting(seconds)))
    return Table(Words("All steps"), (Words("what"), Words("value")), rows)


def validation(run: Reported) -> Section:
    """Bits per byte of the validation texts, beside what gzip and xz make of them."""
    every = run.about["validation"]
    if not every:
        return missing("Validation", "No validation is in the ledger yet.", run.command("run"))
    levels, packed = _levels(run)
    chart = Chart("Validation", "bits per byte", [validated(run, "model")], levels)
    charts = [Picture("validation", chart), *_validation_by_source(every)]
    section = Section(Words("Validation"), [_last(every[-1]), Pictures(charts)])
    section.numbers = {"validation": every, "baselines": packed}
    if levels:
        part = "" if packed["bytes"] == packed["of"] else f", of which {packed['bytes']:,} packed"
        words = f"gzip and xz pack the same texts ({packed['of']:,} bytes{part})."
        section.blocks.append(say(Words(words)))
    elif not run.about["lossless"]:
        section.blocks.append(say(Words(LOSSY)))
    again = Words("computes the last validation again, with a step")
    section.checks = [Command(run.command("audit", f"--step {run.done}"), again)]
    return section


def validated(run: Reported, label: str) -> Line:
    """Bits per byte of a run's validations."""
    every = thinned(run.about["validation"])
    points = [(float(one["step"]), one["bits_per_byte"]) for one in every]
    return Line(label, [point for point in points if math.isfinite(point[1])])


def thinned(validations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last of every few, so that a picture shows each."""
    width = max(1, -(-len(validations) // POINTS))
    return validations[::-1][::width][::-1]


def _levels(run: Reported) -> tuple[list[Level], dict[str, Any]]:
    """gzip's and xz's bits per byte, where bits per byte are of the same texts."""
    if not run.about["lossless"]:
        return [], {}
    packed = baselines.packed(*baselines.validated(run.folder))
    if not packed.bytes:
        return [], {}
    sizes = (("gzip", packed.gzip), ("xz", packed.xz))
    return [Level(name, 8 * size / packed.bytes) for name, size in sizes], packed._asdict()


def _last(one: dict[str, Any]) -> Table:
    head = ("source", "tokens", "bytes", "nats per token", "bits per byte")
    rows: list[tuple[str, ...]] = [
        (
            source["source"],
            f"{source['tokens']:,}",
            f"{source['bytes']:,}",
            f"{source['loss']:.4f}",
            f"{source['bits_per_byte']:.4f}",
        )
        for source in one["sources"]
    ]
    if len(rows) > 1:
        sums = [f"{sum(source[n] for source in one['sources']):,}" for n in ("tokens", "bytes")]
        both = (f"{one['loss']:.4f}", f"{one['bits_per_byte']:.4f}")
        rows.append((Words("all"), *sums, *both))
    return Table(Words(f"The validation of step {one['step']:,}"), tuple(map(Words, head)), rows)


def _validation_by_source(every: list[dict[str, Any]]) -> list[Picture]:
    names = [source["source"] for source in every[-1]["sources"]][:COLOURS]
    if len(names) < 2:
        return []
    points: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for one in thinned(every):
        for source in one["sources"]:
            if source["source"] in points and math.isfinite(source["bits_per_byte"]):
                points[source["source"]].append((float(one["step"]), source["bits_per_byte"]))
    lines = [Line(name, own) for name, own in points.items()]
    chart = Chart("Validation by source", "bits per byte", lines)
    return [Picture("validation-by-source", chart)]
