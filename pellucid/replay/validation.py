"""The last validation, computed again by every audit: a run is quoted with it, and no
sample of steps tells of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pellucid.errors import DataError, LedgerDiffers, NotFinite, StateDiffers
from pellucid.inputs import Inputs
from pellucid.record import entries
from pellucid.replay.checked import Checked
from pellucid.replay.materialise import Watch, walk, way_to
from pellucid.replay.texts import Texts
from pellucid.train.state import State
from pellucid.train.validation import validate


@dataclass(frozen=True, slots=True)
class Validation(Checked):
    """What computing a validation again found."""

    step: int
    seconds: float
    replayed: int  # Steps taken again to have its state.


def last_due(inputs: Inputs) -> int:
    """The last step so far of which a validation is due."""
    recipe, last = inputs.recipe, inputs.recorded().steps_done
    if recipe.scheduled(recipe.validation.every, last) and not owed(inputs, last):
        return last
    return max(recipe.first, (last - 1) // recipe.validation.every * recipe.validation.every)


def owed(inputs: Inputs, step: int) -> bool:
    """Whether a run that goes on has taken a step and not recorded its validation yet."""
    last = step == inputs.recorded().steps_done != inputs.recipe.train.steps
    return last and not _recorded(inputs, step)


def _recorded(inputs: Inputs, step: int) -> list[Any]:
    """The sources of the validation recorded of a step, of each that there is."""
    return [
        body["sources"]
        for body in inputs.recorded().between(step, step)
        if body["kind"] == "validation"
    ]


def audit_validation(inputs: Inputs, watch: Watch) -> Validation:
    """Compute the last validation again, from its recorded state, stored or replayed;
    the answer says what is wrong."""
    started, step = time.perf_counter(), last_due(inputs)
    replayed = way_to(inputs, step).steps
    try:
        problems = differences(inputs, next(walk(inputs, [step], watch)), Texts(inputs))
    except (StateDiffers, LedgerDiffers, DataError, NotFinite) as error:
        problems = [str(error)]
    return Validation(step, time.perf_counter() - started, replayed, problems=tuple(problems))


def differences(inputs: Inputs, state: State, texts: Texts) -> list[str]:
    """What is wrong with the validation recorded of a state: its texts, and
    its numbers, computed again."""
    step, problems = state.step, list(texts.of_validation())
    recorded = _recorded(inputs, step)
    computed = entries.validation(step, validate(state, inputs.recipe, inputs.shards).sources)[
        "sources"
    ]
    if not recorded:
        problems.append("validation is due, and none is recorded")
    problems += [
        f"validation is {computed}, recorded {sources}"
        for sources in recorded
        if sources != computed
    ]
    return [f"step {step}: {problem}" for problem in problems]
