"""Merkle trees as in RFC 9162, section 2.1: SHA-256, leaves and nodes prefixed by 0x00 and 0x01."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY = hashlib.sha256(b"").digest()


def leaf(data: bytes) -> bytes:
    """The hash of one leaf."""
    return hashlib.sha256(b"\0" + data).digest()


def leaves(data: Iterable[bytes]) -> list[bytes]:
    """The hashes of many leaves."""
    sha256 = hashlib.sha256
    return [sha256(b"\0" + content).digest() for content in data]


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

    def copy(self) -> Tree:
        """A tree over the same leaves that goes on by itself."""
        tree = Tree()
        tree.count, tree._peaks = self.count, self._peaks.copy()
        return tree

    def roots(self, leaf_hashes: Iterable[bytes]) -> list[bytes]:
        """Add leaf hashes; of each the root over all leaves before it.

        A million roots are ten million nodes, and none of them can be spared: the root
        over n leaves takes a node for each one bit of n but the lowest. So they are made
        in one loop, in which a peak is a hash that has taken its left side already and is
        copied for each right one."""
        sha256, count, roots = hashlib.sha256, self.count, list[bytes]()
        peaks = [sha256(b"\1" + peak) for peak in self._peaks]
        last = self._peaks[-1] if self._peaks else EMPTY
        hashes = self._peaks
        for leaf_hash in leaf_hashes:
            top = last
            for peak in peaks[-2::-1]:
                node = peak.copy()
                node.update(top)
                top = node.digest()
            roots.append(top)
            last, bits = leaf_hash, count
            while bits & 1:
                node = peaks.pop()
                hashes.pop()
                node.update(last)
                last = node.digest()
                bits >>= 1
            peaks.append(sha256(b"\1" + last))
            hashes.append(last)
            count += 1
        self.count = count
        return roots

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


def path_length(index: int, count: int, neighbours: int = 1) -> int:
    """How many hashes the audit path of leaf `index` in a tree of `count` leaves has, or that of so
    many neighbours from there on."""
    length, end = 0, index + neighbours
    while count > 1:
        # A last node without a sibling goes up as it is.
        length += (index & 1) + (end & 1 and end < count)
        index, end, count = index >> 1, (end + 1) >> 1, (count + 1) >> 1
    return length


def root_of_path(
    leaf_hashes: Sequence[bytes], index: int, count: int, path: Sequence[bytes]
) -> bytes:
    """The root over `count` leaves that the audit path of neighbouring leaves gives, the first of
    them leaf `index`; of one leaf as in RFC 9162, section 2.1.3.2.

    Raises ValueError where there are no such leaves, or the path has another length
    than their place asks for."""
    hashes, end = list(leaf_hashes), index + len(leaf_hashes)
    if not 0 <= index < end <= count:
        raise ValueError(f"a tree of {count} leaves has no leaves {index} to {end - 1}")
    if len(path) != (length := path_length(index, count, len(hashes))):
        raise ValueError(f"the path of leaves {index} to {end - 1} of {count} has {length} hashes")
    siblings = iter(path)
    while count > 1:
        if index & 1:
            hashes.insert(0, next(siblings))
        if end & 1 and end < count:
            hashes.append(next(siblings))
        hashes = _above(hashes)
        index, end, count = index >> 1, (end + 1) >> 1, (count + 1) >> 1
    return hashes[0]


def _above(hashes: Sequence[bytes]) -> list[bytes]:
    """The nodes over neighbours of which the first is a left one; a last
    one alone goes up as it is."""
    pairs = (b"".join(hashes[place : place + 2]) for place in range(0, len(hashes), 2))
    return [pair if len(pair) == 32 else hashlib.sha256(b"\1" + pair).digest() for pair in pairs]


def above(node: bytes, sibling: bytes, left: bool) -> bytes:
    """The node over a hash and its sibling, which stands left of it or right."""
    return hashlib.sha256(b"\1" + (sibling + node if left else node + sibling)).digest()


class Levels:
    """All hashes of a tree: the root with a few other leaves, and the path
    of any leaf, cost O(log n)."""

    def __init__(self, leaf_hashes: Iterable[bytes]) -> None:
        self._levels = [list(leaf_hashes)]
        while len(self._levels[-1]) > 1:
            self._levels.append(_above(self._levels[-1]))

    def path(self, index: int, neighbours: int = 1) -> list[tuple[bool, bytes]]:
        """The audit path of a leaf (RFC 9162, section 2.1.3.1), or of so many from there on, from
        below: of each sibling whether it stands left."""
        end = index + neighbours
        if not 0 <= index < end <= len(self._levels[0]):
            raise IndexError(index)
        path = []
        for level in self._levels[:-1]:
            if index & 1:
                path.append((True, level[index - 1]))
            if end & 1 and end < len(level):
                path.append((False, level[end]))
            index, end = index >> 1, (end + 1) >> 1
        return path

    def root_with(self, changes: dict[int, bytes]) -> bytes:
        """The root with other hashes for the leaves at these places."""
        for level in self._levels[:-1]:
            above = {}
            for place in {place >> 1 for place in changes}:
                pair = [
                    changes.get(child, level[child])
                    for child in (2 * place, 2 * place + 1)
                    if child < len(level)
                ]
                above[place] = (
                    pair[0]
                    if len(pair) == 1
                    else hashlib.sha256(b"\1" + pair[0] + pair[1]).digest()
                )
            changes = above
        return changes.get(0) or (self._levels[-1] or [EMPTY])[0]
