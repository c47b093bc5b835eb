"""What a step's recorded numbers say against it, by the recipe's rules and by nothing else.

A value is high if it lies above the median of the `window` values before it by more than
`deviations` robust standard deviations (1.4826 times the median absolute deviation; Hampel
1974, doi:10.1080/01621459.1974.10482962) and by more than the fraction `least` of the median.
Both medians do not move when single values do, so a spike does not hide itself. A spike is as
many high values one after the other as the rule's `width`: 1 for a step's bad batch, more
where only lasting trouble counts.

Medians and differences of recorded float64 values: the same on every machine.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.record import digests, entries
from pellucid.record.history import History

# Of a normal distribution: its standard deviation over its median absolute deviation.
TO_DEVIATION = 1.4826
QUANTITIES = ("grad_norm", "weight_norm", "validation")  # What may come out as no finite number.


@dataclass(frozen=True, slots=True)
class Rule:
    """When one quantity is a spike, and what is done: "note", "stop" or "rollback"."""

    quantity: str  # "loss" or "grad_norm": a field of a step's entry.
    action: str
    deviations: float
    least: float
    width: int


@dataclass(frozen=True, slots=True)
class Rules:
    """All that a recipe says of incidents."""

    spikes: tuple[Rule, ...]
    window: int
    not_finite: str  # "stop" or "rollback".
    back: int  # Steps before the offending one that a rollback goes to.
    rollbacks: int  # So many at most; then the run stops.


class Spikes:
    """One rule, asked value by value."""

    def __init__(self, rule: Rule, window: int) -> None:
        self.rule, self.limit, self.width = rule, 0.0, 0
        self._window, self._middle = (
            window,
            (window - 1) // 2,
        )  # The lower middle: a value that was recorded.
        self._values: deque[float] = deque()
        self._ordered: list[float] = []  # The same values, sorted.

    def judge(self, value: float) -> bool:
        """Whether with this value a spike is complete; limit and width then tell of it."""
        ordered, high = self._ordered, False
        if len(ordered) == self._window:
            middle = ordered[self._middle]
            # Of a million steps nearly all end here, whatever the deviation.
            high = value > middle + self.rule.least * middle and self._high(value, middle)
            del ordered[bisect.bisect_left(ordered, self._values.popleft())]
        self._values.append(value)
        bisect.insort(ordered, value)
        self.width = self.width + 1 if high else 0
        return self.width == self.rule.width

    def _high(self, value: float, middle: float) -> bool:
        """Whether a value lies above its limit, given the median of the values before it."""
        deviation = (
            TO_DEVIATION * sorted(abs(earlier - middle) for earlier in self._ordered)[self._middle]
        )
        margin = self.rule.least * middle
        self.limit = middle + max(self.rule.deviations * deviation, margin)
        return value > self.limit


class Guards:
    """The guards of a run as it goes on: told every step's entry in order,
    they answer with incidents."""

    def __init__(
        self, rules: Rules, history: History, before: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """before: the entries of the steps that the history holds so far, the last
        `needed(rules)` of them at least."""
        self.rules, self.history = rules, history
        # To begin again from an earlier step, as often as the rules allow.
        self._kept: deque[tuple[int, Sequence[float]]] = deque(maxlen=needed(rules))
        self._kept.extend((body["step"], self._values(body)) for body in before)
        self._spikes = self._begun()

    def _begun(self) -> list[Spikes]:
        begun = [Spikes(rule, self.rules.window) for rule in self.rules.spikes]
        for _, values in self._kept:
            for spikes, value in zip(begun, values, strict=True):
                spikes.judge(value)
        return begun

    @property
    def quantities(self) -> list[str]:
        """The fields of a step's entry that are asked about, one a rule."""
        return [rule.quantity for rule in self.rules.spikes]

    def _values(self, body: Mapping[str, Any]) -> Sequence[float]:
        return [digests.bits_float(body[quantity]) for quantity in self.quantities]

    def step(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The incidents that follow a step's entry: at most one a rule,
        all but the last only noted."""
        return self.values(body["step"], self._values(body))

    def values(self, step: int, values: Sequence[float]) -> list[dict[str, Any]]:
        """As step, told the values of a step's `quantities`, which are finite."""
        incidents: list[dict[str, Any]] = []
        self._kept.append((step, values))
        for spikes, value in zip(self._spikes, values, strict=True):
            if not spikes.judge(value):
                continue
            bits, limit, rule = (
                digests.float_bits(value),
                digests.float_bits(spikes.limit),
                spikes.rule,
            )
            about = {"rule": rule.quantity, "value": bits, "limit": limit, "width": rule.width}
            incidents.append(self._incident(step, step, about, rule.action))
            if incidents[-1]["action"] != "note":
                break
        return incidents

    def not_finite(self, step: int, quantity: str, value: str) -> dict[str, Any]:
        """The incident of a step that could not be taken: `step` is the one before
        it, value inf, -inf or nan."""
        about = {"rule": "not_finite", "quantity": quantity, "value": value}
        return self._incident(step, step + 1, about, self.rules.not_finite)

    def _incident(
        self, step: int, offending: int, about: dict[str, Any], action: str
    ) -> dict[str, Any]:
        rules, history = self.rules, self.history
        # Every branch but the first began with a rollback.
        if action != "rollback" or history.branch == rules.rollbacks:
            return entries.incident(
                step, {**about, "action": "note" if action == "note" else "stop"}
            )
        to = max(history.spans[0].after, offending - rules.back)
        passed_over = history.at(offending).passed_over + offending - to
        place = {"to": to, "passed_over": passed_over, "branch": history.branch + 1}
        return entries.incident(step, {**about, "action": action, **place})

    def roll_back(self, incident: Mapping[str, Any]) -> None:
        """Go on from the step that an incident names, as if the abandoned ones had not been."""
        self.history = self.history.rolled_back(incident)
        while self._kept and self._kept[-1][0] > incident["to"]:
            self._kept.pop()
        self._spikes = self._begun()


def needed(rules: Rules) -> int:
    """How many of the last steps' entries decide about the next, however often it rolls back."""
    if not rules.spikes:
        return 0
    return (
        rules.window
        + max(rule.width for rule in rules.spikes)
        + 1
        + rules.back * (rules.rollbacks + 1)
    )


def in_words(incident: dict[str, Any]) -> str:
    """Why the guards spoke up, from the incident that they recorded."""
    if incident["rule"] not in ("loss", "grad_norm"):
        return f"{incident['quantity']} is {incident['value']}"
    value, limit = (digests.bits_float(incident[name]) for name in ("value", "limit"))
    lasting = f" for {incident['width']} steps" if incident["width"] > 1 else ""
    return f"{incident['rule']} {value:.4g} is over {limit:.4g}{lasting}"
