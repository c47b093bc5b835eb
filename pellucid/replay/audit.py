"""Audit: take a step again from the nearest anchor before it and compare bits with the ledger."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pellucid.errors import StateDiffers
from pellucid.record import entries
from pellucid.replay.inputs import Inputs
from pellucid.replay.materialise import Watch, anchored_state, nearest, replay
from pellucid.store import anchors, layout
from pellucid.train import loop
from pellucid.train.state import State


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audit of one step found."""

    step: int
    expected: str  # The state's root as recorded …
    actual: str  # … and as replayed; empty where the replay could not begin.
    seconds: float
    replayed: int  # Steps taken again to get there.
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        names = ("step", "expected", "actual", "seconds", "replayed", "ok")
        return {name: getattr(self, name) for name in names} | {"problems": list(self.problems)}


def audit_step(inputs: Inputs, step: int, watch: Watch) -> Finding:
    """Audit one step. Raises StepUnknown; what is wrong with the run is in the finding."""
    ledger = inputs.recorded()
    if not inputs.recipe.first <= step <= ledger.steps_done:
        raise ledger.unknown(step)
    started = time.perf_counter()
    expected = ledger.step(step)["state"]
    try:
        state = anchored_state(inputs, nearest(inputs, step - 1))
    except StateDiffers as error:
        return Finding(step, expected, "", time.perf_counter() - started, 0, (str(error),))
    first, problems = state.step, []
    # The first state has just been held against the genesis.
    actual = expected if step == inputs.recipe.first else ""
    for replayed in replay(inputs, state, step):
        actual, wrong = replayed.found["state"], replayed.differing()
        if wrong:
            problems.append(_difference(state.step, wrong, replayed.found, replayed.recorded))
        watch(state.step - first, step - first)
        if "state" in wrong:
            break  # Everything after it follows from another state.
    if not problems:
        problems += _check_here(inputs, state, actual)
    return Finding(step, expected, actual, time.perf_counter() - started, state.step - first, tuple(problems))


def _difference(step: int, wrong: list[str], found: dict[str, Any], recorded: dict[str, Any]) -> str:
    shown = ", ".join(f"{key} is {found[key]}, recorded {recorded.get(key)}" for key in wrong[:2])
    more = f", and {len(wrong) - 2} more" if len(wrong) > 2 else ""
    return f"step {step}: {shown}{more}"


def _check_here(inputs: Inputs, state: State, root: str) -> list[str]:
    """What else is claimed of this very step: its validation, its anchor."""
    problems, recipe, step = [], inputs.recipe, state.step
    if recipe.scheduled(recipe.validation.every, step):
        found = entries.validation(step, loop.validate(state, recipe, inputs.shards).sources)
        recorded = [body for body in inputs.recorded().between(step, step) if body["kind"] == "validation"]
        for body in recorded:
            if body["sources"] != found["sources"]:
                problems.append(f"step {step}: validation is {found['sources']}, recorded {body['sources']}")
    if step in layout.steps_in(inputs.folder / layout.ANCHORS):
        try:
            anchors.check(layout.anchor(inputs.folder, step), step, root)
        except StateDiffers as error:
            problems.append(str(error))
    return problems
