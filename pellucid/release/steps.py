"""What a release says of each step, against what follows from its
data, its order and its ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pellucid.data.covered import covered
from pellucid.data.order import Order, Rows
from pellucid.data.salts import of_run
from pellucid.data.streams import Shards
from pellucid.recipe import load as load_recipe
from pellucid.record import digests, entries, merkle
from pellucid.record.history import History
from pellucid.record.verdict import Problem
from pellucid.recorder import (
    bounds_of,
    loss_of,
    microbatches_in,
    objective_of,
    row_leaves,
    rows_of,
    validation_rows,
)
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile
from pellucid.train.events import Batch, Validated

_MOST = 1e100  # Of any sum of losses: float64 holds the sums of such.
_CHUNK = 256  # Steps whose order is computed at once.
_HAPPENED = (
    "seconds",
    "tokens_per_second",
    "memory_bytes",
)  # Nothing binds these: measurements, finite, from 0 on.


class Steps:
    """The steps of a run, checked in order. Reads metrics, shards and ledger once, side by side."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._salts = folder, of_run(folder, load_recipe(folder))
        self._recipe, self._ledger, self._shards = (
            load_recipe(folder),
            LedgerFile(folder),
            Shards.open(folder),
        )
        self._whole, self._schedule = (
            Order.of(folder, self._recipe, self._shards),
            self._recipe.schedule,
        )
        self._coming: tuple[int, Iterator[Rows]] = (
            0,
            iter(()),
        )  # The rows of the steps from one on.

    def check(self) -> Iterator[Problem]:
        """Every batch, segment, loss and published number that is not
        what follows, on every branch."""
        bodies = self._ledger.between(self._ledger.first, self._ledger.steps_done)
        yield from self._check(self._folder, bodies, self._ledger.history)
        for rollback in self._ledger.rollbacks:
            place = layout.abandoned(self._folder, rollback["branch"])
            yield from self._check(
                place, self._ledger.abandoned(rollback), self._ledger.before(rollback)
            )

    def _check(
        self, place: Path, bodies: Iterator[dict[str, Any]], history: History
    ) -> Iterator[Problem]:
        """The entries given against the tables below place."""
        self._place, self._tables = (
            place,
            {name: metrics.Cursor(place, name) for name in metrics.TABLES},
        )
        self._order, self._coming = self._whole.along(history.rollbacks), (0, iter(()))
        for body in bodies:
            if body["kind"] == "step":
                batch = self._batch_of(body["step"])
                yield from self._batch(body, batch)
                yield from self._numbers(body, batch)
            elif body["kind"] == "validation":
                yield from self._validation(body)
        for name, cursor in self._tables.items():
            if self._ledger.ended and (place / layout.METRICS / name).exists():
                yield self._differs(
                    name,
                    f"a folder {layout.METRICS}/{name} stands beside the table of a run that "
                    "has ended",
                )
            if cursor.left:
                yield self._differs(
                    name, "has rows that belong to no step of the ledger, or not in order"
                )

    def _batch_of(self, step: int) -> Batch:
        """What a step has to train on, by the order and the shards."""
        following, coming = self._coming
        if step != following or (rows := next(coming, None)) is None:
            coming = self._order.each(step, step + _CHUNK - 1)
            rows = next(coming)
        self._coming = step + 1, coming
        return Batch.of(self._shards, step, rows, self._schedule.at(step).context)

    def _batch(self, body: dict[str, Any], batch: Batch) -> Iterator[Problem]:
        if (root := merkle.root(row_leaves(batch, self._recipe, self._salts)).hex()) != body[
            "batch"
        ]:
            detail = (
                f"the order and the shards give the batch {root}, but the ledger records "
                f"{body['batch']}"
            )
            yield Problem("BatchDiffers", f"{layout.LEDGER}: step {batch.step}", detail)

    def _numbers(self, body: dict[str, Any], batch: Batch) -> Iterator[Problem]:
        step = batch.step
        most = max(batch.documents_BS[:, 1:].size, 1)
        rows = {
            name: cursor.take(step, most)
            for name, cursor in self._tables.items()
            if name != "validation"
        }
        if not any(rows.values()) and not self._ledger.ended:
            return  # A run that goes on writes its rows at every anchor.
        if [row[1:-1] for row in rows["segments"]] != bounds_of(batch):
            yield self._differs("segments", f"step {step}: not the segments that its batch has")
            return
        segments = [entries.Segment(*row[1:]) for row in rows["segments"]]
        if not all(abs(segment.loss_sum) <= _MOST for segment in segments):  # No NaN is.
            yield self._differs("segments", f"step {step}: has sums that no losses have")
            return
        if entries.segments_root(segments, len(batch.sources_B)).hex() != body["segments"]:
            yield self._differs(
                "segments", f"step {step}: not the losses that the ledger commits to"
            )
            return
        if digests.float_bits(loss := loss_of(segments)) != body["loss"]:
            detail = (
                f"its segments give the loss {loss}, but the ledger records "
                f"{digests.bits_float(body['loss'])}"
            )
            yield Problem("LossDiffers", f"{layout.LEDGER}: step {step}", detail)
        if problem := self._wrong_microbatches(body, batch, rows["microbatches"]):
            yield self._differs("microbatches", f"step {step}: {problem}")
            return
        expected = rows_of(batch, segments)
        for name in ("sequences", "sources"):
            if rows[name] != expected[name]:
                yield self._differs(name, f"step {step}: not what its segments give")
        yield from self._step_row(body, batch, rows)

    def _wrong_microbatches(
        self, body: dict[str, Any], batch: Batch, rows: list[tuple[Any, ...]]
    ) -> str:
        """What is wrong with the rows of a step's microbatches; nothing where they are right."""
        phase = self._schedule.at(body["step"])
        size = 64 if self._recipe.record.commitment == "microbatches" else 0
        tokens, sums_B = phase.microbatch * phase.context, batch.use.weights_BT.sum(1, "u8")
        sums = sums_B.reshape(-1, phase.microbatch).sum(1).tolist()
        expected = [(index, tokens, weight) for index, weight in enumerate(sums)]
        if [row[1:4] for row in rows] != expected or not all(
            _is_root(row[6], size) for row in rows
        ):
            return "not the microbatches that its batch has"
        if not all(abs(number) <= _MOST for row in rows for number in row[4:6]):  # No NaN is.
            return "has sums that no losses have"
        if entries.microbatches_root(microbatches_in(rows)).hex() != body["microbatches"]:
            return "not what the ledger commits to"
        return ""

    def _step_row(
        self, body: dict[str, Any], batch: Batch, tables: dict[str, list[tuple[Any, ...]]]
    ) -> Iterator[Problem]:
        rows, phase = tables["steps"], self._schedule.at(batch.step)
        expected = {
            "step": batch.step,
            "phase": phase.name,
            "tokens": int(body["tokens"]),
            "objective": objective_of(batch, microbatches_in(tables["microbatches"]), phase),
        }
        expected |= {
            name: digests.bits_float(body[name])
            for name in ("loss", "lr", "grad_norm", "weight_norm")
        }
        names = metrics.TABLES["steps"].names
        published = dict(zip(names, rows[0], strict=True)) if len(rows) == 1 else {}
        differing = [
            name
            for name in names
            if name not in _HAPPENED and published.get(name) != expected[name]
        ]
        if measured := [
            name for name in _HAPPENED if published and not 0 <= published[name] < math.inf
        ]:
            detail = f"{measured[0]} is {published[measured[0]]}, which cannot have been measured"
            yield self._differs("steps", f"step {batch.step}: {detail}")
        if differing:
            detail = (
                f"{differing[0]} is {published.get(differing[0])}, but the ledger gives "
                f"{expected[differing[0]]}"
            )
            yield self._differs("steps", f"step {batch.step}: {detail}")

    def _validation(self, body: dict[str, Any]) -> Iterator[Problem]:
        sources = [
            {
                "source": source["source"],
                "loss_sum": digests.bits_float(source["loss_sum"]),
                "tokens": int(source["tokens"]),
                "bytes": int(source["bytes"]),
            }
            for source in body["sources"]
        ]
        expected = [
            (stream.source, stream.tokens, stream.bytes)
            for stream in covered(self._shards, self._recipe)
        ]
        if [
            (source["source"], source["tokens"] + 1, source["bytes"]) for source in sources
        ] != expected:
            detail = "its sources, tokens and bytes differ from the validation streams"
            yield Problem("ValidationDiffers", f"{layout.LEDGER}: step {body['step']}", detail)
        rows = self._tables["validation"].take(body["step"], len(sources) + 1)
        if not rows and not self._ledger.ended:
            return  # A run that goes on writes its rows at every anchor.
        if rows != validation_rows(Validated(body["step"], sources)):
            yield self._differs("validation", f"step {body['step']}: not what the ledger records")

    def _differs(self, table: str, detail: str) -> Problem:
        place = self._place.relative_to(self._folder) / layout.METRICS / f"{table}.parquet"
        return Problem("NumbersDiffer", place.as_posix(), detail)


def _is_root(text: str, size: int) -> bool:
    return len(text) == size and set(text) <= set("0123456789abcdef")
