"""One piece of the index: whole documents of one shard, their suffixes in the order of their bytes.

The piece's text is its documents' bytes in the shard's order, each behind one byte 0xFF for its
document token. Where tokens have bytes of their own, and a document's add up to its text, what is
kept is the order of the suffixes that begin at a token, as numbers of tokens, with the last byte
of the token before each. Else it is the order of all suffixes, as places in the text; and the text,
and where each token begins in it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pellucid.data.parquet import Documents
from pellucid.data.streams import Shard
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import FormatInvalid
from pellucid.store import files
from pellucid.trace.words import SEPARATOR, Words

UINT32 = np.dtype("<u4")
EVERY = 64  # Of so many suffixes one has a key, and of so many keys one stands in the top table:
KEY = 32  # so many of its first bytes, zeros behind the end of the text.
FILES = {
    "tokens": ("positions", "keys", "top", "before", "counts"),
    "text": ("positions", "keys", "top", "text", "starts"),
}  # Of a piece.
_SHORT = 1 << 24  # A position has 3 bytes where no piece's suffix needs more.
ALONE = 0xFF  # Stands for what is before a suffix where that is a token of one byte, or nothing.
_AT_ONCE = 1 << 16  # Suffixes that are looked at together.


class Piece(NamedTuple):
    """Which documents a piece holds: rows [first, last) of the shard's
    table, in its tokens [start, stop).

    shard: its place in the shards' manifest; text: the bytes of the piece's text.
    """

    number: int
    shard: int
    first: int
    last: int
    start: int
    stop: int
    text: int


def path(folder: Path, number: int, kind: str) -> Path:
    """Where a piece's file of a kind lies (FILES)."""
    return folder / f"{number:05d}.{kind}"


def width(size: int) -> int:
    """Bytes of a position in a piece of so many suffixes."""
    return 3 if size <= _SHORT else UINT32.itemsize


def keys_of(text: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The first KEY bytes from each place on, shape (places, KEY) uint8, zeros behind the end."""
    padded = np.concatenate([text, np.zeros(KEY, np.uint8)])
    return padded[places[:, None].astype(np.int64) + np.arange(KEY)]


def before_of(words: Words, ids: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The last byte of the token before each suffix, shape (suffixes,) uint8; ALONE where that
    token has no other byte: what begins inside a token lies behind its first byte.

    ids: the piece's tokens, shape (tokens,); order: the suffixes' tokens."""
    ends = [word[-1] if len(word) > 1 else ALONE for word in words.words]
    before = np.full(len(ids) + 1, ALONE, np.uint8)
    before[1:] = np.array(ends, np.uint8)[ids]
    return before[order]


class Builder:
    """Builds pieces, one after the other. parent: the process that this one must not outlive."""

    def __init__(
        self,
        place: Path,
        documents: Documents,
        tokenizer: Tokenizer,
        lossless: bool = False,
        parent: int | None = None,
    ) -> None:
        """lossless: the tokenizer is one of those made here, which give every text back."""
        self._place, self._documents, self._tokenizer, self._parent = (
            place,
            documents,
            tokenizer,
            parent,
        )
        self._words, self._lossless = Words.of(tokenizer), lossless

    def build(self, piece: Piece, shard: Shard) -> str:
        """Write a piece's files; returns what its positions count, "tokens" or "text".

        Raises FormatInvalid where the shard does not hold the documents' tokens.
        """
        # Whoever only reads an index, or proves it, need not have it.
        from pydivsufsort import divsufsort

        ids = shard.load(slice(piece.start, piece.stop))
        rows = shard.table[piece.first : piece.last].astype(np.int64)
        begins = rows[:, 1] - piece.start  # The documents' first tokens, counted from the piece's.
        text = self.text(piece, shard)
        starts = self._starts(text, ids, begins, rows[:, 2])
        written: dict[str, np.ndarray] = {}
        if starts is None:
            written |= {
                "text": text,
                "starts": self._stored_starts(text, ids, begins, rows[:, 2], shard),
            }
        order = divsufsort(text)
        if starts is not None and self._words is not None:
            order = _at_tokens(order, starts)
            written["counts"] = np.bincount(ids, minlength=self._tokenizer.vocabulary)
            written["before"] = before_of(self._words, ids, order)
        kept = order[::EVERY]
        written["keys"] = keys_of(text, kept if starts is None else starts[kept])
        written["top"] = written["keys"][::EVERY]
        written["positions"] = _narrow(order)
        self._write(piece.number, written)
        return "text" if starts is None else "tokens"

    def text(self, piece: Piece, shard: Shard) -> np.ndarray:
        """A piece's text, shape (bytes,) uint8. Raises FormatInvalid where
        the shard has other documents."""
        rows = shard.table[piece.first : piece.last].astype(np.int64)
        separator, pieces = np.frombuffer(SEPARATOR, np.uint8), []
        wanted = iter(rows[:, 0].tolist())
        next_index = next(wanted)
        file = self._documents.part_of(next_index)
        for group in range(file.group_of(next_index)[0], file.groups):
            batch = file.read(group, ["index", "text"])
            for index, text in zip(
                batch.column("index").to_pylist(), batch.column("text"), strict=True
            ):
                if index == next_index:
                    pieces += [separator, np.frombuffer(text.as_buffer(), np.uint8)]
                    next_index = next(wanted, None)
            if next_index is None:
                break
        if next_index is not None or not np.array_equal(
            [len(piece_bytes) for piece_bytes in pieces[1::2]], rows[:, 2]
        ):
            raise FormatInvalid(path=file.path, detail="does not hold the documents of its shard")
        return np.concatenate(pieces)

    def starts(self, piece: Piece, shard: Shard, text: np.ndarray) -> np.ndarray:
        """Where each token of a piece begins in its text, shape
        (tokens,), from the texts encoded again.

        Raises FormatInvalid where the shard does not hold the documents' tokens.
        """
        rows = shard.table[piece.first : piece.last].astype(np.int64)
        ids = shard.load(slice(piece.start, piece.stop))
        return self._stored_starts(text, ids, rows[:, 1] - piece.start, rows[:, 2], shard)

    def _starts(
        self, text: np.ndarray, ids: np.ndarray, begins: np.ndarray, sizes: np.ndarray
    ) -> np.ndarray | None:
        """Where each token begins in the text, shape (tokens,), from the tokens' own bytes; None
        where these are not the documents' texts."""
        if self._words is None:
            return None
        lengths = self._words.lengths.astype(np.int32)[ids]
        ends = np.cumsum(lengths, dtype=np.int64 if len(text) >> 31 else np.int32)
        starts = ends - lengths
        lengths_found = np.diff(np.append(starts[begins], ends[-1]))
        fits = np.array_equal(lengths_found, sizes + 1) and lengths.all()
        return starts if fits and (self._lossless or self._words.spell(ids, text)) else None

    def _stored_starts(
        self, text: np.ndarray, ids: np.ndarray, begins: np.ndarray, sizes: np.ndarray, shard: Shard
    ) -> np.ndarray:
        """Where each token begins in the text, shape (tokens,), from the texts encoded again."""
        starts = np.empty(len(ids), np.int64)
        at = 0
        for first, last, size in zip(begins, [*begins[1:], len(ids)], sizes.tolist(), strict=True):
            content = text[at + 1 : at + 1 + size]
            found, spans = self._tokenizer.encode_with_offsets(content.tobytes().decode("utf-8"))
            if not np.array_equal(ids[first + 1 : last], np.array(found, ids.dtype)):
                raise FormatInvalid(
                    path=shard.tokens_path,
                    detail="does not hold the tokens of its documents",
                )
            # Where each character begins.
            places = np.append(np.flatnonzero((content & 0xC0) != 0x80), size)
            inner = places[np.array([start for start, _ in spans], np.int64)]
            inner[:1] = (
                # What no token stands for belongs to the one before it;
                # at the beginning to the first.
                0
            )
            starts[first] = at
            starts[first + 1 : last] = at + 1 + np.maximum.accumulate(inner)
            at += 1 + size
        return starts

    def _write(self, number: int, written: dict[str, np.ndarray]) -> None:
        if self._parent is not None and os.getppid() != self._parent:
            raise SystemExit(1)  # The run was killed, and the next one may write the same piece.
        for kind, values in written.items():
            content = values.astype(UINT32) if kind in ("starts", "counts") else values
            with files.whole_file(path(self._place, number, kind)) as partial:
                content.tofile(partial)


def _at_tokens(order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Of the order of all suffixes, shape (bytes,), those that begin at a token, as
    token numbers: shape (tokens,)."""
    token = np.full(len(order), -1, np.int32)
    token[starts] = np.arange(len(starts), dtype=np.int32)
    out, at = np.empty(len(starts), UINT32), 0
    for begin in range(0, len(order), _AT_ONCE):
        # Checks no bounds: they are in order.
        places = token.take(order[begin : begin + _AT_ONCE], mode="clip")
        places = places[places >= 0]
        out[at : at + len(places)] = places
        at += len(places)
    return out


def _narrow(order: np.ndarray) -> np.ndarray:
    """Positions as they are written: shape (suffixes, width) uint8."""
    rows = order.astype(UINT32, copy=False).view(np.uint8).reshape(-1, UINT32.itemsize)
    return rows[:, : width(len(order))]
