"""Curves at several resolutions: each bin keeps its least, its greatest and its mean value, so a
spike shows at every zoom.

Level L has bins of 4**L steps, and level 0 every step. The coarsest level is one file that the
first view loads; of the finer ones a page loads the files that it shows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.record import digests
from pellucid.store import metrics
from pellucid.store.ledger import begun

SERIES = ("loss", "objective", "lr", "grad_norm", "weight_norm", "tokens_per_second")
BINS = 512  # Of a file.
_IN_LEDGER = ("loss", "lr", "grad_norm", "weight_norm")
DIGITS = 7  # Of a number; more than a curve can show.
FACTOR = 4  # Bins of a level that one of the next coarser holds.
_BRANCHES = 16  # Of the first rollbacks, whose abandoned losses are drawn.
SOURCES = 32  # Whose losses are drawn apart: the first ones of the recipe.


def top(steps: int) -> int:
    """The coarsest level of a run of so many steps: the first that fits into one file."""
    level = 0
    while -(-steps // FACTOR**level) > BINS:
        level += 1
    return level


class Curves:
    """The series of a run, by step: shape (steps,) each, NaN where nothing is written."""

    def __init__(self, folder: Path, first: int, done: int, sources: list[str]) -> None:
        """first: the step whose state the run begins with."""
        self.first, self.steps = first, done - first
        self.series = {name: np.full(self.steps, np.nan) for name in (*SERIES, "tokens", "seconds")}
        self.series |= {
            f"loss of {source}": np.full(self.steps, np.nan) for source in sources[:SOURCES]
        }
        written = 0  # Steps whose rows are on disk.
        for batch in metrics.rows(folder, "steps"):
            at, columns = self._places(batch.column("step").to_numpy())
            written = max(written, int(at.max(initial=-1)) + 1)
            for name in self.series.keys() & set(batch.schema.names):
                self.series[name][at] = batch.column(name).to_numpy()[columns]
        for batch in metrics.rows(folder, "sources"):
            at, columns = self._places(batch.column("step").to_numpy())
            names = np.array(batch.column("source").to_pylist(), object)[columns]
            tokens = batch.column("tokens").to_numpy().astype(np.float64)
            tokens[tokens <= 0] = np.nan  # A hostile table: no loss of no tokens.
            with np.errstate(over="ignore"):  # bins() leaves out what is not finite.
                loss = batch.column("loss_sum").to_numpy() / tokens
            for name in sources[:SOURCES]:
                self.series[f"loss of {name}"][at[names == name]] = loss[columns][names == name]
        if written < self.steps:
            self._follow(folder, written)
        with np.errstate(all="ignore"):  # Measurements of others.
            seconds = self.series.pop("seconds")
            self.series["time"] = np.where(np.isnan(seconds), np.nan, np.nancumsum(seconds))
        self.abandoned = list(_abandoned(folder, first))

    def _follow(self, folder: Path, written: int) -> None:
        """The steps behind those of the tables: their rows wait in memory while a run trains, but
        their entries are on disk."""
        if (ledger := begun(folder)) is None:
            return
        for entry in ledger.between(self.first + written + 1, self.first + self.steps):
            if entry["kind"] == "step":
                at = entry["step"] - self.first - 1
                self.series["tokens"][at] = int(entry["tokens"])
                for name in _IN_LEDGER:
                    self.series[name][at] = digests.bits_float(entry[name])

    def _places(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rows of these steps stand in a series, and which of them have a place there."""
        places = steps - self.first - 1
        inside = (places >= 0) & (places < self.steps)
        return places[inside], inside

    def parts(self, level: int) -> int:
        """How many files a level has."""
        return max(1, -(-self.steps // (FACTOR**level * BINS)))

    def part(self, level: int, number: int) -> dict[str, Any]:
        """One file of a level: of each series the bins' means, and where a bin has more than one
        step the least and the greatest value."""
        width = FACTOR**level
        low = number * BINS * width
        high = min(low + BINS * width, self.steps)
        series = {
            name: list(bins(values[low:high], width))
            for name, values in self.series.items()
            if not np.isnan(values).all()
        }
        for left in self.abandoned:
            begin, end = left.begin - low, left.begin - low + len(left.losses)
            if begin < high - low and end > 0:
                values = np.full(high - low, np.nan)
                inside = slice(max(begin, 0), max(min(end, high - low), 0))
                values[inside] = left.losses[inside.start - begin : inside.stop - begin]
                series[f"abandoned {left.branch}"] = list(bins(values, width))
        return {"first": self.first + 1 + low, "width": width, "series": series}


class _Abandoned(NamedTuple):
    """The losses of steps that a rollback abandoned."""

    branch: int  # Which begins with the rollback.
    begin: int  # Steps of the run before them.
    losses: np.ndarray


def _abandoned(folder: Path, first: int) -> Iterator[_Abandoned]:
    """From the ledger, which has them as soon as the rollback."""
    if (ledger := begun(folder)) is None:
        return
    for incident in ledger.rollbacks[:_BRANCHES]:
        losses = [
            digests.bits_float(entry["loss"])
            for entry in ledger.abandoned(incident)
            if entry["kind"] == "step"
        ]
        yield _Abandoned(incident["branch"], incident["to"] - first, np.array(losses))


def bins(values: np.ndarray, width: int) -> Iterator[Any]:
    """[mean, least, greatest] of each bin; the value alone where a bin is one step; None where
    there is nothing. Each has DIGITS digits."""
    for at in range(0, len(values), width):
        inside = values[at : at + width]
        inside = inside[np.isfinite(inside)].tolist()
        if not inside:
            yield None
        elif width == 1:
            yield short(inside[0])
        else:
            least, greatest, size = min(inside), max(inside), 2 * len(inside)
            # Divided first, and by twice as much: the sum of the largest numbers is none.
            mean = 2 * math.fsum(value / size for value in inside)
            yield [short(one) for one in (min(max(mean, least), greatest), least, greatest)]


def short(value: float) -> float:
    """The number of DIGITS decimal digits that is nearest to a number, and finite."""
    shortened = float(f"{value:.{DIGITS}g}")
    return shortened if math.isfinite(shortened) else value
