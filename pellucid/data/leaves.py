"""The leaves of what documents fill: of blocks of the data and of rows of a
step (pellucid/record/rows.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from pellucid.data.salts import Salts
from pellucid.data.streams import Stream
from pellucid.record import rows

_AT_ONCE = 1 << 20  # Tokens read at once, about.


def part_leaves(
    salts: Salts, ids_S: np.ndarray, documents_S: np.ndarray, first: int
) -> list[bytes]:
    """The leaves of the parts that these ids have; first: which of its document's
    tokens the first of them is."""
    cuts = [0, *(np.flatnonzero(np.diff(documents_S)) + 1).tolist(), len(ids_S)]
    leaves = []
    for begin, end in pairwise(cuts):
        document = int(documents_S[begin])
        part = rows.Part(document, 0 if begin else first, ids_S[begin:end])
        leaves.append(rows.part_leaf(salts.of(document), part))
    return leaves


def block_leaves(stream: Stream, block: int, salts: Salts) -> Iterator[bytes]:
    """The leaves of a stream's blocks, in order, read without keeping what was read."""
    together = max(1, _AT_ONCE // block)
    for first in range(0, stream.blocks, together):
        last = min(first + together, stream.blocks)
        begin = first * block
        ids = stream.read(begin, last * block + 1, mapped=False)
        leaf = _leaf_of(stream, ids, begin, salts)
        for number in range(first, last):
            yield leaf(stream.first_block + number, number * block, (number + 1) * block + 1)


def leaf_of_tail(stream: Stream, block: int, salts: Salts, number: int) -> bytes:
    """The leaf, under a number of its own, of the tokens behind a stream's last block,
    and of that block's last id."""
    begin = stream.blocks * block
    ids = stream.read(begin, stream.tokens, mapped=False)
    return _leaf_of(stream, ids, begin, salts)(number, begin, stream.tokens)


def _leaf_of(
    stream: Stream, ids: np.ndarray, offset: int, salts: Salts
) -> Callable[[int, int, int], bytes]:
    """The leaf of a stream's tokens [start, stop) under a number; ids are those
    from the stream's offset-th on."""
    documents, before = stream.documents_and_first(offset, offset + len(ids))
    # Where documents begin, or go on from before.
    begins = np.flatnonzero(np.diff(documents, prepend=-1))

    def leaf(number: int, start: int, stop: int) -> bytes:
        here = slice(start - offset, stop - offset)
        begun = int(begins[np.searchsorted(begins, here.start, side="right") - 1])
        first = here.start - begun + (before if begun == 0 else 0)
        return rows.block_leaf(
            number, stop - start, part_leaves(salts, ids[here], documents[here], first)
        )

    return leaf
