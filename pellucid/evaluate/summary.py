"""What an evaluation's examples come to, in one number with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pellucid.evaluate.intervals import Interval, of_mean, of_ratio
from pellucid.record import metrics
from pellucid.record.evaluations import Line

BITS = "bits_per_byte"
_FIRST = ("acc", "exact_match", "passes")  # Of a harness's numbers, those that a table shows.


class Summary(NamedTuple):
    """An evaluation in a row of a table."""

    step: int
    task: str
    number: str  # The name of what is shown.
    value: float
    interval: Interval | None  # None: fewer than two clusters.
    chance: float | None  # What guessing gives.
    examples: int

    def as_json(self) -> dict[str, Any]:
        interval = None if self.interval is None else self.interval._asdict()
        return {**self._asdict(), "interval": interval}


def summary(entry: Mapping[str, Any], lines: Iterable[Line]) -> Summary:
    """The number that stands for an evaluation: of a metric the one that it names, of a harness's
    own the one that tables show, or the first."""
    rows = [*lines]
    clusters = [line.example.cluster or line.example.name for line in rows]
    metric = metrics.METRICS.get(entry["metric"])
    names = [name for name in (*_FIRST, *rows[0].numbers) if name in rows[0].numbers]
    shown = metric.shown if metric else names[0]
    column = {name: [line.numbers[name] for line in rows] for name in rows[0].numbers}
    chance = None
    if shown:
        interval, value = of_mean(column[shown], clusters), _mean(column[shown])
        if "chance" in column and shown == "acc":
            chance = _mean(column["chance"])
    else:
        bits = [metrics.bits_per_byte(nats, 1.0) for nats in column["nats"]]
        interval = of_ratio(bits, column["bytes"], clusters)
        value = _mean(bits) / _mean(column["bytes"])
    name = shown or BITS
    return Summary(entry["step"], entry["task"], name, value, interval, chance, len(rows))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
