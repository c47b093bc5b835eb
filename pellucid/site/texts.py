"""The texts of all documents, once: pieces of text, in packs that steps and documents share.

A document's text is cut into pieces of PIECE characters; pieces follow each other through the
packs, in the order of the documents. Which pack a piece lies in follows from the documents' sizes
alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pellucid.data import stage
from pellucid.data.parquet import SCHEMA, Documents
from pellucid.errors import FormatInvalid

PIECE = 1 << 14  # Characters.
# Pieces besides the first of each document: of more text than a site can show.
_MOST = 1 << 24
_BYTES = 1 << 50  # Of all texts.
PACK = 448 << 10  # UTF-8 bytes of text, about: under 256 KB as they are packed.


class Place(NamedTuple):
    """Where a document's first piece lies: the others follow it, through the packs."""

    pack: int
    piece: int


class Texts:
    """The documents of a corpus, and the packs of their texts."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        # By pack, where its pieces lie in its file: first byte, length. Of files that are there.
        self.spans: dict[int, list[tuple[int, int]]] = {}

    @cached_property
    def abouts(self) -> pa.Table:
        """Everything about every document but its text, in memory: some 300 bytes each."""
        names = [name for name in SCHEMA.names if name != "text"]
        return pa.Table.from_batches(self._documents.rows(names))

    def about(self, indices: list[int], names: list[str]) -> list[dict[str, Any]]:
        """Columns of some documents, each with the place of its first piece."""
        rows = self.abouts.select(names).take(pa.array(indices, pa.int64())).to_pylist()
        return [
            row | self.place_of(index)._asdict() for row, index in zip(rows, indices, strict=True)
        ]

    def ranges(self, document: int, begin: int, end: int) -> dict[str, Any]:
        """Where the pieces with the characters [begin, end) of a document lie, for a page that
        reads parts of files: `from`, the first of these pieces, and `at`, the pack, first byte and
        length of each. Nothing where no file is there."""
        first, packs = self._pieces
        if not self.spans:
            return {}
        start, at = int(first[document]), []
        low, high = begin // PIECE, max(end - 1, begin) // PIECE
        for piece in range(start + low, min(start + high + 1, int(first[document + 1]))):
            pack = int(packs[piece])
            place = self.spans.get(pack, [])[piece - int(packs.searchsorted(pack)) :][:1]
            at.append([pack, *(place[0] if place else (0, 0))])
        return {"from": low, "at": at}

    @cached_property
    def _pieces(self) -> tuple[np.ndarray, np.ndarray]:
        """Pieces before each document, shape (documents + 1,), and the pack of each piece. Raises
        FormatInvalid."""
        characters, size = (self._sizes(name) for name in ("characters", "bytes"))
        counts = np.maximum(-(-characters // PIECE), 1)
        if counts.sum() > len(counts) + _MOST:
            raise self._unfit("characters")
        sizes = np.repeat(-(-size // counts), counts)  # As if a text's pieces had one size.
        packs = (np.cumsum(sizes) - sizes) // PACK
        _, packs = np.unique(packs, return_inverse=True)  # A large piece skips none.
        return np.concatenate([[0], np.cumsum(counts)]), packs

    def _sizes(self, name: str) -> np.ndarray:
        """The characters or bytes of every document, none below 0, and together no more than the
        manifest of the documents says: else a few bytes take any memory. Raises FormatInvalid."""
        sizes = self.abouts.column(name).to_numpy()
        manifest = self._documents.manifest
        said = stage.count_in(manifest, name, self._documents.parts[0].path.parent / stage.MANIFEST)
        # The sum is exact up to 2**53, and no smaller behind that.
        if said > _BYTES or sizes.min() < 0 or sizes.sum(dtype=np.float64) > said:
            raise self._unfit(name)
        return sizes

    def _unfit(self, name: str) -> FormatInvalid:
        place = self._documents.parts[0].path.parent
        return FormatInvalid(path=place, detail=f"has texts of impossible sizes ({name})")

    @property
    def count(self) -> int:
        """How many packs there are."""
        return int(self._pieces[1][-1]) + 1

    def place_of(self, document: int) -> Place:
        first, packs = self._pieces
        piece = int(first[document])
        pack = int(packs[piece])
        return Place(pack, piece - int(packs.searchsorted(pack)))

    def pieces(self, pack: int) -> Iterator[bytes]:
        """The pieces of a pack, as UTF-8."""
        first, packs = self._pieces
        low, high = packs.searchsorted([pack, pack + 1]).tolist()
        at = low
        while at < high:
            document = int(first.searchsorted(at, side="right")) - 1
            text = self._documents.get(document)["text"]
            for piece in range(at, min(high, int(first[document + 1]))):
                begin = (piece - int(first[document])) * PIECE
                yield text[begin : begin + PIECE].encode("utf-8")
            at = int(first[document + 1])
