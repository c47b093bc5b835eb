"""The state of any step: the nearest anchor before it, and the steps from there taken again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pellucid.errors import StateDiffers
from pellucid.recorder import compare, segments_of, step_entry
from pellucid.replay.inputs import Inputs
from pellucid.store import anchors, layout
from pellucid.train import loop
from pellucid.train.state import State, initial, restored

Watch = Callable[[int, int], None]  # (steps replayed, steps to replay)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One step taken again: the entry it makes and the one recorded."""

    found: dict[str, Any]
    recorded: dict[str, Any]

    def differing(self) -> list[str]:
        return [key for key in self.found if self.found[key] != self.recorded.get(key)]


def nearest(inputs: Inputs, step: int) -> int | None:
    """The last anchor at or before a step; None where there is none and the seed must do."""
    stored = [anchor for anchor in layout.steps_in(inputs.folder / layout.ANCHORS) if anchor <= step]
    return stored[-1] if stored else None


def first_state(inputs: Inputs) -> State:
    """The state that the run begins with: from the seed, or a fork's from its parent. Raises StateDiffers."""
    recipe = inputs.recipe
    if not recipe.fork.parent:
        return initial(recipe, inputs.vocabulary)
    groups, _ = anchors.check(inputs.folder / layout.PARENT, recipe.first, recipe.fork.state)
    return restored(recipe, inputs.vocabulary, recipe.first, groups)


def anchored_state(inputs: Inputs, anchor: int | None) -> State:
    """The state of an anchor, checked against the ledger; for None the one that the run begins with.

    Raises StateDiffers, FormatInvalid.
    """
    first = inputs.recipe.first
    recorded = inputs.recorded().step(first if anchor is None else anchor)["state"]
    if anchor is not None:
        groups, _ = anchors.check(layout.anchor(inputs.folder, anchor), anchor, recorded)
        return restored(inputs.recipe, inputs.vocabulary, anchor, groups)
    state = first_state(inputs)
    found = state.roots().state.hex()
    if found != recorded:
        raise StateDiffers(path="the initial state", found=found, recorded=recorded, step=first, blame="")
    return state


def replay(inputs: Inputs, state: State, last: int) -> Iterator[Replayed]:
    """Take the steps after state's up to `last` again, each beside what the ledger records."""
    recorded = (body for body in inputs.recorded().between(state.step + 1, last) if body["kind"] == "step")
    for stepped in loop.steps(state, inputs.recipe, inputs.batch, last):
        roots = state.roots()
        segments = segments_of(stepped.batch, stepped.losses_BT)
        found = step_entry(stepped, segments, roots, inputs.recipe, inputs.identity)
        yield Replayed(found, next(recorded, {}))


def materialise(inputs: Inputs, step: int, watch: Watch) -> State:
    """The state of a step, equal to the recorded one. Raises StepUnknown, StateDiffers, LedgerDiffers."""
    if not inputs.recipe.first <= step <= inputs.recorded().steps_done:
        raise inputs.recorded().unknown(step)
    state = anchored_state(inputs, nearest(inputs, step))
    start = state.step
    for replayed in replay(inputs, state, step):
        compare(replayed.recorded, replayed.found)
        watch(state.step - start, step - start)
    return state
