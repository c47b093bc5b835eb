"""The rules for spikes: against their definition written out, and whatever
a run remembers of its past."""

from __future__ import annotations

import statistics
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.record import digests
from pellucid.record.guards import TO_DEVIATION, Guards, Rule, Rules, Spikes, needed
from pellucid.record.history import History, Span

VALUES = st.one_of(st.floats(0.5, 4.0), st.sampled_from([0.0, 1.0, 2.0, 2.2, 50.0]))


def high(before: list[float], value: float, rule: Rule, window: int) -> bool:
    """The module's text, with the standard library's medians."""
    if len(before) < window:
        return False
    last = before[-window:]
    middle = statistics.median_low(last)
    deviation = TO_DEVIATION * statistics.median_low([abs(earlier - middle) for earlier in last])
    return value > middle + max(rule.deviations * deviation, rule.least * middle)


@settings(max_examples=150)
@given(
    st.lists(VALUES, min_size=1, max_size=160),
    st.sampled_from([8, 9, 33, 64]),
    st.integers(1, 3),
    st.sampled_from([0.5, 8.0]),
    st.sampled_from([1e-9, 0.1]),
)
def test_spikes_are_those_of_the_definition(
    values: list[float], window: int, width: int, deviations: float, least: float
) -> None:
    rule = Rule("loss", "note", deviations, least, width)
    spikes, run = Spikes(rule, window), 0
    for n, value in enumerate(values):
        run = run + 1 if high(values[:n], value, rule, window) else 0
        assert spikes.judge(value) == (run == width)


def body(step: int, value: float) -> dict[str, Any]:
    return {
        "kind": "step",
        "step": step,
        "loss": digests.float_bits(value),
        "grad_norm": digests.float_bits(1.0),
    }


@given(st.lists(VALUES, min_size=40, max_size=90), st.integers(1, 2), st.integers(10, 39))
def test_a_run_that_is_resumed_decides_as_one_that_is_not(
    values: list[float], width: int, after: int
) -> None:
    rules = Rules((Rule("loss", "note", 3.0, 0.1, width),), 8, "stop", 3, 1)
    entries = [body(step, value) for step, value in enumerate(values, 1)]
    guards, incidents = Guards(rules, History.begun()), []
    for entry in entries:
        incidents.append(guards.step(entry))
    resumed = Guards(rules, History.begun(), entries[max(0, after - needed(rules)) : after])
    assert [resumed.step(entry) for entry in entries[after:]] == incidents[after:]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 20))
def test_a_history_knows_every_rollback_and_how_many_steps_were_passed_over(
    ahead: list[int], first: int
) -> None:
    """Rollbacks after so many steps each; the rule goes five back."""
    rules = Rules((), 8, "rollback", 5, 100)
    guards, step = Guards(rules, History.begun(first)), first
    rollbacks, taken = [], first
    for steps in ahead:
        step += steps
        taken += steps + 1  # With the one that was tried, and was not finite.
        incident = guards.not_finite(step, "grad_norm", "nan")
        guards.roll_back(incident)
        rollbacks.append((step + 1, incident["to"]))
        step = incident["to"]
        assert first <= step
        assert step + guards.history.at(step + 1).passed_over == taken
    assert guards.history.rollbacks == tuple(rollbacks)


def test_the_spans_of_a_history() -> None:
    history = History.begun(0)
    for to, passed_over, branch in ((50, 10, 1), (30, 60, 2), (70, 61, 3)):
        history = history.rolled_back({"to": to, "passed_over": passed_over, "branch": branch})
    assert history.spans == (Span(0, 0, 0), Span(2, 30, 60), Span(3, 70, 61))
    assert [history.at(step).branch for step in (0, 1, 30, 31, 70, 71)] == [0, 0, 0, 2, 2, 3]
    assert history.rollbacks == ((60, 50), (80, 30), (71, 70))


def test_a_value_that_is_no_number_is_no_spike_and_hides_none() -> None:
    """Nothing that is not finite is ever recorded; a hostile ledger may hold it."""
    spikes = Spikes(Rule("loss", "note", 8.0, 0.1, 1), 8)
    assert not any(spikes.judge(float("nan")) for _ in range(20))
