"""When a block was trained on and the loss it had there: from the
order, the ledger and the metrics.

Nothing is computed. The loss of a step is that of the state before it, on its way into the update.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.data.order import Order
from pellucid.errors import FormatInvalid
from pellucid.record.entries import Segment
from pellucid.record.history import History
from pellucid.schedule import Schedule
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile

_NEAR = 64  # Steps no further apart than this are read in one pass over the table.
_LARGEST = float(np.finfo(np.float32).max)  # Losses are float32.
_COLUMNS = ["step", "row", "document", "start", "tokens", "weight", "loss_sum"]


class Branch(NamedTuple):
    """Steps that were trained one after the other, and where their rows lie."""

    folder: Path
    history: History
    after: int
    last: int
    # Of the branch for which a rollback abandoned them; None: they are the run's.
    number: int | None


def branches(folder: Path, ledger: LedgerFile | None) -> list[Branch]:
    """The run's own steps, and behind them those that each rollback abandoned."""
    if ledger is None:
        return []
    own = Branch(folder, ledger.history, ledger.first, ledger.steps_done, None)
    left = [
        Branch(
            layout.abandoned(folder, rollback["branch"]),
            ledger.before(rollback),
            rollback["to"],
            rollback["step"],
            rollback["branch"],
        )
        for rollback in ledger.rollbacks
    ]
    return [own, *left]


def times(
    order: Order, branch: Branch, block: int, targets: tuple[int, int] | None = None
) -> list[dict[str, Any]]:
    """Every row of a branch's steps that trained on a block, or on some of its targets from
    one up to another, by step: step, row, epoch, start (the row's first target in the block)
    and context (how many it has)."""
    first, end = targets or (0, order.block)
    rows = []
    for time in order.along(branch.history.rollbacks).times(block, branch.last):
        context = order.phase(time.step).context
        if time.step > branch.after and time.start < end and first < time.start + context:
            rows.append({**time._asdict(), "context": context})
    return rows


def segments(
    folder: Path, places: Iterable[tuple[int, int]], schedule: Schedule
) -> dict[tuple[int, int], list[Segment]]:
    """The recorded segments of rows of steps, by (step, row); nothing of steps
    whose rows are not written yet.

    Raises FormatInvalid, also where a row has more segments than targets.
    """
    wanted, by_place = set(places), dict[tuple[int, int], list[Segment]]()
    steps = sorted({step for step, _ in wanted})
    for first, last in _spans(steps):
        for batch in metrics.rows(folder, "segments", _COLUMNS, steps=(first, last)):
            columns = [batch.column(name).to_numpy() for name in _COLUMNS]
            near = np.flatnonzero(np.isin(columns[0], steps))
            for step, *values in zip(*(column[near].tolist() for column in columns), strict=True):
                segment = Segment(*values)
                if (step, segment.row) in wanted:
                    row = by_place.setdefault((step, segment.row), [])
                    _check(folder, step, row, segment, schedule.at(step).context)
                    row.append(segment)
    return by_place


def _check(folder: Path, step: int, row: list[Segment], segment: Segment, context: int) -> None:
    """Raises FormatInvalid where a segment cannot follow those of its row."""
    begin = row[-1].start + row[-1].tokens if row else 0
    inside = begin <= segment.start < segment.start + segment.tokens <= context
    if not inside or not abs(segment.loss_sum) <= segment.tokens * _LARGEST:  # No NaN is.
        detail = (
            f"has rows of step {step}, row {segment.row} that are not segments of {context} targets"
        )
        raise FormatInvalid(path=folder / layout.METRICS / "segments", detail=detail)


def _spans(steps: list[int]) -> Iterator[tuple[int, int]]:
    """The steps as spans without wide gaps."""
    first = 0
    for index, step in enumerate(steps):
        if index + 1 == len(steps) or steps[index + 1] - step > _NEAR:
            yield steps[first], step
            first = index + 1


def with_losses(
    seen: list[dict[str, Any]],
    losses: dict[tuple[int, int], list[Segment]],
    documents: Collection[int] | None = None,
) -> list[dict[str, Any]]:
    """Times with what is recorded there: tokens (targets), loss_sum and loss (their mean), in nats.
    Of documents, that of their own targets alone."""
    filled = []
    for time in seen:
        own = losses.get((time["step"], time["row"]), [])
        filled.append(
            time
            | total(
                (piece.tokens, piece.loss_sum)
                for piece in own
                if documents is None or piece.document in documents
            )
        )
    return filled


def total(parts: Iterable[tuple[int, float]]) -> dict[str, Any]:
    """tokens, loss_sum and loss of (tokens, loss_sum) added; nothing where there are no tokens."""
    counts, sums = zip(*parts, strict=True) if (parts := list(parts)) else ((), ())
    tokens, loss_sum = sum(counts), math.fsum(sums)
    return {"tokens": tokens, "loss_sum": loss_sum, "loss": loss_sum / tokens} if tokens else {}


def epochs(seen: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was recorded in each epoch: how many times, between which
    steps, tokens, loss_sum, loss."""
    by_epoch: dict[int, list[dict[str, Any]]] = {}
    for time in seen:
        if "loss" in time:
            by_epoch.setdefault(time["epoch"], []).append(time)
    return [
        {"epoch": epoch, "times": len(own), "first": min(steps), "last": max(steps)}
        | total((time["tokens"], time["loss_sum"]) for time in own)
        for epoch, own in sorted(by_epoch.items())
        for steps in [[time["step"] for time in own]]
    ]


def recorded(blocks: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every time that blocks were trained on and that has a recorded loss, by step: block, step,
    row, epoch, start, context, tokens, loss_sum, loss. blocks as look/show.py tells them."""
    seen = [
        {"block": block["block"], **time}
        for block in blocks
        for time in block["steps"]
        if "loss" in time
    ]
    return sorted(seen, key=lambda time: (time["step"], time["row"]))
