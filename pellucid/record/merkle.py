"""Merkle trees as in RFC 6962, section 2.1: SHA-256, leaves and nodes prefixed by 0x00 and 0x01."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

EMPTY = hashlib.sha256(b"").digest()


def leaf(data: bytes) -> bytes:
    """The hash of one leaf."""
    return hashlib.sha256(b"\0" + data).digest()


class Tree:
    """The root over leaf hashes that arrive one by one, in memory of O(log n)."""

    def __init__(self) -> None:
        self.count = 0
        self._peaks: list[bytes] = []

    def add(self, leaf_hash: bytes) -> None:
        # Equal neighbours merge at once, as the carries of a binary counter do.
        carry, bits = leaf_hash, self.count
        while bits & 1:
            carry = hashlib.sha256(b"\1" + self._peaks.pop() + carry).digest()
            bits >>= 1
        self._peaks.append(carry)
        self.count += 1

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        for leaf_hash in leaf_hashes:
            self.add(leaf_hash)

    def root(self) -> bytes:
        if not self._peaks:
            return EMPTY
        top = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            top = hashlib.sha256(b"\1" + peak + top).digest()
        return top


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root over leaf hashes; SHA-256 of nothing for an empty list."""
    tree = Tree()
    tree.extend(leaf_hashes)
    return tree.root()


class Levels:
    """All hashes of a tree, so that the root with a few other leaves costs O(log n)."""

    def __init__(self, leaf_hashes: Iterable[bytes]) -> None:
        self._levels = [list(leaf_hashes)]
        while len(below := self._levels[-1]) > 1:
            pairs = (b"".join(below[place : place + 2]) for place in range(0, len(below), 2))
            self._levels.append([one if len(one) == 32 else hashlib.sha256(b"\1" + one).digest() for one in pairs])

    def root_with(self, changes: dict[int, bytes]) -> bytes:
        """The root with other hashes for the leaves at these places."""
        for level in self._levels[:-1]:
            above = {}
            for place in {place >> 1 for place in changes}:
                pair = [changes.get(one, level[one]) for one in (2 * place, 2 * place + 1) if one < len(level)]
                above[place] = pair[0] if len(pair) == 1 else hashlib.sha256(b"\1" + pair[0] + pair[1]).digest()
            changes = above
        return changes.get(0) or (self._levels[-1] or [EMPTY])[0]
