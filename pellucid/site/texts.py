"""The texts of all documents, once: pieces of text, in packs that steps and documents share.

A document's text is cut into pieces of PIECE characters; pieces follow each other through the
packs, in the order of the documents. Which pack a piece lies in follows from the documents' sizes
alone. All pieces are packed as if one text stood before each of them, the dictionary: short texts
have little in themselves to refer to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import pyarrow as pa

from pellucid.data import stage
from pellucid.data.parquet import Documents
from pellucid.errors import FormatInvalid
from pellucid.site.numbers import differences

PIECE = 1 << 13  # Characters.
# Pieces besides the first of each document: of more text than a site can show.
_MOST = 1 << 24
_BYTES = 1 << 50  # Of all texts.
PACK = 448 << 10  # UTF-8 bytes of text, about: under 256 KB as they are packed.
DICTIONARY = 1 << 15  # Bytes: DEFLATE refers to nothing that lies further back.
_SAMPLES = 32  # Documents of which the dictionary has the beginnings.
APART = 3  # Bytes between two pieces of a pack's file.


class Texts:
    """The documents of a corpus, and the packs of their texts."""

    def __init__(self, documents: Documents, held: bool) -> None:
        """held: whether the site has their texts."""
        self._documents, self.held = documents, held
        self._placed: np.ndarray | None = None  # Of each piece its first byte and its length.

    @cached_property
    def abouts(self) -> pa.Table:
        """What steps tell of every document, in memory: some 50 bytes each."""
        names = ["id", "licence", "characters", "bytes"]
        table = pa.Table.from_batches(self._documents.rows(names))
        table = table.set_column(1, "licence", table.column("licence").dictionary_encode())
        return table.unify_dictionaries().combine_chunks()

    def between(self, first: int, last: int, names: list[str]) -> pa.Table:
        """Columns of the documents first..last. Raises FormatInvalid."""
        return self._documents.between(first, last, names)

    @cached_property
    def dictionary(self) -> bytes:
        """The beginnings of documents all over the corpus."""
        count = self._documents.count
        chosen = sorted({(2 * k + 1) * count // (2 * _SAMPLES) for k in range(_SAMPLES)})
        size = -(-DICTIONARY // len(chosen))
        texts = (self._documents.text(index)[:size] for index in chosen)
        return "".join(texts).encode("utf-8")[-DICTIONARY:]

    def placed(self, pack: int, spans: list[tuple[int, int]]) -> None:
        """A pack's file is there, and its pieces lie in it so: first byte and length of each."""
        _, packs = self._pieces
        if self._placed is None:
            self._placed = np.zeros((len(packs), 2), np.int32)
        low, high = packs.searchsorted([pack, pack + 1]).tolist()
        self._placed[low:high] = spans[: high - low] + [(0, 0)] * (high - low - len(spans))

    def places(
        self, documents: np.ndarray, begins: np.ndarray, ends: np.ndarray
    ) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """The pieces with the characters [begin, end) of some documents, as columns of the
        documents and of the pieces. Where a piece lies is told against the piece before it."""
        if not self.held:
            return {}, {}
        firsts, packs = self._pieces
        low = begins // PIECE
        start, stop = firsts[documents] + low, firsts[documents + 1]
        stop = np.minimum(start + np.maximum(ends - 1, begins) // PIECE - low + 1, stop)
        counts = stop - start
        ahead = np.cumsum(counts) - counts
        pieces = np.arange(counts.sum()) + np.repeat(start - ahead, counts)
        columns = [packs[pieces], pieces - packs.searchsorted(packs[pieces])]
        own = {"from": low.tolist(), "pieces": counts.tolist()}
        told = {
            name: differences(column)
            for name, column in zip(("pack", "piece"), columns, strict=True)
        }
        if self._placed is not None:
            first, size = self._placed[pieces].astype(np.int64).T
            before = np.concatenate([[0], (first + size + APART)[:-1]])
            told |= {"gap": (first - before).tolist(), "size": size.tolist()}
        return own, told

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

    def pieces(self, pack: int) -> Iterator[bytes]:
        """The pieces of a pack, as UTF-8."""
        first, packs = self._pieces
        low, high = packs.searchsorted([pack, pack + 1]).tolist()
        at = low
        while at < high:
            document = int(first.searchsorted(at, side="right")) - 1
            text = self._documents.text(document)
            for piece in range(at, min(high, int(first[document + 1]))):
                begin = (piece - int(first[document])) * PIECE
                yield text[begin : begin + PIECE].encode("utf-8")
            at = int(first[document + 1])
