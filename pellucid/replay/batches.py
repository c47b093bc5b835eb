"""The search over batches: which rows in other places, or of a step near
by, have the recorded root."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from pellucid.data.stage import Meter
from pellucid.record import merkle
from pellucid.recorder import row_leaves
from pellucid.replay.again import Again
from pellucid.replay.experiments import Hypothesis, Question
from pellucid.train.events import Batch

# Pairs of rows at most, in a batch and with each near it: those of 256 rows, all. Seconds.
_TRIED = 1 << 16


def batches(question: Question) -> Iterator[Hypothesis]:
    """Rows of the batch in another place, or rows of a step near it,
    that have the recorded root."""
    again, target = question.again, bytes.fromhex(question.target["batch"])
    recipe, batch = again.recipe, again.batch
    leaves = row_leaves(batch, recipe, again.inputs.identity.salts)
    rows, tree, near_by = range(len(leaves)), merkle.Levels(leaves), _steps_near(again)
    pairs = len(leaves) * (len(leaves) - 1) // 2
    total = min(pairs, _TRIED) + len(near_by) * min(len(leaves) + 2 * pairs, _TRIED)
    meter = Meter(question.search, "search", "batches", total=total)
    for row_a, row_b in itertools.islice(_pairs(len(leaves)), _TRIED):
        meter.add(1)
        if tree.root_with({row_a: leaves[row_b], row_b: leaves[row_a]}) == target:
            order = list(rows)
            order[row_a], order[row_b] = row_b, row_a
            description = (
                f"rows {row_a} and {row_b} of the batch were swapped: "
                f"{_sequences(batch, row_a, row_b)}"
            )
            yield _hypothesis("swapped", description, _rows_from(batch, batch, order), again, row_a)
    for step in near_by:
        near = again.batch_of(step)
        near_leaves = row_leaves(near, recipe, again.inputs.identity.salts)
        if merkle.root(near_leaves) == target:
            description = f"the batch is that of step {step}"
            yield _hypothesis(
                "batch of another step",
                description,
                _rows_from(near, near, list(rows), again.number),
                again,
                0,
            )
        same_rows = ((row, row) for row in rows)
        crossed = (
            pair
            for row_a, row_b in _pairs(len(leaves))
            for pair in ((row_a, row_b), (row_b, row_a))
        )
        for row, row_b in itertools.islice(itertools.chain(same_rows, crossed), _TRIED):
            meter.add(1)
            if tree.root_with({row: near_leaves[row_b]}) == target:
                mixed = _rows_from(batch, near, [row_b if row == place else None for place in rows])
                description = f"row {row} held {near.named(row_b)}, row {row_b} of step {step}"
                yield _hypothesis("another row", description, mixed, again, row)
    meter.tell()


def _steps_near(again: Again) -> list[int]:
    """Two steps before and after, but for those of another phase, which have other rows."""
    at, steps = again.recipe.schedule.at, range(again.number - 2, again.number + 3)
    own = at(again.number)
    return [
        step
        for step in steps
        if step > again.recipe.first and step != again.number and at(step) == own
    ]


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Every two of so many rows, those next to each other first."""
    return ((row, row + apart) for apart in range(1, count) for row in range(count - apart))


def _hypothesis(name: str, description: str, batch: Batch, again: Again, row: int) -> Hypothesis:
    return Hypothesis(
        name, description, lambda around: {"batch": batch}, microbatch=row // again.phase.microbatch
    )


def _sequences(batch: Batch, *rows: int) -> str:
    return ", ".join(f"{batch.named(row)} belongs in row {row}" for row in rows)


def _rows_from(
    batch: Batch, donor: Batch, order: list[int] | list[int | None], step: int | None = None
) -> Batch:
    """A batch of rows: row r is row order[r] of another batch, or, for None, as it was."""
    pick = [(batch, row) if place is None else (donor, place) for row, place in enumerate(order)]
    return dataclasses.replace(
        batch,
        step=batch.step if step is None else step,
        blocks_B=np.array([source.blocks_B[row] for source, row in pick]),
        starts_B=np.array([source.starts_B[row] for source, row in pick]),
        firsts_B=np.array([source.firsts_B[row] for source, row in pick]),
        epochs_B=np.array([source.epochs_B[row] for source, row in pick]),
        sources_B=[source.sources_B[row] for source, row in pick],
        tokens_BS=np.stack([source.tokens_BS[row] for source, row in pick]),
        documents_BS=np.stack([source.documents_BS[row] for source, row in pick]),
    )
