"""What an audit costs on this machine, and which audit fits: a budget of
seconds, the memory, the disk."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pellucid import counts, machine
from pellucid.data.covered import covered
from pellucid.errors import BudgetTooSmall, StateDiffers
from pellucid.inputs import Inputs
from pellucid.replay.audit import (
    Finding,
    Pass,
    audit_first,
    audit_steps,
    passes,
    run_pass,
    start_of,
)
from pellucid.replay.incidents import Past
from pellucid.replay.materialise import Watch, Way, begin, replay, stored
from pellucid.replay.microbatch import count_of
from pellucid.store import anchors, cache, layout

_STEPS, _SECONDS = 3, 2.0  # A calibration ends with so many steps, or when they have taken so long.


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds, on this machine."""

    load: float  # To have a stored state in place.
    step: float  # To take a step again and compare it.
    validation: float  # To compute a validation again.

    def of(self, inputs: Inputs, part: Pass) -> float:
        """Seconds for a pass."""
        recipe = inputs.recipe
        validated = sum(recipe.scheduled(recipe.validation.every, step) for step in part.steps)
        return self.load + part.length * self.step + validated * self.validation

    def of_validation(self, besides: Besides) -> float:
        """Seconds for the last validation, with the steps to its state."""
        way = besides.validation
        return self.load + way.steps * self.step + self.validation if way else 0.0

    def of_incidents(self, besides: Besides) -> float:
        """Seconds for incidents, with the steps to their states."""
        taken = sum(past.way.steps + (not past.validates) for past in besides.incidents)
        validated = sum(past.validates for past in besides.incidents)
        loaded = len(besides.incidents)
        return loaded * self.load + taken * self.step + validated * self.validation

    def of_besides(self, besides: Besides) -> float:
        return self.of_validation(besides) + self.of_incidents(besides)


@dataclass(frozen=True, slots=True)
class Besides:
    """What an audit computes again besides the steps asked for."""

    validation: Way | None = None  # To the last one's state; None where its step is asked for.
    incidents: tuple[Past, ...] = ()

    @property
    def ways(self) -> list[Way]:
        """To the states that these need."""
        own = [self.validation] if self.validation else []
        return own + [past.way for past in self.incidents]

    @property
    def steps(self) -> int:
        """To take again."""
        offending = sum(not past.validates for past in self.incidents)
        return sum(way.steps for way in self.ways) + offending

    def __str__(self) -> str:
        named = ["the last validation"] if self.validation else []
        if self.incidents:
            named.append(f"{len(self.incidents):,} incident(s) of no finite number")
        return " and ".join(named)


def measure(inputs: Inputs, step: int) -> Speed:
    """From a few steps really replayed, towards one that was taken. Raises
    StateDiffers, FormatInvalid, NotFinite."""
    started = time.perf_counter()
    state = begin(inputs, step - 1)
    load, times = time.perf_counter() - started, []
    since = time.perf_counter()
    for _ in replay(inputs, state, min(state.step + _STEPS, inputs.recorded().steps_done)):
        times.append(time.perf_counter() - since)
        if sum(times) > _SECONDS:
            break
        since = time.perf_counter()
    seconds = statistics.median(times)
    return Speed(load, seconds, seconds * _validation_share(inputs))


def _validation_share(inputs: Inputs) -> float:
    """What a validation computes, as a fraction of a step: forward passes, a
    third of forward and backward."""
    tokens = sum(stream.tokens for stream in covered(inputs.shards, inputs.recipe))
    return tokens / (3 * min(phase.tokens for phase in inputs.recipe.phases))


def fitting(inputs: Inputs, order: Iterable[int], speed: Speed, seconds: float) -> list[int]:
    """The longest beginning of the order whose replay takes at most so many seconds."""
    at, recipe = stored(inputs), inputs.recipe
    reached: dict[int | None, int] = {}
    fitted, left = [], seconds
    for step in order:
        start = start_of(at, step)
        left -= 0 if start in reached else speed.load
        left -= (
            max(0, step - reached.get(start, recipe.first if start is None else start)) * speed.step
        )
        left -= recipe.scheduled(recipe.validation.every, step) * speed.validation
        if left < 0:
            break
        reached[start] = max(step, reached.get(start, 0))
        fitted.append(step)
    return fitted


def surely(inputs: Inputs, speed: Speed, seconds: float) -> int:
    """How many steps fit into so many seconds wherever they lie.

    Only these count as chosen by the seed alone. How far a budget reaches beyond them
    depends on where the chosen steps lie, and a forger can see to it that forged ones
    are far from every anchor."""
    at, last = [inputs.recipe.first, *stored(inputs)], inputs.recorded().steps_done
    longest = max(b - a for a, b in zip(at, [*at[1:], last], strict=True))
    return max(0, int(seconds / (speed.load + longest * speed.step + speed.validation)))


def foresee(inputs: Inputs, step: int, besides: Besides, seconds: float) -> Speed | None:
    """The speed here; None where the state before the step is not as recorded, which its audit
    says. Raises BudgetTooSmall if the step and what is computed besides take longer."""
    started = time.perf_counter()
    try:
        speed = measure(inputs, step)
    except StateDiffers:
        return None
    needed = time.perf_counter() - started + speed.of_besides(besides)
    needed += speed.of(inputs, passes(inputs, [step])[0])
    if needed > seconds:
        budget, about = f"{seconds:g} s", str(besides)
        raise BudgetTooSmall(budget=budget, step=step, needed=math.ceil(needed), besides=about)
    return speed


def audit_within(
    inputs: Inputs, order: Iterable[int], speed: Speed | None, deadline: float, watch: Watch
) -> tuple[list[Finding], int]:
    """The first step of the order, and as many more as fit until the deadline; and how many of
    them the seed alone chose. Without a speed the first alone.

    Stops before a replay that would not fit by the speed measured on the way."""
    problems, steps = audit_first(inputs), iter(order)
    first = next(steps)
    if speed is None:  # The finding says what is wrong, and more steps would not say more.
        return [*problems, *audit_steps(inputs, [first], watch)], 1
    left = deadline - time.perf_counter()
    planned = fitting(inputs, itertools.chain([first], steps), speed, left) or [first]
    findings, sure = _until(inputs, planned, speed, deadline, watch), surely(inputs, speed, left)
    audited = {finding.step for finding in findings}
    missing = (count for count, step in enumerate(planned) if step not in audited)
    complete = next(missing, len(planned))
    return [*problems, *sorted(findings, key=lambda finding: finding.step)], min(sure, complete)


def _until(
    inputs: Inputs, steps: list[int], speed: Speed, deadline: float, watch: Watch
) -> list[Finding]:
    planned = passes(inputs, steps)
    total, done, findings = sum(part.length for part in planned), 0, []
    for part in planned:
        started = time.perf_counter()
        if findings and speed.of(inputs, part) > deadline - started:
            break
        findings += run_pass(inputs, part, lambda at, _, before=done: watch(before + at, total))
        done += part.length
        slower = (time.perf_counter() - started - speed.load) / part.length
        speed = Speed(speed.load, max(speed.step, slower), speed.validation)
    return findings


@dataclass(frozen=True, slots=True)
class Effort:
    """What an audit needs here. Times are None where the memory does not allow to measure them."""

    steps: int  # Chosen.
    replayed: int
    memory_bytes: int  # Measured; where it does not fit, the least that the tensors take.
    memory_available_bytes: int
    download_bytes: int  # Of the release: the files that this audit reads.
    disk_bytes: int  # These, and the state that it keeps in the cache.
    disk_free_bytes: int
    load_seconds: float | None
    step_seconds: float | None
    # For the last validation, where no step asked for is its own; in seconds too.
    validation_seconds: float | None
    incidents: int  # Of no finite number that are computed again …
    incident_seconds: float | None  # … in so many of the seconds.
    seconds: float | None

    @property
    def fits_memory(self) -> bool:
        return self.memory_bytes <= self.memory_available_bytes

    @property
    def fits_disk(self) -> bool:
        return self.disk_bytes - self.download_bytes <= self.disk_free_bytes

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"fits_memory": self.fits_memory, "fits_disk": self.fits_disk}


def effort(
    inputs: Inputs,
    steps: list[int],
    besides: Besides,
    workers: int = 1,
    microbatch: bool = False,
) -> tuple[Effort, Speed | None]:
    """What the audit of these steps needs (or of one microbatch of a step), from a
    calibration where the state fits."""
    planned = passes(inputs, steps)
    replayed = sum(part.length for part in planned) - microbatch * len(planned) + besides.steps
    available = machine.available()
    memory = least_memory(inputs, microbatch) * workers
    speed = measure(inputs, max(inputs.recipe.first + 1, steps[0])) if memory <= available else None
    if speed:
        memory = max(memory, machine.peak() * workers)
    paths = files_read(inputs, planned, besides, microbatch)
    download = sum(path.stat().st_size for path in paths)
    kept = counts.state_bytes(inputs.recipe, inputs.vocabulary) if microbatch and replayed else 0
    seconds = None
    if speed:
        seconds = sum(speed.of(inputs, part) for part in planned) / min(workers, len(planned))
        seconds += speed.of_besides(besides)
        seconds -= microbatch * speed.step * (1 - 1 / count_of(inputs, steps[0]))
    needs = Effort(
        steps=len(steps),
        replayed=replayed,
        memory_bytes=memory,
        memory_available_bytes=available,
        download_bytes=download,
        disk_bytes=download + (kept if kept <= cache.limit() else 0),
        disk_free_bytes=machine.free(cache.folder()),
        load_seconds=speed and speed.load,
        step_seconds=speed and speed.step,
        validation_seconds=speed and speed.of_validation(besides),
        incidents=len(besides.incidents),
        incident_seconds=speed and speed.of_incidents(besides),
        seconds=seconds,
    )
    return needs, speed


def files_read(
    inputs: Inputs, planned: list[Pass], besides: Besides, microbatch: bool = False
) -> list[Path]:
    """The files of the release that an audit reads. Whoever has only these can do it."""
    folder = inputs.folder
    named = [
        layout.RECIPE,
        layout.LEDGER,
        layout.DATA_MANIFEST,
        f"{layout.TOKENIZER}/manifest.json",
    ]
    paths = [folder / name for name in named]
    texts = [] if microbatch else [f"{layout.TOKENIZER}/tokenizer.json", "data/documents"]
    for name in ("data/shards", *texts):
        paths += [folder / name, *sorted((folder / name).rglob("*"))]
    starts = {part.start for part in (*planned, *besides.ways)}
    for step in layout.steps_in(folder / layout.ANCHORS):
        if step in starts:
            place = layout.anchor(folder, step)
            paths += [place / name for name in (anchors.WEIGHTS, anchors.OPTIMIZER)]
    if microbatch:
        paths += sorted((folder / layout.METRICS).glob("microbatches*"))
    return [path for path in paths if path.is_file()]


def least_memory(inputs: Inputs, microbatch: bool = False) -> int:
    """Bytes of a state and of the gradients held at once (GradientTree),
    float32; activations come on top."""
    most = max(phase.batch // phase.microbatch for phase in inputs.recipe.phases)
    gradients = 1 if microbatch else counts.gradient_sets(most)
    parameters = counts.parameters(inputs.recipe.model, inputs.vocabulary).total
    return (
        counts.state_bytes(inputs.recipe, inputs.vocabulary) + counts.FLOAT * gradients * parameters
    )
