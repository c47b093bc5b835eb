"""Where a text that was cut goes on: occurrences that begin in one of
its parts and end in a later one.

The index knows documents, and nothing crosses them in it. What is told here is found at the seams
alone: of every part but a text's last, its end and the beginning of the next are held against the
query. Parts stand one behind the other in a stream of tokens, where they were not split apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pellucid.data.cutting import text_of
from pellucid.data.parquet import Documents
from pellucid.trace.pieces import Placed

_NEAR = 64  # Bytes on either side of a seam that are kept at hand.
_MOST = 4  # Tokens of one byte: those of some tokenizers share a character.


class Part(NamedTuple):
    """A document: its index, its piece, and its tokens [begin, end) in the
    shard, the document token first."""

    document: int
    placed: Placed
    begin: int
    end: int

    def bytes(self, first: int, last: int) -> bytes:
        """The text of the tokens [first, last), counted from the part's
        first behind its document token."""
        begin = self.begin + 1
        return self.placed.suffixes.spelled(begin + first, min(begin + last, self.end))

    @property
    def tokens(self) -> int:
        return self.end - self.begin - 1


class Crossing(NamedTuple):
    """An occurrence over one seam or more: the token and byte it begins at, in the shard
    of its first part; the stream position of the token that it ends in; the documents it
    lies in; what stands behind it."""

    placed: Placed
    token: int
    offset: int
    last: int
    documents: tuple[int, ...]
    behind: bytes


class Seams:
    """The texts of a run that were cut, in what it trains on."""

    def __init__(self, documents: Documents, placed: list[Placed], longest: int) -> None:
        """longest: of a part, in characters; parts but the last have
        three quarters of it at least."""
        self._documents = documents
        self._runs = list(self._find(placed, longest - longest // 4))
        self._ends = [
            (run, at, *_ends(run, at)) for run in self._runs for at in range(len(run) - 1)
        ]

    def _find(self, placed: list[Placed], least: int) -> Iterator[list[Part]]:
        """The parts of each text that stand behind each other, where there are two or more."""
        run: list[Part] = []
        long = False  # Whether the last document may be a part that another follows.
        for one in placed:
            piece = one.suffixes.piece
            rows = np.asarray(one.suffixes.shard.table[piece.first : piece.last]).astype(np.int64)
            for (document, begin, size, _), end in zip(
                rows.tolist(), [*rows[1:, 1].tolist(), piece.stop], strict=True
            ):
                part = Part(document, one, begin, end)
                if (
                    long
                    and one.stream is run[-1].placed.stream
                    and self._follows(run[-1].document, document)
                ):
                    run.append(part)
                else:
                    if len(run) > 1:
                        yield run
                    run = [part]
                long = size >= least
        if len(run) > 1:
            yield run

    def _follows(self, document: int, other: int) -> bool:
        (name, part), (next_name, next_part) = (
            text_of(self._documents.about(i)["id"]) for i in (document, other)
        )
        return part > 0 and (name, part + 1) == (next_name, next_part)

    def find(self, query: bytes) -> Iterator[Crossing]:
        """Every occurrence that begins in one part and ends in another."""
        for run, at, before, after in self._ends:
            for size in _places(query, before, after):
                crossing = _crossing(run, at, query, size)
                if crossing:
                    yield crossing


def _ends(run: list[Part], at: int) -> tuple[bytes, bytes]:
    """What stands on either side of a seam, up to _NEAR bytes."""
    tokens = run[at].tokens
    return run[at].bytes(max(tokens - _MOST * _NEAR, 0), tokens)[-_NEAR:], run[at + 1].bytes(
        0, _MOST * _NEAR
    )[:_NEAR]


def _places(query: bytes, before: bytes, after: bytes) -> Iterator[int]:
    """How many bytes of the query may stand before a seam, going by what is at hand."""
    for size in range(1, len(query)):
        near = query[max(size - len(before), 0) : size]
        if before.endswith(near) and query[size : size + len(after)] == after[: len(query) - size]:
            yield size


def _crossing(run: list[Part], at: int, query: bytes, size: int) -> Crossing | None:
    """The occurrence whose first `size` bytes end a part; None where there is
    none, or it begins earlier."""
    part = run[at]
    tail = part.bytes(max(part.tokens - _MOST * size, 0), part.tokens)
    if len(tail) < size or not tail.endswith(query[:size]):
        return None
    left, documents = query[size:], [part.document]
    for following in run[at + 1 :]:
        documents.append(following.document)
        head = following.bytes(0, _MOST * (len(left) + _NEAR))[: len(left) + _NEAR]
        if head.startswith(left):
            token, offset = part.placed.suffixes.back(part.end, size)
            last = following.placed.offset + following.placed.suffixes.ahead(
                following.begin + 1, len(left)
            )
            return Crossing(part.placed, token, offset, last, tuple(documents), head[len(left) :])
        if not left.startswith(head):
            return None
        left = left[len(head) :]
    return None
