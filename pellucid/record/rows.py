"""What a block of the data and a row of a step commit to, to the byte.

A block is T+1 neighbouring ids of a stream. A row is what a step trains on: ids of one block, and
how they are trained on. What one document fills of either is a part. Each part has a leaf and a
salt of its own, so that one document's text can be taken out of a release while everything else
still verifies.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pellucid.record import merkle

if TYPE_CHECKING:
    import numpy as np  # Whoever checks a proof needs none.

NO_GROUP = 2**64 - 1  # The group of a row that belongs to none.


class Part(NamedTuple):
    """What one document fills of a block or a row."""

    document: int
    first: int  # Which of the document's tokens the part begins with; 0 is its document token.
    ids_N: np.ndarray  # uint32.


class Use(NamedTuple):
    """How the T targets of a row are trained on. Runs: equal neighbours, joined."""

    weights: tuple[tuple[int, int], ...]  # (targets, weight).
    attention: tuple[int, ...]  # Inputs of each stretch whose tokens attend to each other only.
    positions: tuple[tuple[int, int], ...]  # (inputs, position of the first), ascending by one.
    group: int = NO_GROUP  # Rows of one group, such as a pair of answers, share their number.

    @classmethod
    def whole(cls, targets: int) -> Use:
        """Every target with weight 1, every token before it in sight:
        pre-training across documents."""
        return cls(((targets, 1),), (targets,), ((targets, 0),))


def part_salt(document_salt: bytes, first: int, count: int) -> bytes:
    """The salt of `count` of a document's ids from its first-th on, from the document's."""
    return hashlib.sha256(
        b"pellucid part salt 1\0" + document_salt + struct.pack("<QQ", first, count)
    ).digest()


def part_leaf(document_salt: bytes, part: Part) -> bytes:
    """The leaf of a part: its salt, its document, where in it the part begins, and its ids."""
    salt = part_salt(document_salt, part.first, len(part.ids_N))
    place = struct.pack("<QQ", part.document, part.first)
    ids = part.ids_N.astype("<u4").tobytes()
    return merkle.leaf(b"pellucid part 1\0" + salt + place + ids)


def block_leaf(number: int, ids: int, parts: Iterable[bytes]) -> bytes:
    """The leaf of a block of so many ids: the root over its head and
    its parts' leaves, in order."""
    return merkle.root([block_head(number, ids), *parts])


def block_head(number: int, ids: int) -> bytes:
    """The first of the hashes that a block's leaf is the root over."""
    return merkle.leaf(b"pellucid block 1\0" + struct.pack("<QI", number, ids))


def row_leaf(block: int, start: int, ids: int, use: Use, parts: Iterable[bytes]) -> bytes:
    """The leaf of a row of so many ids, from the start-th of a block on: the root over its head,
    which says how it is trained on, and its parts' leaves, in order."""
    return merkle.root([merkle.leaf(b"pellucid row 1\0" + _head(block, start, ids, use)), *parts])


def _head(block: int, start: int, ids: int, use: Use) -> bytes:
    packed = struct.pack("<QIIQ", block, start, ids, use.group)
    for runs in (use.weights, [(length,) for length in use.attention], use.positions):
        packed += _counted(runs)
    return packed


def _counted(runs: Sequence[tuple[int, ...]]) -> bytes:
    """How many runs there are, and the numbers of each, all as u32."""
    numbers = [number for run in runs for number in run]
    return struct.pack(f"<{1 + len(numbers)}I", len(runs), *numbers)
