"""What a release says of each step, against what follows from its data, its order and its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.recipe import load as load_recipe
from pellucid.record import digests, entries, merkle
from pellucid.record.verdict import Problem
from pellucid.recorder import bounds_of, loss_of, rows_of, validation_rows
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile
from pellucid.train.events import Batch, Validated

_CHUNK = 256  # Steps whose order is computed at once.
_HAPPENED = ("seconds", "tokens_per_second", "memory_bytes")  # Nothing binds these: they are measurements.


class Steps:
    """The steps of a run, checked in order. Reads metrics, shards and ledger once, side by side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recipe, self._ledger, self._shards = load_recipe(folder), LedgerFile(folder), Shards.open(folder)
        self._order = Order.of(self._recipe, self._shards)
        self._tables = {name: metrics.Cursor(folder, name) for name in metrics.TABLES}

    def check(self) -> Iterator[Problem]:
        """Every batch, segment, loss and published number that is not what follows."""
        batches = self._batches()
        for body in self._ledger.between(0, self._ledger.steps_done):
            if body["kind"] == "step" and (batch := next(batches, None)):
                yield from self._batch(body, batch)
                yield from self._numbers(body, batch)
            elif body["kind"] == "validation":
                yield from self._validation(body)
        for name, cursor in self._tables.items():
            if self._ledger.ended and (self._folder / layout.METRICS / name).exists():
                yield _differs(
                    name, f"a folder {layout.METRICS}/{name} stands beside the table of a run that has ended"
                )
            if cursor.left:
                yield _differs(name, "has rows that belong to no step of the ledger, or not in order")

    def _batches(self) -> Iterator[Batch]:
        """The batch of every step, by the order and the shards."""
        last = self._ledger.steps_done
        for first in range(1, last + 1, _CHUNK):
            for step, sequences in enumerate(self._order.batches(first, min(first + _CHUNK - 1, last)), first):
                yield Batch(
                    step=step,
                    sequences_B=sequences,
                    epochs_B=self._order.epochs(step),
                    sources_B=[self._shards.source_of(int(sequence)) for sequence in sequences],
                    tokens_BS=self._shards.sequences_at(sequences),
                    documents_BS=self._shards.documents_at(sequences),
                )

    def _batch(self, body: dict[str, Any], batch: Batch) -> Iterator[Problem]:
        rows = zip(batch.sequences_B.tolist(), batch.tokens_BS, strict=True)
        leaves = [digests.sequence_leaf(self._recipe.seed, sequence, row) for sequence, row in rows]
        if (found := merkle.root(leaves).hex()) != body["batch"]:
            detail = f"the order and the shards give the batch {found}, and the ledger records {body['batch']}"
            yield Problem("BatchDiffers", f"{layout.LEDGER}: step {batch.step}", detail)

    def _numbers(self, body: dict[str, Any], batch: Batch) -> Iterator[Problem]:
        step = batch.step
        most = max(batch.documents_BS[:, 1:].size, 1)
        rows = {name: cursor.take(step, most) for name, cursor in self._tables.items() if name != "validation"}
        if not any(rows.values()) and not self._ledger.ended:
            return  # A run that goes on writes its rows at every anchor.
        segments = [entries.Segment(*row[1:]) for row in rows["segments"]]
        if [(one.row, one.document, one.start, one.tokens) for one in segments] != bounds_of(batch.documents_BS):
            yield _differs("segments", f"step {step}: not the segments that its batch has")
            return
        if entries.segments_root(segments, len(batch.sources_B)).hex() != body["segments"]:
            yield _differs("segments", f"step {step}: not the losses that the ledger commits to")
            return
        if digests.float_bits(loss := loss_of(segments)) != body["loss"]:
            detail = f"its segments give the loss {loss}, and the ledger records {digests.bits_float(body['loss'])}"
            yield Problem("LossDiffers", f"{layout.LEDGER}: step {step}", detail)
        expected = rows_of(batch, segments)
        for name in ("sequences", "sources"):
            if rows[name] != expected[name]:
                yield _differs(name, f"step {step}: not what its segments give")
        yield from self._step_row(body, batch, rows["steps"])

    def _step_row(self, body: dict[str, Any], batch: Batch, rows: list[tuple[Any, ...]]) -> Iterator[Problem]:
        expected = {"step": batch.step, "epoch": int(batch.epochs_B[-1]), "tokens": int(body["tokens"])}
        expected |= {name: digests.bits_float(body[name]) for name in ("loss", "lr", "grad_norm", "weight_norm")}
        names = metrics.TABLES["steps"].names
        found = dict(zip(names, rows[0], strict=True)) if len(rows) == 1 else {}
        wrong = [name for name in names if name not in _HAPPENED and found.get(name) != expected[name]]
        if wrong:
            detail = f"{wrong[0]} is {found.get(wrong[0])}, and the ledger gives {expected[wrong[0]]}"
            yield _differs("steps", f"step {batch.step}: {detail}")

    def _validation(self, body: dict[str, Any]) -> Iterator[Problem]:
        sources = [
            {
                "source": one["source"],
                "loss_sum": digests.bits_float(one["loss_sum"]),
                "tokens": int(one["tokens"]),
                "bytes": int(one["bytes"]),
            }
            for one in body["sources"]
        ]
        wanted = [(s.source, *s.until(self._recipe.validation.tokens)) for s in self._shards.validation if s.tokens > 1]
        if [(one["source"], one["tokens"] + 1, one["bytes"]) for one in sources] != wanted:
            detail = "its sources, tokens and bytes are not those of the validation streams"
            yield Problem("ValidationDiffers", f"{layout.LEDGER}: step {body['step']}", detail)
        rows = self._tables["validation"].take(body["step"], len(sources) + 1)
        if not rows and not self._ledger.ended:
            return  # A run that goes on writes its rows at every anchor.
        if rows != validation_rows(Validated(body["step"], sources)):
            yield _differs("validation", f"step {body['step']}: not what the ledger records")


def _differs(table: str, detail: str) -> Problem:
    return Problem("NumbersDiffer", f"{layout.METRICS}/{table}.parquet", detail)
