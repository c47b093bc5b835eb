"""Steps taken otherwise than the recipe says, and everything recorded
fitting them: only a replay tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from pellucid import operations, training
from pellucid.model import Decoder
from pellucid.recipe import Recipe
from pellucid.record import digests, entries
from pellucid.record.guards import Guards
from pellucid.record.history import History
from pellucid.store import anchors, layout
from pellucid.store.ledger import LedgerFile
from pellucid.train.events import Batch, Stepped, Validated
from pellucid.train.state import State, initial, restored
from tests.forgery.forge import (
    STEP,
    Step,
    at,
    change_state,
    copied,
    opened,
    train,
    with_optimizer,
    with_train,
)


def replaced(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, recipe)
    change_state(
        state, lambda group, _, array: array * np.float32(1.01) if group == "weights" else array
    )
    return stepped


def skipped(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    before = copied(state.groups())
    stepped = real(state, batch, recipe)
    change_state(state, lambda group, name, _: before[group][name])
    return stepped


def interpolated(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """Between two true states: near enough for a proof with a tolerance (docs/threats.md)."""
    before = copied(state.groups())
    stepped = real(state, batch, recipe)
    change_state(state, lambda group, name, array: (array + before[group][name]) / 2)
    return stepped


def one_bit(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, recipe)
    state.groups()["weights"]["model.norm.weight"].view(np.uint32)[0] ^= 1
    return stepped


def moments_zeroed(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, recipe)
    change_state(state, lambda group, _, array: array if group == "weights" else 0.0)
    return stepped


def labels_shifted(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    losses = Decoder.losses
    with mock.patch.object(
        Decoder, "losses", lambda self, x, y, *rest: losses(self, x, y.roll(1, 1), *rest)
    ):
        return real(state, batch, recipe)


def other_tokens(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    return replace(
        real(state, replace(batch, tokens_BS=batch.tokens_BS[:, ::-1].copy()), recipe), batch=batch
    )


def rows_repeated(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """The easiest half of the batch twice."""
    rows = [0, 1, 0, 1]
    seen = replace(batch, tokens_BS=batch.tokens_BS[rows], documents_BS=batch.documents_BS[rows])
    return replace(real(state, seen, recipe), batch=batch)


def other_recipe(**changes: Any) -> Callable[..., Stepped]:
    return lambda real, state, batch, recipe: real(state, batch, with_train(recipe, **changes))


def other_optimizer(**changes: Any) -> Callable[..., Stepped]:
    return lambda real, state, batch, recipe: real(state, batch, with_optimizer(recipe, **changes))


def faster(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, with_train(recipe, lr=2 * recipe.train.lr))
    return replace(stepped, lr=stepped.lr / 2)


def by_torch(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """PyTorch's arithmetic in a run that claims the portable one."""
    model, native, shape = state.model, operations.of("native", "cpu"), recipe.model
    cos, sin = native.rotary(shape.context, shape.width // shape.heads, shape.rope_theta)
    with mock.patch.multiple(model, ops=native, cos=cos, sin=sin):
        return real(state, batch, recipe)


def flattering(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """A better loss, and every segment, row and source fitted to it."""
    stepped = real(state, batch, recipe)
    stepped.losses_BT[:] *= np.float32(0.9)
    return stepped


def swapped(honest: Path, folder: Path) -> None:
    """Two steps with each other's data."""
    inputs, other = opened(honest), {6: 7, 7: 6}

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        if batch.step not in other:
            return real(state, batch, recipe)
        return replace(real(state, inputs.batch(other[batch.step]), recipe), batch=batch)

    train(honest, folder, cheat)


def spliced(honest: Path, folder: Path) -> None:
    """The steps from 8 on are another run's, whole: trained by another
    beta2 from the same seed on."""
    inputs = opened(honest)
    own = initial(inputs.recipe, inputs.vocabulary)

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        theirs = real(own, batch, with_optimizer(recipe, beta2=0.8))
        if batch.step < 8:
            return real(state, batch, recipe)
        groups = own.groups()
        change_state(state, lambda group, name, _: groups[group][name])
        state.step = batch.step
        return theirs

    train(honest, folder, cheat)


def validated_better(honest: Path, folder: Path, step: int = 10) -> None:
    real = training.validate

    def validate(state: State, *rest: Any) -> Validated:
        found = real(state, *rest)
        better = [one | {"loss_sum": 0.9 * one["loss_sum"]} for one in found.sources]
        return replace(found, sources=better) if state.step == step else found

    with mock.patch.object(training, "validate", validate):
        train(honest, folder)


def validated_on(honest: Path, folder: Path) -> None:
    """Trained on validation's tokens in the name of a batch."""
    validation = opened(honest).shards.validation[0]

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        rows, S = batch.tokens_BS.shape
        seen = np.stack([validation.read(20 * row, 20 * row + S) for row in range(rows)])
        return replace(real(state, replace(batch, tokens_BS=seen), recipe), batch=batch)

    train(honest, folder, at(STEP, cheat))


def invented(honest: Path, folder: Path) -> None:
    """Somebody else's last state, and on a straight line to it all states
    between: no step is like any."""
    last, first = (
        copied(anchors.read(layout.anchor(honest, 13))),
        copied(anchors.read(layout.anchor(honest, 0))),
    )
    # Not ours.
    last["weights"] = {name: array * np.float32(1.01) for name, array in last["weights"].items()}

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        stepped, share = real(state, batch, recipe), np.float32(batch.step / recipe.train.steps)
        change_state(
            state,
            lambda group, name, _: (1 - share) * first[group][name] + share * last[group][name],
        )
        return stepped

    train(honest, folder, cheat)


def trained_before(honest: Path, folder: Path) -> None:
    """Training before the first step, told to nobody."""
    inputs = opened(honest)
    groups = anchors.read(layout.anchor(honest, 13))
    with mock.patch.object(
        training, "first_state", lambda _: restored(inputs.recipe, inputs.vocabulary, 0, groups)
    ):
        train(honest, folder)


def invented_rollback(honest: Path, folder: Path) -> None:
    """A spike that none was, so that the batches of steps 7 to 9 are passed over."""
    real = Guards.step

    def step(self: Guards, body: dict[str, Any]) -> list[dict[str, Any]]:
        if body["step"] != 9 or self.history.branch:
            return real(self, body)
        about = {
            "rule": "loss",
            "value": body["loss"],
            "limit": digests.float_bits(0.1),
            "width": 1,
        }
        place = {"to": 6, "passed_over": 3, "branch": 1}
        return [entries.incident(9, {**about, "action": "rollback", **place})]

    with mock.patch.object(Guards, "step", step):
        train(honest, folder)
    assert LedgerFile(folder).history != History.begun(0)


def trained(cheat: Callable[..., Stepped], step: int = STEP) -> Callable[[Path, Path], None]:
    return lambda honest, folder: train(honest, folder, at(step, cheat))
