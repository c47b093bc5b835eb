"""Where the segments that were trained on stand in the texts of their documents.

The table `segments` counts targets of a row. A page shows characters of a document: so each segment
needs its row's place in the stream, its document's place there, and how many characters begin
before each of the document's tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pellucid.data.streams import Shard
from pellucid.errors import FormatInvalid
from pellucid.look import seen
from pellucid.look.show import Shown
from pellucid.store import layout, metrics
from pellucid.trace.words import Words

_NEAR = 1 << 16  # Tokens between two segments that are read all the same.
_AT_ONCE = 1 << 21  # Tokens that are read together, but for what their documents have around them.
OWN = -1  # The branch of the steps that no rollback abandoned.
_ROWS = ["step", "row", "epoch", "source", "block", "start", "tokens"]
_SEGMENTS = ["step", "row", "document", "start", "tokens", "loss_sum"]


class Segments(NamedTuple):
    """Segments in the order of branch, step, row and start: columns of shape (N,).

    place: which of its branch's rows it is of; begin, end: characters of the document; a document's
    token itself has none; first: the first of its tokens in the document, whose own token is 0."""

    branch: np.ndarray
    place: np.ndarray
    step: np.ndarray
    row: np.ndarray
    document: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    tokens: np.ndarray
    loss_sum: np.ndarray
    first: np.ndarray

    def where(self, kept: np.ndarray | slice) -> Segments:
        return Segments(*(column[kept] for column in self))


class Rows(NamedTuple):
    """Rows of batches, in the order of step and row: columns of shape (N,), but for names, which
    source tells by number."""

    step: np.ndarray
    row: np.ndarray
    epoch: np.ndarray
    source: np.ndarray
    block: np.ndarray
    start: np.ndarray
    tokens: np.ndarray
    names: list[str]

    def where(self, kept: slice) -> Rows:
        return Rows(*[column[kept] for column in self[:-1]], names=self.names)


_NONE = Segments(*(np.zeros(0, np.int64) for _ in Segments._fields))


class Places:
    """Finds segments in texts. Make one for a run, and ask it for steps."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        tokenizer = shown.tokenizer
        self._words = Words.of(tokenizer) if tokenizer.lossless else None

    @cached_property
    def _streams(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every document its stream, where it begins there, and its tokens; 0 of validation's:
        no step trains on them. Shape (documents,) each."""
        streams_D, begins_D, lengths_D = np.zeros((3, self._shown.documents.count), np.int64)
        for number, stream in enumerate(self._shown.shards.train):
            at = 0
            for shard in stream.shards:
                indices, begins, lengths = self._table(shard)
                begins_D[indices], lengths_D[indices] = begins + at, lengths
                streams_D[indices] = number
                at += shard.tokens
        return streams_D, begins_D, lengths_D

    def _table(self, shard: Shard) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each document in a shard its index, where it begins, and its tokens."""
        indices = np.asarray(shard.table)[:, 0].astype(np.int64)
        if not 0 <= indices.min() <= indices.max() < self._shown.documents.count:
            raise FormatInvalid(path=shard.table_path, detail="names an unknown document")
        return indices, *shard.documents_in()

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Tokens of every document of either split, shape (documents,)."""
        lengths_D = self._streams[2].copy()
        for stream in self._shown.shards.validation:
            for shard in stream.shards:
                indices, _, lengths = self._table(shard)
                lengths_D[indices] = lengths
        return lengths_D

    def lengths(self, first: int, last: int) -> list[int]:
        """Tokens of the documents first..last, their document tokens included."""
        return self._lengths[first : last + 1].tolist()

    def rows(self, steps: tuple[int, int] | None = None) -> Rows:
        """All rows of the run's own branch that are written, or those of the steps first..last.
        Raises FormatInvalid where their steps do not ascend."""
        return _rows(self._shown.folder, steps)

    def segments(self, steps: tuple[int, int] | None = None, rows: Rows | None = None) -> Segments:
        """All segments that are written, or those of the steps first..last. rows: the run's own of
        these steps, where they are known. Raises FormatInvalid where the tables do not fit each
        other or the documents."""
        parts = []
        for branch in seen.branches(self._shown.folder, self._shown.ledger()):
            number = OWN if branch.number is None else branch.number
            own = rows if rows and number == OWN else _rows(branch.folder, steps)
            parts.append(self._branch(branch.folder, number, own, steps))
        if len(parts) == 1:
            return parts[0]
        return Segments(*(np.concatenate(column) for column in zip(_NONE, *parts, strict=True)))

    def _branch(
        self, folder: Path, number: int, rows: Rows, steps: tuple[int, int] | None
    ) -> Segments:
        own_step, own_row, document, start, tokens, loss_sum = _columns(
            folder, "segments", _SEGMENTS, steps
        )
        path, most = folder / layout.METRICS / "segments", max(1 << 32, _greatest(rows.row) + 1)
        which = np.searchsorted(rows.step * most + rows.row, own_step * most + own_row)
        fits = which < len(rows.step)
        if fits.all():
            fits = (rows.step[which] == own_step) & (rows.row[which] == own_row)
        if not fits.all() or (which[1:] < which[:-1]).any():
            detail = "has other rows than the table sequences, or another order"
            raise FormatInvalid(path=path, detail=detail)
        # A target stands one position behind what it is predicted from.
        places = self._stream_place(rows.block, path)[which] + rows.start[which] + start + 1
        own = (document, *self._characters(document, places, tokens, path), tokens, loss_sum)
        branch = np.full(len(document), number, np.int64)
        return Segments(branch, which, own_step, own_row, *own, places - self._streams[1][document])

    def _stream_place(self, blocks: np.ndarray, path: Path) -> np.ndarray:
        """Where blocks begin in their streams, shape (N,)."""
        shards = self._shown.shards
        if len(blocks) and not 0 <= blocks.min() <= blocks.max() < shards.blocks:
            raise FormatInvalid(path=path, detail="is of blocks that the run does not have")
        first = np.array([stream.first_block for stream in shards.train], np.int64)
        return (blocks - first[first.searchsorted(blocks, side="right") - 1]) * shards.block

    def _characters(
        self, document: np.ndarray, places: np.ndarray, tokens: np.ndarray, path: Path
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where segments begin and end in their documents, in characters, shape (N,)."""
        streams_D, begins_D, lengths_D = self._streams
        if len(document) and not 0 <= document.min() <= document.max() < len(begins_D):
            raise FormatInvalid(path=path, detail="names an unknown document")
        first = places - begins_D[document]
        if ((first < 0) | (tokens < 1) | (first + tokens > lengths_D[document])).any():
            raise FormatInvalid(path=path, detail="has segments outside of their documents")
        begin, end = np.zeros((2, len(document)), np.int64)
        order = np.lexsort((places, streams_D[document]))
        for own in _together(streams_D[document[order]], places[order]):
            of = order[own]
            begin[of], end[of] = self._counted(document[of], first[of], tokens[of])
        return begin, end

    def _counted(
        self, document: np.ndarray, first: np.ndarray, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where segments begin and end in their documents, in characters. They lie near each other
        in one stream. first: which of its document's tokens each begins with."""
        streams_D, begins_D, lengths_D = self._streams
        indices, which = np.unique(document, return_inverse=True)
        begins, lengths = begins_D[indices], lengths_D[indices]
        if self._words is None:
            starts = [
                self._read_again(index, length)
                for index, length in zip(indices.tolist(), lengths.tolist(), strict=True)
            ]
            ahead, starts = np.cumsum(lengths + 1) - lengths - 1, np.concatenate(starts)
        else:
            low, high = int(begins.min()), int((begins + lengths).max())
            stream = self._shown.shards.train[streams_D[indices[0]]]
            starts, ahead = self._starts(stream.read(low, high, mapped=False)), begins - low
        at, behind = ahead[which] + first, starts[ahead + 1][which]  # The document's token is none.
        return np.maximum(starts[at] - behind, 0), starts[at + tokens] - behind

    def _starts(self, ids: np.ndarray) -> np.ndarray:
        """How many characters begin before each of some tokens, and before their end: shape
        (tokens + 1,)."""
        assert self._words is not None
        if ids.max() >= len(self._words.lengths):
            path = self._shown.folder / layout.DATA
            raise FormatInvalid(path=path, detail="has a token that is not in the vocabulary")
        return np.concatenate([[0], np.cumsum(self._words.characters[ids])])

    def _read_again(self, document: int, length: int) -> np.ndarray:
        """The same of a tokenizer whose tokens have no bytes of their own: the text is encoded."""
        text = self._shown.documents.get(document)["text"]
        _, spans = self._shown.tokenizer.encode_with_offsets(text)
        if len(spans) + 1 != length:
            path = self._shown.folder / layout.DATA
            raise FormatInvalid(path=path, detail=f"document {document} has other tokens than that")
        starts = np.array([0, *(start for start, _ in spans), len(text)], np.int64)
        starts[1:2] = 0  # What stands before the first token is shown with it.
        return np.maximum.accumulate(starts)


def _rows(folder: Path, steps: tuple[int, int] | None) -> Rows:
    """Raises FormatInvalid."""
    names: dict[str, int] = {}
    columns = _columns(folder, "sequences", _ROWS, steps, names)
    rows = Rows(*columns, names=list(names))
    if (rows.step[1:] < rows.step[:-1]).any():
        path = folder / layout.METRICS / "sequences"
        raise FormatInvalid(path=path, detail="has steps that do not ascend")
    return rows


def _numbers(texts: pa.Array, names: dict[str, int]) -> np.ndarray:
    """Texts as numbers, which names learns."""
    coded = texts.dictionary_encode()
    own = [names.setdefault(name, len(names)) for name in coded.dictionary.to_pylist()]
    return np.array(own, np.int64)[coded.indices.to_numpy()]


def _greatest(column: np.ndarray) -> int:
    return int(column.max(initial=-1))


def _together(streams: np.ndarray, places: np.ndarray) -> Iterator[slice]:
    """Segments whose tokens are read together, of some in the order of streams and places."""
    apart = (np.diff(streams) != 0) | (np.diff(places) > _NEAR) | (np.diff(places // _AT_ONCE) != 0)
    cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(places)]
    yield from (slice(low, high) for low, high in itertools.pairwise(cuts) if low < high)


def _columns(
    folder: Path,
    table: str,
    wanted: list[str],
    steps: tuple[int, int] | None,
    names: dict[str, int] | None = None,
) -> list[np.ndarray]:
    """Columns of a table, texts as numbers that names learns. A whole table is read column by
    column: its parts and all of it would be in memory together."""
    if steps is None and len(wanted) > 1:
        return [_columns(folder, table, [name], None, names)[0] for name in wanted]
    batches = [
        [
            _numbers(column, names)
            if names is not None and column.type == pa.string()
            else column.to_numpy()
            for column in (batch.column(name) for name in wanted)
        ]
        for batch in metrics.rows(folder, table, wanted, steps)
    ]
    columns = list(zip(*batches, strict=True))
    return [np.concatenate(column) for column in columns] or [np.zeros(0, np.int64) for _ in wanted]
