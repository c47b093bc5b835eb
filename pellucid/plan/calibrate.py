"""How fast this machine computes a recipe's shapes: a few microbatches, of fewer
layers where the model is large.

A layer costs the same wherever it stands, so the seconds of a microbatch are a line in the number
of layers: two cuts give the whole. So are those of what is done once a step: adding gradients,
norms, the update, hashing the state."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pellucid import counts, machine, operations, philox
from pellucid.optimizers import AdamW
from pellucid.optimizers.base import Update
from pellucid.recipe import Recipe
from pellucid.schedule import learning_rate
from pellucid.train.events import Batch
from pellucid.train.processes import ALONE, cores
from pellucid.train.state import State, initial
from pellucid.train.step import forward_pass, objective_of_step

_WORK = 2e11  # FLOPs of one timed microbatch at most: about a second on two cores.
_LAYERS = 64  # A layer takes its time however narrow it is.
_REPEAT = 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of the parts of a step, as measured here."""

    microbatch: float  # Forward and backward.
    forward: float  # Of as many sequences, for validation.
    adding: float  # One set of gradients to another.
    updating: float  # Norms, the update, and the digest of the state.
    layers: tuple[int, ...]  # Of the cuts that were timed …
    sequences: int  # … and their sequences, of so many tokens each.
    context: int
    threads: int
    libraries: int  # Bytes of this process before the model.
    took: float  # Seconds that all this took.

    def step(self, microbatches: int) -> float:
        return microbatches * self.microbatch + (microbatches - 1) * self.adding + self.updating


def calibrate(recipe: Recipe, vocabulary: int) -> Speed | None:
    """Measure. None where even the smallest cut does not fit in this machine's memory.

    Raises KernelsMissing, KernelsWrong, MachineLacks, DeviceMissing.
    """
    started, threads = time.perf_counter(), recipe.placement.threads or cores()
    ops = operations.of(recipe.train.arithmetic, recipe.placement.device)
    ops.configure(recipe.placement.device, threads)
    libraries = machine.resident()
    sequences, context, layers = _cut(recipe, vocabulary)
    smallest = _resized(recipe, layers[0], context, sequences)
    if counts.memory(smallest, vocabulary, threads, libraries).peak > machine.memory():
        return None
    phase = recipe.phases[0]
    # An optimizer whose products take too long is timed without them, as AdamW.
    longer = counts.step_flops(smallest, smallest.phases[0], vocabulary).update > _WORK
    shorter = recipe.model_copy(update={"optimizer": AdamW()}) if longer else recipe
    cuts = [_resized(shorter, number, context, sequences) for number in layers]
    timed = [_timed(cut, vocabulary) for cut in cuts]
    # Microbatches are larger than the cut by sequences and tokens, and by the
    # attention of longer sequences.
    own = counts.flops(recipe.model, vocabulary, recipe.train.microbatch).step
    larger = own / counts.flops(recipe.model, vocabulary, sequences, context).step
    microbatch, forward, adding, updating = (
        _line(layers, [times[part] for times in timed], recipe.model.layers) for part in range(4)
    )
    microbatch, forward = microbatch * larger, forward * larger
    if longer:
        updating += counts.step_flops(recipe, phase, vocabulary).update * microbatch / own
    took = time.perf_counter() - started
    return Speed(
        microbatch, forward, adding, updating, layers, sequences, context, threads, libraries, took
    )


def _line(places: tuple[int, ...], values: list[float], at: int) -> float:
    """The value at a place of the line through one point (that place's) or two."""
    if len(places) == 1:
        return values[0]
    slope = max(0.0, (values[1] - values[0]) / (places[1] - places[0]))
    return values[0] + slope * (at - places[0])


def _cut(recipe: Recipe, vocabulary: int) -> tuple[int, int, tuple[int, ...]]:
    """Sequences, tokens of each, and layers of the microbatches to time: the recipe's own,
    or as many as take no longer than _WORK; layers first, for they change nothing else,
    then sequences, then tokens."""
    shape, sequences, context = recipe.model, recipe.train.microbatch, recipe.model.context
    small = counts.flops(shape, vocabulary, sequences).step <= _WORK and shape.layers <= _LAYERS
    if small or shape.layers < 3:
        layers: tuple[int, ...] = (shape.layers,)
    else:
        layers = (1, 2)
    small = shape.model_copy(update={"layers": layers[-1]})
    while (
        counts.flops(small, vocabulary, sequences, context).step > _WORK
        and sequences * context > 256
    ):
        if sequences > 1:
            sequences = max(1, sequences // 2)
        else:
            context = max(2, context // 2)
    return sequences, context, layers


def _resized(recipe: Recipe, layers: int, context: int, sequences: int) -> Recipe:
    model = recipe.model.model_copy(update={"layers": layers, "context": context})
    # Patterns may name layers that a cut has not.
    frozen = recipe.train.frozen if layers == recipe.model.layers else ()
    changed = {"batch": sequences, "microbatch": sequences, "frozen": frozen}
    train = recipe.train.model_copy(update=changed)
    return recipe.model_copy(update={"model": model, "train": train, "phase": ()})


def generated(recipe: Recipe, vocabulary: int, steps: int) -> Iterator[Batch]:
    """Batches of the recipe's shapes, of tokens drawn from its seed;
    each row is of one document."""
    schedule = recipe.schedule
    for step in range(1, steps + 1):
        rows, T = schedule.at(step).batch, schedule.at(step).context
        numbers = np.arange(rows)
        draws = philox.draws(philox.key_of(recipe.seed, f"plan {step}"), 0, rows * (T + 1))
        tokens_BS = (
            (draws.astype(np.uint64) % np.uint64(vocabulary)).astype(np.uint32).reshape(rows, T + 1)
        )
        documents_BS = np.repeat(numbers[:, None], T + 1, axis=1)
        zeros = np.zeros_like(numbers)
        yield Batch(step, numbers, zeros, zeros, ["plan"] * rows, zeros, tokens_BS, documents_BS)


def _timed(recipe: Recipe, vocabulary: int) -> tuple[float, ...]:
    """Medians of seconds: a microbatch, its forward, adding gradients, updating. The
    first round is not counted."""
    state, rounds = initial(recipe, vocabulary), []
    for batch in generated(recipe, vocabulary, 1 + _REPEAT):
        rounds.append(_round(state, batch, recipe))
    return tuple(statistics.median(column) for column in zip(*rounds[1:], strict=True))


def _round(state: State, batch: Batch, recipe: Recipe) -> tuple[float, ...]:
    model, clock, phase = state.model, _Clock(recipe.placement.device), recipe.phases[0]
    weights, learning = state.weights(), state.learning()
    arguments = (model, batch.tokens_BS, batch.documents_BS, recipe, phase)
    forward_pass(*arguments, objective_of_step(batch, phase))[1].backward()
    microbatch = clock.lap()
    with torch.no_grad():
        forward_pass(*arguments)
    forward = clock.lap()
    gradients = {name: weight.grad for name, weight in learning.items() if weight.grad is not None}
    for gradient in gradients.values():
        model.ops.add_into(gradient, gradient)
    adding = clock.lap()
    model.ops.norm_of([*gradients.values()])
    state.step += 1
    with torch.no_grad():
        lr = learning_rate(phase, state.step)
        recipe.optimizer.update(
            model.ops, Update(state.step, lr, 1e-3, weights, gradients, state.optimizer, ALONE)
        )
    state.roots()
    updating = clock.lap()
    model.zero_grad(set_to_none=True)
    return microbatch, forward, adding, updating


class _Clock:
    """Seconds since the last lap, when the device has done everything asked of it."""

    def __init__(self, device: str) -> None:
        self._cuda, self._last = device == "cuda", time.perf_counter()

    def lap(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        before, self._last = self._last, time.perf_counter()
        return self._last - before
