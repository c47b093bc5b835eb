"""What an evaluation's examples come to, in one number with its interval."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pellucid.measured.intervals import Interval, of_mean, of_ratio
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

    def cells(self) -> tuple[str, str, str, str]:
        """Value, interval, chance and examples, as tables show them."""
        between = "-"
        if self.interval:
            between = f"{decimals(self.interval.low)}-{decimals(self.interval.high)}"
        chance = "-" if self.chance is None else decimals(self.chance)
        return decimals(self.value), between, chance, f"{self.examples:,}"

    def as_json(self) -> dict[str, Any]:
        interval = None if self.interval is None else self.interval._asdict()
        return {**self._asdict(), "interval": interval}


def decimals(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1e6 else f"{value:.3e}"


def summary(entry: Mapping[str, Any], lines: Iterable[Line]) -> Summary:
    """The number that stands for an evaluation: of a metric the one that it names, of a harness's
    own the one that tables show, or the first."""
    clusters, columns = list[str](), {name: array("d") for name in entry["numbers"]}
    for line in lines:
        clusters.append(line.example.cluster or line.example.name)
        for name, column in columns.items():
            column.append(line.numbers[name])
    metric, chance = metrics.METRICS.get(entry["metric"]), None
    shown = metric.shown if metric else next(n for n in (*_FIRST, *columns) if n in columns)
    if shown:
        interval, value = of_mean(columns[shown], clusters), _mean(columns[shown])
        if "chance" in columns and shown == "acc":
            chance = _mean(columns["chance"])
    else:
        bits = [metrics.bits_per_byte(nats, 1.0) for nats in columns["nats"]]
        interval = of_ratio(bits, columns["bytes"], clusters)
        value = _mean(bits) / _mean(columns["bytes"])
    name = shown or BITS
    return Summary(entry["step"], entry["task"], name, value, interval, chance, len(clusters))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
