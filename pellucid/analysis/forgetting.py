"""What repetition did to the losses of a run, from its tables alone: of text that was trained on
again, the loss at each time, and how that depends on the steps since the time before.

A part is what one row holds of one document. A part that comes again has the same targets, so its
losses can be compared: each is that of the model before the step's update. The model gets better at
everything, so a part's loss is also told beside that of the others which its step trained on again:
the order is random, so that these differ from it by the time since, and by chance. No model is
asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pellucid.data.order import Order
from pellucid.errors import FormatInvalid
from pellucid.look.show import Shown
from pellucid.measured.intervals import Interval, of_ratio
from pellucid.store import layout, metrics

_MOST = 1 << 20  # Parts' times in memory: of a longer run those of a share of the documents.
_GROWS = 4  # A range of steps is so many times as long as the one before.
_LARGEST = float(np.finfo(np.float32).max)  # Losses are float32.
_COLUMNS = ["step", "row", "document", "start", "tokens", "loss_sum"]
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: Knuth's multiplicative hashing.


class Rate(NamedTuple):
    """A mean over tokens, nats per token."""

    value: float
    interval: Interval | None  # 95%, documents as clusters; None: fewer than two.


class Row(NamedTuple):
    """Parts of documents at some of the times that they were trained on."""

    name: str  # "time 2", or a range of steps since the time before.
    parts: int
    tokens: int
    loss: Rate
    change: Rate | None  # Against the time before; None: the first time.
    beside: Rate | None  # The loss less the mean loss of the parts that came again in its step.


class Forgetting(NamedTuple):
    times: tuple[Row, ...]  # By which time it was, of parts that were trained on twice or more.
    recency: tuple[Row, ...]  # Of all times but the first, by the steps since the one before.
    share: float  # Of the documents, chosen by a fixed rule: 1 where memory holds all of them.


def forgetting(folder: Path) -> Forgetting:
    """What the table of segments says of text that was trained on more than once; no rows where
    none was. Raises StageNotReady, FormatInvalid."""
    columns, share = _read(folder)
    again = _again(columns)
    change_N = np.diff(again.means_N, prepend=0.0)
    since_N = np.diff(again.steps_N, prepend=0)
    later_N = again.times_N > 0
    beside_N = again.means_N - _of_steps(again, later_N)

    def row(name: str, chosen_N: np.ndarray, later: bool) -> Row:
        here = np.flatnonzero(chosen_N)
        loss = _rate(again, here, again.means_N)
        change = _rate(again, here, change_N) if later else None
        beside = _rate(again, here, beside_N) if later else None
        return Row(name, len(here), int(again.tokens_N[here].sum()), loss, change, beside)

    times = range(int(again.times_N.max(initial=-1)) + 1)
    return Forgetting(
        tuple(row(f"time {time + 1}", again.times_N == time, time > 0) for time in times),
        tuple(
            row(f"{low:,}-{high:,}", later_N & (low <= since_N) & (since_N <= high), True)
            for low, high in _ranges(since_N[later_N])
        ),
        share,
    )


def lines(found: Forgetting) -> list[str]:
    """A table for a terminal."""
    if not found.times:
        return ["No text was trained on twice."]
    head = f"{'parts':>9}  {'loss':<22}  {'change':<24}  less that of its step"
    written = list[str]()
    for heading, rows in (("time", found.times), ("steps since", found.recency)):
        written.append(f"{heading:<14}{head}")
        for row in rows:
            rates = f"{_between(row.loss):<22}  {_between(row.change):<24}  {_between(row.beside)}"
            written.append(f"  {row.name:<12}{row.parts:>9,}  {rates}".rstrip())
    if found.share < 1:
        written.append(f"of {found.share:.1%} of the documents, chosen by a fixed rule")
    return written


def _between(rate: Rate | None) -> str:
    if rate is None:
        return "-"
    if rate.interval is None:
        return f"{rate.value:.3f}"
    return f"{rate.value:.3f} ({rate.interval.low:.3f} to {rate.interval.high:.3f})"


# ---- the table -----------------------------------------------------------------------------------


class _Columns(NamedTuple):
    """Parts at the steps that trained on them, shape (N,) each."""

    documents_N: np.ndarray  # int64.
    places_N: np.ndarray  # int64: the part's first target among those of all blocks.
    tokens_N: np.ndarray  # int64.
    steps_N: np.ndarray  # int64.
    sums_N: np.ndarray  # float64, nats: the losses of its targets, added.


def _read(folder: Path) -> tuple[_Columns, float]:
    """The run's own steps, and the share of the documents that memory had room for."""
    shown = Shown(folder)
    ledger, share, size = shown.ledger(), 1.0, 0
    empty = np.empty(0, np.int64)
    parts = [_Columns(empty, empty, empty, empty, np.empty(0))]
    steps = (ledger.first + 1, ledger.steps_done) if ledger else (1, 0)
    order = shown.order.along(ledger.history.rollbacks if ledger else ())
    for batch in metrics.rows(folder, "segments", _COLUMNS, steps) if ledger else ():
        if batch.num_rows:
            parts.append(_chosen(_placed(folder, order, batch), share))
            size += len(parts[-1].steps_N)
        while size > _MOST:
            share /= 2
            parts = [_chosen(part, share) for part in parts]
            size = sum(len(part.steps_N) for part in parts)
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return _Columns(*columns), share


def _chosen(columns: _Columns, share: float) -> _Columns:
    """The rows of a share of the documents, the same at every call."""
    if share == 1:
        return columns
    kept_N = columns.documents_N.astype(np.uint64) * _MIX < np.uint64(int(share * 2**64))
    return _Columns(*(column[kept_N] for column in columns))


def _placed(folder: Path, order: Order, batch: pa.RecordBatch) -> _Columns:
    """Rows of the table, with the place of each in the data. Raises FormatInvalid."""
    steps_N, rows_N, documents_N, starts_N, tokens_N, sums_N = (
        batch.column(name).to_numpy() for name in _COLUMNS
    )
    places_N, first = np.empty(len(steps_N), np.int64), int(steps_N[0])
    for step, rows in enumerate(order.each(first, int(steps_N[-1])), first):
        here = slice(*steps_N.searchsorted([step, step + 1]))
        own_N, context = rows_N[here], order.phase(step).context
        sound_N = (own_N >= 0) & (own_N < len(rows.blocks)) & (starts_N[here] >= 0)
        sound_N &= (tokens_N[here] >= 1) & (tokens_N[here] <= context - starts_N[here])
        sound_N &= np.abs(sums_N[here]) <= tokens_N[here] * _LARGEST  # No NaN is.
        if not sound_N.all():
            detail = f"has rows of step {step} that are not segments of {context} targets"
            raise FormatInvalid(path=folder / layout.METRICS / "segments", detail=detail)
        places_N[here] = rows.blocks[own_N] * order.block + rows.starts[own_N] + starts_N[here]
    return _Columns(documents_N, places_N, tokens_N, steps_N, sums_N)


# ---- what came again -----------------------------------------------------------------------------


class _Again(NamedTuple):
    """Parts that were trained on twice or more: every time of each, in order; shape (N,) each."""

    documents_N: np.ndarray
    steps_N: np.ndarray
    tokens_N: np.ndarray
    means_N: np.ndarray  # Nats per token.
    times_N: np.ndarray  # How often the part had been trained on before.


def _again(columns: _Columns) -> _Again:
    order_N = np.lexsort((columns.steps_N, columns.tokens_N, columns.places_N))
    documents_N, places_N, tokens_N, steps_N, sums_N = (column[order_N] for column in columns)
    # The same place with fewer targets, as where phases have other contexts, is another part.
    new_N = np.ones(len(order_N), bool)
    new_N[1:] = (np.diff(places_N) != 0) | (np.diff(tokens_N) != 0)
    begins = np.flatnonzero(new_N)
    sizes = np.diff(begins, append=len(new_N))
    times_N = np.arange(len(new_N)) - np.repeat(begins, sizes)
    kept_N = np.repeat(sizes, sizes) > 1
    found = (documents_N, steps_N, tokens_N, sums_N / tokens_N, times_N)
    return _Again(*(column[kept_N] for column in found))


def _of_steps(again: _Again, later_N: np.ndarray) -> np.ndarray:
    """The mean loss in each row's step, of the parts that came again there: shape (N,)."""
    _, which_N = np.unique(again.steps_N, return_inverse=True)
    weights_N = again.tokens_N * later_N
    totals = np.bincount(which_N, weights_N * again.means_N)
    return (totals / np.maximum(np.bincount(which_N, weights_N), 1))[which_N]


def _rate(again: _Again, here: np.ndarray, values_N: np.ndarray) -> Rate:
    """The mean of some rows by their tokens."""
    tokens = again.tokens_N[here]
    _, which = np.unique(again.documents_N[here], return_inverse=True)
    over, under = np.bincount(which, values_N[here] * tokens), np.bincount(which, tokens)
    value = math.fsum(over.tolist()) / math.fsum(under.tolist())
    return Rate(value, of_ratio(over.tolist(), under.tolist()))


def _ranges(since: np.ndarray) -> Iterator[tuple[int, int]]:
    """1-3, 4-15, 16-63 …: those that hold any of these steps."""
    low, high = 0, _GROWS - 1
    while low <= since.max(initial=-1):
        if ((low <= since) & (since <= high)).any():
            yield low, high
        low, high = high + 1, (high + 1) * _GROWS - 1
