"""The order: a permutation of the blocks in each pass, askable at any step, well mixed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Set
from dataclasses import replace
from itertools import chain, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pellucid.data.order import ROUNDS, Order, Permutation
from pellucid.errors import CorpusTooSmall, StepUnknown
from pellucid.philox import key_of, philox
from pellucid.schedule import Phase, Schedule, Start

NOBODY = np.empty(0, np.int64)
PLAIN = Phase("plain", 40, 4, 4, 1, 1e4, 1.0, "cosine", 0, 0, 0.1)
NAMES = ("a", "b", "c", "d")


def slow_permutation(key: int, count: int, epoch: int, value: int) -> int:
    """The module's text in plain Python, one value at a time."""
    half = max(1, -(-(count - 1).bit_length() // 2))
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for number in range(ROUNDS):
            counter = np.array([[right, number, epoch % 2**32, epoch >> 32]], dtype=np.uint32)
            left, right = right, left ^ (int(philox(key, counter)[0, 0]) & mask)
        value = (left << half) | right
        if value < count:
            return value


def slow_block(key: int, count: int, epoch: int, place: int, without: Set[int]) -> int:
    """The block at a place of a pass, as docs/format.md says it."""
    block = slow_permutation(key, count, epoch, place)
    if block in without:
        block = slow_permutation(key, count, epoch, block)
    kept = [one for one in range(count) if one not in without]
    if block in without:
        block = kept[(block + slow_permutation(key, count, epoch, 0)) % len(kept)]
    return block


def slow_rows(
    order: Order, seed: int, counts: list[int], step: int, without: Set[int] = frozenset()
) -> list[tuple[int, int, int, int]]:
    """(source, epoch, block, start) of every row of a step, from its targets alone."""
    found = []
    stretch = next(one for one in order.stretches if one.after < step <= one.last)
    for source, cursor in zip(*(one.tolist() for one in stretch.targets(step, step)), strict=True):
        epoch, within = divmod(cursor, counts[source] * order.block)
        place, start = divmod(within, order.block)
        first = sum(counts[:source])
        key, left = key_of(seed, f"order {NAMES[source]}"), {one - first for one in without}
        block = slow_block(key, counts[source], epoch, place, left)
        found.append((source, epoch, first + block, start))
    return found


def table(order: Order, first: int, last: int) -> list[list[tuple[int, int, int, int]]]:
    return [
        list(zip(*(column.tolist() for column in rows), strict=True))
        for rows in order.each(first, last)
    ]


@st.composite
def orders(draw: st.DrawFn, most: int = 12) -> tuple[int, list[int], int, list[Phase]]:
    """A seed, the blocks of each source, their targets, and phases."""
    counts = draw(st.lists(st.integers(0, most), min_size=1, max_size=4).filter(any))
    made = []
    for number in range(draw(st.integers(1, 3))):
        shares = draw(st.lists(st.integers(0, 3), min_size=len(counts), max_size=len(counts)))
        assume(any(share and count for share, count in zip(shares, counts, strict=True)))
        kind = draw(st.sampled_from(["weights", "shares"]))
        again = tuple(draw(st.booleans()) for _ in counts)
        made.append(
            replace(
                PLAIN,
                name=str(number),
                steps=draw(st.integers(1, 12)),
                batch=draw(st.integers(1, 9)),
                context=draw(st.sampled_from([2, 3, 6])),
                again=again,
                **{kind: tuple(shares)},
            )
        )
    return draw(st.integers(0, 2**63)), counts, 6, made


def named(counts: list[int]) -> list[tuple[str, int]]:
    return list(zip(NAMES, counts, strict=False))


@settings(max_examples=60)
@given(orders())
def test_rows_are_those_of_the_definition(given_order) -> None:
    seed, counts, block, phases = given_order
    order = Order(seed, named(counts), block, Schedule(phases))
    steps = order.schedule.steps
    assert table(order, 1, steps) == [
        slow_rows(order, seed, counts, step) for step in range(1, steps + 1)
    ]
    for step in (1, steps // 2 + 1, steps):
        assert table(order, step, step) == table(order, 1, steps)[step - 1 : step]


@settings(max_examples=60)
@given(orders(), st.data())
def test_the_times_of_a_block_are_all_rows_that_hold_it(given_order, data: st.DataObject) -> None:
    seed, counts, block, phases = given_order
    order = Order(seed, named(counts), block, Schedule(phases))
    rollbacks, last = [], 0
    for _ in range(data.draw(st.integers(0, 3))):
        offending = data.draw(st.integers(last + 1, order.schedule.steps + 1))
        last = data.draw(st.integers(0, min(offending - 1, order.schedule.steps - 1)))
        rollbacks.append((offending, last))
    order = order.along(rollbacks)
    end = data.draw(st.integers(1, order.schedule.steps))
    seen = table(order, 1, end)
    targets = {}
    for number in range(sum(counts)):
        expected = [
            (step, row, one[1], one[3])
            for step, rows in enumerate(seen, 1)
            for row, one in enumerate(rows)
            if one[2] == number
        ]
        assert [tuple(one) for one in order.times(number, end)] == expected
        for step, _, _, start in expected:
            for at in range(order.phase(step).context):
                targets.setdefault((number, start + at), step)
    asked = np.array([(number, at) for number in range(sum(counts)) for at in range(block)])
    found = order.seen(asked[:, 0], asked[:, 1], end)
    assert found.tolist() == [tuple(one) in targets for one in asked.tolist()]


@settings(max_examples=60)
@given(orders(6))
def test_every_target_is_seen_as_often_as_the_schedule_says(given_order) -> None:
    """Of each source a phase covers neighbouring targets, pass by pass,
    each pass every block once."""
    seed, counts, block, phases = given_order
    order = Order(seed, named(counts), block, Schedule(phases))
    for stretch in order.stretches:
        found = Counter(
            (one[0], one[1], one[2], one[3] + at)
            for rows in table(order, stretch.after + 1, stretch.last)
            for one in rows
            for at in range(stretch.phase.context)
        )
        assert set(found.values()) <= {1}, "no target twice in one pass"
        for source, (begin, end) in enumerate(
            zip(stretch.cursors, stretch.cursors_after(stretch.last), strict=True)
        ):
            whole = counts[source] * block
            own = Counter(epoch for (one, epoch, _, _) in found if one == source)
            for epoch in range(begin // whole if whole else 0, -(-end // whole) if whole else 0):
                covered = min(end, (epoch + 1) * whole) - max(begin, epoch * whole)
                assert own[epoch] == covered


def test_a_fork_that_halves_the_batch_sees_the_parents_next_targets() -> None:
    phases = [replace(PLAIN, weights=(1, 3), context=3)]
    parent = Order(5, named([7, 4]), 6, Schedule(phases))
    stretch = parent.stretches[0]
    start = Start(stretch.cursors, stretch.row(11))
    half = Schedule([replace(phases[0], batch=2, steps=80)], 10, 120)
    child = Order(5, named([7, 4]), 6, half, (), start)
    theirs = [one for rows in table(parent, 11, 20) for one in rows]
    assert [one for rows in table(child, 11, 30) for one in rows] == theirs


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 15, 16, 17, 1000, 65536, 65537])
def test_a_pass_is_a_permutation(count: int) -> None:
    permutation = Permutation(3, count, NOBODY)
    for epoch in (0, 1):
        blocks = permutation.blocks(epoch, np.arange(count))
        assert np.array_equal(np.sort(blocks), np.arange(count))
        assert np.array_equal(permutation.places(epoch, blocks), np.arange(count))


@pytest.mark.parametrize("count", [2**33 + 7, 2**40])
def test_huge_passes(count: int) -> None:
    order = Order(
        1, [("a", count)], 1, Schedule([replace(PLAIN, steps=count // 8, batch=8, weights=(1,))])
    )
    for step in (1, 2, count // 8 - 1):
        blocks = order.rows(step).blocks
        assert ((blocks >= 0) & (blocks < count)).all()
        for row, block in enumerate(blocks.tolist()):
            assert order.times(block, step + 1) == [(step, row, 0, 0)]
            assert block == slow_permutation(key_of(1, "order a"), count, 0, (step - 1) * 8 + row)


def test_absurd_weights_cost_what_was_trained_and_no_more() -> None:
    """A recipe may say any weight: of 2^40 passes only those that a step took are looked at."""
    heavy = Order(1, named([5, 3]), 1, Schedule([replace(PLAIN, steps=1000, weights=(2**20, 1))]))
    seen = [one[2] for rows in table(heavy, 1, 1000) for one in rows]
    for block in range(8):
        steps = [place // 4 + 1 for place, one in enumerate(seen) if one == block]
        assert [one.step for one in heavy.times(block, 1000)] == steps
    with pytest.raises(ValueError, match="in the phase plain a period has"):
        Order(1, named([5, 3]), 1, Schedule([replace(PLAIN, weights=(2**40, 1))]))


def chi_square(counts: list[int], expected: float) -> float:
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_small_passes_take_every_permutation_equally_often(count: int) -> None:
    permutation, epochs = Permutation(key_of(11, "order a"), count, NOBODY), 2400
    found = Counter(
        tuple(permutation.blocks(epoch, np.arange(count)).tolist()) for epoch in range(epochs)
    )
    kinds = list(permutations(range(count)))
    free = len(kinds) - 1
    # Five standard deviations above the mean of the chi-square distribution.
    assert (
        chi_square([found[kind] for kind in kinds], epochs / len(kinds))
        < free + 5 * (2 * free) ** 0.5
    )


@pytest.mark.parametrize("count", [37, 1000])
def test_positions_and_neighbours_are_spread(count: int) -> None:
    epochs = 200
    permutation = Permutation(key_of(5, "order a"), count, NOBODY)
    passes = np.stack([permutation.blocks(epoch, np.arange(count)) for epoch in range(epochs)])
    bins = 10
    at_first = np.bincount(passes[:, 0] * bins // count, minlength=bins).tolist()
    steps = np.bincount(
        ((np.diff(passes, axis=1) % count) * bins // count).reshape(-1), minlength=bins
    )
    share = np.array([np.sum(np.arange(1, count) * bins // count == b) for b in range(bins)]) / (
        count - 1
    )
    assert chi_square(at_first, epochs / bins) < 9 + 5 * 18**0.5 + 9
    assert (np.abs(steps / steps.sum() - share) < 0.02).all()
    fixed = (passes == np.arange(count)).sum()
    assert abs(fixed - epochs) < 5 * epochs**0.5  # One fixed point per permutation, on average.


def test_seeds_sources_and_passes_differ() -> None:
    keys = [key_of(seed, f"order {name}") for seed in (1, 2) for name in ("a", "b")]
    passes = np.stack(
        [
            Permutation(key, 1000, NOBODY).blocks(e, np.arange(1000))
            for key in keys
            for e in range(3)
        ]
    )
    same = (passes[:, None, :] == passes[None, :, :]).sum(axis=2)
    assert (same[~np.eye(len(passes), dtype=bool)] < 12).all()


def test_the_order_is_pinned() -> None:
    schedule = Schedule(
        [
            replace(PLAIN, steps=9, batch=6, context=4, weights=(1, 2, 0)),
            replace(PLAIN, context=8, shares=(1, 3, 1)),
        ]
    )
    order = Order(1, named([1000, 77, 5]), 8, schedule)
    assert table(order, 1, 1)[0] == GOLDEN[0]
    assert [one[2:] for one in table(order, 10, 10)[0]] == GOLDEN[1]


GOLDEN = [
    [
        (0, 0, 290, 0),
        (0, 0, 290, 4),
        (0, 0, 424, 0),
        (1, 0, 1029, 0),
        (0, 0, 424, 4),
        (0, 0, 401, 0),
    ],
    [(1037, 0), (624, 0), (1001, 0), (1080, 0)],
]


def test_steps_and_blocks_that_are_not() -> None:
    order = Order(1, named([10, 0, 5]), 1, Schedule([replace(PLAIN, weights=(1, 1, 0))]))
    for step in (0, -1):
        with pytest.raises(StepUnknown):
            order.rows(step)
    for block in (-1, 15):
        with pytest.raises(StepUnknown):
            order.times(block, 5)
    assert order.times(12, 100) == []
    with pytest.raises(ValueError, match="in the phase plain no source has a row"):
        Order(1, named([10]), 1, Schedule([replace(PLAIN, weights=(0,))]))


@given(orders(8), st.data())
def test_without_some_blocks_others_take_their_places_and_no_other_place_changes(
    given_order, data: st.DataObject
) -> None:
    seed, counts, block, phases = given_order
    without = data.draw(st.sets(st.integers(0, sum(counts) - 1)))
    ends = np.cumsum([0, *counts])
    for source, count in enumerate(counts):  # A whole source that goes is another mixture.
        assume(not count or not set(range(ends[source], ends[source + 1])) <= without)
    whole = Order(seed, named(counts), block, Schedule(phases))
    order = Order(seed, named(counts), block, Schedule(phases), sorted(without))
    steps = whole.schedule.steps
    for step in (1, steps):
        assert table(order, step, step)[0] == slow_rows(order, seed, counts, step, without)
    before, after = table(whole, 1, steps), table(order, 1, steps)
    for one, other in zip(chain.from_iterable(before), chain.from_iterable(after), strict=True):
        assert other[2] not in without and (one[2] in without or one == other)
    for number in range(sum(counts)):
        where = [
            (k, row)
            for k, rows in enumerate(after, 1)
            for row, one in enumerate(rows)
            if one[2] == number
        ]
        assert [one[:2] for one in order.times(number, steps)] == where
    asked = np.array([(number, at) for number in range(sum(counts)) for at in range(block)])
    targets = {
        (one[2], one[3] + at)
        for step, rows in enumerate(after, 1)
        for one in rows
        for at in range(order.phase(step).context)
    }
    assert order.seen(*asked.T, steps).tolist() == [tuple(one) in targets for one in asked.tolist()]


def test_without_a_whole_source_the_others_have_its_rows() -> None:
    order = Order(1, named([3, 4]), 1, Schedule([replace(PLAIN, weights=(1, 1))]), [0, 1, 2])
    assert (order.rows(1).sources == 1).all() and order.times(1, 40) == []


def test_a_run_cannot_go_without_everything() -> None:
    with pytest.raises(CorpusTooSmall, match="cannot go without all"):
        Order(1, named([3]), 1, Schedule([replace(PLAIN, weights=(2,))]), [0, 1, 2])


@pytest.mark.parametrize("kept", [1, 10, 600])
def test_the_kept_blocks_are_taken_alike_and_others_in_each_pass(kept: int) -> None:
    blocks = np.sort(np.random.default_rng(kept).choice(1000, kept, replace=False))
    left, counts = np.setdiff1d(np.arange(1000), blocks), np.zeros(1000)
    permutation, passes = Permutation(key_of(3, "order a"), 1000, left), []
    for epoch in range(40):
        passes.append(permutation.blocks(epoch, np.arange(1000)))
        counts += np.bincount(passes[-1], minlength=1000)
        assert np.isin(blocks, passes[-1]).all()
        for one in blocks[:3]:
            places = np.flatnonzero(passes[-1] == one)
            assert np.array_equal(permutation.places(epoch, np.array([one])), places)
            inside = places[(places >= 300) & (places < 700)]
            assert np.array_equal(permutation.places(epoch, np.array([one]), 300, 700), inside)
    assert not counts[left].any()
    assert chi_square(counts[blocks].tolist(), 40_000 / kept) < kept + 5 * (2 * kept) ** 0.5
    extra = [set(np.flatnonzero(np.bincount(one, minlength=1000) > 1).tolist()) for one in passes]
    assert kept < 600 or len(extra[0] & extra[1]) < 200, "other ones are taken twice in each pass"


def test_going_without_almost_all_of_a_large_source_costs_no_walk() -> None:
    """Of 10,000,000 blocks all but 100: seconds of a processor, where a walk would take hours."""
    count = 10**7
    kept = np.sort(np.random.default_rng(1).choice(count, 100, replace=False))
    left = np.delete(np.arange(count), kept)
    phases = [replace(PLAIN, batch=256, steps=1000, weights=(1,), context=4)]
    started = time.process_time()
    order = Order(1, named([count]), 4, Schedule(phases), left)
    seen = [rows.blocks for rows in order.each(1, 1000)]
    times = [len(order.times(int(block), 1000)) for block in kept[:5]]
    found = order.seen(kept, np.zeros(100, np.int64), 10)
    assert time.process_time() - started < 15  # About 3.
    assert np.isin(np.concatenate(seen), kept).all()
    assert times == [np.count_nonzero(np.concatenate(seen) == block) for block in kept[:5]]
    assert found.tolist() == np.isin(kept, np.concatenate(seen[:10])).tolist()
