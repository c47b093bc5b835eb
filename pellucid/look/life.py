"""The life of a text: its loss at any step, beside the losses recorded when it was trained on.

A text is cut into windows of the shortest context that the run trains with, T targets each and the
last one shorter, in which every token but the first is a target once. Windows of a document or a
block are rows as a step with that context has them, and those of a step are its own rows, so that
the loss computed at a step is, bit for bit, the one that the next step would record. Any other text
begins as a document does, with the document token."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.data.covered import Covered, covered
from pellucid.data.streams import Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import TextEmpty
from pellucid.inputs import Inputs
from pellucid.look.seen import recorded, total
from pellucid.look.show import Shown
from pellucid.replay.materialise import Watch, require_step, walk
from pellucid.store import layout
from pellucid.train.state import State
from pellucid.train.validation import losses_in_windows


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of tokens that the model sees at once, and those of its
    targets that belong to the text."""

    tokens_S: np.ndarray  # uint32, S = T + 1 or less.
    documents_S: np.ndarray  # int64: the document each token is of.
    counted_T: np.ndarray  # bool, S - 1.
    block: int | None  # The train block that it lies in; None where it lies in none …
    start: int = 0  # … and at which of the block's ids it begins.


@dataclass(frozen=True, slots=True)
class Moment:
    """A text at one step: the sum of the losses of each window's counted targets, in nats."""

    step: int
    sums: list[float]


@dataclass(frozen=True, slots=True)
class Life:
    """Losses of a text, recorded and computed."""

    windows: list[Window]
    seen: list[dict[str, Any]]  # Every time it was trained on, as look/seen.py tells it.
    moments: list[Moment]  # By step.

    @property
    def tokens(self) -> int:
        """Its targets."""
        return sum(int(window.counted_T.sum()) for window in self.windows)

    def as_json(self) -> dict[str, Any]:
        """windows: block, start, tokens of each; seen; at: step, tokens, loss_sum and
        loss (nats), sums by window."""
        tokens = [int(window.counted_T.sum()) for window in self.windows]
        windows = [
            {"block": window.block, "start": window.start, "tokens": n}
            for window, n in zip(self.windows, tokens, strict=True)
        ]
        at = [
            {
                "step": moment.step,
                **total(zip(tokens, moment.sums, strict=True)),
                "sums": moment.sums,
            }
            for moment in self.moments
        ]
        return {"tokens": sum(tokens), "windows": windows, "seen": self.seen, "at": at}


def life_of_document(inputs: Inputs, name: str, steps: Sequence[int], watch: Watch) -> Life:
    """A document's life: the windows are rows that hold it, or for validation
    their like; its own targets count.

    Raises DocumentUnknown, TextEmpty, and as life_of_text.
    """
    shown = Shown(inputs.folder)
    about = shown.document(name)
    rows = [shown.documents.get(index) for index in about["indices"]]
    streams = [(row["index"], _stream_of(inputs, shown, row)) for row in rows]
    windows = [
        window
        for index, stream in streams
        if stream is not None
        for window in _of_document(stream, index, _context(inputs), shown.shards.block)
    ]
    if not windows:
        raise TextEmpty(what=f"document {name}")
    return _life(inputs, windows, recorded(about["blocks"]), steps, watch)


def _stream_of(inputs: Inputs, shown: Shown, row: Mapping[str, Any]) -> Stream | Covered | None:
    """What a document is read in: its stream, or what validation covers of it."""
    for part in covered(inputs.shards, inputs.recipe) if row["split"] == "validation" else ():
        if part.source == row["source"] and row["index"] in part.documents:
            return part
    return shown.stream(row["source"], row["split"])


def life_of_block(inputs: Inputs, number: int, steps: Sequence[int], watch: Watch) -> Life:
    """A train block's life. Raises as life_of_text."""
    about, T = Shown(inputs.folder).block(number), _context(inputs)
    windows = [_of_row(inputs, number, start, T) for start in range(0, inputs.shards.block, T)]
    return _life(inputs, windows, recorded([about]), steps, watch)


def life_of_step(inputs: Inputs, number: int, steps: Sequence[int], watch: Watch) -> Life:
    """The life of the rows that a step trained on, together, with what that step
    recorded. Raises as life_of_text."""
    require_step(inputs, number, taken=True)
    rows = Shown(inputs.folder).step(number)["rows"]
    T = inputs.order.phase(number).context
    seen = [
        {name: row[name] for name in ("block", "row", "epoch", "start", "loss_sum", "loss")}
        | {"step": number, "context": T, "tokens": T}
        for row in rows
        if "loss" in row
    ]
    return _life(
        inputs, [_of_row(inputs, row["block"], row["start"], T) for row in rows], seen, steps, watch
    )


def _context(inputs: Inputs) -> int:
    """Targets of a window: so many every phase had in sight."""
    return min(phase.context for phase in inputs.recipe.phases)


def life_of_text(inputs: Inputs, text: str, steps: Sequence[int], watch: Watch) -> Life:
    """The life of any text; where it was trained on is not looked for.

    watch is told (steps replayed, steps to replay).

    Raises TextEmpty, TextInvalid, StepUnknown, StateDiffers, LedgerDiffers.
    """
    tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)
    ids = np.array([tokenizer.document_token, *tokenizer.encode(text)], np.uint32)
    if len(ids) < 2:
        raise TextEmpty(what="the text")
    T = _context(inputs)
    cuts = [ids[start : start + T + 1] for start in range(0, len(ids) - 1, T)]
    windows = [
        Window(cut, np.zeros(len(cut), np.int64), np.ones(len(cut) - 1, bool), None) for cut in cuts
    ]
    return _life(inputs, windows, [], steps, watch)


def _life(
    inputs: Inputs,
    windows: list[Window],
    seen: list[dict[str, Any]],
    steps: Sequence[int],
    watch: Watch,
) -> Life:
    ascending = sorted(set(steps))
    moments = [
        Moment(state.step, _sums(inputs, state, windows))
        for state in walk(inputs, ascending, watch, keep=True)
    ]
    return Life(windows, seen, moments)


def _sums(inputs: Inputs, state: State, windows: list[Window]) -> list[float]:
    """What each window's counted targets lose at a state, added as a step's record adds them.
    Windows of one width go through the model together."""
    sums = [0.0] * len(windows)
    for width in {len(window.tokens_S) for window in windows}:
        own = [index for index, window in enumerate(windows) if len(window.tokens_S) == width]
        tokens_NS = np.stack([windows[index].tokens_S for index in own])
        documents_NS = np.stack([windows[index].documents_S for index in own])
        following = inputs.order.phase(state.step + 1)
        losses_NT = losses_in_windows(state, inputs.recipe, following, tokens_NS, documents_NS)
        for index, losses_T in zip(own, losses_NT, strict=True):
            sums[index] = math.fsum(losses_T[windows[index].counted_T].tolist())
    return sums


def _of_document(stream: Stream | Covered, document: int, T: int, block: int) -> list[Window]:
    """The windows of a stream, or of what validation covers of one, in which a
    document's tokens are targets.

    The stream's first token is nobody's target, and its last window may be short:
    then no step trains on it."""
    first, length = stream.token_of(document), stream.length_of(document)
    windows = []
    for begin in range(max(first - 1, 0) // T * T, first + length - 1, T):
        stop = min(begin + T + 1, stream.tokens)
        if stop - begin > 1:
            documents_S = stream.documents_at(begin, stop)
            number, start = divmod(begin, block)
            place: tuple[int | None, int] = (None, 0)
            if isinstance(stream, Stream) and stream.split == "train" and number < stream.blocks:
                place = stream.first_block + number, start
            windows.append(
                Window(stream.read(begin, stop), documents_S, documents_S[1:] == document, *place)
            )
    return [window for window in windows if window.counted_T.any()]


def _of_row(inputs: Inputs, block: int, start: int, T: int) -> Window:
    documents_BS, _ = inputs.shards.documents_of(np.array([block]), np.array([start]), T)
    return Window(
        inputs.shards.ids(block, start, T), documents_BS[0], np.ones(T, bool), block, start
    )
