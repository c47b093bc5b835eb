"""Ways to take a step dishonestly. Each trick takes the steps it leaves alone as they should be taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid import operations
from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.recipe import load
from pellucid.train.events import Batch, Stepped
from pellucid.train.loop import batch_of
from pellucid.train.state import State
from tests.forgery.forge import Trick, arrays_of, copied, honest, norm_of, put_anchor, put_back

STEP = 7  # No anchor lies at it, and those before and after it are audited without it: from 4 to 5, from 8 on.


def replaced_weights(state: State, batch: Batch, recipe: Any) -> Stepped:
    """replaced weights mid-run, the run going on from them"""
    stepped = honest(state, batch, recipe)
    if state.step == STEP:
        for weight in state.model.parameters():
            weight.data.mul_(1.001)
    return dataclasses.replace(stepped, weight_norm=norm_of(state))


def skipped(state: State, batch: Batch, recipe: Any) -> Stepped:
    """a step never taken: the state before it under its name"""
    before = copied(state)
    stepped = honest(state, batch, recipe)
    if state.step == STEP:
        put_back(state, before)
    return dataclasses.replace(stepped, weight_norm=norm_of(state))


def shifted_labels(state: State, batch: Batch, recipe: Any) -> Stepped:
    """labels shifted by one token"""
    model, losses = state.model, state.model.losses
    if state.step + 1 == STEP:
        model.losses = lambda inputs, targets, *rest: losses(inputs, targets.roll(1, dims=1), *rest)
    try:
        return honest(state, batch, recipe)
    finally:
        model.__dict__.pop("losses", None)


def fine_tuned(state: State, batch: Batch, recipe: Any) -> Stepped:
    """a last checkpoint trained on, beyond its step, and the ledger made to end there"""
    stepped = honest(state, batch, recipe)
    if state.step == recipe.train.steps:
        for _ in range(3):
            state.step -= 1
            honest(state, batch, recipe)
        stepped = dataclasses.replace(stepped, weight_norm=norm_of(state))
    return stepped


def zeroed_moments(state: State, batch: Batch, recipe: Any) -> Stepped:
    """a wrong optimizer state: the weights right, the moments zero"""
    stepped = honest(state, batch, recipe)
    if state.step == STEP:
        for group in ("first", "second"):
            for moment in arrays_of(state)[group]:
                moment.zero_()
    return stepped


def other_learning_rate(state: State, batch: Batch, recipe: Any) -> Stepped:
    """another learning rate than the one recorded"""
    return _with_train(state, batch, recipe, lr=recipe.train.lr * 1.01)


def no_clipping(state: State, batch: Batch, recipe: Any) -> Stepped:
    """gradient clipping switched off for one step"""
    return _with_train(state, batch, recipe, clip=1e9)


def no_weight_decay(state: State, batch: Batch, recipe: Any) -> Stepped:
    """weight decay left out of one step"""
    return _with_train(state, batch, recipe, weight_decay=0.0)


def _with_train(state: State, batch: Batch, recipe: Any, **changed: float) -> Stepped:
    used = recipe
    if state.step + 1 == STEP:
        used = recipe.model_copy(update={"train": recipe.train.model_copy(update=changed)})
    stepped = honest(state, batch, used)
    from pellucid.train.schedule import learning_rate

    return dataclasses.replace(stepped, lr=learning_rate(recipe.train, state.step))


def between_states(state: State, batch: Batch, recipe: Any) -> Stepped:
    """a state interpolated between two real ones"""
    before = copied(state)
    stepped = honest(state, batch, recipe)
    if state.step == STEP:
        after = copied(state)
        middle = {group: [(a + b) / 2 for a, b in zip(before[group], after[group], strict=True)] for group in before}
        put_back(state, middle)
        stepped = dataclasses.replace(stepped, weight_norm=norm_of(state))
    return stepped


def other_arithmetic(state: State, batch: Batch, recipe: Any) -> Stepped:
    """a step computed by PyTorch's arithmetic in a run that claims the portable one"""
    model, own = state.model, (state.model.ops, state.model.cos, state.model.sin)
    if state.step + 1 == STEP:
        native, shape = operations.of("native"), model.shape
        cos, sin = native.rotary(shape.context, shape.width // shape.heads, shape.rope_theta)
        model.ops, model.cos, model.sin = native, cos, sin
    try:
        return honest(state, batch, recipe)
    finally:
        model.ops, model.cos, model.sin = own


# ---- tricks that need another place -------------------------------------------------------------


def spliced(other: Path) -> Trick:
    """a spliced branch: from the step on, the states of another seed's run"""

    def trick(state: State, batch: Batch, recipe: Any) -> Stepped:
        if state.step == 8:
            put_anchor(state, other / "anchors/step8")
        return honest(state, batch, recipe)

    return trick


def stolen(other: Path) -> Trick:
    """somebody else's model, and a way to it: every state between the first one and the stolen last one"""
    first: dict[str, list[torch.Tensor]] = {}

    def trick(state: State, batch: Batch, recipe: Any) -> Stepped:
        first.update(first or copied(state))
        stepped = honest(state, batch, recipe)
        put_anchor(state, other / "anchors/step13")
        last, share = copied(state), state.step / recipe.train.steps
        for group, tensors in last.items():
            for target, source in zip(tensors, first[group], strict=True):
                target.lerp_(source, 1 - share)
        put_back(state, last)
        return dataclasses.replace(stepped, weight_norm=norm_of(state))

    return trick


def other_tokens(folder: Path, how: str) -> Trick:
    """A trick that trains on other tokens than those of the batch it claims."""
    recipe, shards = load(folder), Shards.open(folder)
    order = Order.of(folder, recipe, shards)

    def tokens_of(batch: Batch) -> np.ndarray:
        S = batch.tokens_BS.shape[1]
        if how == "validation":
            return np.stack([shards.validation[0].read(row * 20, row * 20 + S) for row in range(len(batch.tokens_BS))])
        if how == "doubled rows":
            return np.repeat(batch.tokens_BS[:1], len(batch.tokens_BS), axis=0)
        number = {"repeated": batch.number - 1, "later": batch.number + 20}[how]
        return batch_of(order, shards, batch.step, number).tokens_BS

    def swapped(batch: Batch) -> np.ndarray:
        number = {STEP - 1: STEP, STEP: STEP - 1}.get(batch.number, batch.number)
        return batch_of(order, shards, batch.step, number).tokens_BS

    def trick(state: State, batch: Batch, recipe: Any) -> Stepped:
        tokens = batch.tokens_BS
        if how == "swapped":
            tokens = swapped(batch)
        elif state.step + 1 == STEP:
            tokens = tokens_of(batch)
        return dataclasses.replace(honest(state, dataclasses.replace(batch, tokens_BS=tokens), recipe), batch=batch)

    return trick
