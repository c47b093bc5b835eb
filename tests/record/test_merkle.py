from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.record import merkle


def recursive(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + recursive(leaves[:split]) + recursive(leaves[split:])).digest()


@given(st.integers(0, 70))
def test_root_is_that_of_rfc_6962(count: int) -> None:
    leaves = [merkle.leaf(bytes([number])) for number in range(count)]
    assert merkle.root(leaves) == recursive(leaves)


def test_known_vector() -> None:
    # From certificate-transparency's reference tests: the empty leaf, and the empty tree.
    assert merkle.leaf(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


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
    assert tree.root_with({}) == merkle.root(leaves) and merkle.Levels([]).root_with({}) == merkle.EMPTY
    for _ in range(20):
        changes = {drawn.randrange(count): drawn.randbytes(32) for _ in range(drawn.randrange(1, 4))}
        assert tree.root_with(changes) == merkle.root(changes.get(i, one) for i, one in enumerate(leaves))
