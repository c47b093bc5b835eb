"""What a step saw, where a document was seen, what a block holds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pellucid.data import stage
from pellucid.data.documents import Documents
from pellucid.data.order import Order
from pellucid.data.streams import Shards, Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import StageNotReady
from pellucid.evaluate import builtin
from pellucid.forked import fork_of
from pellucid.look import seen
from pellucid.measured import stored, variants
from pellucid.recipe import Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import chain, digests
from pellucid.record.entries import Segment
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile, begun

_FLOATS = ("loss", "lr", "grad_norm", "weight_norm")


class Shown:
    """A run opened for looking. Raises RunMissing, and StageNotReady
    before its data is prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe: Recipe = load_recipe(folder)
        if not (folder / layout.DATA_MANIFEST).is_file():
            raise StageNotReady(stage="this command", needs="shards", path=folder)
        self.shards, self.documents = Shards.open(folder), Documents.open(folder)
        self.tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
        self.order = Order.of(folder, self.recipe, self.shards)

    def step(self, number: int) -> dict[str, Any]:
        """A step's entry in numbers, and every row of its batch. Raises StepUnknown."""
        ledger = LedgerFile(self.folder)
        entry = ledger.step(number)
        about = {
            key: value
            for key, value in entry.items()
            if key not in (*chain.PLACE, "kind", *_FLOATS)
        }
        about |= {name: digests.bits_float(entry[name]) for name in _FLOATS if name in entry}
        about |= {"step": number, "entry": entry["n"], "digest": chain.digest_of_body(entry)}
        if fork := fork_of(self.recipe, entry):
            about["fork"] = fork
        if number == ledger.first:
            return about | {"rows": []}
        phase, taken = (
            self.order.phase(number),
            self.order.along(ledger.history.rollbacks).rows(number),
        )
        losses = {
            record["row"]: record
            for record in metrics.of_step(self.folder, "sequences", number, phase.batch)
        }
        recorded = seen.segments(
            self.folder, [(number, row) for row in range(phase.batch)], self.order.schedule
        )
        rows, columns = (
            [],
            (column.tolist() for column in (taken.epochs, taken.blocks, taken.starts)),
        )
        for row, (epoch, block, start) in enumerate(zip(*columns, strict=True)):
            shown = {"row": row, "epoch": epoch, **self._ids(block, start, phase.context)}
            if row in losses:  # Absent while the run has not flushed this step's rows.
                shown["loss_sum"] = losses[row]["loss_sum"]
                shown["loss"] = shown["loss_sum"] / phase.context
                for piece in shown["segments"]:
                    piece["loss"] = _loss_of(piece, recorded.get((number, row), []))
            rows.append(shown)
        return about | {"phase": phase.name, "context": phase.context, "rows": rows}

    def evaluations(self, number: int) -> list[dict[str, Any]]:
        """What the evaluations of the weights after a step come to. Raises EvaluationBroken,
        TaskDiffers."""
        entries = [entry for entry in builtin.of_run(self.folder) if entry["step"] == number]
        named, rows = variants.named(entries), stored.summaries(self.folder, entries)
        return [
            row._replace(variant=named[variants.question(entry)]).as_json()
            for entry, row in zip(entries, rows, strict=True)
        ]

    def block(self, number: int) -> dict[str, Any]:
        """A block: its text, the documents in it, every time it was trained on, with the losses
        recorded there. Raises StepUnknown, FormatInvalid."""
        return {**self._ids(number, 0, self.order.block), **self._seen({number: None})[number]}

    def document(self, name: str) -> dict[str, Any]:
        """A document, or a text whose parts are documents: what it is, its text, the blocks that
        hold it, every time they were trained on, and the losses that its own targets had there; of
        a text that was cut also the ids of its `parts`. Raises DocumentUnknown, FormatInvalid."""
        indices = self.documents.found([name])[name]
        rows = [dict(self.documents.get(index)) for index in indices]
        about = rows[0] if rows[0]["id"] == name else _joined(name, rows)
        trained = [row["index"] for row in rows if row["split"] == "train"]
        streams = {row["index"]: self.stream(row["source"], row["split"]) for row in rows}
        about["tokens"] = sum(
            stream.length_of(index) for index, stream in streams.items() if stream is not None
        )
        spans: dict[int, tuple[int, int] | None] = {}
        if about["source"] in self.recipe.trained:
            for index in trained:
                for block, (first, end) in self._holding(streams[index], index):
                    before = spans.get(block) or (first, end)
                    spans[block] = min(first, before[0]), max(end, before[1])
        by_block = self._seen(spans, trained)
        times = [time for block in by_block.values() for time in block["steps"]]
        blocks = [{"block": number, **block_times} for number, block_times in by_block.items()]
        return about | {"indices": indices, "blocks": blocks, "epochs": seen.epochs(times)}

    def _holding(self, stream: Stream | None, index: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """The train blocks that have tokens of a document as targets, and which; the
        stream's first token is nobody's."""
        if stream is None:
            return
        size, first = self.order.block, stream.token_of(index)
        begin, end = max(first - 1, 0), first + stream.length_of(index) - 1
        for number in range(begin // size, min((end - 1) // size + 1, stream.blocks)):
            targets = max(begin - number * size, 0), min(end - number * size, size)
            yield stream.first_block + number, targets

    def list_documents(self, within: str = "") -> Iterator[dict[str, Any]]:
        return list_documents(self.folder, within)

    def _ids(self, block: int, start: int, targets: int) -> dict[str, Any]:
        """What stands in a block, or in a row of so many targets of it."""
        tokens = self.shards.ids(block, start, targets).tolist()
        segments = []
        for piece in self.shards.pieces(block, start, targets):
            about = self.documents.about(piece.document)
            segments.append(
                {
                    "document": about["id"],
                    "index": piece.document,
                    "licence": about["licence"],
                    "origin": about["origin"],
                    "date": about["date"],
                    "start": piece.start,
                    "stop": piece.stop,
                    "text": self.tokenizer.decode(tokens[piece.start : piece.stop]),
                }
            )
        source = self.shards.source_of(block)
        return {
            "block": block,
            "start": start,
            "source": source,
            "tokens": tokens,
            "segments": segments,
        }

    def _seen(
        self, blocks: Mapping[int, tuple[int, int] | None], documents: Collection[int] | None = None
    ) -> dict[int, dict[str, Any]]:
        """Of each block, or of some of its targets, the times it was trained on: the run's own
        steps, and those that rollbacks abandoned."""
        by_block: dict[int, dict[str, Any]] = {
            number: {"steps": [], "abandoned": []} for number in blocks
        }
        for branch in seen.branches(self.folder, self.ledger()):
            times = {
                number: seen.times(self.order, branch, number, own)
                for number, own in blocks.items()
            }
            places = [(time["step"], time["row"]) for own in times.values() for time in own]
            recorded = seen.segments(branch.folder, places, self.order.schedule)
            for number, own in times.items():
                trained = seen.with_losses(own, recorded, documents)
                if branch.number is None:
                    by_block[number]["steps"] = trained
                else:
                    by_block[number]["abandoned"] += [
                        time | {"branch": branch.number} for time in trained
                    ]
        return by_block

    def ledger(self) -> LedgerFile | None:
        """The ledger as far as it goes; None before training."""
        return begun(self.folder)

    def stream(self, source: str, split: str) -> Stream | None:
        """A source's tokens of one split; None where it has none."""
        streams = self.shards.train if split == "train" else self.shards.validation
        return next((stream for stream in streams if stream.source == source), None)


def list_documents(folder: Path, within: str = "") -> Iterator[dict[str, Any]]:
    """The documents that have `within` in their ids, each without its text. Raises RunMissing, and
    StageNotReady before the stage "documents" is done."""
    load_recipe(folder)
    if not (folder / stage.DOCUMENTS / stage.MANIFEST).is_file():
        raise StageNotReady(stage="this command", needs="documents", path=folder)
    columns = ["index", "id", "source", "split", "licence", "characters"]
    rows = (row for batch in Documents.open(folder).rows(columns) for row in batch.to_pylist())
    return (row for row in rows if within in row["id"])


def _joined(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A text, from the documents that are its parts."""
    text = "".join(row["text"] for row in rows)
    return rows[0] | {
        "id": name,
        "split": " and ".join(sorted({row["split"] for row in rows})),
        "characters": len(text),
        "bytes": sum(row["bytes"] for row in rows),
        "sha256": hashlib.sha256(text.encode("utf-8")).hexdigest(),
        "text": text,
        "parts": [row["id"] for row in rows],
    }


def _loss_of(piece: dict[str, Any], segments: list[Segment]) -> float | None:
    """The mean loss of the piece's targets; None where its one token is only an input."""
    # Segments count targets, which lie one position behind the row's tokens.
    own = [
        segment
        for segment in segments
        if segment.document == piece["index"]
        and piece["start"] <= segment.start + 1 < piece["stop"]
    ]
    tokens = sum(segment.tokens for segment in own)
    return math.fsum(segment.loss_sum for segment in own) / tokens if tokens else None
