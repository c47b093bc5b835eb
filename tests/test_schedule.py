"""The schedule: every row is somebody's, every target is covered as often as phases and
mixtures say, and in order."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.learning_rates import SCHEDULES, Name, cos_pi
from pellucid.record.digests import float_bits
from pellucid.record.history import History
from pellucid.schedule import (
    MOST_RATE,
    Mixture,
    Phase,
    Route,
    Schedule,
    Start,
    learning_rate,
    stretch_of,
)

PLAIN = Phase("plain", 100, 4, 4, 8, 1e4, 1.0, "wsd", 0, 0, 0.1, weights=(1,))


# ---- the learning rate -------------------------------------------------------------------------


@given(st.floats(0, 1))
def test_the_cosine_is_within_rounding(x: float) -> None:
    assert abs(cos_pi(x) - math.cos(math.pi * x)) < 1e-15


def test_its_bits_never_move() -> None:
    # Golden: a change here is another arithmetic.
    assert [float_bits(cos_pi(x)) for x in (0.0, 0.25, 1 / 3, 0.5, 1.0)] == [
        "3ff0000000000000",
        "3fe6a09e667f3bcc",
        "3fe0000000000000",
        "0000000000000000",
        "bff0000000000000",
    ]


def test_warmup_and_the_way_down() -> None:
    for schedule in ("cosine", "linear"):
        phase = replace(PLAIN, warmup=10, schedule=schedule)
        rates = [learning_rate(phase, step) for step in range(1, 101)]
        assert rates[:10] == [step / 10 for step in range(1, 11)]
        assert rates[9:] == sorted(rates[9:], reverse=True)
        assert abs(rates[-1] - 0.1) < 1e-15 and abs(rates[54] - 0.55) < 1e-9


def test_warmup_stable_decay() -> None:
    phase = replace(PLAIN, warmup=10, decay=20, final_lr=0.0)
    rates = [learning_rate(phase, step) for step in range(1, 101)]
    assert set(rates[9:80]) == {1.0}
    assert abs(rates[89] - 0.5) < 1e-12 and rates[-1] == 0.0


def test_a_recipe_may_name_every_schedule_and_no_other() -> None:
    assert set(get_args(Name)) == set(SCHEDULES)


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 500), st.data())
def test_every_rate_is_finite_and_bounded(schedule: str, steps: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, steps))
    decay = data.draw(st.integers(0, steps - warmup)) if SCHEDULES[schedule].stable else 0
    phase = replace(PLAIN, steps=steps, warmup=warmup, decay=decay, schedule=schedule, lr=0.5)
    assert all(0 < learning_rate(phase, step) <= 0.5 for step in range(1, steps + 1))


# ---- steps and tokens --------------------------------------------------------------------------

phases = st.lists(
    st.builds(
        lambda steps, batch, rows, shares, again, weighted: replace(
            PLAIN,
            steps=steps,
            batch=batch,
            microbatch=batch,
            context=12 // rows,
            **{"weights" if weighted else "shares": shares},
            **({"shares": ()} if weighted else {"weights": ()}),
            again=again,
        ),
        st.integers(1, 9),
        st.integers(1, 7),
        st.sampled_from([1, 2, 3, 4, 6]),
        st.tuples(*[st.integers(0, 4)] * 3).filter(any),
        st.tuples(*[st.booleans()] * 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@given(phases, st.integers(0, 5), st.integers(0, 10**6))
def test_tokens_are_the_targets_so_far_and_rates_those_of_the_phase(
    made: list[Phase], first: int, tokens: int
) -> None:
    schedule = Schedule(made, first, tokens)
    by_step = [(phase, k) for phase in made for k in range(1, phase.steps + 1)]
    assert schedule.steps == len(by_step)
    first = min(first, schedule.steps - 1)
    schedule = Schedule(made, first, tokens)
    so_far = [
        tokens + sum(phase.tokens for phase, _ in by_step[first:k])
        for k in range(first, len(by_step) + 1)
    ]
    assert [schedule.tokens(step) for step in range(first, schedule.steps + 1)] == so_far
    assert schedule.tokens_of(first + 1, schedule.steps).tolist() == so_far[1:]
    for step, (phase, within) in enumerate(by_step, 1):
        assert schedule.at(step) == phase
        assert schedule.learning_rate(step) == learning_rate(phase, within)


# ---- mixtures ----------------------------------------------------------------------------------


def slow_period(rates: list[int]) -> list[int]:
    """The module's text: the sources of one period, row by row."""
    keyed = [
        ((2 * j + 1) * 2**32 // rate, place)
        for place, rate in enumerate(rates)
        for j in range(rate)
    ]
    return [place for _, place in sorted(keyed)]


rates = st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any)


@given(rates, st.integers(0, 500))
def test_rows_are_those_of_the_definition_and_the_inverse_finds_them(
    given_rates: list[int], first: int
) -> None:
    divisor = math.gcd(*given_rates)
    mixture = Mixture(given_rates)
    period = slow_period([rate // divisor for rate in given_rates])
    assert mixture.period == len(period)
    rows = np.arange(first, first + 200)
    sources, numbers = mixture.of(rows)
    assert sources.tolist() == [period[row % len(period)] for row in rows]
    before = Counter(period[row % len(period)] for row in range(first))
    for row, source, number in zip(rows.tolist(), sources.tolist(), numbers.tolist(), strict=True):
        assert mixture.counts(row) == tuple(before[place] for place in range(len(given_rates)))
        assert number == before[source]
        assert mixture.rows(source, np.array([number])).tolist() == [row]
        before[source] += 1


@given(rates)
def test_any_stretch_has_nearly_as_many_rows_of_each_source_as_the_rates_say(
    given_rates: list[int],
) -> None:
    mixture, total = Mixture(given_rates), sum(given_rates)
    for rows in range(mixture.period + 1):
        for count, rate in zip(mixture.counts(rows), given_rates, strict=True):
            assert abs(count - Fraction(rows * rate, total)) <= 1 + len(given_rates) / 2


@given(st.lists(st.integers(0, MOST_RATE), min_size=2, max_size=6).filter(any), st.data())
def test_the_largest_rates_and_far_rows_have_an_exact_inverse(
    given_rates: list[int], data: st.DataObject
) -> None:
    mixture = Mixture(given_rates)
    rows = np.array(data.draw(st.lists(st.integers(0, 2**61), min_size=1, max_size=20)))
    sources, numbers = mixture.of(rows)
    for row, source, number in zip(rows.tolist(), sources.tolist(), numbers.tolist(), strict=True):
        assert (
            mixture.counts(row)[source] == number and mixture.counts(row + 1)[source] == number + 1
        )
        assert sum(mixture.counts(row)) == row
        assert mixture.rows(source, np.array([number])).tolist() == [row]


def test_a_mixture_needs_rows_and_rates_that_keys_can_tell_apart() -> None:
    with pytest.raises(ValueError, match="no source has a row"):
        Mixture([0, 0])
    with pytest.raises(
        ValueError, match="1,073,741,824 rows of one source, more than 1,073,741,823"
    ):
        Mixture([1 << 30, 1])
    assert Mixture([1 << 40, 1 << 39]).rates == (2, 1), "rates without what all of them share"


# ---- stretches ---------------------------------------------------------------------------------

BLOCK, BLOCKS = 12, (3, 5, 2)


def covered(route: Route, stretches, last: int) -> list[tuple[int, int, int]]:
    """(step, source, cursor) of every target up to a step, row by row."""
    found = []
    for step in range(route.schedule.first + 1, last + 1):
        stretch = stretch_of(stretches, step)
        for source, cursor in zip(
            *(one.tolist() for one in stretch.targets(step, step)), strict=True
        ):
            found += [(step, source, cursor + at) for at in range(stretch.phase.context)]
    return found


def usable(made: list[Phase]) -> list[Phase]:
    """Phases that have a row of some source."""
    return [one for one in made if any(one.rates(BLOCKS, BLOCK))]


@given(phases.filter(usable))
def test_every_target_is_covered_once_and_in_order_but_for_what_a_phase_rounds_up(
    made: list[Phase],
) -> None:
    made = usable(made)
    route = Route(Schedule(made), BLOCK, BLOCKS)
    stretches = route.begun()
    assert [one.last for one in stretches] == route.schedule.ends
    found = covered(route, stretches, route.schedule.steps)
    assert len(found) == route.schedule.tokens(route.schedule.steps)
    cursors = [0] * len(BLOCKS)
    for stretch in stretches:
        for source, blocks in enumerate(BLOCKS):
            begin = stretch.cursors[source]
            if stretch.phase.again[source] and stretch.after:
                assert (
                    begin % (blocks * BLOCK) == 0 and 0 <= begin - cursors[source] < blocks * BLOCK
                )
            else:
                assert (
                    begin % stretch.phase.context == 0
                    and 0 <= begin - cursors[source] < stretch.phase.context
                )
            own = [
                c for step, s, c in found if s == source and stretch.after < step <= stretch.last
            ]
            assert own == list(range(begin, begin + len(own)))
            cursors[source] = begin + len(own)
            assert stretch.cursors_after(stretch.last)[source] == cursors[source]
    for step, source, cursor in found[:: max(1, len(found) // 50)]:
        stretch = stretch_of(stretches, step)
        steps, rows = stretch.steps(source, np.array([cursor - cursor % stretch.phase.context]))
        assert steps.tolist() == [step] and rows[0] < stretch.phase.batch


@given(phases.filter(usable), st.data())
def test_what_phases_pass_over_is_what_no_step_covers(
    made: list[Phase], data: st.DataObject
) -> None:
    """Of a whole run, and of a fork that begins behind what its parent saw, with other phases."""
    route, names, step = Route(Schedule(usable(made)), BLOCK, BLOCKS), ["a", "b", "c"], 0
    seen = [0] * len(BLOCKS)
    if data.draw(st.booleans()):
        step = data.draw(st.integers(0, min(route.schedule.steps, usable(made)[0].steps) - 1))
        seen = [data.draw(st.integers(0, 200)) for _ in BLOCKS]
        route = Route(Schedule(usable(made), step), BLOCK, BLOCKS, Start(tuple(seen)))
    stretches, told = route.begun(), route.passed(names)
    found = covered(route, stretches, route.schedule.steps)
    for source, name in enumerate(names):
        end = stretches[-1].cursors_after(route.schedule.steps)[source]
        missing = set(range(seen[source], end)) - {c for _, s, c in found if s == source}
        over = set()
        for one in told:
            stretch = stretch_of(stretches, one.step)
            assert (stretch.after + 1, stretch.phase.name) == (one.step, one.phase)
            count = one.row.get(name, 0) + one.whole.get(name, 0)
            over |= set(range(stretch.cursors[source] - count, stretch.cursors[source]))
            begins = stretch.after == route.schedule.begun(one.step)
            assert name not in one.whole or (stretch.phase.again[source] and begins)
            assert one.row.get(name, 0) < stretch.phase.context
        assert over == missing
    assert all(one.row or one.whole for one in told), "no phase that passes over nothing"


@given(phases.filter(usable), st.data())
def test_a_rollback_passes_over_what_was_seen_and_nothing_else(
    made: list[Phase], data: st.DataObject
) -> None:
    route = Route(Schedule(usable(made)), BLOCK, BLOCKS)
    history, stretches, last = History.begun(), route.begun(), 0
    for branch in range(1, data.draw(st.integers(1, 4)) + 1):
        offending = (
            data.draw(st.integers(last + 1, route.schedule.steps + 1))
            if last < route.schedule.steps
            else last + 1
        )
        to = data.draw(st.integers(0, offending - 1))
        before = stretch_of(stretches, offending).cursors_after(offending)
        passed_over = history.at(offending).passed_over + offending - to
        history = history.rolled_back({"to": to, "passed_over": passed_over, "branch": branch})
        assert history.rollbacks[-1] == (offending, to)
        old, stretches = stretches, route.along(history.rollbacks)
        assert covered(route, stretches, to) == covered(route, old, to), (
            "what is kept stays as it was"
        )
        if to < route.schedule.steps:
            begun = stretch_of(stretches, to + 1)
            T = begun.phase.context
            assert begun.after == to
            assert all(0 <= now - then < T for now, then in zip(begun.cursors, before, strict=True))
        last = to


@given(phases.filter(usable), st.data())
def test_a_fork_with_its_parents_cursors_takes_the_very_rows_its_parent_would(
    made: list[Phase], data: st.DataObject
) -> None:
    made = usable(made)
    parent = Route(Schedule(made), BLOCK, BLOCKS)
    step = data.draw(st.integers(0, parent.schedule.steps - 1))
    stretch = stretch_of(parent.begun(), step + 1)
    start = Start(stretch.cursors, stretch.row(step + 1))
    child = Route(Schedule(made, step, parent.schedule.tokens(step)), BLOCK, BLOCKS, start)
    wanted = [
        one for one in covered(parent, parent.begun(), parent.schedule.steps) if one[0] > step
    ]
    assert covered(child, child.begun(), child.schedule.steps) == wanted
    # With another batch it takes the same targets in other steps.
    index = parent.schedule.index(step + 1)
    other = [
        replace(one, batch=1, steps=one.steps * 9) if i == index else one
        for i, one in enumerate(made)
    ]
    child = Route(Schedule(other, step, 0), BLOCK, BLOCKS, start)
    last = step + 1
    mine = [
        one[1:] for one in covered(child, child.begun(), min(last + 5, child.schedule.ends[index]))
    ]
    theirs = [one[1:] for one in wanted if one[0] <= parent.schedule.ends[index]]
    assert mine[: len(theirs)] == theirs[: len(mine)]


def test_a_whole_source_left_out_has_no_rows_and_the_others_have_them() -> None:
    phase = replace(PLAIN, weights=(1, 2, 1))
    assert phase.rates((3, 5, 0), 16) == [6, 20, 0]
    assert replace(PLAIN, weights=(), shares=(3, 1, 4)).rates((3, 5, 0), 16) == [3, 1, 0]
