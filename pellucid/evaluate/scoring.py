"""Requests scored by the model of a step: log-likelihoods and greedy texts, in the order asked.

How a request becomes tokens, and what is cut where a text is longer than the context, follows
lm-eval 0.4.13 (api/model.py, TemplateLM; utils.py, get_rolling_token_windows), so that a task
gives the numbers that it gives there. On portable arithmetic an answer has the same bits on every
CPU, and whatever is asked beside it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import NamedTuple

import numpy as np
import torch

from pellucid.data.tokenizer import Tokenizer
from pellucid.evaluate.forward import Memory, Part, read
from pellucid.recipe import Recipe
from pellucid.train.state import State

ROWS = 2048  # Positions that one pass reads: more would not be faster.
TEXTS = 32  # Texts that are generated side by side.
_SHARED = 4  # A beginning shorter than this is read again for each choice.


class Likelihood(NamedTuple):
    """Of a text behind a context."""

    nats: float  # The logarithm of its probability: the exact sum over its tokens, rounded.
    greedy: bool  # Each of its tokens is the likeliest at its place.


class Asked(NamedTuple):
    """Continuations of one context, in tokens."""

    context: Sequence[int]
    continuations: Sequence[Sequence[int]]


class _Scored(NamedTuple):
    """A sequence whose last tokens are scored."""

    tokens: list[int]
    scored: int  # So many.

    @property
    def before(self) -> int:
        """Rows that nothing scored is read from."""
        return len(self.tokens) - 1 - self.scored


class Scorer:
    """The model of a state, asked without training it.

    rows: positions that one pass reads. No answer depends on it on portable arithmetic.
    """

    def __init__(
        self, state: State, tokenizer: Tokenizer, recipe: Recipe, rows: int = ROWS
    ) -> None:
        self.tokenizer, self.context, self._rows = tokenizer, recipe.model.context, rows
        self._model = state.model
        self._model.eval()
        self._model.enter(recipe.schedule.at(state.step))
        self._bf16 = recipe.train.precision == "bf16"

    # ---- log-likelihoods ------------------------------------------------------------------------

    def likelihoods(self, asked: Iterable[Asked]) -> Iterator[list[Likelihood]]:
        """Of every continuation; what the continuations of a context share is read once in a
        pass."""
        counts = deque[int]()

        def groups() -> Iterator[list[_Scored]]:
            for ask in asked:
                group = [self._cut(ask.context, continuation) for continuation in ask.continuations]
                counts.append(len(group))
                yield from _split(group, self._rows)

        packs = _packs(groups(), self._rows)
        scores = (score for pack in packs for group in self._scored(pack) for score in group)
        for first in scores:
            yield [first, *islice(scores, counts.popleft() - 1)]

    def rolling(self, tokens: Sequence[int]) -> list[Asked]:
        """The windows in which a whole text is scored: disjoint targets, the first behind the
        document token, the last filled with what stands before it."""
        first = [self.tokenizer.document_token]
        windows, C = [], self.context
        for start in range(0, len(tokens), C):
            targets = tokens[start : start + C]
            if not start:
                windows.append(Asked(first, [targets]))
            else:
                end = start + len(targets)
                windows.append(Asked(tokens[end - C - 1 : start], [targets]))
        return windows

    def _cut(self, context: Sequence[int], continuation: Sequence[int]) -> _Scored:
        tokens = [*context, *continuation][-self.context - 1 :]
        return _Scored(tokens, min(len(continuation), len(tokens) - 1))

    def _scored(self, groups: list[list[_Scored]]) -> Iterator[list[Likelihood]]:
        shared = [_shared(group) for group in groups]
        memories = [Memory() for _ in groups]
        begun = [
            Part(memory, group[0].tokens[:count])
            for group, memory, count in zip(groups, memories, shared, strict=True)
            if count
        ]
        if begun:
            self._read(begun)
        parts, rows, targets, past = [], list[int](), list[int](), 0
        for group, memory, count in zip(groups, memories, shared, strict=True):
            for sequence in group:
                parts.append(Part(memory.copy(), sequence.tokens[count:-1]))
                rows.extend(range(past + sequence.before - count, past + len(parts[-1].tokens)))
                targets.extend(sequence.tokens[sequence.before + 1 :])
                past += len(parts[-1].tokens)
        nats, greedy = self._of_rows(parts, rows, targets)
        places = iter(range(len(targets)))
        for group in groups:
            answers = []
            for sequence in group:
                own = [next(places) for _ in range(sequence.scored)]
                log = -math.fsum(nats[place] for place in own)
                answers.append(Likelihood(log, all(greedy[place] for place in own)))
            yield answers

    def _of_rows(
        self, parts: list[Part], rows: list[int], targets: list[int]
    ) -> tuple[list[float], list[bool]]:
        """Of each of these rows the loss of its target, and whether that is the likeliest."""
        x_1ND, head_VD = self._read(parts)
        x_1MD = x_1ND[:, torch.tensor(rows, device=x_1ND.device)].contiguous()
        targets_1M = torch.tensor([targets], device=x_1ND.device)
        with torch.no_grad(), self._precision():
            said, _ = self._model.ops.loss(x_1MD, head_VD, targets_1M)
        greedy = self._likeliest(x_1MD, head_VD) == np.array(targets)
        return said.losses_BT[0].tolist(), greedy.tolist()

    # ---- texts ----------------------------------------------------------------------------------

    def generate(self, asked: Iterable[tuple[Sequence[int], Sequence[str], int]]) -> Iterator[str]:
        """Behind (context, stop strings, tokens) the likeliest token after each other: to the first
        stop string or the document token, neither included, and at most so many."""
        remaining = iter(asked)
        while texts := [_Text(self, *ask) for ask in islice(remaining, TEXTS)]:
            while going := [text for text in texts if not text.ended]:
                x_1ND, head_VD = self._read([text.part() for text in going])
                ends = [*accumulate(len(text.unread) for text in going)]
                last = torch.tensor(ends, device=x_1ND.device) - 1
                chosen = self._likeliest(x_1ND[:, last].contiguous(), head_VD)
                for text, token in zip(going, chosen.tolist(), strict=True):
                    text.take(token)
            yield from (text.text for text in texts)

    # ---- the model ------------------------------------------------------------------------------

    def _read(self, parts: list[Part]) -> tuple[torch.Tensor, torch.Tensor]:
        with self._precision():
            return read(self._model, parts)

    def _likeliest(self, x_1MD: torch.Tensor, head_VD: torch.Tensor) -> np.ndarray:
        """The likeliest token of each row, the lowest of equals: shape (M,)."""
        with torch.no_grad(), self._precision():
            (logits_1MV,) = self._model.ops.linears(x_1MD, head_VD)
        return logits_1MV[0].float().numpy(force=True).argmax(1)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._bf16)


class _Text:
    """A text that grows by the likeliest token after each other."""

    def __init__(
        self, scorer: Scorer, context: Sequence[int], stops: Sequence[str], tokens: int
    ) -> None:
        self._tokenizer, self._stops, self._left = scorer.tokenizer, stops, tokens
        kept = max(1, scorer.context - tokens)
        self.unread = [*context][-kept:] or [self._tokenizer.document_token]
        self._left = min(tokens, scorer.context - len(self.unread) + 1)
        self._memory, self._tokens = Memory(), list[int]()
        self.text, self.ended = "", False

    def part(self) -> Part:
        return Part(self._memory, self.unread)

    def take(self, token: int) -> None:
        self._left -= 1
        if token == self._tokenizer.document_token:
            self.ended = True
            return
        self._tokens.append(token)
        self.unread = [token]
        # Decoded whole each time: one character may be several tokens.
        self.text = self._tokenizer.decode(self._tokens)
        places = [place for stop in self._stops if (place := self.text.find(stop)) >= 0]
        if places:
            self.text = self.text[: min(places)]
        self.ended = bool(places) or not self._left


def _shared(group: Sequence[_Scored]) -> int:
    """How many first tokens all sequences have in common of which nothing is scored."""
    if len(group) == 1:
        return 0
    most = min(sequence.before for sequence in group)
    first = group[0].tokens
    for sequence in group[1:]:
        while first[:most] != sequence.tokens[:most]:
            most -= 1
    return most if most >= _SHARED else 0


def _split(group: list[_Scored], rows: int) -> Iterator[list[_Scored]]:
    """A group in pieces of about so many rows: many long continuations would fill the memory."""
    shared, piece, size = _shared(group), list[_Scored](), 0
    for sequence in group:
        own = len(sequence.tokens) - shared
        if piece and size + own > rows:
            yield piece
            piece, size = [], 0
        piece.append(sequence)
        size += own if len(piece) > 1 else len(sequence.tokens)
    yield piece


def _packs(groups: Iterable[list[_Scored]], rows: int) -> Iterator[list[list[_Scored]]]:
    """Groups that one pass reads together, of about so many rows."""
    pack, size = list[list[_Scored]](), 0
    for group in groups:
        own = sum(len(sequence.tokens) for sequence in group) - (len(group) - 1) * _shared(group)
        if pack and size + own > rows:
            yield pack
            pack, size = [], 0
        pack.append(group)
        size += own
    if pack:
        yield pack
