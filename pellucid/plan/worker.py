"""Some steps of a recipe in a process of its own, or in several that torchrun started, for
measure.py: a job comes in as JSON, a line a step goes out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pellucid import machine, operations
from pellucid.data import stage
from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.plan.calibrate import generated
from pellucid.plan.estimate import read
from pellucid.recipe import Recipe
from pellucid.store import anchors, layout
from pellucid.train import processes
from pellucid.train.events import Batch
from pellucid.train.loop import batch_of
from pellucid.train.messages import joined
from pellucid.train.state import State, initial, restored
from pellucid.train.step import training_step


@dataclass(frozen=True, slots=True)
class Job:
    path: str  # A run or a recipe file.
    vocabulary: int
    arithmetic: str
    threads: int
    compiled: bool
    first: int  # The step whose state is stored in `place`, to go on from; 0: the initial one.
    state: str  # Its root, which the stored state must have.
    last: int  # The last step to take.
    place: str  # Where states are stored.
    die: bool  # Store the state of the last step, then be killed.


def work(job: Job, tell: Any) -> None:
    """Take the steps; tell hears of each its number, state, seconds, and
    the process's peak of memory."""
    folder, recipe = read(Path(job.path))
    recipe = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"arithmetic": job.arithmetic})}
    )
    ops = operations.of(job.arithmetic, recipe.placement.device)
    ops.configure(recipe.placement.device, job.threads)
    state = _state(recipe, job)
    if job.compiled:
        state.model.losses = torch.compile(state.model.losses)  # type: ignore[method-assign]
    several = processes.count() > 1
    with (
        joined(folder, recipe.placement.device)
        if several
        else contextlib.nullcontext(processes.ALONE) as together
    ):
        for batch in batches(folder, recipe, job.vocabulary, job.first, job.last):
            stepped = training_step(state, batch, recipe, together)
            root = state.roots()
            tell(
                {
                    "step": state.step,
                    "state": root.state.hex(),
                    "seconds": stepped.seconds,
                    "peak": machine.peak(),
                }
            )
        if together.rank:
            together.told()  # That this is the end.
    if job.die:
        about = anchors.about(
            {"step": state.step, "n": 0, "weights": "", "state": ""}, state.roots()
        )
        anchors.write(layout.anchor(Path(job.place), state.step), state.groups(), about, None)
        os.kill(os.getpid(), signal.SIGKILL)


def _state(recipe: Recipe, job: Job) -> State:
    if not job.first:
        return initial(recipe, job.vocabulary)
    groups, _ = anchors.check(layout.anchor(Path(job.place), job.first), job.first, job.state)
    return restored(recipe, job.vocabulary, job.first, groups)


def batches(
    folder: Path, recipe: Recipe, vocabulary: int, first: int, last: int
) -> Iterator[Batch]:
    """Those of the steps after first: the run's own where its data is prepared, else generated."""
    if (folder / stage.DATA).is_file():
        shards = Shards.open(folder)
        order = Order.of(folder, recipe, shards)
        yield from (batch_of(order, shards, step) for step in range(first + 1, last + 1))
    else:
        yield from (batch for batch in generated(recipe, vocabulary, last) if batch.step > first)


def main() -> None:
    processes.follow_launcher()
    machine.settle()
    speaks = processes.rank() == 0
    work(
        Job(**json.loads(sys.argv[1])),
        lambda about: print(json.dumps(about), flush=True) if speaks else None,
    )


if __name__ == "__main__":
    main()
