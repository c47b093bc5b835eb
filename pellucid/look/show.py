"""What a step saw, where a document was seen, what a sequence holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.data.documents import Documents
from pellucid.data.order import Order
from pellucid.data.streams import Shards, Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import NotTrained, StageNotReady, StepUnknown
from pellucid.recipe import Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import chain, digests
from pellucid.record.history import History
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile

_FLOATS = ("loss", "lr", "grad_norm", "weight_norm")


class Shown:
    """A run opened for looking. Raises StageNotReady before its data is prepared."""

    def __init__(self, folder: Path) -> None:
        if not (folder / layout.DATA_MANIFEST).is_file():
            raise StageNotReady(stage="show", needs="shards", path=folder)
        self.folder = folder
        self.recipe: Recipe = load_recipe(folder)
        self.shards, self.documents = Shards.open(folder), Documents.open(folder)
        self.tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
        self.order = Order.of(folder, self.recipe, self.shards)

    def step(self, number: int) -> dict[str, Any]:
        """A step's entry in numbers, and every sequence of its batch. Raises StepUnknown."""
        ledger = LedgerFile(self.folder)
        entry = ledger.step(number)
        about = {key: value for key, value in entry.items() if key not in ("prev", "n", "kind", *_FLOATS)}
        about |= {name: digests.bits_float(entry[name]) for name in _FLOATS if name in entry}
        about |= {"step": number, "entry": entry["n"], "digest": chain.digest_of_body(entry)}
        if number == ledger.first:
            return about | {"sequences": []}
        batch, rows = ledger.history.batch(number), []
        sequences = self.order.batch(batch).tolist()
        epochs = self.order.epochs(batch).tolist()
        losses = {one["row"]: one for one in metrics.of_step(self.folder, "sequences", number, len(sequences))}
        segments = metrics.of_step(self.folder, "segments", number, len(sequences) * self.shards.context)
        for row, sequence in enumerate(sequences):
            mine = [one for one in segments if one["row"] == row]
            found = {"row": row, "epoch": epochs[row], **self._sequence(sequence)}
            if row in losses:  # Absent while the run has not flushed this step's rows.
                found["loss"] = losses[row]["loss_sum"] / self.shards.context
                for piece in found["segments"]:
                    piece["loss"] = _loss_of(piece, mine)
            rows.append(found)
        return about | {"sequences": rows}

    def sequence(self, number: int) -> dict[str, Any]:
        """A sequence: its text, the documents in it, every step that trained on it. Raises StepUnknown."""
        return {**self._sequence(number), "steps": self._steps(number)}

    def document(self, name: str) -> dict[str, Any]:
        """A document: what it is, its text, the sequences that hold it and their steps. Raises DocumentUnknown."""
        about = dict(self.documents.get(self.documents.find(name)))
        stream = self._stream(about["source"], about["split"])
        if stream is None:
            return about | {"tokens": 0, "sequences": []}
        first, length, T = stream.token_of(about["index"]), stream.length_of(about["index"]), self.shards.context
        about["tokens"] = length
        if about["split"] != "train" or not self.recipe.source(about["source"]).weight:
            return about | {"sequences": []}
        # Its tokens are targets in these sequences; the stream's first token is nobody's target.
        low, high = max(first - 1, 0) // T, (first + length - 2) // T
        held = range(low, min(high + 1, stream.sequences))
        ids = [stream.first_sequence + number for number in held]
        return about | {"sequences": [{"sequence": one, "steps": self._steps(one)} for one in ids]}

    def list_documents(self) -> list[dict[str, Any]]:
        """Every document without its text."""
        columns = ["index", "id", "source", "split", "licence", "characters"]
        return [row for batch in self.documents.rows(columns) for row in batch.to_pylist()]

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

    def _steps(self, sequence: int) -> list[dict[str, int]]:
        history, last = self._history()
        found = self.order.steps_of(sequence, history.batch(last))
        seen = [{"step": history.step(batch, last), "row": row, "epoch": epoch} for batch, row, epoch in found]
        return [one for one in seen if one["step"] is not None]

    def _history(self) -> tuple[History, int]:
        """The history so far, and the step it has come to."""
        try:
            ledger = LedgerFile(self.folder)
        except NotTrained:
            return History.begun(self.recipe.first), self.recipe.first
        return ledger.history, ledger.steps_done

    def _stream(self, source: str, split: str) -> Stream | None:
        streams = self.shards.train if split == "train" else self.shards.validation
        return next((stream for stream in streams if stream.source == source), None)


def _loss_of(piece: dict[str, Any], segments: list[dict[str, Any]]) -> float | None:
    """The mean loss of the piece's targets; None where its one token is only an input."""
    for one in segments:
        # Segments count targets, which lie one position behind the sequence's tokens.
        here = one["document"] == piece["index"] and piece["start"] <= one["start"] + 1 < piece["stop"]
        if here and one["tokens"] > 0:
            return one["loss_sum"] / one["tokens"]
    return None
