"""Counters at their bounds: a recipe is refused, or every row is what format.md, section 9, says of
it in integers without an end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pellucid.data.order import Order
from pellucid.errors import RecipeInvalid
from pellucid.recipe import Recipe, parse
from pellucid.schedule import MOST_RATE, Start

BLOCK = 32
FORK = """version = 4
name = "far"
[data]
sources = [{{name = "a"}}, {{name = "b"}}]
block = 32
[model]
context = 32
[train]
steps = {steps}
[guards]
rollbacks = {rollbacks}
back = {back}
not_finite = "{action}"
[[phase]]
name = "only"
steps = {steps}
batch = {batch}
microbatch = 1
context = {context}
warmup = 0
shares = {{a = {shares[0]}, b = {shares[1]}}}
[fork]
parent = "{digest}"
state = "{digest}"
step = 1
tokens = {tokens}
rows = {rows}
cursors = {{a = {cursors[0]}, b = {cursors[1]}}}
"""
FIELDS = {
    "steps": 9,
    "batch": 4,
    "context": 32,
    "rollbacks": 3,
    "back": 50,
    "action": "stop",
    "shares": (3, 2),
    "tokens": 0,
    "rows": 0,
    "cursors": (0, 0),
}
MOST = 2**62
far = st.one_of(st.integers(0, MOST - 1), st.integers(0, 200).map(lambda n: MOST - 1 - n))


def recipe(**fields: object) -> Recipe:
    return parse(FORK.format(digest="ab" * 32, **{**FIELDS, **fields}).encode(), "far")


def below(key: int, rate: int) -> int:
    """How many rows of a source have a lower key than this one."""
    return -((2**32 - key * rate) // 2**33)


def row_of(p: int, rates: tuple[int, ...]) -> tuple[int, int]:
    """The source of a row of the mixture, and J: how many rows of that source went before it."""
    periods, within = divmod(p, sum(rates))
    low, high = 0, 2**33
    while high - low > 1:  # The last key with no more rows below it than before this row.
        middle = (low + high) // 2
        fits = sum(below(middle, rate) for rate in rates) <= within
        low, high = (middle, high) if fits else (low, middle)
    place = within - sum(below(low, rate) for rate in rates)
    tied = [s for s, rate in enumerate(rates) if below(low + 1, rate) > below(low, rate)]
    source = tied[place]
    return source, periods * rates[source] + below(low, rates[source])


@given(
    tokens=far,
    rows=far,
    cursors=st.tuples(far, far),
    shares=st.tuples(
        st.one_of(st.integers(1, 9), st.integers(MOST_RATE - 9, MOST_RATE)),
        st.integers(1, MOST_RATE),
    ),
    context=st.sampled_from([2, 8, 32]),
    shift=st.integers(0, 62),
    blocks=st.tuples(st.integers(1, 50), st.integers(1, 50)),
)
@example(0, MOST - 1, (MOST - BLOCK, 0), (1, 1), 32, 0, (32, 5))
@example(0, 2**57 - 100, (2**60, 2**60), (MOST_RATE, MOST_RATE - 1), 32, 0, (32, 5))
@example(MOST - 2000, 0, (MOST - 2000, 1), (1, MOST_RATE), 32, 0, (32, 5))
def test_a_fork_is_refused_or_its_rows_are_exact(
    tokens: int,
    rows: int,
    cursors: tuple[int, int],
    shares: tuple[int, int],
    context: int,
    shift: int,
    blocks: tuple[int, int],
) -> None:
    rows >>= shift
    fields = {"tokens": tokens, "rows": rows, "cursors": cursors, "shares": shares}
    coming = 8 * 4 * context
    if max(tokens, max(cursors) + rows * context) + coming >= MOST:
        with pytest.raises(RecipeInvalid, match="too many for a counter"):
            recipe(**fields, context=context)
        return
    made = recipe(**fields, context=context)
    sources = list(zip("ab", blocks, strict=True))
    order = Order(1, sources, BLOCK, made.schedule, start=Start(cursors, rows))
    rates = order.stretches[0].mixture.rates
    for step in (2, 9):
        found = order.rows(step)
        for row in range(4):
            source, number = row_of(rows + (step - 2) * 4 + row, rates)
            begun = -(-cursors[source] // context) * context
            target, whole = begun + number * context, blocks[source] * BLOCK
            said = (source, target // whole, target % BLOCK)
            assert said == (found.sources[row], found.epochs[row], found.starts[row])
            block, first = int(found.blocks[row]), (0, blocks[0])[source]
            assert first <= block < first + blocks[source]
            times = [(one.step, one.row, one.start) for one in order.times(block, 9)]
            assert (step, row, said[2]) in times
            assert order.seen(np.array([block]), np.array([said[2]]), 9).all()
    last = made.schedule.tokens_of(2, 9).tolist()
    assert last == [tokens + taken * 4 * context for taken in range(1, 9)]


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"tokens": MOST - 1 - 8 * 128}, True),
        ({"tokens": MOST - 8 * 128}, False),
        ({"cursors": (0, MOST - 1 - 8 * 128)}, True),
        ({"cursors": (0, MOST - 8 * 128)}, False),
        ({"rows": (MOST >> 5) - 1 - 8 * 4}, True),
        ({"rows": (MOST >> 5) - 8 * 4}, False),
        ({"rows": MOST - 1, "cursors": (MOST - 32, 0)}, False),
        ({"tokens": MOST - 1 - (8 + 3 * 9) * 128, "action": "rollback"}, True),
        ({"tokens": MOST - (8 + 3 * 9) * 128, "action": "rollback"}, False),
        ({"tokens": MOST - (8 + 3 * 9) * 128}, True),
    ],
)
def test_the_bound_to_the_target(fields: dict[str, object], fits: bool) -> None:
    if fits:
        assert recipe(**fields).fork.step == 1
        return
    with pytest.raises(RecipeInvalid, match="too many for a counter"):
        recipe(**fields)


def test_a_whole_pass_more_than_the_counters_hold_is_refused() -> None:
    """What a phase rounds up to is known with the data alone."""
    made = recipe(cursors=(MOST - 8 * 128 - 1, 0))
    phase = made.phases[0]
    again = type(phase)(**{**{n: getattr(phase, n) for n in phase.__slots__}, "again": (True,) * 2})
    schedule = type(made.schedule)((phase, again), 1, 0)
    with pytest.raises(ValueError, match=r"2\^63 targets"):
        Order(1, [("a", 2**58), ("b", 4)], BLOCK, schedule, start=Start((2**62, 0), 0))
