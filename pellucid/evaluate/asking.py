"""Requests answered by a scorer, and how those in text become tokens, as lm-eval 0.4.13 does it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import RequestUnfit
from pellucid.evaluate.scoring import Asked, Scorer, common
from pellucid.record.requests import (
    Answer,
    Choices,
    Continue,
    Generate,
    Ids,
    Likelihoods,
    Request,
    Rolling,
    Text,
)


def answers(scorer: Scorer, requests: Iterable[Request]) -> Iterator[Answer]:
    """The answer to each request, in order. Raises RequestUnfit, TokensUnfit."""
    for kind, group in groupby(requests, type):
        if kind is Choices:
            yield from _choices(scorer, group)  # type: ignore[arg-type]
        elif kind is Rolling:
            yield from _rolling(scorer, group)  # type: ignore[arg-type]
        elif kind is Generate:
            yield from _generated(scorer, group)  # type: ignore[arg-type]
        else:
            yield from _continued(scorer, group)  # type: ignore[arg-type]


def _choices(scorer: Scorer, requests: Iterable[Choices]) -> Iterator[Answer]:
    asked = (_encoded(scorer.tokenizer, request) for request in requests)
    for scores in scorer.likelihoods(asked):
        nats, greedy = zip(*scores, strict=True)
        yield Likelihoods(nats, greedy)


def _encoded(tokenizer: Tokenizer, request: Choices) -> Asked:
    """Blanks at the end of a context go to the choices, whose tokens mostly begin with one.

    A token may hold the end of a context and the beginning of a choice, as a colon and the line
    break behind it. lm-eval then asks for what is behind that token, and the line break is in no
    token. Here the tokens of all choices begin where the first of them parts from the context."""
    context = request.context.rstrip()
    blanks = request.context[len(context) :]
    before, tokens = tokenizer.encode(context), list[list[int]]()
    shared = len(before)
    for choice in request.choices:  # Cut one by one: a long context is not held for each.
        whole = tokenizer.encode(context + blanks + choice)
        if (same := common([before[:shared], whole])) < shared:
            tokens = [before[same:shared] + ids for ids in tokens]
            shared = same
        tokens.append(whole[shared:])
    for choice, ids in zip(request.choices, tokens, strict=True):
        if not ids:
            raise RequestUnfit(choice=choice, context=request.context[-40:])
    # Of blanks alone, as of nothing, no token is left: the document token stands for them.
    return Asked(before[:shared] or [tokenizer.document_token], tokens)


def _rolling(scorer: Scorer, requests: Iterable[Rolling]) -> Iterator[Answer]:
    counts = deque[int]()

    def windows() -> Iterator[Asked]:
        """Of all texts, one behind the other, so that a pass reads several short ones."""
        for request in requests:
            own = scorer.rolling(scorer.tokenizer.encode(request.text))
            counts.append(len(own))
            yield from own

    scores = scorer.likelihoods(windows())
    for first in scores:
        own = [*first, *(score for (score,) in islice(scores, counts.popleft() - 1))]
        nats = math.fsum(score.nats for score in own)
        yield Likelihoods((nats,), (all(score.greedy for score in own),))


def _generated(scorer: Scorer, requests: Iterable[Generate]) -> Iterator[Answer]:
    asked = (
        (scorer.tokenizer.encode(request.context), request.stops, request.tokens)
        for request in requests
    )
    for text in scorer.generate(asked):
        yield Text(text)


def _continued(scorer: Scorer, requests: Iterable[Continue]) -> Iterator[Answer]:
    for ids in scorer.continuations((request.ids, request.tokens) for request in requests):
        yield Ids(ids)
