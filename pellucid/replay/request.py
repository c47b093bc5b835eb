"""What an auditor asks for, in one place: which steps, by whose choice,
within what; and what came of it."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pellucid import machine
from pellucid.errors import CommandInvalid
from pellucid.forked import fork_in_words, fork_of
from pellucid.inputs import Inputs
from pellucid.replay.audit import Finding, audit_first, audit_steps, compared
from pellucid.replay.choose import Odds, chosen, chosen_microbatch
from pellucid.replay.effort import (
    Besides,
    Effort,
    Speed,
    audit_within,
    effort,
    fitting,
    foresee,
    least_memory,
    measure,
)
from pellucid.replay.incidents import Incident, audit_incident, chosen_incidents, recorded
from pellucid.replay.materialise import Watch, require_step, stored, way_to
from pellucid.replay.microbatch import Proof, audit_microbatch, count_of, require_committed
from pellucid.replay.parallel import audit_all, segments, workers
from pellucid.replay.validation import Validation, audit_validation, last_due


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit found, and what that is worth."""

    findings: list[Finding]
    odds: Odds
    validation: Validation | None  # The last one; None where a finding is that of its step.
    # The steps whose recorded validation was computed again, and the others.
    validated: tuple[list[int], list[int]]
    seed: int | None  # None where it chose neither steps nor incidents.
    head: str
    seconds: float
    incidents: list[Incident]  # Those of no finite number that were computed again …
    incidents_recorded: int  # … of so many.
    fork: dict[str, Any] | None = None  # Of a fork, what it claims of the run before it.

    @property
    def failed(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.ok]

    @property
    def ok(self) -> bool:
        rest = [self.validation] if self.validation else []
        return not self.failed and all(checked.ok for checked in (*rest, *self.incidents))

    @property
    def problems(self) -> list[str]:
        """What is wrong with anything but the steps."""
        rest = [self.validation] if self.validation else []
        return [problem for checked in (*rest, *self.incidents) for problem in checked.problems]

    @property
    def wrong(self) -> str:
        """What failed, in words."""
        steps = [f"step {finding.step}" for finding in self.failed]
        if self.validation and not self.validation.ok:
            steps.append(f"the validation of step {self.validation.step}")
        steps += [
            f"the incident after step {incident.step}"
            for incident in self.incidents
            if not incident.ok
        ]
        return ", ".join(steps)

    def as_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "head": self.head,
            "fork": self.fork,
            "seed": self.seed,
            "replayed": self.odds.compared,
            "seconds": round(self.seconds, 3),
            "odds": self.odds.as_json(),
            "validation": self.validation and self.validation.as_json(),
            "incidents": [incident.as_json() for incident in self.incidents],
            "incidents_not_finite": self.incidents_recorded,
            "validations_computed_again": self.validated[0],
            "validations_not_computed_again": self.validated[1],
            "steps": [finding.as_json() for finding in self.findings],
        }

    def __str__(self) -> str:
        chosen = "chosen" if self.odds.sampled else "incidents chosen"
        by = "" if self.seed is None else f", {chosen} by seed {self.seed}"
        verdict = (
            f"{len(self.failed)} of them NOT as recorded and published"
            if self.failed
            else "bit-equal"
        )
        audited = f"{len(self.findings):,} step(s) audited in {self.seconds:.1f} s{by}: {verdict}"
        if self.fork:
            audited += f"\n       {fork_in_words(self.fork)}, and this audit says nothing of it"
        if not self.ok:
            return audited
        if self.incidents_recorded:
            again = f"{len(self.incidents):,} of {self.incidents_recorded:,}"
            audited += (
                f"\n       {again} incident(s) of no finite number computed again: as recorded"
            )
        return "\n       ".join([audited, *self.odds.lines(), self._validations()])

    def _validations(self) -> str:
        again, skipped = self.validated
        done = f"validation of {_steps(again)} recomputed: bit-equal"
        return f"{done}; that of {_steps(skipped)} was not (--step K does)" if skipped else done


def _steps(steps: list[int]) -> str:
    return (
        f"step {steps[0]}"
        if len(steps) == 1
        else f"{len(steps):,} steps ({steps[0]} to {steps[-1]})"
    )


@dataclass(frozen=True, slots=True)
class Request:
    """One audit of a run. Make one with Request.of."""

    inputs: Inputs
    named: tuple[int, ...]  # Steps that somebody named …
    count: int | None  # … or how many the seed chooses; None: all, or as many as fit.
    seed: int
    budget: float | None  # Seconds.
    every: bool
    microbatch: str

    @classmethod
    def of(
        cls,
        inputs: Inputs,
        named: list[int],
        count: int | None,
        seed: int | None,
        budget: float | None,
        every: bool,
        microbatch: str,
    ) -> Request:
        """Raises CommandInvalid for what cannot be asked for together,
        StepUnknown, MicrobatchUncommitted."""
        for step in named:
            require_step(inputs, step, taken=bool(microbatch))
        require_step(inputs, inputs.recipe.first + 1)
        if bool(named) + (count is not None) + every > 1:
            raise _invalid("--step", "give only one of --step, --steps and --all")
        if microbatch and (count is not None or every or budget is not None or len(named) > 1):
            raise _invalid(
                "--microbatch", "give a single --step, or no step: the seed then chooses it"
            )
        if (
            microbatch
            and microbatch != "random"
            and not (microbatch.isascii() and microbatch.isdecimal())
        ):
            raise _invalid(microbatch, "--microbatch takes a number from 0, or random")
        if not named and not every and budget is None and count is None:
            count = 1
        if seed is None:
            seed = secrets.randbelow(1 << 63)
        return cls(inputs, tuple(named), count, seed, budget, every, microbatch)

    @property
    def head(self) -> str:
        return self.inputs.recorded().head

    @property
    def done(self) -> int:
        return self.inputs.recorded().steps_done

    @property
    def first(self) -> int:
        """The step before the first one taken."""
        return self.inputs.recipe.first

    def _shuffled(self) -> Iterator[int]:
        numbers = chosen(self.seed, self.head, self.done - self.first)
        return itertools.islice((self.first + number for number in numbers), self.count)

    def too_many(self) -> str:
        """That more steps are asked for than there are, in words; else nothing."""
        there = self.done - self.first
        if self.count is None or self.count <= there:
            return ""
        return f"--steps {self.count:,}: the run has only {there:,} steps, and all are audited"

    @property
    def by_seed(self) -> bool:
        return not self.named and not self.every

    def chosen_by(self) -> str:
        """For a line of text: whose choice a microbatch was."""
        return (
            f", chosen by seed {self.seed}" if self.by_seed or self.microbatch == "random" else ""
        )

    def order(self) -> Iterator[int]:
        """The steps asked for, in the seed's order where it decides."""
        if self.named:
            return iter(dict.fromkeys(self.named))
        return self._shuffled()

    def run(self, watch: Watch) -> Report:
        """Do it. Raises CommandInvalid, BudgetTooSmall, AuditLost; what is wrong with
        the run is in the findings."""
        started = time.perf_counter()
        if self.budget is not None and not self.by_seed:
            raise _invalid(
                "--budget", "omit --step and --all, or add --dry-run: a budget lets the seed choose"
            )
        steps = [] if self.every or self.budget is not None else list(self.order())
        besides, sampled = self._besides(steps), len(steps) if self.by_seed else 0
        speed = None
        if self.budget is not None:
            speed = foresee(self.inputs, next(self.order()), besides, self.budget)
        validation = audit_validation(self.inputs, watch) if besides.validation else None
        again = [audit_incident(past, watch) for past in besides.incidents]
        if self.budget is not None:
            deadline = started + self.budget
            findings, sampled = audit_within(self.inputs, self.order(), speed, deadline, watch)
        elif self.every:
            findings = audit_all(self.inputs, watch)
            sampled = self.done - self.first
        else:
            findings = [*audit_first(self.inputs), *audit_steps(self.inputs, steps, watch)]
        fork = fork_of(self.inputs.recipe, self.inputs.recorded().step(self.done))
        odds = Odds(self.done - self.first, sampled, compared(findings), fork=fork is not None)
        seconds, count = time.perf_counter() - started, len(recorded(self.inputs.recorded()))
        seed = self.seed if self.by_seed or len(again) < count else None
        return Report(
            findings,
            odds,
            validation,
            self._validated(findings, validation),
            seed,
            self.head,
            seconds,
            again,
            count,
            fork,
        )

    def _besides(self, steps: list[int]) -> Besides:
        """What the audit of these steps computes again besides them."""
        if self.microbatch:
            return Besides()
        last, within = last_due(self.inputs), self.budget is not None and self.by_seed
        apart = not self.every and (within or last not in steps)
        validation = way_to(self.inputs, last) if apart else None
        return Besides(validation, tuple(chosen_incidents(self.inputs, self.seed, self.every)))

    def _validated(
        self, findings: list[Finding], last: Validation | None
    ) -> tuple[list[int], list[int]]:
        """The steps with a recorded validation: those of which it was
        computed again, and the others."""
        again = {finding.step for finding in findings} | ({last.step} if last else set())
        steps = [body["step"] for body in self.inputs.recorded().of_kind("validation")]
        return [step for step in steps if step in again], [
            step for step in steps if step not in again
        ]

    def run_microbatch(self, watch: Watch) -> Proof:
        """The audit of one microbatch. Raises what audit_microbatch does."""
        step = next(self.order())
        return audit_microbatch(self.inputs, step, self._index(step), watch)

    def _index(self, step: int) -> int:
        if self.microbatch == "random":
            return chosen_microbatch(self.seed, self.head, step, count_of(self.inputs, step))
        return int(self.microbatch)

    def needs(self) -> Needs:
        """What it would need, and the smaller audit that fits where it does not."""
        steps = self._steps()
        if self.microbatch:
            require_committed(self.inputs, steps[0])
        processes, besides = (
            workers(self.inputs, len(segments(self.inputs))) if self.every else 1,
            self._besides(steps),
        )
        needed, speed = effort(self.inputs, steps, besides, processes, bool(self.microbatch))
        subject = f"{len(steps):,} step(s)"
        if self.microbatch:
            subject = f"microbatch {self._index(steps[0])} of step {steps[0]}"
        return Needs(self, subject, needed, processes, self._smaller(needed, speed))

    def _steps(self) -> list[int]:
        """The steps to speak of: of a budget alone those that fit, by a first calibration."""
        if self.every:
            return list(range(self.first, self.done + 1))
        alone = self.budget is not None and self.by_seed and self.count is None
        if alone and least_memory(self.inputs) <= machine.available():
            first = next(self.order())
            speed = measure(self.inputs, first)
            left = (self.budget or 0.0) - speed.of_besides(self._besides([]))
            return fitting(self.inputs, self.order(), speed, left) or [first]
        return list(self.order())

    def _smaller(self, needed: Effort, speed: Speed | None) -> str:
        """The options of an audit that fits here; empty where this one
        does, or where none is known."""
        if not needed.fits_memory:
            return self._without_memory()
        if (
            self.budget is None
            or speed is None
            or needed.seconds is None
            or needed.seconds <= self.budget
        ):
            return ""
        besides = replace(self, named=(), every=False, microbatch="")._besides([])
        left = self.budget - speed.of_besides(besides)
        steps = fitting(self.inputs, self._shuffled(), speed, left)
        if steps:
            return f"--steps {len(steps)} --seed {self.seed}"
        near = [step + 1 for step in [self.first, *stored(self.inputs)] if step < self.done]
        return f"--step {near[-1]} --seed {self.seed}" if speed.load + speed.step <= left else ""

    def _without_memory(self) -> str:
        """One microbatch right behind a stored state, where the ledger binds it."""
        near = [step + 1 for step in stored(self.inputs) if step < self.done]
        bound = self.inputs.recipe.record.commitment == "microbatches" and not self.microbatch
        if near and bound and least_memory(self.inputs, microbatch=True) <= machine.available():
            return f"--step {near[-1]} --microbatch random"
        return ""


def _invalid(word: str, detail: str) -> CommandInvalid:
    return CommandInvalid(verb="audit", word=word, detail=detail)


@dataclass(frozen=True, slots=True)
class Needs:
    """What a dry run says."""

    request: Request
    what: str
    effort: Effort
    workers: int
    smaller: str

    @property
    def fits_budget(self) -> bool:
        budget, seconds = self.request.budget, self.effort.seconds
        return budget is None or seconds is None or seconds <= budget

    @property
    def fits(self) -> bool:
        return self.effort.fits_memory and self.effort.fits_disk and self.fits_budget

    def as_json(self) -> dict[str, Any]:
        about = {
            "fits": self.fits,
            "fits_budget": self.fits_budget,
            "budget_seconds": self.request.budget,
        }
        about |= {"workers": self.workers, "smaller": self.smaller or None}
        return (
            {"head": self.request.head, "seed": self.request.seed} | self.effort.as_json() | about
        )

    def lines(self) -> list[str]:
        needed = self.effort
        measured = "measured" if needed.seconds is not None else "a minimum"
        memory = (
            f"{_megabytes(needed.memory_bytes)} ({measured}), "
            f"{_megabytes(needed.memory_available_bytes)} available"
        )
        disk = (
            f"{_megabytes(needed.disk_bytes)}, {_megabytes(needed.disk_free_bytes)} free beside "
            "the release"
        )
        lines = [
            f"  steps     {needed.replayed:,} to replay, by {self.workers} process(es)",
            f"  memory    {memory}",
            f"  disk      {disk}",
            f"  download  {_megabytes(needed.download_bytes)}, the part of the release that "
            "this audit reads",
        ]
        if needed.seconds is not None:
            rates = (
                f"{needed.step_seconds:.3g} s a step, {needed.load_seconds:.3g} s to load a state"
            )
            took = (
                f"{needed.seconds:.1f} s"
                if needed.seconds < 60
                else f"{needed.seconds / 60:.1f} minutes"
            )
            lines.append(f"  time      {took} ({rates})")
        if needed.validation_seconds:
            step = last_due(self.request.inputs)
            lines.append(
                f"            of these {needed.validation_seconds:.3g} s for the last "
                f"validation, of step {step}"
            )
        if needed.incident_seconds:
            lines.append(
                f"            of these {needed.incident_seconds:.3g} s for "
                f"{needed.incidents:,} incident(s) of no finite number"
            )
        return lines

    def verdict(self) -> str:
        if self.fits:
            return "It fits."
        lacks = {
            "memory": self.effort.fits_memory,
            "disk": self.effort.fits_disk,
            "time": self.fits_budget,
        }
        lacking = ", ".join(name for name, fits in lacks.items() if not fits)
        folder = self.request.inputs.folder
        fix = f"pellucid verify {folder} replays nothing."
        if self.smaller:
            fix = f"This fits: pellucid audit {folder} {self.smaller}"
        return f"It does not fit ({lacking}). {fix}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
