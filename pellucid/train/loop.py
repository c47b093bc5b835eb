"""From step to step: the rows by the order, and the steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.errors import NotFinite
from pellucid.recipe import Recipe
from pellucid.train.events import Batch, Stepped
from pellucid.train.processes import ALONE, Processes, Word
from pellucid.train.state import State
from pellucid.train.step import training_step


def batch_of(order: Order, shards: Shards, step: int) -> Batch:
    """What a step trains on, by the order."""
    return Batch.of(shards, step, order.rows(step), order.phase(step).context)


def steps(
    state: State,
    recipe: Recipe,
    batch: Callable[[int], Batch],
    last: int,
    processes: Processes = ALONE,
) -> Iterator[Stepped]:
    """Take the steps after state's, up to and with `last`; state is
    that step's when it is yielded."""
    while state.step < last:
        next_batch = batch(state.step + 1)
        processes.tell(Word.STEP, next_batch.step)
        yield training_step(state, next_batch, recipe, processes)


def follow(
    state: State, recipe: Recipe, order: Order, shards: Shards, processes: Processes
) -> None:
    """What every process but the first does: its part of each step that the first one
    takes, until that one ends."""
    while (message := processes.told())[0] != Word.END:
        word, step, count = message
        if word == Word.STATE:
            order = order.along([processes.told()[1:] for _ in range(count)])
            state.step = step
            processes.share(state)
        else:
            with contextlib.suppress(NotFinite):  # The first process decides what follows from it.
                training_step(state, batch_of(order, shards, step), recipe, processes)
