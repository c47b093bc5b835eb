"""Requests become tokens as lm-eval makes them, and are answered in order."""

from __future__ import annotations

import math

import pytest

from pellucid.errors import RequestUnfit
from pellucid.evaluate.asking import answers
from pellucid.evaluate.scoring import Asked, Scorer
from pellucid.record.requests import (
    Choices,
    Continue,
    Generate,
    Ids,
    Likelihoods,
    Request,
    Rolling,
    Text,
)

CONTEXT = "the cat sat on"


def likelihood(scorer: Scorer, context: list[int], tokens: list[int]) -> float:
    ((score,),) = scorer.likelihoods([Asked(context, [tokens])])
    return score.nats


def nats(scorer: Scorer, request: Request) -> tuple[float, ...]:
    (answer,) = answers(scorer, [request])
    assert isinstance(answer, Likelihoods)
    return answer.nats


def test_a_choice_has_the_tokens_behind_those_of_its_context(scorer: Scorer) -> None:
    encode = scorer.tokenizer.encode
    for choice in (" the mat", " it"):
        before, whole = encode(CONTEXT), encode(CONTEXT + choice)
        wanted = likelihood(scorer, before, whole[len(before) :])
        assert nats(scorer, Choices(CONTEXT, (choice,))) == (wanted,)


def test_blanks_at_the_end_of_a_context_belong_to_the_choices(scorer: Scorer) -> None:
    choices = nats(scorer, Choices(CONTEXT, (" the mat", " it")))
    assert nats(scorer, Choices(CONTEXT + " ", ("the mat", "it"))) == choices
    assert nats(scorer, Choices(CONTEXT, ("the mat", "it"))) != choices


def test_without_a_context_the_document_token_stands_for_it(scorer: Scorer) -> None:
    first, tokens = [scorer.tokenizer.document_token], scorer.tokenizer.encode("the")
    assert nats(scorer, Choices("", ("the",))) == (likelihood(scorer, first, tokens),)


def test_a_choice_without_a_token_of_its_own_is_named(scorer: Scorer) -> None:
    whole = next(
        text
        for text in (f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "aeinorst")
        if len(scorer.tokenizer.encode(text)) == 1
    )
    with pytest.raises(RequestUnfit, match="no token of its own"):
        list(answers(scorer, [Choices(whole[:1], (whole[1:],))]))


def test_a_whole_text_is_the_sum_of_its_windows(scorer: Scorer) -> None:
    texts = [" ".join(["the cat sat on the mat"] * count) for count in (1, 40, 3)]
    given = list(answers(scorer, [Rolling(text) for text in texts]))
    for text, answer in zip(texts, given, strict=True):
        windows = scorer.rolling(scorer.tokenizer.encode(text))
        alone = [likelihood(scorer, [*w.context], [*w.continuations[0]]) for w in windows]
        assert isinstance(answer, Likelihoods) and answer.nats == (math.fsum(alone),)
    assert len(scorer.rolling(scorer.tokenizer.encode(texts[1]))) > 1


def test_requests_of_any_order_are_answered_in_theirs(scorer: Scorer) -> None:
    asked: list[Request] = [
        Choices(CONTEXT, (" a", " b")),
        Generate(CONTEXT, (), 4),
        Rolling(CONTEXT),
        Rolling("a"),
        Continue((1, 2, 3), 4),
        Choices(CONTEXT, (" c",)),
    ]
    given = list(answers(scorer, asked))
    assert given == [next(answers(scorer, [request])) for request in asked]
    kinds = [Likelihoods, Text, Likelihoods, Likelihoods, Ids, Likelihoods]
    assert [type(answer) for answer in given] == kinds
