"""The life of a text: its loss at any step, beside the losses recorded when it was trained on.

A text is cut into windows of the model's context, T targets each and the last one shorter, in which every token but the
first is a target once. Windows of a document or a sequence are those it was trained in, so that the loss computed at a
step is, bit for bit, the one that the next step would record. Any other text begins as a document does, with the
document token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.streams import Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import TextEmpty
from pellucid.look.seen import recorded, total
from pellucid.look.show import Shown
from pellucid.replay.inputs import Inputs
from pellucid.replay.materialise import Watch, require_step, walk
from pellucid.store import layout
from pellucid.train.loop import losses_in_windows
from pellucid.train.state import State


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of tokens that the model sees at once, and those of its targets that belong to the text."""

    tokens_S: np.ndarray  # uint32, S = T + 1 or less.
    documents_S: np.ndarray  # int64: the document each token is of.
    counted_T: np.ndarray  # bool, S - 1.
    sequence: int | None  # The train sequence that it is; None where it is none.


@dataclass(frozen=True, slots=True)
class Moment:
    """A text at one step: the sum of the losses of each window's counted targets, in nats."""

    step: int
    sums: list[float]


@dataclass(frozen=True, slots=True)
class Life:
    """Losses of a text, recorded and computed."""

    windows: list[Window]
    seen: list[dict[str, Any]]  # Every time it was trained on: sequence, step, row, epoch, tokens, loss_sum, loss.
    moments: list[Moment]  # By step.

    @property
    def tokens(self) -> int:
        """Its targets."""
        return sum(int(one.counted_T.sum()) for one in self.windows)

    def as_json(self) -> dict[str, Any]:
        """windows: sequence and tokens of each; seen; at: step, tokens, loss_sum and loss (nats), sums by window."""
        tokens = [int(one.counted_T.sum()) for one in self.windows]
        windows = [{"sequence": one.sequence, "tokens": n} for one, n in zip(self.windows, tokens, strict=True)]
        at = [{"step": one.step, **total(zip(tokens, one.sums, strict=True)), "sums": one.sums} for one in self.moments]
        return {"tokens": sum(tokens), "windows": windows, "seen": self.seen, "at": at}


def life_of_document(inputs: Inputs, name: str, steps: Sequence[int], watch: Watch) -> Life:
    """A document's life: the windows are its sequences, or for validation their like, of which its own targets count.

    Raises DocumentUnknown, TextEmpty, and as life_of_text.
    """
    shown = Shown(inputs.folder)
    about = shown.document(name)
    rows = [shown.documents.get(index) for index in about["indices"]]
    streams = [(row["index"], shown.stream(row["source"], row["split"])) for row in rows]
    windows = [
        window
        for index, stream in streams
        if stream is not None
        for window in _of_document(stream, index, shown.shards.context)
    ]
    if not windows:
        raise TextEmpty(what=f"document {name}")
    return _life(inputs, windows, recorded(about["sequences"]), steps, watch)


def life_of_sequence(inputs: Inputs, number: int, steps: Sequence[int], watch: Watch) -> Life:
    """A train sequence's life. Raises as life_of_text."""
    about = Shown(inputs.folder).sequence(number)
    return _life(inputs, [_of_sequence(inputs, number)], recorded([about]), steps, watch)


def life_of_step(inputs: Inputs, number: int, steps: Sequence[int], watch: Watch) -> Life:
    """The life of the sequences that a step trained on, together, with what that step recorded. Raises as
    life_of_text."""
    require_step(inputs, number, taken=True)
    rows = Shown(inputs.folder).step(number)["sequences"]
    T = inputs.shards.context
    seen = [
        {"sequence": one["sequence"], "step": number, "row": one["row"], "epoch": one["epoch"], "tokens": T}
        | {"loss_sum": one["loss_sum"], "loss": one["loss"]}
        for one in rows
        if "loss" in one
    ]
    return _life(inputs, [_of_sequence(inputs, one["sequence"]) for one in rows], seen, steps, watch)


def life_of_text(inputs: Inputs, text: str, steps: Sequence[int], watch: Watch) -> Life:
    """The life of any text; where it was trained on is not looked for.

    watch is told (steps replayed, steps to replay).

    Raises TextEmpty, TextInvalid, StepUnknown, StateDiffers, LedgerDiffers.
    """
    tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)
    ids = np.array([tokenizer.document_token, *tokenizer.encode(text)], np.uint32)
    if len(ids) < 2:
        raise TextEmpty(what="the text")
    T = inputs.shards.context
    cuts = [ids[start : start + T + 1] for start in range(0, len(ids) - 1, T)]
    windows = [Window(cut, np.zeros(len(cut), np.int64), np.ones(len(cut) - 1, bool), None) for cut in cuts]
    return _life(inputs, windows, [], steps, watch)


def _life(
    inputs: Inputs, windows: list[Window], seen: list[dict[str, Any]], steps: Sequence[int], watch: Watch
) -> Life:
    wanted = sorted(set(steps))
    moments = [Moment(state.step, _sums(inputs, state, windows)) for state in walk(inputs, wanted, watch, keep=True)]
    return Life(windows, seen, moments)


def _sums(inputs: Inputs, state: State, windows: list[Window]) -> list[float]:
    """What each window's counted targets lose at a state, added as a step's record adds them. Windows of one width go
    through the model together."""
    sums = [0.0] * len(windows)
    for width in {len(one.tokens_S) for one in windows}:
        own = [index for index, one in enumerate(windows) if len(one.tokens_S) == width]
        tokens_NS = np.stack([windows[index].tokens_S for index in own])
        documents_NS = np.stack([windows[index].documents_S for index in own])
        losses_NT = losses_in_windows(state, inputs.recipe, tokens_NS, documents_NS)
        for index, losses_T in zip(own, losses_NT, strict=True):
            sums[index] = math.fsum(losses_T[windows[index].counted_T].tolist())
    return sums


def _of_document(stream: Stream, document: int, T: int) -> list[Window]:
    """The windows of a stream in which a document's tokens are targets.

    The stream's first token is nobody's target, and its last window may be short: then no step trains on it.
    """
    first, length = stream.token_of(document), stream.length_of(document)
    windows = []
    for number in range(max(first - 1, 0) // T, (first + length - 2) // T + 1):
        start, stop = number * T, min(number * T + T + 1, stream.tokens)
        if stop - start > 1:
            documents_S = stream.documents_at(start, stop)
            trained = stream.split == "train" and number < stream.sequences
            sequence = stream.first_sequence + number if trained else None
            windows.append(Window(stream.read(start, stop), documents_S, documents_S[1:] == document, sequence))
    return [one for one in windows if one.counted_T.any()]


def _of_sequence(inputs: Inputs, number: int) -> Window:
    documents_S = inputs.shards.documents_at(np.array([number]))[0]
    counted_T = np.ones(inputs.shards.context, bool)
    return Window(inputs.shards.sequence(number), documents_S, counted_T, number)
