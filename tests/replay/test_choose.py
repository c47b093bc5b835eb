"""The auditor's choice, and the probabilities stated for it, against simulated forgers."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.replay.choose import Odds, caught, chosen, chosen_microbatch

RUNS = 10_000
GOLDEN, GOLDEN_MICROBATCH = [238, 162, 260, 168, 143], 1


def prefix(seed: int, head: str, steps: int, count: int) -> list[int]:
    return list(itertools.islice(chosen(seed, head, steps), count))


@given(st.integers(0, 2**63 - 1), st.integers(1, 300))
def test_every_step_is_taken_once(seed: int, steps: int) -> None:
    assert sorted(chosen(seed, "ab" * 32, steps)) == list(range(1, steps + 1))


def test_the_choice_is_the_same_everywhere() -> None:
    """Golden: docs/format.md describes it, and another implementation has to give it."""
    assert prefix(7, "00" * 32, 400, 5) == GOLDEN
    assert chosen_microbatch(7, "00" * 32, 120, 16) == GOLDEN_MICROBATCH


def test_another_seed_or_head_gives_another_choice_and_more_steps_go_on_with_it() -> None:
    base = prefix(7, "00" * 32, 10_000, 20)
    assert base != prefix(8, "00" * 32, 10_000, 20) and base != prefix(7, "01" * 32, 10_000, 20)
    assert prefix(7, "00" * 32, 10_000, 3000)[:20] == base  # Past what is drawn at once.


@given(st.integers(1, 60), st.data())
def test_the_probability_is_that_of_counting(steps: int, data: st.DataObject) -> None:
    forged, compared = data.draw(st.integers(0, steps)), data.draw(st.integers(0, steps))
    missed = Fraction(1)
    for taken in range(compared):
        missed *= Fraction(max(0, steps - forged - taken), steps - taken)
    assert caught(steps, forged, compared) == pytest.approx(float(1 - missed), abs=1e-15)


def test_the_probability_of_the_issue() -> None:
    assert f"{caught(400, 20, 13):.0%}" == "49%"
    assert caught(400, 1, 400) == 1.0 and caught(400, 20, 0) == 0.0
    assert caught(1_000_000, 50_000, 100) == pytest.approx(1 - 0.95**100, abs=1e-5)


def compared_steps(steps: list[int], every: int) -> set[int]:
    """What a replay from anchors at every so many steps passes on its way to the steps."""
    return {
        on_the_way
        for step in steps
        for on_the_way in range((step - 1) // every * every + 1, step + 1)
    }


def within_chance(hits: int, probability: float) -> bool:
    """Five standard deviations of a binomial distribution: one false alarm in a million."""
    return abs(hits - RUNS * probability) <= 5 * math.sqrt(RUNS * probability * (1 - probability))


@pytest.mark.parametrize(("steps", "count", "every"), [(400, 13, 50), (120, 8, 7)])
def test_the_rate_stated_holds_for_ten_thousand_forged_runs(
    steps: int, count: int, every: int
) -> None:
    """Half of the forgers know the anchors and hide at the ends of
    segments; half forge anywhere."""
    chance = random.Random(1)
    hidden, spread, expected = 0, 0, 0.0
    forged = Odds(steps, count, count).forged
    ends = [step for last in range(every, steps + 1, every) for step in (last, last - 1, last - 2)]
    for run in range(RUNS):
        sample = prefix(chance.getrandbits(63), f"{run:064x}", steps, count)
        passed = compared_steps(sample, every)
        hidden += any(step in passed for step in _suffixes(ends, forged))
        spread += any(step in passed for step in chance.sample(range(1, steps + 1), forged))
        expected += Odds(steps, count, len(passed)).spread / RUNS
    assert within_chance(hidden, Odds(steps, count, count).wherever)
    assert within_chance(spread, expected)
    assert not within_chance(hidden, expected)  # The test would see one stated for the other.


def _suffixes(ends: list[int], forged: int) -> list[int]:
    """So many steps, none of which is on the way to a step that is not forged."""
    lasts, seconds, thirds = ends[::3], ends[1::3], ends[2::3]
    return [*lasts, *seconds, *thirds][:forged]


def test_odds_say_what_they_count() -> None:
    would = "If 5% of the steps were forged, this audit would find one with a probability of"
    assert Odds(400, 13, 13).lines() == [
        "13 of 400 steps replayed",
        f"{would} 49% wherever they lie",
    ]
    assert Odds(400, 13, 60).lines() == [
        "60 of 400 steps replayed, 13 of them chosen by the seed",
        f"{would} 49% wherever they lie, and of 96% if they are spread at random",
    ]
    assert Odds(400, 0, 60).lines() == [
        "60 of 400 steps replayed",
        f"{would} 96% if they are spread at random. A forger who guessed the steps is not caught: "
        "--steps N lets the seed choose",
    ]
    # Never rounded to certainty.
    assert "100%" in Odds(400, 400, 400).lines()[1] and "99%" in Odds(400, 300, 300).lines()[1]
    assert Odds(400, 13, 13, fork=True).lines()[0] == "13 of 400 steps of this release replayed"
    found = Odds(400, 13, 60).as_json()
    assert (found["steps"], found["forged"], found["sampled"], found["compared"]) == (
        400,
        20,
        13,
        60,
    )
    assert found["caught_wherever_they_lie"] < found["caught_if_spread"]
