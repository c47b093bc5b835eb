"""Searching one piece of the index: which of its suffixes begin with some bytes,
and so where a text stands in it.

Positions are kept only where a token begins. Bytes of a text that begin inside a token are
found in two ways: those that end in the same token from the vocabulary alone; those that do
not from what of them follows the token's end, which begins at a token, asked once for each
way to cut the text there. Bytes are compared throughout, so how a query itself would be cut
into tokens does not matter."""

from __future__ import annotations

import bisect
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from pellucid.data.streams import Shard
from pellucid.errors import FormatInvalid
from pellucid.store import arrays, files
from pellucid.trace.build import EVERY, KEY, UINT32, Piece, path, width
from pellucid.trace.query import AT_FIRST, Found, Query
from pellucid.trace.words import SEPARATOR, Words, after

_AHEAD = 8  # Tokens that are read for a first comparison: it seldom takes more.
_AT_ONCE = 1 << 20  # Positions that are looked at together.
_OFTEN = 1000  # A text found so many times more often than is asked for is soon met by reading.
_FEW = 32  # So many tokens are looked up one by one; of more, all tokens of the piece are read.


class Positions:
    """Where the suffixes of a piece begin, in the order of their bytes."""

    def __init__(self, place: Path, size: int) -> None:
        """size: how many suffixes there are."""
        self._path, self._size = place, size
        _check_size(place, size * width(size))

    @cached_property
    def _rows(self) -> np.ndarray:
        """Shape (suffixes, bytes) uint8."""
        return arrays.mapped(self._path, np.dtype("u1"), width(self._size))

    def __getitem__(self, at: int) -> int:
        return int.from_bytes(self._rows[at].tobytes(), "little")

    def between(self, low: int, high: int) -> np.ndarray:
        """Those of the suffixes [low, high), shape (high - low,) uint32. Raises FormatInvalid."""
        rows = self._rows[low:high]
        padded = np.zeros((len(rows), UINT32.itemsize), np.uint8)
        padded[:, : rows.shape[1]] = rows
        positions = padded.view(UINT32)[:, 0]
        if positions.max(initial=0) >= self._size:
            raise FormatInvalid(path=self._path, detail="has a position after the end of its text")
        return positions


class Suffixes(ABC):
    """What both kinds of pieces share: the order of their suffixes. Make one with opened."""

    def __init__(self, folder: Path, piece: Piece, shard: Shard, size: int) -> None:
        """size: how many suffixes there are."""
        self.piece, self.shard, self.size = piece, shard, size
        self.positions = Positions(path(folder, piece.number, "positions"), size)
        self._keys_path, self._top_path = (
            path(folder, piece.number, kind) for kind in ("keys", "top")
        )
        keys = -(-size // EVERY)
        _check_size(self._keys_path, keys * KEY)
        _check_size(self._top_path, -(-keys // EVERY) * KEY)

    @abstractmethod
    def text_at(self, position: int, atoms: int) -> bytes:
        """The text from a position on: so many tokens or bytes of it, fewer at the end."""

    @property
    @abstractmethod
    def atoms(self) -> np.ndarray:
        """What its positions count, shape (suffixes,): token ids, or bytes."""

    @cached_property
    def keys(self) -> np.ndarray:
        """What every EVERY-th suffix begins with, shape (keys, KEY) uint8."""
        return arrays.mapped(self._keys_path, np.dtype("u1"), KEY)

    @cached_property
    def top(self) -> list[bytes]:
        """Every EVERY-th key."""
        content = files.read_bytes(self._top_path, self._top_path.stat().st_size)
        return [content[at : at + KEY] for at in range(0, len(content), KEY)]

    def between(self, prefix: bytes) -> tuple[int, int]:
        """The suffixes [low, high) that begin with `prefix`; none of them,
        where it goes beyond a document."""
        if SEPARATOR in prefix:
            return 0, 0
        key = prefix[:KEY]
        first, last = self._before(key), self._before(after(key))
        # The key behind says where to stop, unless more bytes are asked for than it has, or zeros,
        # which stand behind the end of the text.
        near = len(prefix) <= KEY and 0 not in prefix
        low, high = max(first - 1, 0) * EVERY, min(last * EVERY, self.size)
        stop = min(first * EVERY, high) if near else high
        with _named(self.shard.tokens_path):
            low = bisect.bisect_left(range(stop), 0, low, key=lambda at: self._compare(at, prefix))
            if low == high or self._compare(low, prefix):
                return low, low
            begin = max(low, (last - 1) * EVERY) if near else low
            return low, bisect.bisect_left(
                range(high), 1, begin, key=lambda at: self._compare(at, prefix)
            )

    def _before(self, key: bytes) -> int:
        """How many keys come before this one."""
        at = bisect.bisect_left(self.top, key)
        low, high = max(at - 1, 0) * EVERY, min(at * EVERY, len(self.keys))
        return bisect.bisect_left(range(high), key, low, key=lambda row: self.keys[row].tobytes())

    def asked(self, query: Query, part: bytes) -> tuple[int, int]:
        """As between, for a query that may have asked the same before."""
        key = self.piece.number, part
        if key not in query.ranges:
            query.ranges[key] = self.between(part)
        return query.ranges[key]

    def _compare(self, at: int, prefix: bytes) -> int:
        """-1, 0 or 1: the suffix lies before, begins with, or lies behind the prefix."""
        position, atoms = self.positions[at], _AHEAD
        while True:
            text = self.text_at(position, atoms)
            if text.startswith(prefix):
                return 0
            if not prefix.startswith(text):
                return -1 if text < prefix else 1
            if atoms > len(prefix):  # An atom has a byte at least: the piece's text ends here.
                return -1
            atoms *= 4

    @abstractmethod
    def count(self, query: Query) -> int:
        """How often the text occurs, every place counted."""

    @abstractmethod
    def parts(self, query: Query, most: int | None = None) -> Iterator[Found]:
        """Where the text occurs, in parts and in no order, each place once; at least the first
        `most` in the text's order."""

    @abstractmethod
    def last(self, found: Found, size: int) -> np.ndarray:
        """The token of the shard in which each occurrence of `size` bytes ends, shape (N,)."""

    @abstractmethod
    def character(self, begin: int, token: int, offset: int) -> int:
        """Which character of its document a byte of a token belongs to; begin:
        the document's first token."""

    @abstractmethod
    def around(
        self, begin: int, end: int, token: int, offset: int, size: int, width: int
    ) -> tuple[bytes, bytes]:
        """Up to `width` bytes of the document, which is the tokens [begin, end),
        before and behind `size` bytes."""

    @abstractmethod
    def spelled(self, first: int, last: int) -> bytes:
        """The text of the tokens [first, last) of the shard, none of them a document's."""

    @abstractmethod
    def back(self, end: int, size: int) -> tuple[int, int]:
        """The token, and which of its bytes, that the last `size`
        bytes before a token begin with."""

    @abstractmethod
    def ahead(self, begin: int, size: int) -> int:
        """The token in which the first `size` bytes from a token on end."""

    def positions_in(self, low: int, high: int) -> Iterator[np.ndarray]:
        """The positions of the suffixes [low, high) in parts, uint32. Raises FormatInvalid."""
        for begin, end in _chunks(low, high):
            yield self.positions.between(begin, end)


class TokenSuffixes(Suffixes):
    """A piece whose positions count tokens."""

    def __init__(self, folder: Path, piece: Piece, shard: Shard, words: Words) -> None:
        super().__init__(folder, piece, shard, piece.stop - piece.start)
        self.words = words
        self._counts_path, self._before_path = (
            path(folder, piece.number, kind) for kind in ("counts", "before")
        )
        _check_size(self._counts_path, len(words.words) * UINT32.itemsize)
        _check_size(self._before_path, self.size)

    @property
    def atoms(self) -> np.ndarray:
        return self._ids

    @cached_property
    def _ids(self) -> np.ndarray:
        return arrays.part(self.shard.ids, self.piece.start, self.piece.stop)

    @cached_property
    def _counts(self) -> np.ndarray:
        """How often each token stands in the piece, shape (vocabulary,) uint32."""
        return arrays.mapped(self._counts_path, UINT32)

    @cached_property
    def before(self) -> np.ndarray:
        """The last byte of the token before each suffix (build.before_of), shape (suffixes,)."""
        return arrays.mapped(self._before_path, np.dtype("u1"))

    def counted(self) -> bool:
        """Whether its table of counts is that of its tokens."""
        counts = np.zeros(len(self.words.words), np.int64)
        for begin, end in _chunks(0, self.size):
            counts += np.bincount(self._ids[begin:end], minlength=len(counts))[: len(counts)]
        return int(counts.sum()) == self.size and np.array_equal(counts, self._counts)

    def text_at(self, position: int, atoms: int) -> bytes:
        words = self.words.words
        with _named(self.shard.tokens_path):
            return b"".join([words[i] for i in self._ids[position : position + atoms].tolist()])

    def count(self, query: Query) -> int:
        low, high = self.asked(query, query.content)
        found = high - low + int(self._counts[query.inside[0]].sum(dtype=np.int64))
        return found + sum(len(tokens) for tokens, _ in self._cut(query))

    def parts(self, query: Query, most: int | None = None) -> Iterator[Found]:
        if most is not None and self.count(query) > _OFTEN * most:
            yield from self._early(query, most)
            return
        start = self.piece.start
        for tokens in self.positions_in(*self.asked(query, query.content)):
            yield Found(tokens.astype(np.int64) + start, np.zeros(len(tokens), np.int64))
        for tokens, size in self._cut(query):
            with _named(self.shard.tokens_path):
                lengths = self.words.lengths[self._ids[tokens]]
            yield Found(tokens + start, lengths - size)
        for tokens, offsets in self._inside(query):
            yield Found(tokens + start, offsets)

    def _early(self, query: Query, most: int) -> Iterator[Found]:
        """The first places of a text that is found everywhere: by reading from the beginning."""
        total, ahead = (
            0,
            len(query.content),
        )  # Tokens that an occurrence may reach behind the part it begins in.
        for begin, end in _chunks(0, self.size):
            with _named(self.shard.tokens_path):
                lengths = self.words.lengths[self._ids[begin : end + ahead]]
            text, ends = self.text_at(begin, end - begin + ahead), np.cumsum(lengths)
            places, stop = [], int(ends[end - begin - 1])
            at = text.find(query.content)
            while 0 <= at < stop and total + len(places) < most:
                places.append(at)
                at = text.find(query.content, at + 1)
            found = np.array(places, np.int64)
            tokens = ends.searchsorted(found, side="right")
            yield Found(begin + tokens + self.piece.start, found - (ends - lengths)[tokens])
            total += len(places)
            if total >= most:
                return

    def _cut(self, query: Query) -> list[tuple[np.ndarray, int]]:
        """The tokens in which occurrences begin that go on behind the token's end,
        and how many bytes lie in it."""
        number = self.piece.number
        if number not in query.crossing:
            query.crossing[number] = list(self._crossing(query))
        return query.crossing[number]

    def _crossing(self, query: Query) -> Iterator[tuple[np.ndarray, int]]:
        for tail, head, before in query.cuts:
            for begin, end in _chunks(*self.asked(query, tail)):
                fits = np.flatnonzero(self.before[begin:end] == head[-1])
                if not len(fits):
                    continue
                ahead = self.positions.between(begin, end)[fits].astype(np.int64) - 1
                if len(head) > 1:
                    with _named(self.shard.tokens_path):
                        ahead = ahead[before[self._ids[ahead]]]
                yield ahead, len(head)

    def _inside(self, query: Query) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The tokens that hold the text behind their first byte, once for each place in them."""
        tokens, offsets = query.inside
        here = self._counts[tokens] > 0
        tokens, offsets = tokens[here], offsets[here]
        for places in self._places(np.unique(tokens)):
            ids = self._ids[places]
            # Of a token's places on the list, which is sorted.
            first = tokens.searchsorted(ids, side="left")
            times = tokens.searchsorted(ids, side="right") - first
            which = np.repeat(first - np.cumsum(times) + times, times) + np.arange(times.sum())
            yield np.repeat(places, times), offsets[which]

    def _places(self, tokens: np.ndarray) -> Iterator[np.ndarray]:
        """Where some tokens stand in the piece, in parts."""
        if 0 < len(tokens) <= _FEW:
            here = [
                part
                for one in tokens.tolist()
                for part in self.positions_in(*self.between(self.words.words[one]))
            ]
            places = np.concatenate([np.zeros(0, UINT32), *here]).astype(np.int64)
            # One token may begin with another, and its places are then met twice.
            yield np.unique(places[np.isin(self._ids[places], tokens)])
        elif len(tokens):
            wanted = np.zeros(len(self.words.words), bool)
            wanted[tokens] = True
            for begin, end in _chunks(0, self.size):
                with _named(self.shard.tokens_path):
                    yield begin + np.flatnonzero(wanted[self._ids[begin:end]])

    def last(self, found: Found, size: int) -> np.ndarray:
        last = found.tokens - self.piece.start
        with _named(self.shard.tokens_path):
            missing = size - self.words.lengths[self._ids[last]] + found.offsets
            while (going := np.flatnonzero(missing > 0)).size:
                last[going] += 1
                missing[going] -= self.words.lengths[self._ids[last[going]]]
        return last + self.piece.start

    def character(self, begin: int, token: int, offset: int) -> int:
        with _named(self.shard.tokens_path):
            ids = self.shard.ids[begin + 1 : token + 1]
            before = int(self.words.characters[ids[:-1]].sum())
            return before + _characters(self.words.words[int(ids[-1])][: offset + 1]) - 1

    def around(
        self, begin: int, end: int, token: int, offset: int, size: int, width: int
    ) -> tuple[bytes, bytes]:
        words, ids = self.words.words, self.shard.ids
        with _named(self.shard.tokens_path):
            before = b"".join(
                [words[i] for i in ids[max(begin + 1, token - width) : token].tolist()]
            )
            here = b"".join(
                [words[i] for i in ids[token : min(token + size + width + 1, end)].tolist()]
            )
        return (before + here[:offset])[-width:], here[offset + size : offset + size + width]

    def spelled(self, first: int, last: int) -> bytes:
        with _named(self.shard.tokens_path):
            return b"".join([self.words.words[i] for i in self.shard.ids[first:last].tolist()])

    def back(self, end: int, size: int) -> tuple[int, int]:
        first = max(end - size, self.piece.start)
        with _named(self.shard.tokens_path):
            left = np.cumsum(self.words.lengths[self.shard.ids[first:end]][::-1])
        tokens = int(left.searchsorted(size))  # Whole ones behind the one that it begins in.
        return end - 1 - tokens, int(left[tokens]) - size

    def ahead(self, begin: int, size: int) -> int:
        with _named(self.shard.tokens_path):
            ends = np.cumsum(self.words.lengths[self.shard.ids[begin : begin + size]])
        return begin + int(ends.searchsorted(size))


class TextSuffixes(Suffixes):
    """A piece that keeps its text, and whose positions count bytes."""

    def __init__(self, folder: Path, piece: Piece, shard: Shard) -> None:
        super().__init__(folder, piece, shard, piece.text)
        self._text_path, self._starts_path = (
            path(folder, piece.number, kind) for kind in ("text", "starts")
        )
        _check_size(self._text_path, piece.text)
        _check_size(self._starts_path, (piece.stop - piece.start) * UINT32.itemsize)

    @cached_property
    def text(self) -> np.ndarray:
        """Its documents' texts, each behind one byte 0xFF, shape (bytes,) uint8."""
        return arrays.mapped(self._text_path, np.dtype("u1"))

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each token begins in the text, shape (tokens,) uint32."""
        return arrays.mapped(self._starts_path, UINT32)

    @property
    def atoms(self) -> np.ndarray:
        return self.text

    def text_at(self, position: int, atoms: int) -> bytes:
        return self.text[position : position + atoms].tobytes()

    def count(self, query: Query) -> int:
        low, high = self.asked(query, query.content)
        return high - low

    def parts(self, query: Query, most: int | None = None) -> Iterator[Found]:
        for places in self.positions_in(*self.asked(query, query.content)):
            begun = self.starts[self._token(places)]
            # Of several tokens for one character, which begin at one place, the first.
            tokens = self.starts.searchsorted(begun, side="left").astype(np.int64)
            yield Found(tokens + self.piece.start, places.astype(np.int64) - begun)

    def last(self, found: Found, size: int) -> np.ndarray:
        places = self.starts[found.tokens - self.piece.start].astype(np.int64) + found.offsets
        return self._token(places + size - 1) + self.piece.start

    def _token(self, places: np.ndarray) -> np.ndarray:
        tokens = self.starts.searchsorted(places.astype(UINT32), side="right").astype(np.int64) - 1
        if len(tokens) and tokens.min() < 0:
            raise FormatInvalid(
                path=self._starts_path, detail="does not begin with the first token"
            )
        return tokens

    def character(self, begin: int, token: int, offset: int) -> int:
        first, place = (int(self.starts[one - self.piece.start]) for one in (begin, token))
        return _characters(self.text[first + 1 : place + offset + 1].tobytes()) - 1

    def around(
        self, begin: int, end: int, token: int, offset: int, size: int, width: int
    ) -> tuple[bytes, bytes]:
        place = int(self.starts[token - self.piece.start]) + offset
        first = int(self.starts[begin - self.piece.start]) + 1
        final = (
            self.piece.text if end == self.piece.stop else int(self.starts[end - self.piece.start])
        )
        before = self.text[max(first, place - width) : place].tobytes()
        return before, self.text[place + size : min(place + size + width, final)].tobytes()

    def _place(self, token: int) -> int:
        return (
            self.piece.text
            if token == self.piece.stop
            else int(self.starts[token - self.piece.start])
        )

    def spelled(self, first: int, last: int) -> bytes:
        return self.text[self._place(first) : self._place(last)].tobytes()

    def back(self, end: int, size: int) -> tuple[int, int]:
        place = self._place(end) - size
        begun = self.starts[self._token(np.array([place]))]
        return int(self.starts.searchsorted(begun, side="left")[0]) + self.piece.start, place - int(
            begun[0]
        )

    def ahead(self, begin: int, size: int) -> int:
        return int(self._token(np.array([self._place(begin) + size - 1]))[0]) + self.piece.start


def _chunks(low: int, high: int) -> Iterator[tuple[int, int]]:
    """[low, high) in parts: small ones first, for who asks whether there is one may stop there."""
    size = AT_FIRST
    while low < high:
        yield low, min(low + size, high)
        low, size = low + size, min(size * 8, _AT_ONCE)


def _characters(content: bytes) -> int:
    """How many characters of UTF-8 begin in it."""
    return sum(1 for byte in content if byte & 0xC0 != 0x80)


def _check_size(place: Path, expected: int) -> None:
    files.require_file(place)
    found = place.stat().st_size
    if found != expected:
        raise FormatInvalid(path=place, detail=f"has {found} bytes, not {expected}")


@contextlib.contextmanager
def _named(place: Path) -> Iterator[None]:
    """A token that the vocabulary does not have, or one behind the end, as FormatInvalid."""
    try:
        yield
    except IndexError as error:
        raise FormatInvalid(path=place, detail="does not hold the tokens of the index") from error
