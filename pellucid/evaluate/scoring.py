"""Requests scored by a model: log-likelihoods and greedy texts, in the order asked.

How a request becomes tokens, and what is cut where a text is longer than the context, follows
lm-eval 0.4.13 (api/model.py, TemplateLM; utils.py, get_rolling_token_windows), so that a task
gives the numbers that it gives there. On portable arithmetic an answer has the same bits on every
CPU, and whatever is asked beside it."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import TokensUnfit
from pellucid.evaluate.forward import Memory, Part, nothing, read
from pellucid.model import Decoder
from pellucid.operations import portable
from pellucid.recipe import Recipe
from pellucid.record.requests import Continue, misfit
from pellucid.train.state import State

ROWS = 2048  # Positions that one pass reads: more would not be faster.
TEXTS = 128  # Texts that grow side by side, at most: more would not be faster.
POSITIONS = 1 << 14  # That they may come to, so that their keys and values fit in memory.
_SHARED = 4  # A beginning shorter than this is read again for each choice,
_SHOTS = 32  # and one shorter than this for each question.


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
    def beginning(self) -> list[int]:
        """Of it nothing is scored, nor does a row that is."""
        return self.tokens[: self.before]

    @property
    def before(self) -> int:
        """Rows that nothing scored is read from."""
        return len(self.tokens) - 1 - self.scored


class Scorer:
    """A model, asked without training it."""

    def __init__(
        self, model: Decoder, tokenizer: Tokenizer, bf16: bool = False, rows: int = ROWS
    ) -> None:
        """rows: positions that one pass reads. No answer depends on it on portable arithmetic."""
        self.tokenizer, self.context, self._rows = tokenizer, model.shape.context, rows
        self._model, self._bf16 = model, bf16
        self._model.eval()
        self._begun = list[int](), nothing(model)  # What the last pass began with.

    @classmethod
    def of(cls, state: State, tokenizer: Tokenizer, recipe: Recipe) -> Scorer:
        """The model of a run's state."""
        state.model.enter(recipe.schedule.at(state.step))
        return cls(state.model, tokenizer, recipe.train.precision == "bf16")

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
        start = self._beginning([sequence.beginning for group in groups for sequence in group])
        shared = [max(start.length, _shared(group)) for group in groups]
        memories = [start.copy() for _ in groups]
        begun = [
            Part(memory, group[0].tokens[start.length : count])
            for group, memory, count in zip(groups, memories, shared, strict=True)
            if count > start.length
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
        ends = [*accumulate(sequence.scored for group in groups for sequence in group)]
        spans = [range(first, last) for first, last in pairwise([0, *ends])]
        likelihoods = iter(self._of_rows(parts, rows, targets, spans))
        for group in groups:
            yield [*islice(likelihoods, len(group))]

    def _of_rows(
        self, parts: list[Part], rows: list[int], targets: list[int], spans: list[range]
    ) -> list[Likelihood]:
        """Of the targets of these rows, by spans of them."""
        x_1ND, head_VD = self._read(parts)
        x_1MD = x_1ND[:, torch.tensor(rows, device=x_1ND.device)].contiguous()
        targets_1M = torch.tensor([targets], device=x_1ND.device)
        with torch.no_grad(), self._computing():
            said, _ = self._model.ops.loss(x_1MD, head_VD, targets_1M)
        losses = said.losses_BT[0].tolist()

        def likeliest(places: list[int]) -> list[bool]:
            chosen = self._likeliest(x_1MD[:, places].contiguous(), head_VD)
            return [bool(chosen[at] == targets[place]) for at, place in enumerate(places)]

        # A text is greedy if each of its tokens is, and the token with the greatest loss seldom is.
        greedy = likeliest([max(span, key=losses.__getitem__) for span in spans])
        for number, span in enumerate(spans):
            if greedy[number] and len(span) > 1:
                greedy[number] = all(likeliest([*span]))
        return [
            Likelihood(-math.fsum(losses[place] for place in span), greedy[number])
            for number, span in enumerate(spans)
        ]

    def _beginning(self, texts: list[list[int]]) -> Memory:
        """What all of these begin with, such as shots; it is read once, also for those of the pass
        before."""
        tokens = texts[0][: common(texts)]
        known, memory = self._begun
        same = common([known, tokens])
        if len(tokens) < _SHOTS:
            return nothing(self._model)
        if same < len(tokens):
            memory = memory.copy(same)
            self._read([Part(memory, tokens[same:])])
            self._begun = tokens, memory
        return memory.copy(len(tokens))

    # ---- texts ----------------------------------------------------------------------------------

    def generate(self, asked: Iterable[tuple[Sequence[int], Sequence[str], int]]) -> Iterator[str]:
        """Behind (context, stop strings, tokens) the likeliest token after each other: to the first
        stop string or the document token, neither included, and at most so many."""
        for text in self._grown(_Text(self, *ask) for ask in asked):
            yield text.text

    def continuations(
        self, asked: Iterable[tuple[Sequence[int], int]]
    ) -> Iterator[tuple[int, ...]]:
        """Behind each of these token ids the likeliest token after each other, exactly so many.
        Raises TokensUnfit."""
        for grown in self._grown(self._tokens(*ask) for ask in asked):
            yield tuple(grown.tokens)

    def _tokens(self, ids: Sequence[int], count: int) -> _Tokens:
        vocabulary = self._model.get_parameter("model.embed_tokens.weight").shape[0]
        if detail := misfit(Continue(tuple(ids), count), vocabulary, self.context):
            raise TokensUnfit(count=len(ids), detail=detail)
        return _Tokens(ids, count)

    def _grown(self, beginnings: Iterator[Grows]) -> Iterator[Grows]:
        """Texts grown to their ends, side by side."""
        for texts in _side_by_side(beginnings):
            start = self._beginning([text.unread[:-1] for text in texts])
            for text in texts:
                text.begin(start)
            while going := [text for text in texts if not text.ended]:
                x_1ND, head_VD = self._read([text.part() for text in going])
                ends = [*accumulate(len(text.unread) for text in going)]
                last = torch.tensor(ends, device=x_1ND.device) - 1
                chosen = self._likeliest(x_1ND[:, last].contiguous(), head_VD)
                for text, token in zip(going, chosen.tolist(), strict=True):
                    text.take(token)
            yield from texts

    # ---- the model ------------------------------------------------------------------------------

    def _read(self, parts: list[Part]) -> tuple[torch.Tensor, torch.Tensor]:
        with self._computing():
            return read(self._model, parts)

    def _likeliest(self, x_1MD: torch.Tensor, head_VD: torch.Tensor) -> np.ndarray:
        """The likeliest token of each row, the lowest of equals: shape (M,)."""
        with torch.no_grad(), self._computing():
            (logits_1MV,) = self._model.ops.linears(x_1MD, head_VD)
        return logits_1MV[0].float().numpy(force=True).argmax(1)

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """In the recipe's precision. Between portable kernels torch only copies, a little at a
        time, and to wake its threads for that takes longer."""
        threads, ours = torch.get_num_threads(), self._model.ops is portable
        if ours:
            torch.set_num_threads(1)
        try:
            with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._bf16):
                yield
        finally:
            if ours:
                torch.set_num_threads(threads)


class _Tokens:
    """Tokens that grow by the likeliest one after each other, so many."""

    def __init__(self, context: Sequence[int], count: int) -> None:
        self.unread, self.tokens = [*context], list[int]()
        self._left = count

    @property
    def ended(self) -> bool:
        return not self._left

    @property
    def most(self) -> int:
        """Positions that it may come to."""
        return len(self.unread) + self._left

    def begin(self, memory: Memory) -> None:
        """What the memory holds of the context is read."""
        self._memory = memory.copy()
        self.unread = self.unread[memory.length :]

    def part(self) -> Part:
        return Part(self._memory, self.unread)

    def take(self, token: int) -> None:
        self.tokens.append(token)
        self.unread = [token]
        self._left -= 1


class _Text(_Tokens):
    """The same as a text, which a stop string or the document token ends."""

    def __init__(
        self, scorer: Scorer, context: Sequence[int], stops: Sequence[str], tokens: int
    ) -> None:
        self._tokenizer, self._stops = scorer.tokenizer, stops
        kept = max(1, scorer.context - tokens)
        unread = [*context][-kept:] or [self._tokenizer.document_token]
        super().__init__(unread, min(tokens, scorer.context - len(unread) + 1))
        self.text = ""

    def take(self, token: int) -> None:
        if token == self._tokenizer.document_token:
            self._left = 0
            return
        super().take(token)
        # Decoded whole each time: one character may be several tokens.
        self.text = self._tokenizer.decode(self.tokens)
        places = [place for stop in self._stops if (place := self.text.find(stop)) >= 0]
        if places:
            self.text, self._left = self.text[: min(places)], 0


Grows = TypeVar("Grows", bound=_Tokens)


def _side_by_side(texts: Iterable[Grows]) -> Iterator[list[Grows]]:
    """Texts in their order, by TEXTS and POSITIONS."""
    taken, size = list[Grows](), 0
    for text in texts:
        if taken and (len(taken) == TEXTS or size + text.most > POSITIONS):
            yield taken
            taken, size = [], 0
        taken.append(text)
        size += text.most
    if taken:
        yield taken


def _shared(group: Sequence[_Scored]) -> int:
    """How many first tokens all sequences have in common of which nothing is scored."""
    if len(group) == 1:
        return 0
    most = common([sequence.beginning for sequence in group])
    return most if most >= _SHARED else 0


def common(texts: Sequence[list[int]]) -> int:
    """With how many equal tokens all texts begin."""
    first, last = min(texts), max(texts)  # In the order of words: all others lie between.
    pairs = enumerate(zip(first, last, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(first), len(last)))


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
