from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.record import merkle


def recursive(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + recursive(leaves[:split]) + recursive(leaves[split:])).digest()


@given(st.integers(0, 70))
def test_root_is_that_of_rfc_9162(count: int) -> None:
    leaves = [merkle.leaf(bytes([number])) for number in range(count)]
    assert merkle.root(leaves) == recursive(leaves)


def test_known_vector() -> None:
    # From certificate-transparency's reference tests: the empty leaf, and the empty tree.
    assert (
        merkle.leaf(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert (
        merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


@given(st.lists(st.binary(max_size=8), min_size=2, max_size=20, unique=True), st.data())
def test_any_change_moves_the_root(items: list[bytes], data: st.DataObject) -> None:
    leaves = [merkle.leaf(item) for item in items]
    place = data.draw(st.integers(0, len(leaves) - 2))
    swapped = leaves.copy()
    swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
    assert merkle.root(leaves) not in (
        merkle.root(swapped),
        merkle.root(leaves[:-1]),
        merkle.root([*leaves, leaves[-1]]),
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 11, 16, 33, 100])
def test_the_root_with_other_leaves_is_that_of_the_changed_list(count: int) -> None:
    drawn = random.Random(count)
    leaves = [drawn.randbytes(32) for _ in range(count)]
    tree = merkle.Levels(leaves)
    assert (
        tree.root_with({}) == merkle.root(leaves)
        and merkle.Levels([]).root_with({}) == merkle.EMPTY
    )
    for _ in range(20):
        changes = {
            drawn.randrange(count): drawn.randbytes(32) for _ in range(drawn.randrange(1, 4))
        }
        assert tree.root_with(changes) == merkle.root(
            changes.get(i, leaf) for i, leaf in enumerate(leaves)
        )


def audit_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 9162, section 2.1.3.1, as it is written there."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*audit_path(index, leaves[:split]), recursive(leaves[split:])]
    return [*audit_path(index - split, leaves[split:]), recursive(leaves[:split])]


@given(st.integers(1, 70), st.data())
def test_paths_are_those_of_rfc_9162_and_lead_to_the_root(count: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf(bytes([number])) for number in range(count)]
    index = data.draw(st.integers(0, count - 1))
    sided = merkle.Levels(leaves).path(index)
    path = [sibling for _, sibling in sided]
    assert path == audit_path(index, leaves) and len(path) == merkle.path_length(index, count)
    assert merkle.root_of_path([leaves[index]], index, count, path) == merkle.root(leaves)
    node = leaves[index]
    for left, sibling in sided:
        node = merkle.above(node, sibling, left)
    assert node == merkle.root(leaves)


@given(st.integers(1, 40), st.integers(-2, 42), st.integers(0, 8))
def test_a_path_of_another_length_and_a_leaf_that_is_not_there_are_refused(
    count: int, index: int, length: int
) -> None:
    leaves = [merkle.leaf(bytes([number])) for number in range(count)]
    right = 0 <= index < count and length == len(audit_path(index, leaves))
    path = [merkle.leaf(b"other")] * length
    if right and length:
        assert merkle.root_of_path([leaves[index]], index, count, path) != merkle.root(leaves)
    elif not right:
        with pytest.raises(ValueError, match=f"of {count}"):
            merkle.root_of_path([leaves[0]], index, count, path)


@given(st.integers(1, 40), st.data())
def test_neighbours_have_one_path_and_lead_to_the_root(count: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf(bytes([number])) for number in range(count)]
    first = data.draw(st.integers(0, count - 1))
    last = data.draw(st.integers(first + 1, count))
    path = [sibling for _, sibling in merkle.Levels(leaves).path(first, last - first)]
    neighbours, root = leaves[first:last], merkle.root(leaves)
    assert merkle.root_of_path(neighbours, first, count, path) == root
    for place in range(len(path)):
        changed = [*path[:place], bytes(32), *path[place + 1 :]]
        assert merkle.root_of_path(neighbours, first, count, changed) != root
    with pytest.raises(ValueError, match="hashes"):
        merkle.root_of_path(neighbours, first, count, [*path, bytes(32)])
    with pytest.raises(ValueError, match="no leaves"):
        merkle.root_of_path(neighbours, first, last - 1, path)
    with pytest.raises(ValueError, match="no leaves"):
        merkle.root_of_path([], first, count, path)
    if len(neighbours) > 1:
        assert merkle.root_of_path(neighbours[::-1], first, count, path) != root


def test_a_leaf_has_no_path_from_another_place() -> None:
    for count in range(1, 20):
        leaves = [merkle.leaf(bytes([number])) for number in range(count)]
        levels, root = merkle.Levels(leaves), merkle.root(leaves)
        for index in range(count):
            path = [sibling for _, sibling in levels.path(index)]
            for wrong in set(range(count)) - {index}:
                if merkle.path_length(wrong, count) == len(path):
                    assert merkle.root_of_path([leaves[index]], wrong, count, path) != root
    with pytest.raises(IndexError):
        merkle.Levels([merkle.leaf(b"")]).path(1)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_roots_over_what_came_before_each_leaf(before: int, more: int) -> None:
    leaves = [merkle.leaf(bytes([number])) for number in range(before + more)]
    tree = merkle.Tree()
    tree.extend(leaves[:before])
    copied = tree.copy()
    assert tree.roots(leaves[before:]) == [
        recursive(leaves[:n]) for n in range(before, before + more)
    ]
    assert tree.root() == recursive(leaves) and tree.count == before + more
    assert copied.root() == recursive(leaves[:before])
    copied.extend(leaves[before:])
    assert copied.root() == tree.root()
