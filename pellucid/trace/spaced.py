"""Where words follow each other in the training data, with any white space between them.

The index finds bytes, so an anchor is looked up: a piece of the words that has no white space, the
longest ones first, until one is rare. The text around each of its places is then held against the
words (seed and extend, as in Altschul and others, "Basic Local Alignment Search Tool", Journal of
Molecular Biology 215, 1990). Where every word is frequent, they are spelled from the left with all
white space that occurs, until what is spelled is rare. Words match as `where --fold-space` matches
them: at both ends any character may stand beside them.

Texts and examples may be made to take long. So the work is counted, and whoever asks says how much
there may be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pellucid.data.streams import Stream
from pellucid.trace.fold import blanks
from pellucid.trace.pieces import Placed
from pellucid.trace.query import Found, Query
from pellucid.trace.where import Traced

FEW = 32  # Places of an anchor than which no rarer one is looked for.
MOST = 1000  # Places of an anchor whose surroundings are read, and of a spelling that are told.
SLACK = 256  # Bytes of white space that a copy may have more than the words.
_RARE = 100  # Places from which on spelling further costs less than reading.
_COUNT = 8  # Places that may be read in the time of a count.
_SEARCHED = 6  # Places that are searched for words in the time of reading one.
_ANCHOR = 64  # Bytes of an anchor, at most …
_SHORT = 3  # … and of one that is not looked up if there is a longer one: it occurs everywhere.
_KNOWN = 1 << 16  # Counts that are kept.
_HELD = 1 << 24  # Characters of surroundings that are kept.
_BETWEEN = "\udcff"  # Of two surroundings: in no text.


class Place(NamedTuple):
    """A document, and the tokens of its stream that words begin and end in."""

    document: int
    stream: Stream
    first: int
    last: int


class Places(NamedTuple):
    """Places of words, in the documents' order. whole: whether there are no others."""

    known: list[Place]
    whole: bool


class _SpentError(Exception):
    """There is no work left."""


class Spaced:
    """The train split of a run, asked where words stand in it.

    work: how many places may still be counted or read. Whoever asks may add to it."""

    def __init__(self, traced: Traced, work: float = math.inf) -> None:
        self._traced, self.work = traced, work
        self._counts = dict[bytes, int]()
        self._around, self._size = dict[tuple[bytes, int], str](), 0
        self._tables = dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]()

    def find(self, text: str) -> Places:
        """The places of the words of a text, of each spelling the first MOST of a piece. Texts that
        were cut are searched part by part. Raises FormatInvalid."""
        words = text.split()
        if not words:
            return Places([], True)
        try:
            spellings = self._spellings(words)
            whole = all(self._count(one.encode()) <= MOST for one in spellings)
            places = {place for one in spellings for place in self._places(one)}
        except _SpentError:
            return Places([], False)
        order = sorted(places, key=lambda place: (place.document, place.first, place.last))
        return Places(order, whole)

    def _spellings(self, words: list[str]) -> set[str]:
        """The words with the white space that they have where they occur."""
        anchor, count = self._rarest({_cut(word) for word in words})
        if not count:
            return set()
        width = _width(" ".join(words))
        spaced = r"\s+".join(map(re.escape, words))
        pattern = re.compile(rf"(?=({spaced}))")  # Copies may overlap.
        if count <= MOST:
            return set(pattern.findall(self._surroundings(anchor, width)))
        # Spelled from the rarest word on, and from the first one where all behind it is frequent.
        long = [at for at, word in enumerate(words[:-1]) if len(word) >= _SHORT]
        start = min(long, key=lambda at: self._count(_cut(words[at])), default=0)
        found = self._spelled(words, start, pattern, width)
        return self._spelled(words, 0, pattern, width) or set() if found is None else found

    def _spelled(
        self, words: list[str], start: int, pattern: re.Pattern[str], width: int
    ) -> set[str] | None:
        """The spellings of words that are met from one of them on. None: from there to the last one
        they have one spelling or more that is frequent."""
        spellings, waiting = set[str](), [(start + 1, words[start])]
        while waiting:
            number, begun = waiting.pop()
            count = self._count(begun.encode())
            if start == 0 and number == len(words) and count:
                spellings.add(begun)
            elif 0 < count <= (_RARE if number < len(words) else MOST):
                spellings |= set(pattern.findall(self._surroundings(begun.encode(), width)))
            elif count and number == len(words):
                return None
            elif count:
                waiting += self._longer(number, begun, words[number])
        return spellings

    def _longer(self, number: int, begun: str, word: str) -> Iterator[tuple[int, str]]:
        """So many words with one character of white space more, or with the next word."""
        if begun[-1].isspace():
            yield number + 1, begun + word
        if len(begun) - len(begun.rstrip()) < SLACK:
            known = (blank for blank in blanks() if self._count(blank.encode()))
            yield from ((number, begun + blank) for blank in known)

    def _rarest(self, anchors: set[bytes]) -> tuple[bytes, int]:
        """The anchor that is found least often, and how often."""
        best = (b"", -1)
        for anchor in sorted(anchors, key=lambda one: (-len(one), one)):
            if best[1] >= 0 and len(anchor) < _SHORT:
                break
            count = self._count(anchor)
            if best[1] < 0 or count < best[1]:
                best = anchor, count
            if count <= FEW:
                break
        return best

    def _count(self, content: bytes) -> int:
        if content not in self._counts:
            if len(self._counts) == _KNOWN:
                self._counts.clear()
            self._take(_COUNT)
            query = self._traced.query(content)
            counts = (placed.suffixes.count(query) for placed in self._traced.train)
            self._counts[content] = sum(counts)
        return self._counts[content]

    def _take(self, work: int) -> None:
        if work > self.work:
            raise _SpentError
        self.work -= work

    def _surroundings(self, anchor: bytes, width: int) -> str:
        """The text around every place of an anchor, `width` bytes on either side."""
        key = anchor, width
        # What is kept is searched again, and many places take long.
        self._take(self._count(anchor) // _SEARCHED)
        if key not in self._around:
            self._take(self._count(anchor))
            query = self._traced.query(anchor)
            around = [
                b"".join((before, anchor, after)).decode("utf-8", "ignore")
                for placed in self._traced.train
                for before, after in self._both_sides(placed, query, width)
            ]
            text = _BETWEEN.join(around)
            if self._size + len(text) > _HELD:
                self._around, self._size = {}, 0
            self._around[key] = text
            self._size += len(text)
        return self._around[key]

    def _both_sides(
        self, placed: Placed, query: Query, width: int
    ) -> Iterator[tuple[bytes, bytes]]:
        found, size = Found.first(placed.suffixes.parts(query), None), len(query.content)
        _, begins, ends = self._documents(placed, found.tokens)
        columns = (begins.tolist(), ends.tolist(), found.tokens.tolist(), found.offsets.tolist())
        for begin, end, token, offset in zip(*columns, strict=True):
            yield placed.suffixes.around(begin, end, token, offset, size, width)

    def _places(self, spelling: str) -> Iterator[Place]:
        query = self._traced.query(spelling)
        self._take(min(self._count(query.content), MOST))
        for placed in self._traced.train:
            found = Found.first(placed.suffixes.parts(query, MOST), MOST)
            last = placed.suffixes.last(found, len(query.content)) + placed.offset
            documents, _, _ = self._documents(placed, found.tokens)
            columns = (documents, found.tokens + placed.offset, last)
            for document, first, end in zip(*(one.tolist() for one in columns), strict=True):
                yield Place(document, placed.stream, first, end)

    def _documents(
        self, placed: Placed, tokens: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of tokens of a piece's shard, shape (N,), the documents: their indices, and the tokens
        that each begins and ends at. Raises FormatInvalid."""
        shard, number = placed.suffixes.shard, placed.suffixes.piece.shard
        if number not in self._tables:
            begins, lengths = shard.documents_in()
            indices = np.asarray(shard.table[:, 0]).astype(np.int64)
            self._tables[number] = indices, begins, begins + lengths
        rows = self._tables[number][1].searchsorted(tokens, side="right") - 1
        indices, begins, ends = (column[rows] for column in self._tables[number])
        return indices, begins, ends


def _cut(word: str) -> bytes:
    """At most _ANCHOR bytes of a word, which need not end with a character."""
    return word.encode()[:_ANCHOR]


def _width(text: str) -> int:
    """Bytes on either side of an anchor that hold a copy of a text; of few widths, so that
    surroundings are read again seldom."""
    return 1 << (len(text.encode()) + SLACK).bit_length()
