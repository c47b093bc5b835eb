"""What a step saw, where a document was seen, what a sequence holds."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pellucid.data import stage
from pellucid.data.documents import Documents
from pellucid.data.order import Order
from pellucid.data.streams import Shards, Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import NotTrained, StageNotReady, StepUnknown
from pellucid.look import seen
from pellucid.recipe import Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import chain, digests
from pellucid.record.entries import Segment
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile

_FLOATS = ("loss", "lr", "grad_norm", "weight_norm")


class Shown:
    """A run opened for looking. Raises RunMissing, and StageNotReady before its data is prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe: Recipe = load_recipe(folder)
        if not (folder / layout.DATA_MANIFEST).is_file():
            raise StageNotReady(stage="what was asked for", needs="shards", path=folder)
        self.shards, self.documents = Shards.open(folder), Documents.open(folder)
        self.tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
        self.order = Order.of(folder, self.recipe, self.shards)

    def step(self, number: int) -> dict[str, Any]:
        """A step's entry in numbers, and every sequence of its batch. Raises StepUnknown."""
        ledger = LedgerFile(self.folder)
        entry = ledger.step(number)
        about = {key: value for key, value in entry.items() if key not in (*chain.PLACE, "kind", *_FLOATS)}
        about |= {name: digests.bits_float(entry[name]) for name in _FLOATS if name in entry}
        about |= {"step": number, "entry": entry["n"], "digest": chain.digest_of_body(entry)}
        if number == ledger.first:
            return about | {"sequences": []}
        batch, rows = ledger.history.batch(number), []
        sequences = self.order.batch(batch).tolist()
        epochs = self.order.epochs(batch).tolist()
        losses = {one["row"]: one for one in metrics.of_step(self.folder, "sequences", number, len(sequences))}
        places = [(number, row) for row in range(len(sequences))]
        recorded = seen.segments(self.folder, places, self.shards.context)
        for row, sequence in enumerate(sequences):
            found = {"row": row, "epoch": epochs[row], **self._sequence(sequence)}
            if row in losses:  # Absent while the run has not flushed this step's rows.
                found["loss_sum"] = losses[row]["loss_sum"]
                found["loss"] = found["loss_sum"] / self.shards.context
                for piece in found["segments"]:
                    piece["loss"] = _loss_of(piece, recorded.get((number, row), []))
            rows.append(found)
        return about | {"sequences": rows}

    def sequence(self, number: int) -> dict[str, Any]:
        """A sequence: its text, the documents in it, every time it was trained on, with the losses recorded there.
        Raises StepUnknown, FormatInvalid."""
        return {**self._sequence(number), **self._seen([number])[number]}

    def document(self, name: str) -> dict[str, Any]:
        """A document, or a text whose parts are documents: what it is, its text, the sequences that hold it, every time
        they were trained on, and the losses that its own targets had there; of a text that was cut also the ids of its
        `parts`. Raises DocumentUnknown, FormatInvalid."""
        indices = self.documents.found([name])[name]
        rows = [dict(self.documents.get(index)) for index in indices]
        about = rows[0] if rows[0]["id"] == name else _joined(name, rows)
        trained = [row["index"] for row in rows if row["split"] == "train"]
        streams = {row["index"]: self.stream(row["source"], row["split"]) for row in rows}
        about["tokens"] = sum(stream.length_of(index) for index, stream in streams.items() if stream is not None)
        held: dict[int, None] = {}
        if self.recipe.source(about["source"]).weight:
            for index in trained:
                if (stream := streams[index]) is not None:
                    held |= dict.fromkeys(self._holding(stream, index))
        told = self._seen(list(held), trained)
        times = [time for one in told.values() for time in one["steps"]]
        sequences = [{"sequence": number, **one} for number, one in told.items()]
        return about | {"indices": indices, "sequences": sequences, "epochs": seen.epochs(times)}

    def _holding(self, stream: Stream, index: int) -> Iterator[int]:
        """The train sequences that have tokens of a document as targets; the stream's first token is nobody's."""
        first, length, T = stream.token_of(index), stream.length_of(index), self.shards.context
        low, high = max(first - 1, 0) // T, (first + length - 2) // T
        return (stream.first_sequence + number for number in range(low, min(high + 1, stream.sequences)))

    def list_documents(self, within: str = "") -> Iterator[dict[str, Any]]:
        return list_documents(self.folder, within)

    def _sequence(self, number: int) -> dict[str, Any]:
        if not 0 <= number < self.shards.sequences:
            raise StepUnknown(what=f"Sequence {number}", detail=f"there are {self.shards.sequences}")
        tokens = self.shards.sequence(number).tolist()
        segments = []
        for piece in self.shards.pieces(number):
            about = self.documents.about(piece.document)
            segments.append(
                {
                    "document": about["id"],
                    "index": piece.document,
                    "licence": about["licence"],
                    "origin": about["origin"],
                    "start": piece.start,
                    "stop": piece.stop,
                    "text": self.tokenizer.decode(tokens[piece.start : piece.stop]),
                }
            )
        source = self.shards.source_of(number)
        return {"sequence": number, "source": source, "tokens": tokens, "segments": segments}

    def _seen(self, sequences: list[int], documents: Collection[int] | None = None) -> dict[int, dict[str, Any]]:
        """Of each sequence the times it was trained on: the run's own steps, and those that rollbacks abandoned."""
        found: dict[int, dict[str, Any]] = {number: {"steps": [], "abandoned": []} for number in sequences}
        for branch in seen.branches(self.folder, self.ledger()):
            times = {number: seen.times(self.order, branch, number) for number in sequences}
            places = [(one["step"], one["row"]) for own in times.values() for one in own]
            recorded = seen.segments(branch.folder, places, self.shards.context)
            for number, own in times.items():
                told = seen.with_losses(own, recorded, documents)
                if branch.number is None:
                    found[number]["steps"] = told
                else:
                    found[number]["abandoned"] += [one | {"branch": branch.number} for one in told]
        return found

    def ledger(self) -> LedgerFile | None:
        """The ledger as far as it goes; None before training."""
        try:
            return LedgerFile(self.folder)
        except NotTrained:
            return None

    def stream(self, source: str, split: str) -> Stream | None:
        """A source's tokens of one split; None where it has none."""
        streams = self.shards.train if split == "train" else self.shards.validation
        return next((stream for stream in streams if stream.source == source), None)


def list_documents(folder: Path, within: str = "") -> Iterator[dict[str, Any]]:
    """The documents that have `within` in their ids, each without its text. Raises RunMissing, and StageNotReady before
    the stage "documents" is done."""
    load_recipe(folder)
    if not (folder / stage.DOCUMENTS / stage.MANIFEST).is_file():
        raise StageNotReady(stage="what was asked for", needs="documents", path=folder)
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
    for one in segments:
        # Segments count targets, which lie one position behind the sequence's tokens.
        if one.document == piece["index"] and piece["start"] <= one.start + 1 < piece["stop"]:
            return one.loss_sum / one.tokens
    return None
