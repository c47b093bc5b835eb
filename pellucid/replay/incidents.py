"""Incidents of no finite number, computed again: nothing else shows that a batch was passed over
because its step or validation gave inf or nan.

A spike follows from recorded numbers. A step that gave no finite number has no entry, so it is
taken again from the state before it, along the branch that it belonged to."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pellucid.errors import DataError, FormatInvalid, LedgerDiffers, NotFinite, StateDiffers
from pellucid.inputs import Inputs
from pellucid.record.history import History, rolls_back, with_branch
from pellucid.recorder import compare, segments_of, step_entry
from pellucid.replay.checked import Checked
from pellucid.replay.choose import chosen
from pellucid.replay.materialise import Watch, begin
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop, validation
from pellucid.train.state import State

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


def recorded(ledger: LedgerFile) -> list[dict[str, Any]]:
    """Every incident of no finite number, in order."""
    return [body for body in ledger.every("incident") if body["rule"] == "not_finite"]


def audit_incidents(inputs: Inputs, seed: int, every: bool, watch: Watch) -> list[Incident]:
    """Compute incidents again: all of them where they are few or all are asked for, else as many as
    MOST, chosen by the seed. The answers say what is wrong."""
    ledger = inputs.recorded()
    found = recorded(ledger)
    if len(found) > MOST and not every:
        taken = itertools.islice(chosen(seed, ledger.head, len(found)), MOST)
        found = [found[number - 1] for number in sorted(taken)]
    return [_audit(inputs, body, watch) for body in found]


def _audit(inputs: Inputs, body: dict[str, Any], watch: Watch) -> Incident:
    started, again, problem = time.perf_counter(), _Again(inputs, body), ""
    try:
        came = again.outcome(watch)
        if came != (body["quantity"], body["value"]):
            said = f"{body['quantity']} came out as {body['value']}"
            problem = f"recorded is that {said}, and {came[0]} comes out as {came[1]}"
    except (StateDiffers, LedgerDiffers, DataError, FormatInvalid, NotFinite) as error:
        problem = f"not reached: {error}"
    problems = (f"incident after step {body['step']}: {problem}",) if problem else ()
    seconds, branch = time.perf_counter() - started, again.branch
    told = (body["step"], branch, body["quantity"], body["value"], seconds, again.replayed)
    return Incident(*told, problems=problems)


class _Again:
    """The run as it stood when an incident came."""

    def __init__(self, inputs: Inputs, body: dict[str, Any]) -> None:
        ledger = inputs.recorded()
        self._inputs, self._body, self.replayed = inputs, body, 0
        back = rolls_back(body)
        self._history: History = ledger.before(body) if back else ledger.history
        self.branch = self._history.branch
        self._order = inputs.order.along(self._history.rollbacks)
        # Up to here the run still has the states that it had then.
        later = [rollback.to for rollback in ledger.history.rollbacks[self.branch :]]
        self._kept = min([body["step"], *later])

    def outcome(self, watch: Watch) -> tuple[str, str]:
        """What came of the offending step or validation: the quantity that is not finite, or the
        recorded one, and its value."""
        step, quantity = self._body["step"], self._body["quantity"]
        state = self._state(watch)
        try:
            if quantity == "validation":
                validation.validate(state, self._inputs.recipe, self._inputs.shards)
                return quantity, "a finite number"
            stepped = next(loop.steps(state, self._inputs.recipe, self._batch, step + 1))
            return quantity, repr(getattr(stepped, quantity))
        except NotFinite as error:
            return str(error.fields["quantity"]), str(error.fields["value"])

    def _batch(self, step: int) -> Any:
        return loop.batch_of(self._order, self._inputs.shards, step)

    def _state(self, watch: Watch) -> State:
        """The state after the incident's step. Raises LedgerDiffers where a step on the way is not
        as recorded."""
        inputs, step = self._inputs, self._body["step"]
        state = begin(inputs, self._kept)
        first, entries = state.step, self._entries(state.step + 1, step)
        for stepped in loop.steps(state, inputs.recipe, self._batch, step):
            segments = segments_of(stepped.batch, stepped.losses_BT)
            found = step_entry(stepped, segments, state.roots(), inputs.recipe, inputs.identity)
            branch = self._history.at(state.step).branch
            compare(next(entries, {}), with_branch(found, branch))
            self.replayed += 1
            watch(state.step - first, step - first)
        return state

    def _entries(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        entries = self._inputs.recorded().along(self._history, first, last)
        return (body for body in entries if body["kind"] == "step")
