"""The order: a permutation of each epoch's slots, askable at any step, well mixed."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.data.order import ROUNDS, Order
from pellucid.errors import CorpusTooSmall, StepUnknown
from pellucid.philox import key_of, philox


def slow_permutation(seed: int, slots: int, epoch: int, value: int) -> int:
    """The module's text in plain Python, one value at a time."""
    half = max(1, -(-(slots - 1).bit_length() // 2))
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for number in range(ROUNDS):
            counter = np.array([[right, number, epoch % 2**32, epoch >> 32]], dtype=np.uint32)
            left, right = right, left ^ (int(philox(key_of(seed, "order"), counter)[0, 0]) & mask)
        value = (left << half) | right
        if value < slots:
            return value


def slow_batch(seed, counts, weights, batch, step) -> list[int]:
    slots = [
        first + sequence
        for first, count, weight in zip(np.cumsum([0, *counts]).tolist(), counts, weights, strict=False)
        for _ in range(weight)
        for sequence in range(count)
    ]
    positions = range((step - 1) * batch, step * batch)
    return [slots[slow_permutation(seed, len(slots), p // len(slots), p % len(slots))] for p in positions]


sizes = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=4).filter(
    lambda pairs: sum(count * weight for count, weight in pairs) > 0
)


@settings(max_examples=60, deadline=None)
@given(pairs=sizes, seed=st.integers(0, 2**63), batch=st.integers(1, 9), step=st.integers(1, 30))
def test_batches_are_those_of_the_definition(pairs, seed, batch, step):
    counts, weights = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    order = Order(seed, counts, weights, batch)
    assert order.batch(step).tolist() == slow_batch(seed, counts, weights, batch, step)


@settings(max_examples=60, deadline=None)
@given(pairs=sizes, seed=st.integers(0, 2**63), batch=st.integers(1, 9), steps=st.integers(1, 60))
def test_every_sequence_is_seen_as_often_as_its_weight(pairs, seed, batch, steps):
    counts, weights = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    order = Order(seed, counts, weights, batch)
    table = order.batches(1, steps)
    assert table.shape == (steps, batch)
    assert all(np.array_equal(order.batch(step), table[step - 1]) for step in range(1, steps + 1))
    seen = table.reshape(-1)
    epochs = np.concatenate([order.epochs(step) for step in range(1, steps + 1)])
    each = [w for count, w in zip(counts, weights, strict=True) for _ in range(count)]
    for epoch in range(len(seen) // order.slots):
        found = Counter(seen[epochs == epoch].tolist())
        assert [found[sequence] for sequence in range(len(each))] == each
    for sequence in range(len(each)):
        found = [(step, row, int(epoch)) for step, row, epoch in order.steps_of(sequence, steps)]
        rows = [(i // batch + 1, i % batch, int(epochs[i])) for i in np.flatnonzero(seen == sequence).tolist()]
        assert found == rows


@settings(max_examples=60)
@given(pairs=sizes, seed=st.integers(0, 2**63), batch=st.integers(1, 9), steps=st.integers(1, 40), data=st.data())
def test_the_first_time_of_many_at_once(pairs, seed, batch, steps, data):
    counts, weights = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    order = Order(seed, counts, weights, batch)
    asked = np.array(sorted(data.draw(st.sets(st.integers(0, sum(counts) - 1), min_size=1))))
    first = [next((step for step, _, _ in order.steps_of(one, steps)), 0) for one in asked.tolist()]
    assert order.first(asked, steps).tolist() == first


def test_absurd_weights_cost_what_was_trained_and_no_more():
    """A recipe may say any weight: of 2^40 copies only those that a step took are looked at."""
    heavy = Order(1, [5, 3], [2**40, 1], 4)
    light = heavy.batches(1, 1000).reshape(-1)
    first = [int(np.flatnonzero(light == one)[0]) // 4 + 1 if one in light else 0 for one in range(8)]
    assert heavy.first(np.arange(8), 1000).tolist() == first
    assert [one[0] for one in heavy.steps_of(2, 1000)] == (np.flatnonzero(light == 2) // 4 + 1).tolist()
    with pytest.raises(ValueError, match=r"cannot go without 1099511627776 slots"):
        Order(1, [5, 3], [2**40, 1], 4, [0])


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 5, 15, 16, 17, 1000, 65536, 65537])
def test_an_epoch_is_a_permutation(slots):
    order = Order(3, [slots], [1], slots)
    for epoch in (1, 2):
        assert np.array_equal(np.sort(order.batch(epoch)), np.arange(slots))


@pytest.mark.parametrize("slots", [2**33 + 7, 2**48, 2**62])
def test_huge_epochs(slots):
    order = Order(1, [slots], [1], 8)
    for step in (1, 2, slots // 8 - 1):
        ids = order.batch(step)
        assert ((ids >= 0) & (ids < slots)).all()
        for row, sequence in enumerate(ids.tolist()):
            assert order.steps_of(sequence, step + 1) == [(step, row, 0)]
        assert ids.tolist() == [slow_permutation(1, slots, 0, (step - 1) * 8 + row) for row in range(8)]


def chi_square(counts: list[int], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize("slots", [2, 3, 4, 5])
def test_small_epochs_take_every_permutation_equally_often(slots):
    order, epochs = Order(11, [slots], [1], slots), 2400
    found = Counter(map(tuple, order.batches(1, epochs).tolist()))
    kinds = list(permutations(range(slots)))
    free = len(kinds) - 1
    # Five standard deviations above the mean of the chi-square distribution.
    assert chi_square([found[kind] for kind in kinds], epochs / len(kinds)) < free + 5 * (2 * free) ** 0.5


@pytest.mark.parametrize("slots", [37, 1000])
def test_positions_and_neighbours_are_spread(slots):
    epochs = 200
    order = Order(5, [slots], [1], slots)
    table = order.batches(1, epochs)
    bins = 10
    at_first = np.bincount(table[:, 0] * bins // slots, minlength=bins).tolist()
    steps = np.bincount(((np.diff(table, axis=1) % slots) * bins // slots).reshape(-1), minlength=bins)
    share = np.array([np.sum(np.arange(1, slots) * bins // slots == b) for b in range(bins)]) / (slots - 1)
    assert chi_square(at_first, epochs / bins) < 9 + 5 * 18**0.5 + 9
    assert (np.abs(steps / steps.sum() - share) < 0.02).all()
    fixed = (table == np.arange(slots)).sum()
    assert abs(fixed - epochs) < 5 * epochs**0.5  # One fixed point per permutation, on average.


def test_seeds_and_epochs_differ():
    table = np.concatenate([Order(seed, [1000], [1], 1000).batches(1, 3) for seed in (1, 2)])
    same = (table[:, None, :] == table[None, :, :]).sum(axis=2)
    assert (same[~np.eye(6, dtype=bool)] < 12).all()


def test_the_order_is_pinned():
    order = Order(1, [1000, 77, 5], [1, 2, 0], 8)
    assert order.batches(1, 2).tolist() == GOLDEN[0]
    assert order.batch(1_000_000).tolist() == GOLDEN[1]
    assert Order(2, [2**61], [2], 2).batch(3).tolist() == GOLDEN[2]


GOLDEN = [
    [[1051, 526, 618, 1015, 978, 164, 178, 821], [193, 778, 1000, 4, 1025, 855, 722, 107]],
    [756, 431, 649, 87, 399, 638, 703, 801],
    [2188509184747233360, 1484485357038561560],
]


def test_steps_and_sequences_that_are_not():
    order = Order(1, [10, 0, 5], [1, 1, 0], 4)
    for step in (0, -1):
        with pytest.raises(StepUnknown):
            order.batch(step)
    for sequence in (-1, 15):
        with pytest.raises(StepUnknown):
            order.steps_of(sequence, 5)
    assert order.steps_of(12, 100) == []
    with pytest.raises(ValueError, match="0 slots"):
        Order(1, [10], [0], 4)


@given(st.integers(0, 2**62), st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(1, 9), st.data())
def test_without_some_sequences_others_take_their_places_and_no_other_place_changes(
    seed: int, counts: list[int], batch: int, data: st.DataObject
) -> None:
    weights = [data.draw(st.integers(0, 3)) for _ in counts]
    assume(sum(w * n for w, n in zip(weights, counts, strict=True)))
    without = data.draw(st.sets(st.integers(0, sum(counts) - 1)))
    seen = {
        one
        for source, n in enumerate(counts)
        for one in range(sum(counts[:source]), sum(counts[:source]) + n)
        if weights[source]
    }
    assume(seen - without)
    whole, order = Order(seed, counts, weights, batch), Order(seed, counts, weights, batch, sorted(without))
    steps = -(-2 * whole.slots // batch)
    before, after = whole.batches(1, steps), order.batches(1, steps)
    kept = ~np.isin(before, sorted(without))
    assert (before[kept] == after[kept]).all() and not np.isin(after, sorted(without)).any()
    for sequence in range(sum(counts)):
        where = [(int(k) + 1, int(row)) for k, row in zip(*np.nonzero(after == sequence), strict=True)]
        assert [one[:2] for one in order.steps_of(sequence, steps)] == where


def test_a_run_cannot_go_without_everything() -> None:
    with pytest.raises(CorpusTooSmall, match="cannot go without all"):
        Order(1, [3], [2], 4, [0, 1, 2])
