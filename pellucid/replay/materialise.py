"""The state of any step: the nearest state stored before it, and the steps from there taken again.

Stored are the run's anchors, and what earlier replays left in this machine's cache. The
run folder is never written."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pellucid.errors import MachineError
from pellucid.inputs import Inputs, anchored_state
from pellucid.recorder import compare, segments_of, step_entry
from pellucid.store import anchors, cache, layout
from pellucid.train import loop
from pellucid.train.state import State, restored

_SHARE = 4  # A walk may take this part of the cache.

Watch = Callable[[int, int], None]  # (steps replayed, steps to replay)


@dataclass(frozen=True, slots=True)
class Replayed:
    """One step taken again: the entry it makes and the one recorded."""

    found: dict[str, Any]
    recorded: dict[str, Any]

    def differing(self) -> list[str]:
        return [key for key in self.found if self.found[key] != self.recorded.get(key)]


def nearest(inputs: Inputs, step: int) -> int | None:
    """The last anchor at or before a step; None where there is none and the first state must do."""
    anchored = layout.steps_in(inputs.folder / layout.ANCHORS)
    return max((anchor for anchor in anchored if anchor <= step), default=None)


def cached(inputs: Inputs) -> list[tuple[int, str]]:
    """Step and state root of this run's cached states, the latest first."""
    ledger = inputs.recorded()
    near = [
        (step, root) for step, root in cache.held() if ledger.first <= step <= ledger.steps_done
    ]
    return [(step, root) for step, root in near if ledger.step(step)["state"] == root]


def stored(inputs: Inputs) -> list[int]:
    """The steps that a replay can begin with besides the first state, ascending."""
    return sorted(
        {step for step, _ in cached(inputs)}.union(layout.steps_in(inputs.folder / layout.ANCHORS))
    )


class Way(NamedTuple):
    """How a replay comes to a step."""

    start: int | None  # The last state stored at or before it; None: the first is made again.
    steps: int  # To take from there.


def way_to(inputs: Inputs, step: int) -> Way:
    at = stored(inputs)
    place = bisect_right(at, step)
    start = at[place - 1] if place else None
    return Way(start, step - (inputs.recipe.first if start is None else start))


def begin(inputs: Inputs, step: int) -> State:
    """The last state stored at or before a step, checked against the ledger. Raises
    StateDiffers, FormatInvalid."""
    anchor = nearest(inputs, step)
    for at, root in cached(inputs):
        if (inputs.recipe.first if anchor is None else anchor) < at <= step and (
            groups := cache.read(at, root)
        ):
            return restored(inputs.recipe, inputs.vocabulary, at, groups)
    return anchored_state(inputs, anchor)


def replay(inputs: Inputs, state: State, last: int) -> Iterator[Replayed]:
    """Take the steps after state's up to `last` again, each beside what the ledger records of a
    run with the inputs' history."""
    entries = inputs.recorded().along(inputs.history, state.step + 1, last)
    recorded = (body for body in entries if body["kind"] == "step")
    for stepped in loop.steps(state, inputs.recipe, inputs.batch, last):
        roots = state.roots()
        segments = segments_of(stepped.batch, stepped.losses_BT)
        entry = step_entry(stepped, segments, roots, inputs.recipe, inputs.identity)
        yield Replayed(inputs.branched(entry), next(recorded, {}))


def materialise(inputs: Inputs, step: int, watch: Watch) -> State:
    """The state of a step, equal to the recorded one; kept in the
    cache where it had to be replayed.

    Raises StepUnknown, StateDiffers, LedgerDiffers.
    """
    return next(walk(inputs, [step], watch, keep=True))


def walk(inputs: Inputs, steps: Sequence[int], watch: Watch, keep: bool = False) -> Iterator[State]:
    """The states of several steps, ascending, in one pass forward, every
    replayed step of which is compared.

    Each begins from the state before it or from one stored in between, whichever is nearer. A state
    yielded moves on when the next is asked for. keep puts those that had to be replayed into the
    cache: the last one, and of those before it as many as a quarter of the cache holds, for a walk
    over many would drive out whatever else is kept.

    Raises StepUnknown, StateDiffers, LedgerDiffers.
    """
    for step in steps:
        require_step(inputs, step)
    state: State | None = None
    total, done = length(inputs, steps), 0
    for left, step in zip(range(len(steps), 0, -1), steps, strict=True):
        if (
            state is None
            or max((at for at in stored(inputs) if at <= step), default=state.step) > state.step
        ):
            state = begin(inputs, step)
        start = state.step
        for replayed in replay(inputs, state, step):
            compare(replayed.recorded, replayed.found)
            done += 1
            watch(done, total)
        if (
            keep
            and step > start
            and (left == 1 or left * anchors.size_of(state.groups()) <= cache.limit() // _SHARE)
        ):
            _keep(inputs, state)
        yield state


def length(inputs: Inputs, steps: Sequence[int]) -> int:
    """How many steps have to be taken again for these, each from what is
    stored or was made before it."""
    at = {inputs.recipe.first, *stored(inputs)}
    total = 0
    for step in steps:
        total += step - max(start for start in at if start <= step)
        at.add(step)
    return total


def require_step(inputs: Inputs, step: int, taken: bool = False) -> None:
    """Raises StepUnknown for a step that the ledger does not have; where it must have been
    taken, for the first state too."""
    ledger = inputs.recorded()
    if not ledger.first + taken <= step <= ledger.steps_done:
        raise ledger.unknown(step)


def about(inputs: Inputs, state: State) -> dict[str, Any]:
    """What a state's anchor.json says."""
    return anchors.about(inputs.recorded().step(state.step), state.roots())


def _keep(inputs: Inputs, state: State) -> None:
    try:
        cache.keep(state.groups(), about(inputs, state))
    except MachineError as error:  # A full disk must not cost the state that was asked for.
        warnings.warn(f"step {state.step} is not kept for the next time: {error}", stacklevel=2)
