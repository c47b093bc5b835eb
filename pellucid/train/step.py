"""One training step, top to bottom."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch

from pellucid.errors import GroupCut, NotFinite, WeightsMissing
from pellucid.model import Decoder
from pellucid.objectives import Minimised, Said, Use
from pellucid.optimizers.base import Update
from pellucid.recipe import Recipe
from pellucid.record.entries import Microbatch
from pellucid.record.rows import NO_GROUP
from pellucid.schedule import Phase
from pellucid.store import tensors
from pellucid.train.events import Batch, Stepped
from pellucid.train.gradients import GradientTree
from pellucid.train.processes import ALONE, Processes
from pellucid.train.state import State


def training_step(
    state: State, batch: Batch, recipe: Recipe, processes: Processes = ALONE
) -> Stepped:
    """Take one step: changes state in place. Raises NotFinite, and then the step is not to be
    recorded; before it changes anything GroupCut, WeightsMissing.

    Of several processes each takes it, and each has all of what it did. Raises ProcessLost,
    ProcessDiffers."""
    started = time.perf_counter()
    model, schedule = state.model, recipe.schedule
    phase, lr = schedule.at(state.step + 1), schedule.learning_rate(state.step + 1)
    model.enter(phase)
    weights, learning = state.weights(), state.learning()
    step_objective = objective_of_step(batch, phase)
    records = _empty_records(batch, phase)

    # Not at the end of the step before: freed there, their memory goes back to the system and is
    # fetched anew, page by page, which costs 3% of a step (docs/log.md, 2026-11-23).
    model.zero_grad(set_to_none=True)
    own_microbatches = processes.own(len(records))
    tree = GradientTree(model.ops, own_microbatches.start)
    for index in own_microbatches:
        records[index] = microbatch_step(model, batch, index, recipe, phase, step_objective)
        tree.add([weight.grad for weight in learning.values() if weight.grad is not None])
        model.zero_grad(set_to_none=True)

    sums = processes.total(tree, len(records), [*learning.values()])
    gradients = dict(zip(learning, sums, strict=True))
    for name, gradient in gradients.items():
        learning[name].grad = gradient
    grad_norm = model.ops.norm_of([*gradients.values()])
    weight_norm = math.nan
    not_finite = _not_finite(batch.step, "grad_norm", "the norm of the gradients", grad_norm)
    if not_finite is None:
        state.step += 1
        clip = recipe.train.clip / grad_norm if grad_norm > recipe.train.clip else 1.0
        with torch.no_grad():
            update = Update(state.step, lr, clip, weights, gradients, state.optimizer, processes)
            weight_norm = recipe.optimizer.update(model.ops, update)
        not_finite = _not_finite(batch.step, "weight_norm", "the norm of the weights", weight_norm)

    # Whatever this process found: were it to leave here alone, the others would wait for it.
    records = processes.completed(records)
    processes.agree(batch, grad_norm, weight_norm)
    if not_finite is not None:
        raise not_finite
    microbatches = [
        microbatch_of(record, step_objective.use.of(rows_of(index, phase)), recipe)
        for index, record in enumerate(records)
    ]
    losses_BT = np.concatenate(records["losses_bT"])
    seconds = time.perf_counter() - started
    return Stepped(batch, losses_BT, microbatches, lr, grad_norm, weight_norm, seconds)


def microbatch_step(
    model: Decoder,
    batch: Batch,
    index: int,
    recipe: Recipe,
    phase: Phase,
    step_objective: Minimised,
) -> tuple[np.ndarray, float, bytes]:
    """Forward and backward of one microbatch.

    Returns the losses of its targets, (b, T); its part of the objective; the root of its
    gradients, where the recipe commits to it. The gradients are left in the model."""
    rows = rows_of(index, phase)
    objective = step_objective.of(rows)
    said, scalar = forward_pass(
        model, batch.tokens_BS[rows], batch.documents_BS[rows], recipe, phase, objective
    )
    scalar.backward()
    value = objective.value(model.ops.FUNCTIONS, said)
    return said.losses_BT, value, _gradient_root(model, recipe)


def rows_of(index: int, phase: Phase) -> slice:
    """The rows of a microbatch."""
    return slice(index * phase.microbatch, (index + 1) * phase.microbatch)


def objective_of_step(batch: Batch, phase: Phase) -> Minimised:
    """What a step minimises, over all of its rows. Raises GroupCut, WeightsMissing."""
    use = batch.use
    if (divisor := phase.objective.divisor_of(use)) == 0:
        raise WeightsMissing(step=batch.step)
    grouped = np.flatnonzero(use.groups_B != NO_GROUP)
    places = np.stack([use.groups_B[grouped], (grouped // phase.microbatch).astype(np.uint64)])
    if np.unique(places, axis=1).shape[1] > len(np.unique(places[0])):
        raise GroupCut(step=batch.step, microbatch=phase.microbatch)
    return Minimised(phase.objective, use, divisor)


def forward_pass(
    model: Decoder,
    tokens_BS: np.ndarray,
    documents_BS: np.ndarray,
    recipe: Recipe,
    phase: Phase,
    objective: Minimised | None = None,
) -> tuple[Said, torch.Tensor]:
    """What the model says of every target at the recipe's precision; and a scalar from which
    backward of what is minimised begins."""
    model.enter(phase)
    tokens = torch.from_numpy(tokens_BS.astype(np.int64)).to(model.device)
    within = recipe.model.attention == "within"
    first_BT = (
        torch.from_numpy(first_seen(documents_BS[:, :-1])).to(model.device) if within else None
    )
    with torch.autocast(
        model.device.type, torch.bfloat16, enabled=recipe.train.precision == "bf16"
    ):
        return model.losses(tokens[:, :-1], tokens[:, 1:], objective, first_BT)


def first_seen(documents_BT: np.ndarray) -> np.ndarray:
    """The first position of the document that each position lies in, shape (B, T), int32."""
    begins_BT = np.ones(documents_BT.shape, bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    positions_BT = np.where(
        begins_BT, np.arange(documents_BT.shape[1], dtype=np.int32), np.int32(0)
    )
    return np.maximum.accumulate(positions_BT, axis=1)


def _empty_records(batch: Batch, phase: Phase) -> np.ndarray:
    """For each microbatch, room for the losses of its targets, its part of what is minimised and
    the root of its gradients."""
    B, S = batch.tokens_BS.shape
    b = phase.microbatch
    fields = [("losses_bT", "f4", (b, S - 1)), ("objective", "f8"), ("gradient_root", "V32")]
    return np.zeros(B // b, fields)


def _gradient_root(model: Decoder, recipe: Recipe) -> bytes:
    """Empty unless the recipe commits to the gradients of microbatches."""
    if recipe.record.commitment != "microbatches":
        return b""
    arrays = {
        name: p.grad.numpy(force=True) for name, p in model.named_parameters() if p.grad is not None
    }
    return tensors.group_root("gradients", arrays)


def microbatch_of(result: tuple[np.ndarray, float, Any], use: Use, recipe: Recipe) -> Microbatch:
    """What a microbatch's leaf holds, from what microbatch_step gave and how its rows are used."""
    losses_bT, value, root = result
    return Microbatch(
        tokens=losses_bT.size,
        weight=int(use.weights_BT.sum(dtype=np.uint64)),
        loss_sum=math.fsum(losses_bT.ravel().tolist()),
        objective=float(value),
        gradient_root=bytes(root) if recipe.record.commitment == "microbatches" else b"",
    )


def _not_finite(step: int, quantity: str, description: str, value: float) -> NotFinite | None:
    # A loss that is not finite makes the gradient norm so, and a weight the norm of the weights.
    return (
        None
        if math.isfinite(value)
        else NotFinite(step=step, quantity=quantity, words=description, value=value)
    )
