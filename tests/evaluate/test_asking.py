"""Requests become tokens as lm-eval makes them, but for letters that it loses, and are answered in
order."""

from __future__ import annotations

import math
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import RequestUnfit
from pellucid.evaluate.asking import _encoded, answers
from pellucid.evaluate.scoring import Asked, Scorer, common
from pellucid.inputs import Inputs
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
from pellucid.store import layout

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


def joined(scorer: Scorer) -> str:
    """Two letters that are one token."""
    pairs = (f"{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "aeinorst")
    return next(pair for pair in pairs if len(scorer.tokenizer.encode(pair)) == 1)


def test_a_token_of_context_and_choice_is_asked_whole(scorer: Scorer) -> None:
    """Else the choice would be asked behind a text that nobody wrote."""
    encode, pair = scorer.tokenizer.encode, joined(scorer)
    first, whole = [scorer.tokenizer.document_token], encode(pair)
    assert nats(scorer, Choices(pair[0], (pair[1],))) == (likelihood(scorer, first, whole),)
    context = f"{CONTEXT} {pair[0]}"
    choices = (f"{pair[1]} it", " mat")
    wholes = [encode(context + choice) for choice in choices]
    shared = common([encode(context), *wholes])
    assert shared < len(encode(context))
    wanted = tuple(likelihood(scorer, own[:shared], own[shared:]) for own in wholes)
    assert nats(scorer, Choices(context, choices)) == wanted
    assert nats(scorer, Choices(context, choices[::-1])) == wanted[::-1]


class Deaf:
    """A tokenizer that hears nothing of a choice."""

    document_token = 0

    def encode(self, text: str) -> list[int]:
        return [1]


def test_a_choice_without_a_token_of_its_own_is_named() -> None:
    with pytest.raises(RequestUnfit, match="no token of its own"):
        _encoded(cast(Tokenizer, Deaf()), Choices("the cat", (" sat",)))


@settings(deadline=None, max_examples=60)
@given(st.text("ab \n", max_size=12), st.lists(st.text("ab \n", min_size=1), min_size=1))
def test_no_letter_is_lost_between_context_and_choice(
    inputs: Inputs, context: str, choices: list[str]
) -> None:
    tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)
    before, tokens = _encoded(tokenizer, Choices(context, tuple(choices)))
    known = [] if before == [tokenizer.document_token] else [*before]
    for choice, ids in zip(choices, tokens, strict=True):
        assert [*known, *ids] == tokenizer.encode(context + choice)


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
