"""Two runs, or a run and this machine: the first step at which they part, and
as far as it can be told, why.

The ledgers say where (replay/ledgers.py); the step, taken again here, says who
computed otherwise and, by the experiments of replay/explain.py, why. docs/diff.md
tells what can be named and what cannot."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data.stage import Progress, silent
from pellucid.errors import FormatInvalid, PellucidError, StateDiffers
from pellucid.inputs import Inputs, anchored_state, first_state
from pellucid.recipe import load as load_recipe
from pellucid.record import digests, entries
from pellucid.replay import blame, corpora, experiments, ledgers, surroundings
from pellucid.replay.again import Again, copied
from pellucid.replay.beginnings import Side, beginnings, initial, side_of
from pellucid.replay.experiments import Cause
from pellucid.replay.explain import Difference, Recorded, States, explain
from pellucid.replay.ledgers import Parting
from pellucid.replay.materialise import Watch, nearest, replay
from pellucid.store import anchors, layout, tensors
from pellucid.train.events import Groups
from pellucid.train.state import State
from pellucid.train.validation import validate

_STATES = 8  # Stored states that are tried as the state before a step.


class Listeners(NamedTuple):
    """Who hears how far it is: of steps that are replayed, and of a search for a cause."""

    replayed: Watch
    searched: Progress


@dataclass(frozen=True, slots=True)
class Before:
    """The state before a step, and the one before that; by whose inputs they were made."""

    inputs: Inputs
    groups: Groups
    previous: Groups | None


def diff(a: Path, b: Path, watch: Watch, search: Progress = silent) -> Difference:
    """Two runs. `watch` hears of replays, `search` of searches for a cause.

    Raises what reading recipe and ledger raises; what else is missing
    is said in the explanation."""
    result = Difference(str(a), str(b))
    side_a, side_b = side_of("A", a, result), side_of("B", b, result)
    _environments(result, lambda: surroundings.of_run(a), lambda: surroundings.of_run(b))
    begins = beginnings(side_a, side_b, result)
    if "state" in begins:
        with _standing(result):
            initial(side_a, side_b, begins, result)
        return result
    result.validation = ledgers.validations(side_a.ledger, side_b.ledger)
    parting = ledgers.first_difference(side_a.ledger, side_b.ledger)
    result.equal = parting is None and not begins
    if parting is None:
        if begins:
            result.say("Only the beginnings differ: every step has the same entry.")
        return result
    result.parts(parting)
    if not parting.a or not parting.b:
        behind, ahead = ("A", "B") if not parting.a else ("B", "A")
        result.cause = Cause(
            "not as far",
            experiments.PROVEN,
            f"{behind} ends before {ahead}; up to there they are equal",
        )
    elif parting.kind != "step":
        description = (
            "the states are equal, and other records differ: the data of validation, or the record"
        )
        result.cause = Cause("besides the states", experiments.FITS, description)
    else:
        with _standing(result):
            _step(side_a, side_b, parting, result, Listeners(watch, search))
    return result


def diff_here(folder: Path, watch: Watch, search: Progress = silent) -> Difference:
    """A run and what its recipe and data give here, from the seed on.
    Raises as inputs.py does."""
    inputs = Inputs.load(folder, load_recipe(folder))
    return diff_steps(inputs, None, inputs.recorded().steps_done, Listeners(watch, search))


def explain_audit(inputs: Inputs, step: int, watch: Watch, search: Progress = silent) -> Difference:
    """Why the audit of a step failed."""
    return diff_steps(inputs, nearest(inputs, step - 1), step, Listeners(watch, search))


def diff_steps(inputs: Inputs, anchor: int | None, last: int, listeners: Listeners) -> Difference:
    """A run and this machine, from an anchor (None: the seed) to the step
    `last` or the first that differs."""
    result = Difference(str(inputs.folder), "here")
    _environments(result, lambda: surroundings.of_run(inputs.folder), surroundings.of_here)
    try:
        state = anchored_state(inputs, anchor)
    except StateDiffers as error:
        result.say(str(error))
        result.parts(Parting(anchor or 0, "anchor" if anchor is not None else "genesis", {}, {}))
        if anchor is not None:
            _anchor(inputs, anchor, None, result, listeners)
        return result
    if anchor is None and _validation(inputs, state, result):
        return result
    before = _walk(inputs, state, last, result, listeners, validating=True)
    if before is not None and last in layout.steps_in(inputs.folder / layout.ANCHORS):
        _anchor(inputs, last, before.groups, result, listeners)
    return result


@contextlib.contextmanager
def _standing(result: Difference) -> Iterator[None]:
    """Where explaining stumbles over what a run holds, the difference of the
    ledgers stands, and that is said."""
    try:
        yield
    except PellucidError as error:
        result.say(f"No further explanation: {error.name}: {error}")


def _environments(
    result: Difference, a: Callable[[], dict[str, str]], b: Callable[[], dict[str, str]]
) -> None:
    """What two sides were computed with. No verdict stands on it, so what cannot
    be read is said and no error."""
    try:
        result.environments = surroundings.differences(a(), b())
    except PellucidError as error:
        result.say(f"Code and versions are not compared: {error.name}: {error}")


# ---- a step ------------------------------------------------------------------------------------


def _step(
    side_a: Side, side_b: Side, parting: Parting, result: Difference, listeners: Listeners
) -> None:
    """The first differing step of two runs, taken again by the recipe and data of each."""
    sides = [side for side in (side_a, side_b) if side.inputs is not None]
    before = _before(sides, parting.step, result, listeners)
    if before is None:
        return
    steps = {
        side.name: Again(side.inputs, parting.step, before.groups) for side in sides if side.inputs
    }
    recorded_steps = {"A": parting.a, "B": parting.b}
    computed = {name: again.take() for name, again in steps.items()}
    differing = [
        name for name in steps if ledgers.differing(computed[name].entry, recorded_steps[name])
    ]
    result.agreement(*(name in steps and name not in differing for name in ("A", "B")))
    if len(steps) == 2 and "batch" in parting.fields:
        result.rows = corpora.differing_rows(steps["A"].batch, steps["B"].batch)
        for row in result.rows[:4]:
            result.say(f"In the batches that orders and shards give: {corpora.words(row)}.")
    if not differing and len(steps) == 2:
        _by_recipes(side_a, side_b, steps, parting, result, listeners.searched)
    for side in (side for side in sides if side.name in differing):
        states = _states(sides, before, parting.step, result)
        recorded = _recorded(side, recorded_steps[side.name])
        explain(result, steps[side.name], computed[side.name], recorded, states, listeners.searched)


def _by_recipes(
    side_a: Side,
    side_b: Side,
    steps: dict[str, Again],
    parting: Parting,
    result: Difference,
    search: Progress,
) -> None:
    """Each run is what its own recipe and data give: they are the cause."""
    if "batch" not in parting.fields:
        recorded = _recorded(side_b, parting.b)
        explain(result, steps["A"], steps["A"].take(), recorded, [], search, side_b.recipe)
        return
    rows = ", ".join(str(row["row"]) for row in result.rows)
    description = (
        "each run's batch follows from its own recipe and data, and the batches differ in rows "
        f"{rows}"
    )
    if not rows:
        description = "the batches hold the same tokens under other salts: another seed"
    result.cause = Cause("data" if result.document else "order", experiments.PROVEN, description)
    if result.rows:
        result.microbatch = result.rows[0]["row"] // steps["A"].phase.microbatch
        result.operation = {"name": "embed", "phase": "forward", "microbatch": result.microbatch}


def _recorded(side: Side, entry: dict[str, Any]) -> Recorded:
    return Recorded(side.name, side.folder, entry)


def _before(
    sides: list[Side], step: int, result: Difference, listeners: Listeners
) -> Before | None:
    """The state before a step that two runs have in common, from the nearest anchor of either."""
    for anchor, side in _anchors(sides, step - 1):
        assert side.inputs is not None
        try:
            state = anchored_state(side.inputs, anchor)
        except (StateDiffers, FormatInvalid) as error:
            result.say(f"Not used: {error}")
            continue
        return _walk(side.inputs, state, step - 1, result, listeners)
    if sides:
        result.say(
            "This machine gives another state before the first step, so it cannot replay any step."
        )
    return None


def _anchors(sides: list[Side], last: int) -> list[tuple[int | None, Side]]:
    """Every anchor up to a step, the latest first, and the seed at the end."""
    stored = [
        (anchor, side)
        for side in sides
        for anchor in layout.steps_in(side.folder / layout.ANCHORS)
        if anchor <= last
    ]
    latest = sorted(stored, key=lambda pair: -pair[0])
    return [*latest, *((None, side) for side in sides[:1])]


def _walk(
    inputs: Inputs,
    state: State,
    last: int,
    result: Difference,
    listeners: Listeners,
    validating: bool = False,
) -> Before | None:
    """Take steps up to `last`; where one differs from what is recorded, explain
    that instead and return None."""
    first, before, previous = state.step, copied(state.groups()), None
    for replayed in replay(inputs, state, last):
        listeners.replayed(state.step - first, last - first)
        if replayed.differing():
            result.a, result.b = str(inputs.folder), "here"
            result.parts(Parting(state.step, "step", replayed.recorded, replayed.found))
            result.agrees = "neither"
            side = Side("A", inputs.folder, inputs.recipe, inputs.recorded(), inputs)
            again = Again(inputs, state.step, before)
            states = _states([side], Before(inputs, before, previous), state.step, result)
            recorded = _recorded(side, replayed.recorded)
            explain(result, again, again.take(), recorded, states, listeners.searched)
            return None
        if validating and _validation(inputs, state, result):
            return None
        previous, before = before, copied(state.groups())
    return Before(inputs, before, previous)


def _validation(inputs: Inputs, state: State, result: Difference) -> bool:
    """Whether the validation of a step, if one is recorded, is not what it is here."""
    recorded = [
        body
        for body in inputs.recorded().between(state.step, state.step)
        if body["kind"] == "validation"
    ]
    if not recorded or not inputs.recipe.scheduled(inputs.recipe.validation.every, state.step):
        return False
    computed = inputs.branched(
        entries.validation(state.step, validate(state, inputs.recipe, inputs.shards).sources)
    )
    if not ledgers.differing(recorded[0], computed):
        return False
    result.parts(Parting(state.step, "validation", recorded[0], computed))
    result.agrees = "neither"
    description = (
        "the states are equal, but this state gives another validation on these texts than recorded"
    )
    result.cause = Cause("validation", experiments.PROVEN, description)
    return True


def _states(sides: list[Side], before: Before, step: int, result: Difference) -> States:
    """Earlier states that may have stood before a step in place of the right one."""
    earlier: States = []
    if before.previous is not None:
        previous = before.previous
        earlier.append((f"step {step - 2}'s", lambda: previous))
    steps = {step - 2} if earlier else set()
    for anchor, side in itertools.islice(_anchors(sides, step - 2), _STATES):
        if anchor is not None and anchor not in steps:
            steps.add(anchor)
            earlier.append(
                (f"step {anchor}'s, as the anchor holds it", _reader(side, anchor, result))
            )
    first = before.inputs.recipe.first
    if step > first + 1 and first not in steps:
        earlier.append(
            (f"step {first}'s, the first one", lambda: first_state(before.inputs).groups())
        )
    return earlier


def _reader(side: Side, anchor: int, result: Difference) -> Callable[[], Groups | None]:
    def read() -> Groups | None:
        try:
            place = layout.anchor(side.folder, anchor)
            return anchors.check(place, anchor, side.ledger.step(anchor)["state"])[0]
        except (StateDiffers, FormatInvalid) as error:
            result.say(f"Not tried as the state before the step: {error}")
            return None

    return read


# ---- an anchor ---------------------------------------------------------------------------------


def _anchor(
    inputs: Inputs, anchor: int, computed: Groups | None, result: Difference, listeners: Listeners
) -> None:
    """What is wrong with a stored state: another step's, or which tensors and bits of it."""
    recorded = inputs.recorded().step(anchor)["state"]
    groups = anchors.read(layout.anchor(inputs.folder, anchor))
    roots = tensors.state_roots(anchor, groups)
    if roots.state.hex() == recorded:
        return
    result.parts(Parting(anchor, "anchor", {"state": recorded}, {"state": roots.state.hex()}))
    for body in inputs.recorded().between(inputs.recipe.first, inputs.recorded().steps_done):
        step = body.get("step", 0)
        if (
            body["kind"] in ("genesis", "step")
            and digests.state_root(step, roots.groups).hex() == body["state"]
        ):
            description = f"{layout.anchor(inputs.folder, anchor)} holds the state of step {step}"
            result.cause = Cause("stale anchor", experiments.PROVEN, description)
            return
    if computed is None:
        state = anchored_state(inputs, nearest(inputs, anchor - 1))
        before = _walk(inputs, state, anchor, result, listeners)
        if before is None:
            return
        computed = before.groups
    result.tensors = blame.differing(computed, groups)
    description = (
        "the stored anchor differs from the state that the ledger records and this machine "
        "computes for its step"
    )
    result.cause = Cause("damaged anchor", experiments.PROVEN, description)
