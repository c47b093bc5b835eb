"""Validation where it is due: the loss on texts that no step trains on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from pellucid.data.covered import Covered, covered
from pellucid.data.streams import Shards
from pellucid.errors import NotFinite
from pellucid.recipe import Recipe
from pellucid.schedule import Phase
from pellucid.train.events import Validated
from pellucid.train.state import State
from pellucid.train.step import forward_pass


def validate(state: State, recipe: Recipe, shards: Shards) -> Validated:
    """The loss on what validation covers of every stream that has any. Raises NotFinite."""
    sources = []
    state.model.eval()
    with torch.no_grad():
        for stream in covered(shards, recipe):  # A small source may have no validation document.
            loss_sum = math.fsum(_losses(state, recipe, stream))
            if not math.isfinite(loss_sum):
                description = f"the validation loss of {stream.source}"
                raise NotFinite(
                    step=state.step, quantity="validation", words=description, value=loss_sum
                )
            about = {"source": stream.source, "loss_sum": loss_sum}
            sources.append(about | {"tokens": stream.tokens - 1, "bytes": stream.bytes})
    state.model.train()
    return Validated(state.step, sources)


def _losses(state: State, recipe: Recipe, stream: Covered) -> Iterator[float]:
    """The loss of every token that is covered but the very first, in windows of the context that
    the state was trained with."""
    phase, count = recipe.schedule.at(state.step), stream.tokens
    T, rows = phase.context, phase.microbatch
    for start in range(0, count - 1, T * rows):
        stop = min(start + T * rows, count - 1)
        full = (stop - start) // T
        for first, number, width in ((start, full, T), (start + full * T, 1, (stop - start) % T)):
            if number and width:
                spans = [(first + row * T, first + row * T + width + 1) for row in range(number)]
                tokens = np.stack([stream.read(*span) for span in spans])
                documents = np.stack([stream.documents_at(*span) for span in spans])
                yield from (
                    losses_in_windows(state, recipe, phase, tokens, documents).ravel().tolist()
                )


def losses_in_windows(
    state: State, recipe: Recipe, phase: Phase, tokens_NS: np.ndarray, documents_NS: np.ndarray
) -> np.ndarray:
    """The loss of every target of N windows of S <= T + 1 tokens, (N, S - 1), float32,
    nats, a microbatch's rows at a time: of a row, bit for bit what a step of the phase
    after this state records of it."""
    rows = phase.microbatch
    parts = []
    with torch.no_grad():
        for first in range(0, len(tokens_NS), rows):
            part = slice(first, first + rows)
            outputs, _ = forward_pass(
                state.model, tokens_NS[part], documents_NS[part], recipe, phase
            )
            parts.append(outputs.losses_BT)
    return np.concatenate(parts)
