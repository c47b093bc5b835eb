"""The plan of a run: memory, time, storage and cost from a recipe, before
anything is started or written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pellucid import counts, machine
from pellucid.errors import CommandInvalid, RunMissing
from pellucid.plan import sizes
from pellucid.plan.facts import Facts, facts
from pellucid.plan.storage import Storage, spacing
from pellucid.recipe import FILE, MAX_BYTES, Recipe, load, parse
from pellucid.schedule import Phase
from pellucid.store import files
from pellucid.train.processes import cores

if TYPE_CHECKING:  # It brings torch, which a plan without calibration does without.
    from pellucid.plan.calibrate import Speed

# A GPU in bf16: 989 at its peak (H100 SXM) of which large runs reach 38 to 43% (arXiv:2407.21783).
TFLOPS = 400.0
PRICE = 2.0  # Dollars an hour of such a GPU: a round number of 2025; yours is --price.
SPACINGS = (10, 50, 100, 500, 1000)
_SMALLEST_CONTEXT = 64


def read(path: Path) -> tuple[Path, Recipe]:
    """The folder and the recipe of a run, or of a recipe file by itself. Raises
    RunMissing and the Recipe… errors."""
    if path.is_dir() and (path / FILE).is_file():
        return path, load(path)
    if not path.is_file():
        raise RunMissing(path=path)
    return path.parent, parse(files.read_bytes(path, MAX_BYTES, follow=True), path)


def plan(
    path: Path,
    speed: float | None = None,
    calibrated: bool = True,
    tflops: float = TFLOPS,
    price: float = PRICE,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """What `pellucid plan --json` prints; speed is another machine's, in TFLOP/s.

    Raises CommandInvalid and what reading the recipe and calibrating raise.
    """
    for name, value in (("--speed", speed), ("--tflops", tflops), ("--price", price)):
        if value is not None and not 0 < value < float("inf"):
            raise CommandInvalid(
                verb="plan", word=f"{name} {value}", detail="must be a number above 0"
            )
    folder, recipe = read(path)
    known = facts(folder, recipe)
    measured = None
    if calibrated and speed is None:
        from pellucid.plan.calibrate import calibrate

        note("calibrating: a few microbatches of this recipe's shapes")
        measured = calibrate(recipe.alone(_largest(recipe, known.vocabulary)), known.vocabulary)
    shape, storage = recipe.model, Storage(recipe, known)
    largest, count = _largest(recipe, known.vocabulary), counts.parameters(shape, known.vocabulary)
    flops = counts.step_flops(recipe, largest, known.vocabulary)
    total = _total(recipe, known.vocabulary)
    time = _time(recipe, storage, measured, speed)
    return {
        "name": recipe.name,
        "assumed": list(known.assumed),
        "model": {"parameters": count.total, "vocabulary": known.vocabulary, **shape.model_dump()},
        "step": {
            "phase": largest.name,
            "tokens": largest.tokens,
            "sequences": largest.batch,
            "context": largest.context,
            "microbatches": largest.batch // largest.microbatch,
            "flops": flops.step,
            "forward": flops.forward,
            "backward": flops.backward,
            "attention": flops.attention * 7 // 2,
            "update": flops.update,
            "six_n_d": 6 * count.total * largest.tokens,
        },
        "run": {
            "steps": recipe.train.steps,
            "tokens": sum(phase.steps * phase.tokens for phase in recipe.phases),
            "flops": total,
            "phases": [_phase(recipe, phase, known.vocabulary) for phase in recipe.phases],
            "passed_over": [asdict(passed) for passed in known.passed],
        },
        "memory": _memory(recipe, known, measured),
        "time": time,
        "reference": _reference(total, tflops, price),
        "storage": _storage(folder, storage),
        "anchors": _anchors(recipe, storage, time["step"] if time else None),
        "sizes": [
            _size(size, recipe, time["flops_per_second"] if time else None, tflops, price)
            for size in sizes.sizes()
        ],
    }


def _total(recipe: Recipe, vocabulary: int) -> int:
    """Operations of all steps."""
    return sum(
        phase.steps * counts.step_flops(recipe, phase, vocabulary).step for phase in recipe.phases
    )


def _largest(recipe: Recipe, vocabulary: int) -> Phase:
    """The phase whose steps take the most operations."""
    return max(recipe.phases, key=lambda phase: counts.step_flops(recipe, phase, vocabulary).step)


def _phase(recipe: Recipe, phase: Phase, vocabulary: int) -> dict[str, Any]:
    return {
        "name": phase.name,
        "steps": phase.steps,
        "tokens": phase.steps * phase.tokens,
        "sequences": phase.batch,
        "context": phase.context,
        "flops": phase.steps * counts.step_flops(recipe, phase, vocabulary).step,
    }


def _memory(recipe: Recipe, known: Facts, measured: Speed | None) -> dict[str, Any]:
    threads = recipe.placement.threads or cores()
    libraries = measured.libraries if measured else 0
    needed = counts.memory(recipe, known.vocabulary, threads, libraries)
    parts = needed._asdict() | {"peak": needed.peak}
    if recipe.placement.device == "cuda":
        return parts | {
            "machine": None,
            "fits": None,
            "advice": [],
        }  # The GPU's, which may be another machine's.
    room = machine.memory()
    fits = needed.peak <= room
    advice = [] if fits else _advice(recipe, known.vocabulary, threads, room)
    return parts | {"machine": room, "fits": fits, "advice": advice}


def _advice(recipe: Recipe, vocabulary: int, threads: int, room: int) -> list[str]:
    """What to change so that a step fits: the first of each kind that does."""

    def taken(candidate: Recipe) -> int:
        return counts.memory(candidate, vocabulary, threads).peak

    phase = max(recipe.phases, key=lambda phase: taken(recipe.alone(phase)))
    alone, of = recipe.alone(phase), f"phase.{phase.name}." if recipe.phase else ""

    def peak(model: dict[str, int], train: dict[str, int]) -> int:
        changes = {
            "model": alone.model.model_copy(update=model),
            "train": alone.train.model_copy(update=train),
        }
        return taken(alone.model_copy(update=changes))

    advice = []
    smaller = [n for n in _halves(phase.microbatch, 1) if phase.batch % n == 0]
    shorter = _halves(phase.context, _SMALLEST_CONTEXT)
    fewer = _halves(recipe.model.layers, 1)
    for name, values, changed in (
        (f"{of or 'train.'}microbatch", smaller, lambda n: peak({}, {"microbatch": n})),
        (f"{of or 'model.'}context", shorter, lambda n: peak({"context": n}, {})),
        ("model.layers", fewer, lambda n: peak({"layers": n}, {})),
    ):
        value = next((value for value in values if changed(value) <= room), None)
        if value is not None:
            advice.append(f"{name} = {value} takes {changed(value) / 1e9:,.1f} GB")
    return advice


def _halves(value: int, smallest: int) -> list[int]:
    halves = []
    while value // 2 >= smallest:
        value //= 2
        halves.append(value)
    return halves


def _time(
    recipe: Recipe, storage: Storage, measured: Speed | None, speed: float | None
) -> dict[str, Any] | None:
    """Seconds of a step of the largest phase, of all steps and of all validations; None where no
    speed is known. Steps of other phases take as their operations."""
    vocabulary = storage.facts.vocabulary
    largest = _largest(recipe, vocabulary)
    flops, microbatches = (
        counts.step_flops(recipe, largest, vocabulary),
        largest.batch // largest.microbatch,
    )
    total = _total(recipe, vocabulary)
    if measured is not None:
        step, forward = measured.step(microbatches), measured.forward
    elif speed is not None:
        step = flops.step / (speed * 1e12)
        forward = flops.forward / microbatches / (speed * 1e12)
    else:
        return None
    tokens = sum(tokens for _, tokens, _ in storage.facts.validation)
    validation = forward * tokens / (largest.microbatch * largest.context)
    validating = validation * storage.validations((0, recipe.train.steps))
    return {
        "step": step,
        "flops_per_second": flops.step / step,
        "tokens_per_second": largest.tokens / step,
        "training": step * total / flops.step,
        "validating": validating,
        "calibration": None
        if measured is None
        else {
            "seconds": measured.took,
            "layers": list(measured.layers),
            "sequences": measured.sequences,
            "context": measured.context,
            "threads": measured.threads,
            "arithmetic": recipe.train.arithmetic,
        },
    }


def _reference(flops: float, tflops: float, price: float) -> dict[str, float]:
    hours = flops / (tflops * 1e12) / 3600
    return {"tflops": tflops, "price": price, "gpu_hours": hours, "cost": hours * price}


def _storage(folder: Path, storage: Storage) -> dict[str, Any]:
    steps, everything = storage.recipe.train.steps, (0, storage.recipe.train.steps)
    parts = storage.total()
    total, free = sum(parts.values()), machine.free(folder)
    return {
        **parts,
        "total": total,
        "free": free,
        "fits": total <= free,
        "ledger_step": storage.step_line(steps),
        "anchor": storage.anchor(steps),
        "checkpoint": storage.checkpoint(steps),
        "anchors_count": storage.anchors(everything),
        "checkpoints_count": storage.checkpoints(everything),
    }


def _anchors(recipe: Recipe, storage: Storage, step: float | None) -> list[dict[str, Any]]:
    own = recipe.placement.anchors.every
    rows = []
    for every in sorted({own, *(every for every in SPACINGS if every < recipe.train.steps)}):
        costs = spacing(storage, every)
        seconds = (
            {}
            if step is None
            else {"expected_seconds": costs.expected * step, "worst_seconds": costs.worst * step}
        )
        steps = {
            "every": every,
            "anchors": costs.anchors,
            "bytes": costs.bytes,
            "expected": costs.expected,
        }
        rows.append({**steps, "worst": costs.worst, **seconds, "own": every == own})
    return rows


def _size(
    size: sizes.Size, recipe: Recipe, here: float | None, tflops: float, price: float
) -> dict[str, Any]:
    state = size.state(recipe.optimizer)
    reference = _reference(size.flops, tflops, price)
    return {
        "name": size.name,
        "parameters": size.parameters,
        "tokens": size.tokens,
        "flops": size.flops,
        "state": state + counts.FLOAT * size.parameters,
        "anchor": state,
        "here_hours": None if here is None else size.flops / here / 3600,
        "gpu_hours": reference["gpu_hours"],
        "cost": reference["cost"],
    }
