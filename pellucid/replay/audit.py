"""Audit: take steps again from the nearest state stored before them and
compare bits with the ledger."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from pellucid.errors import DataError, FormatInvalid, NotFinite, StateDiffers
from pellucid.inputs import Inputs, anchored_state
from pellucid.replay import validation
from pellucid.replay.checked import Checked
from pellucid.replay.materialise import (
    Replayed,
    Watch,
    begin,
    replay,
    require_step,
    stored,
)
from pellucid.replay.texts import Texts
from pellucid.store import anchors, layout
from pellucid.train.state import State


@dataclass(frozen=True, slots=True)
class Finding(Checked):
    """What the audit of one step found."""

    step: int
    expected: str  # The state's root as recorded …
    actual: str  # … and as replayed; empty where the replay did not come so far.
    seconds: float
    # Steps taken again to get there, from a stored state or the step audited before it.
    replayed: int


class Pass(NamedTuple):
    """Steps to audit in one replay, ascending, and the step whose stored state it begins with."""

    start: int | None  # None: the run's first state, made again …
    steps: tuple[int, ...]
    first: int  # … which is that of this step.

    @property
    def begins(self) -> int:
        return self.first if self.start is None else self.start

    @property
    def length(self) -> int:
        """Steps to take again."""
        return self.steps[-1] - self.begins


def passes(inputs: Inputs, steps: Iterable[int]) -> list[Pass]:
    """Steps that begin from the same stored state share a replay. In the order in which
    the steps first ask for one."""
    at, grouped = stored(inputs), dict[int | None, list[int]]()
    for step in steps:
        grouped.setdefault(start_of(at, step), []).append(step)
    return [
        Pass(start, tuple(sorted(group)), inputs.recipe.first) for start, group in grouped.items()
    ]


def start_of(at: Sequence[int], step: int) -> int | None:
    """The last stored state before a step, of those at these steps, ascending."""
    place = bisect_left(at, step)
    return at[place - 1] if place else None


def audit_steps(inputs: Inputs, steps: Sequence[int], watch: Watch) -> list[Finding]:
    """Audit steps, in ascending order. Raises StepUnknown; what is wrong with
    the run is in the findings."""
    for step in steps:
        require_step(inputs, step)
    planned = sorted(passes(inputs, dict.fromkeys(steps)), key=lambda part: part.steps)
    total, done, findings = sum(part.length for part in planned), 0, []
    for part in planned:
        findings += run_pass(inputs, part, lambda at, _, before=done: watch(before + at, total))
        done += part.length
    return findings


def audit_step(inputs: Inputs, step: int, watch: Watch) -> Finding:
    """Audit one step. Raises StepUnknown."""
    return audit_steps(inputs, [step], watch)[0]


def audit_first(inputs: Inputs) -> list[Finding]:
    """What is wrong with the run's first state, made again: training before it would show here.
    Nothing where it is as recorded."""
    started, first = time.perf_counter(), inputs.recipe.first
    try:
        anchored_state(inputs, None)
    except (StateDiffers, FormatInvalid) as error:
        expected, seconds = inputs.recorded().step(first)["state"], time.perf_counter() - started
        return [Finding(first, expected, "", seconds, 0, problems=(str(error),))]
    return []


def run_pass(inputs: Inputs, part: Pass, watch: Watch) -> list[Finding]:
    """Replay a pass and compare every step of it; each finding holds what was
    wrong since the one before."""
    log = _Log(inputs, part)
    try:
        state = (
            begin(inputs, part.start) if part.start is not None else anchored_state(inputs, None)
        )
        # The first state has just been held against the genesis.
        log.reach(state, inputs.recorded().genesis["state"])
        for replayed in replay(inputs, state, part.steps[-1]):
            log.compare(state, replayed)
            watch(max(0, state.step - part.begins), part.length)
            if log.lost:
                break  # Everything after it follows from another state.
    except (StateDiffers, DataError, NotFinite) as error:
        log.problems.append(str(error))
    return log.unreached()


@dataclass
class _Log:
    """The findings of a pass as it goes on."""

    inputs: Inputs
    part: Pass
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    replayed: int = 0
    lost: bool = False  # The replay's state is not the recorded one.
    since: float = field(default_factory=time.perf_counter)

    @cached_property
    def texts(self) -> Texts:
        return Texts(self.inputs)

    def compare(self, state: State, replayed: Replayed) -> None:
        differing = replayed.differing()
        if differing:
            self.problems.append(
                _difference(state.step, differing, replayed.found, replayed.recorded)
            )
        self.replayed += 1
        self.lost = "state" in differing
        self.reach(state, replayed.found["state"])

    def reach(self, state: State, root: str) -> None:
        """The replay stands at a step; where that is to be audited, what else
        is claimed of it is checked."""
        if state.step == self.part.steps[len(self.findings)]:
            if not self.problems:
                self.problems += _check_step(self.inputs, state, root, self.texts)
            self._add(state.step, root)

    def unreached(self) -> list[Finding]:
        """All findings; the steps that the replay did not come to
        have the problem that ended it."""
        for step in self.part.steps[len(self.findings) :]:
            if not self.problems:
                ended = next(
                    finding.problems[-1] for finding in reversed(self.findings) if finding.problems
                )
                self.problems.append(
                    f"step {step}: not reached, for the replay ended before it: {ended}"
                )
            self._add(step, "")
        return self.findings

    def _add(self, step: int, actual: str) -> None:
        now, expected = time.perf_counter(), self.inputs.recorded().step(step)["state"]
        problems = tuple(self.problems)
        self.findings.append(
            Finding(step, expected, actual, now - self.since, self.replayed, problems=problems)
        )
        self.problems, self.replayed, self.since = [], 0, now


def _difference(
    step: int, differing: list[str], computed: dict[str, Any], recorded: dict[str, Any]
) -> str:
    shown = ", ".join(
        f"{key} is {computed[key]}, recorded {recorded.get(key)}" for key in differing[:2]
    )
    more = f", and {len(differing) - 2} more" if len(differing) > 2 else ""
    return f"step {step}: {shown}{more}"


def _check_step(inputs: Inputs, state: State, root: str, texts: Texts) -> list[str]:
    """What else is claimed of this very step: the texts it saw, its validation, its anchor."""
    recipe, step = inputs.recipe, state.step
    problems = (
        [f"step {step}: {problem}" for problem in texts.of_step(step)]
        if step > recipe.first
        else []
    )
    if recipe.scheduled(recipe.validation.every, step) and not validation.owed(inputs, step):
        problems += validation.differences(inputs, state, texts)
    if step in layout.steps_in(inputs.folder / layout.ANCHORS):
        try:
            anchors.check(layout.anchor(inputs.folder, step), step, root)
        except (StateDiffers, FormatInvalid) as error:
            problems.append(str(error))
    return problems


def compared(findings: Iterable[Finding]) -> int:
    """Steps that were taken again and held against the ledger."""
    return sum(finding.replayed for finding in findings)
