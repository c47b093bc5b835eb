"""What an evaluation's examples come to, in one number with its interval."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pellucid.measured import variants
from pellucid.measured.clusters import Clusters
from pellucid.measured.intervals import Interval, of_mean, of_rate
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
    variant: str = ""  # What tells it from others of its task, in words.
    foreign: str | None = None  # A model that is no step of the run.

    @property
    def named(self) -> str:
        return variants.shown(self.task, self.variant)

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


class Columns:
    """The numbers of an evaluation's examples, in their order, and which of them stands for it: of
    a metric the one that it names, of a harness's own the one that tables show, or the first."""

    def __init__(self, entry: Mapping[str, Any], joined: bool = True) -> None:
        """joined: whether equal requests are one cluster, as they are but in old releases."""
        self._clusters, self.count = Clusters(joined), 0
        self.numbers = {name: array("d") for name in entry["numbers"]}
        metric, names = metrics.METRICS.get(entry["metric"]), (*_FIRST, *self.numbers)
        self._shown = metric.shown if metric else next(n for n in names if n in self.numbers)

    def take(self, line: Line) -> None:
        self._clusters.take(line.example)
        self.count += 1
        for name, column in self.numbers.items():
            column.append(line.numbers[name])

    @property
    def clusters(self) -> list[str]:
        return self._clusters.names()

    @property
    def name(self) -> str:
        return self._shown or BITS

    @property
    def chance(self) -> float | None:
        """What guessing gives."""
        known = self._shown == "acc" and "chance" in self.numbers
        return _mean(self.numbers["chance"]) if known else None

    def parts(self) -> tuple[Sequence[float], Sequence[float]]:
        """What each example adds to the two sums whose ratio is the value."""
        if self._shown:
            return self.numbers[self._shown], [1.0] * self.count
        bits = [metrics.bits_per_byte(nats, 1.0) for nats in self.numbers["nats"]]
        return bits, self.numbers["bytes"]

    def value(self) -> float:
        over, under = self.parts()
        return _mean(over) if self._shown else _mean(over) / _mean(under)

    def interval(self) -> Interval | None:
        over, under = self.parts()
        clusters = self.clusters
        return of_mean(over, clusters) if self._shown else of_rate(over, under, clusters)


def summary(entry: Mapping[str, Any], lines: Iterable[Line], joined: bool = True) -> Summary:
    """The number that stands for an evaluation. joined: as in Columns."""
    columns = Columns(entry, joined)
    for line in lines:
        columns.take(line)
    shown = columns.name, columns.value(), columns.interval(), columns.chance
    variant = variants.words(entry)
    return Summary(entry["step"], entry["task"], *shown, columns.count, variant)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
