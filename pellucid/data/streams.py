"""Reading the finished shards: streams of tokens, their blocks, and the documents in them.

A stream is the concatenation of one source's shards of one split, in the order of the parts. With
T_B targets a block, block i of a stream holds its tokens [i*T_B, i*T_B + T_B], T_B + 1 ids:
neighbours overlap by one, so that every token but the stream's first is a target exactly once.
The tokens behind the last block are unused. Blocks are numbered through all streams, the train
streams first, in the recipe's order of sources. A row, what a step trains on, is T + 1
neighbouring ids of one block."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.data import stage
from pellucid.errors import BlockUnknown, DocumentUnknown, FormatInvalid, ShardDamaged, StepUnknown
from pellucid.store import arrays, files

TYPES = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
# A document table has rows of four: document index, first token, UTF-8 bytes, and the key by which
# validation chooses (data/covered.py).
ROW = np.dtype("<u8")
COLUMNS = 4


class Piece(NamedTuple):
    """A document's share of a block or a row: its positions [start, stop) among the ids there.

    document_start is where the document begins, counted from the first of these ids: negative where
    it began before.
    """

    document: int
    start: int
    stop: int
    document_start: int


class Shard:
    """One pair of files: token ids, and the table of the documents in
    them. Mapped when first read."""

    def __init__(
        self, tokens_path: Path, table_path: Path, kind: np.dtype, tokens: int, documents: int
    ) -> None:
        self.tokens_path, self.table_path = tokens_path, table_path
        self.tokens, self.documents = tokens, documents
        self._kind = kind
        self._ids: np.ndarray | None = None
        self._table: np.ndarray | None = None
        _check_size(tokens_path, tokens * kind.itemsize)
        _check_size(table_path, documents * COLUMNS * ROW.itemsize)

    @property
    def ids(self) -> np.ndarray:
        """The token ids, shape (tokens,), in the shard's own type."""
        if self._ids is None:
            self._ids = arrays.mapped(self.tokens_path, self._kind)
        return self._ids

    def load(self, here: slice) -> np.ndarray:
        """Those of the token ids, read without mapping the file."""
        return arrays.loaded(self.tokens_path, self._kind, here.start, here.stop)

    def unmap(self) -> None:
        """Let go of the mapped files, until they are read again."""
        self._ids = self._table = None

    @property
    def table(self) -> np.ndarray:
        """The document table, shape (documents, 4), uint64."""
        if self._table is None:
            self._table = arrays.mapped(self.table_path, ROW, COLUMNS)
        return self._table

    def between(self, start: int, stop: int) -> np.ndarray:
        """The rows (document index, first token) of the documents that overlap the
        shard's [start, stop), int64."""
        begins = self.table[:, 1]
        low, high = begins.searchsorted(
            np.array([start, min(stop, self.tokens) - 1], dtype=ROW), side="right"
        )
        rows = self.table[max(low - 1, 0) : high, :2].astype(np.int64)
        sound = len(rows) and 0 <= rows[0, 1] <= start and rows[-1, 1] < min(stop, self.tokens)
        if (
            not sound
            or rows[:, 0].min() < 0
            or (rows[1:, 1] <= np.maximum(rows[:-1, 1], start)).any()
        ):
            raise self._unsorted()
        return rows

    def documents_in(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each document begins, and how many tokens it has, int64. Raises FormatInvalid where
        the table does not ascend from the first token to the last."""
        begins = np.asarray(self.table[:, 1]).astype(np.int64)
        lengths = np.diff(begins, append=self.tokens)
        if begins[0] != 0 or lengths.min() < 1 or begins.min() < 0:
            raise self._unsorted()
        return begins, lengths

    def _unsorted(self) -> FormatInvalid:
        detail = "does not ascend from the first token to the last"
        return FormatInvalid(path=self.table_path, detail=detail)

    def begin(self, row: int) -> int:
        """Where the document of a row of the table begins; where the tokens
        end for the row behind the last.

        Raises FormatInvalid where it begins behind the shard's tokens.
        """
        place = int(self.table[row, 1]) if row < self.documents else self.tokens
        if place >= self.tokens + (row >= self.documents):
            raise FormatInvalid(
                path=self.table_path, detail=f"row {row} begins after the last token"
            )
        return place


def _check_size(path: Path, expected: int) -> None:
    with files.named_errors(path, "read"):
        size = path.stat().st_size if path.is_file() else 0
    if size != expected or size == 0:
        raise ShardDamaged(path=path, found=size, expected=expected)


class Stream:
    """One source's tokens of one split."""

    def __init__(
        self, source: str, split: str, block: int, first_block: int, shards: list[Shard]
    ) -> None:
        self.source, self.split, self.shards = source, split, shards
        self.first_block = first_block  # The number of its block 0 among those of all streams.
        self.tokens = sum(shard.tokens for shard in shards)
        self.documents = sum(shard.documents for shard in shards)
        self.blocks = blocks_in(self.tokens, block)
        self._starts = [0, *itertools.accumulate(shard.tokens for shard in shards)][:-1]

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of its documents' texts."""
        return sum(int(shard.table[:, 2].sum()) for shard in self.shards)

    def read(self, start: int, stop: int, mapped: bool = True) -> np.ndarray:
        """The token ids [start, stop) of the stream, shape (stop - start,) uint32.

        A walk over a whole stream passes mapped=False, so that the pages it has read are not kept.
        """
        if not 0 <= start <= stop <= self.tokens:
            raise StepUnknown(
                what=f"Token {stop} of {self.source}", detail=f"{self.split} has {self.tokens}"
            )
        parts = []
        for shard, offset in self._shards_between(start, stop):
            here = slice(max(start - offset, 0), min(stop - offset, shard.tokens))
            parts.append((shard.ids[here] if mapped else shard.load(here)).astype(np.uint32))
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.uint32), *parts])

    def _shards_between(self, start: int, stop: int) -> Iterator[tuple[Shard, int]]:
        """The shards that hold [start, stop), each with the stream position of its first token."""
        number = max(bisect.bisect_right(self._starts, start) - 1, 0)
        while number < len(self.shards) and self._starts[number] < stop:
            yield self.shards[number], self._starts[number]
            number += 1

    def documents_between(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """The documents that overlap [start, stop): their indices, and where each begins, int64.

        Raises FormatInvalid where a document table does not ascend from the shard's first token.
        """
        parts = []
        for shard, offset in self._shards_between(start, stop):
            parts.append(
                shard.between(max(start - offset, 0), stop - offset) + np.array((0, offset))
            )
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return rows[:, 0], rows[:, 1]

    def documents_at(self, start: int, stop: int) -> np.ndarray:
        """The document index of every position in [start, stop), int64."""
        return self.documents_and_first(start, stop)[0]

    def documents_and_first(self, start: int, stop: int) -> tuple[np.ndarray, int]:
        """The same, and which of its document's tokens stands at start."""
        indices, firsts = self.documents_between(start, stop)
        if len(indices) == 1:
            return np.full(stop - start, indices[0]), start - int(firsts[0])
        bounds = np.append(firsts, stop)
        bounds[0] = start  # Where it began before.
        return np.repeat(indices, np.diff(bounds)), start - int(firsts[0])

    def document_of(self, position: int) -> tuple[int, int]:
        """(document index, which of the document's tokens) of a stream position."""
        self.read(position, position + 1)
        indices, firsts = self.documents_between(position, position + 1)
        return int(indices[0]), position - int(firsts[0])

    def token_of(self, document: int) -> int:
        """The stream position of a document's first token, its document
        token. Raises DocumentUnknown."""
        shard, row, offset = self._row_of(document)
        return offset + shard.begin(row)

    def length_of(self, document: int) -> int:
        """The number of a document's tokens, its document token
        included. Raises DocumentUnknown."""
        shard, row, _ = self._row_of(document)
        return shard.begin(row + 1) - shard.begin(row)

    def _row_of(self, document: int) -> tuple[Shard, int, int]:
        for shard, offset in zip(self.shards, self._starts, strict=True):
            if document <= int(shard.table[-1, 0]):
                row = int(
                    shard.table[:, 0].searchsorted(np.array([max(document, 0)], dtype=ROW)[0])
                )
                if int(shard.table[row, 0]) == document:
                    return shard, row, offset
                break
        raise DocumentUnknown(document=document)


def blocks_in(tokens: int, block: int) -> int:
    """How many whole blocks of block + 1 ids a stream of so many tokens gives."""
    return max(0, (tokens - 1) // block)


class Shards:
    """The finished shards of a run. Make one with Shards.open."""

    def __init__(
        self, manifest: dict[str, Any], block: int, train: list[Stream], validation: list[Stream]
    ) -> None:
        self.manifest, self.train, self.validation = manifest, train, validation
        self.block = block  # Targets of a block.
        self.blocks = sum(stream.blocks for stream in train)  # Of the train split.
        self._first = [stream.first_block for stream in train]

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """The shards of a run folder. Raises ShardDamaged,
        FormatInvalid, FormatTooNew, PathUnsafe."""
        path = folder / stage.SHARDS / stage.MANIFEST
        manifest = stage.read_manifest(path, "shards")
        kind = TYPES.get(stage.text_in(manifest, "token_type", path))
        block = stage.count_in(manifest, "block", path)
        if kind is None or block < 1:
            raise FormatInvalid(path=path, detail="does not name a token type and a block")
        shards_of: dict[tuple[str, str], list[Shard]] = {}
        for entry in stage.list_in(manifest, "parts", path):
            key = (stage.text_in(entry, "source", path), stage.text_in(entry, "split", path))
            shards_of.setdefault(key, []).append(open_shard(entry, path, kind))
        streams = _streams(stage.list_in(manifest, "streams", path), path, block, shards_of)
        train = [stream for stream in streams if stream.split == "train"]
        return cls(
            manifest, block, train, [stream for stream in streams if stream.split == "validation"]
        )

    def ids(self, block: int, start: int = 0, targets: int = 0) -> np.ndarray:
        """The token ids of a train block, or of a row of so many targets that begins
        at its start-th id, uint32."""
        stream, begin = self.place(block)
        return stream.read(begin + start, begin + start + (targets or self.block) + 1)

    def pieces(self, block: int, start: int = 0, targets: int = 0) -> list[Piece]:
        """Which documents fill which positions of a train block, or of a row of it, in order."""
        stream, begin = self.place(block)
        first, count = begin + start, (targets or self.block) + 1
        indices, firsts = stream.documents_between(first, first + count)
        firsts = (firsts - first).tolist()
        stops = [*firsts[1:], count]
        return [
            Piece(document, max(begins, 0), stop, begins)
            for document, begins, stop in zip(indices.tolist(), firsts, stops, strict=True)
        ]

    def rows(self, blocks_B: np.ndarray, starts_B: np.ndarray, targets: int) -> np.ndarray:
        """The token ids of several rows of T = targets, shape (B, T+1) uint32."""
        out_BS = np.empty((len(blocks_B), targets + 1), dtype=np.uint32)
        for row, place in enumerate(zip(blocks_B.tolist(), starts_B.tolist(), strict=True)):
            out_BS[row] = self.ids(*place, targets)
        return out_BS

    def documents_of(
        self, blocks_B: np.ndarray, starts_B: np.ndarray, targets: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of several rows of T = targets: the document index of every position, shape (B, T+1)
        int64, and which of its document's tokens each row begins with, shape (B,) int64."""
        out_BS = np.empty((len(blocks_B), targets + 1), dtype=np.int64)
        firsts_B = np.empty(len(blocks_B), dtype=np.int64)
        for row, (block, start) in enumerate(
            zip(blocks_B.tolist(), starts_B.tolist(), strict=True)
        ):
            stream, begin = self.place(block)
            out_BS[row], firsts_B[row] = stream.documents_and_first(
                begin + start, begin + start + targets + 1
            )
        return out_BS, firsts_B

    def source_of(self, block: int) -> str:
        """The source of a train block."""
        return self.place(block)[0].source

    def place(self, block: int) -> tuple[Stream, int]:
        """The stream and the stream position at which a train block begins. Raises StepUnknown."""
        if not 0 <= block < self.blocks:
            raise BlockUnknown(block=block, count=self.blocks)
        stream = self.train[bisect.bisect_right(self._first, block) - 1]
        return stream, (block - stream.first_block) * self.block


def open_shard(entry: dict[str, Any], path: Path, kind: np.dtype) -> Shard:
    """The shard of a manifest's entry; path is the manifest's."""
    tokens = files.inside(path.parent, stage.text_in(entry, "file", path), str(path))
    table = files.inside(path.parent, stage.text_in(entry, "documents_file", path), str(path))
    return Shard(
        tokens,
        table,
        kind,
        stage.count_in(entry, "tokens", path),
        stage.count_in(entry, "documents", path),
    )


def _streams(
    entries: list[Any], path: Path, block: int, shards_of: dict[tuple[str, str], list[Shard]]
) -> list[Stream]:
    streams, first = [], 0
    for entry in entries:
        key = (stage.text_in(entry, "source", path), stage.text_in(entry, "split", path))
        stream = Stream(*key, block, first, shards_of.pop(key, []))
        if stream.tokens != stage.count_in(entry, "tokens", path):
            raise FormatInvalid(
                path=path, detail=f"the parts of {key[0]} {key[1]} do not add up to its tokens"
            )
        if stream.blocks != stage.count_in(entry, "blocks", path):
            raise FormatInvalid(path=path, detail=f"{key[0]} {key[1]} has {stream.blocks} blocks")
        streams.append(stream)
        first += stream.blocks
    if shards_of:
        raise FormatInvalid(
            path=path, detail=f"a part belongs to {next(iter(shards_of))}, which is not a stream"
        )
    return streams
