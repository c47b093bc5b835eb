"""Training losses of two runs, over the rows of their batches that both read.

A run that reads other texts in some places has other losses there, whatever its weights are. So
only rows of the same texts tell what a change did to the model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from pellucid.errors import FormatInvalid
from pellucid.report.reported import Reported
from pellucid.store import layout, metrics

_COLUMNS = ["step", "source", "epoch", "block", "start", "tokens", "loss_sum"]

Row = tuple[int, str, int, int, int, int]  # Step, source, epoch, block, start and tokens.


class Losses(NamedTuple):
    """Nats per token of some steps in two runs: over the rows that read the same texts, or where
    there are none over all rows, without a difference."""

    a: float
    b: float
    difference: float | None
    same: int  # Rows that read the same texts in both runs.
    rows: int  # All rows of the first run.


def written(run: Reported) -> int:
    """The last step whose rows are on disk: those of a run that trains wait in memory."""
    joined = run.folder / layout.METRICS / "sequences.parquet"
    reached = metrics.reached(run.folder)
    return min(run.done, run.done if reached is None and joined.exists() else reached or run.first)


def read(run: Reported, after: int, last: int) -> dict[Row, float]:
    """The loss sums of the rows of the steps after + 1 … last. Raises FormatInvalid."""
    found = dict[Row, float]()
    most = (last - after) * max(phase.batch for phase in run.recipe.schedule.phases)
    for batch in metrics.rows(run.folder, "sequences", _COLUMNS, (after + 1, last)):
        *places, sums = (batch.column(name).to_pylist() for name in _COLUMNS)
        found.update(zip(zip(*places, strict=True), sums, strict=True))
        if len(found) > most:
            path = run.folder / layout.METRICS / "sequences"
            raise FormatInvalid(path=path, detail="has more rows than its steps can have")
    return found


def over(a: dict[Row, float], b: dict[Row, float], same_data: bool) -> Losses | None:
    """None where a run has no rows, or no finite losses. same_data: whether a block of one run is
    the same text in the other."""
    same = [row for row in a if same_data and row in b]
    own, others = (_mean(of, same or of) for of in (a, b))
    if own is None or others is None:
        return None
    return Losses(own, others, others - own if same else None, len(same), len(a))


def _mean(of: dict[Row, float], rows: Iterable[Row]) -> float | None:
    """Nats per token of some rows."""
    chosen = [*rows]
    tokens, sums = sum(row[-1] for row in chosen), [of[row] for row in chosen]
    if tokens <= 0 or not all(map(math.isfinite, sums)):
        return None
    mean = math.fsum(value / tokens for value in sums)
    return mean if math.isfinite(mean) else None


def compared(first: Reported, run: Reported, most: int) -> dict[str, Any] | None:
    """The losses of the last step that both runs took, and of up to `most` steps up to it. None
    where they have none. Raises FormatInvalid."""
    begin, end = max(first.first, run.first), min(written(first), written(run))
    if end <= begin or first.ledger is None or run.ledger is None:
        return None
    after = end - min(most, end - begin)
    a, b = (read(one, after, end) for one in (first, run))
    same_data = first.ledger.genesis["data"] == run.ledger.genesis["data"]
    last = over(_of(a, end), _of(b, end), same_data)
    every = over(a, b, same_data)
    if last is None or every is None:
        return None
    about = {"step": end, "over": end - after}
    return about | {"last": last._asdict(), "mean": every._asdict()}


def _of(rows: dict[Row, float], step: int) -> dict[Row, float]:
    return {row: loss for row, loss in rows.items() if row[0] == step}
