"""Incidents of no finite number, computed again: nothing else shows that a batch was passed over
because its step or validation gave inf or nan.

A spike follows from recorded numbers. A step that gave no finite number has no entry, so it is
taken again from the state before it, along the branch that it belonged to."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any

from pellucid.errors import DataError, FormatInvalid, LedgerDiffers, NotFinite, StateDiffers
from pellucid.inputs import Inputs
from pellucid.record.guards import in_words
from pellucid.record.history import rolls_back
from pellucid.recorder import compare
from pellucid.replay.checked import Checked
from pellucid.replay.choose import chosen
from pellucid.replay.materialise import Watch, Way, begin, replay, way_to
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from pellucid.train.state import State
from pellucid.train.validation import validate

MOST = 3  # An audit takes so many again, and all of them with --all.


@dataclass(frozen=True, slots=True)
class Incident(Checked):
    """What computing an incident again found."""

    step: int  # The last one recorded before it.
    branch: int  # The branch that it ended, or stopped.
    quantity: str
    value: str
    seconds: float
    replayed: int  # Steps taken again to have its state.


@dataclass(frozen=True, slots=True)
class Past:
    """The run as it stood when an incident came."""

    inputs: Inputs  # Along the history that it had then.
    body: dict[str, Any]  # The incident.
    kept: int  # Up to here the run still has the states that it had then.

    @classmethod
    def of(cls, inputs: Inputs, body: dict[str, Any]) -> Past:
        ledger = inputs.recorded()
        history = ledger.before(body) if rolls_back(body) else ledger.history
        later = [rollback.to for rollback in ledger.history.rollbacks[history.branch :]]
        return cls(inputs.along(history), body, min([body["step"], *later]))

    @property
    def step(self) -> int:
        """The last one recorded before the incident."""
        return int(self.body["step"])

    @property
    def validates(self) -> bool:
        """Whether a validation was not finite, and not the step after this one."""
        return self.body["quantity"] == "validation"

    @property
    def way(self) -> Way:
        """To the state after the incident's step."""
        start, steps = way_to(self.inputs, self.kept)
        return Way(start, steps + self.step - self.kept)


def recorded(ledger: LedgerFile) -> list[dict[str, Any]]:
    """Every incident of no finite number, in order: each rolls back, or is the ledger's last
    entry."""
    stops = [] if rolls_back(ledger.last) else [ledger.last]
    return [body for body in (*ledger.rollbacks, *stops) if body.get("rule") == "not_finite"]


def chosen_incidents(inputs: Inputs, seed: int, every: bool) -> list[Past]:
    """The incidents that an audit computes again: all of them where they are few or all are asked
    for, else as many as MOST, chosen by the seed."""
    ledger = inputs.recorded()
    bodies = recorded(ledger)
    if len(bodies) > MOST and not every:
        taken = itertools.islice(chosen(seed, ledger.head, len(bodies)), MOST)
        bodies = [bodies[number - 1] for number in sorted(taken)]
    return [Past.of(inputs, body) for body in bodies]


def audit_incident(past: Past, watch: Watch) -> Incident:
    """Compute an incident again. The answer says what is wrong."""
    started, body, problem = time.perf_counter(), past.body, ""
    replayed = past.way.steps
    try:
        quantity, value = _outcome(past, watch)
        if (quantity, value) != (body["quantity"], body["value"]):
            problem = f"recorded: {in_words(body)}; computed here: {quantity} is {value}"
    except (StateDiffers, LedgerDiffers, DataError, FormatInvalid, NotFinite) as error:
        problem = f"not reached: {error}"
    problems = (f"incident after step {past.step}: {problem}",) if problem else ()
    told = (past.step, past.inputs.history.branch, body["quantity"], body["value"])
    return Incident(*told, time.perf_counter() - started, replayed, problems=problems)


def _outcome(past: Past, watch: Watch) -> tuple[str, str]:
    """What came of the offending step or validation: the quantity that is not finite, or the
    recorded one, and its value."""
    inputs, quantity, state = past.inputs, past.body["quantity"], _state(past, watch)
    try:
        if past.validates:
            validate(state, inputs.recipe, inputs.shards)
            return quantity, "a finite number"
        stepped = next(loop.steps(state, inputs.recipe, inputs.batch, past.step + 1))
        return quantity, repr(getattr(stepped, quantity))
    except NotFinite as error:
        return str(error.fields["quantity"]), str(error.fields["value"])


def _state(past: Past, watch: Watch) -> State:
    """The state after the incident's step. Raises LedgerDiffers where a step on the way is not
    as recorded."""
    state = begin(past.inputs, past.kept)
    first = state.step
    for replayed in replay(past.inputs, state, past.step):
        compare(replayed.recorded, replayed.found)
        watch(state.step - first, past.step - first)
    return state
