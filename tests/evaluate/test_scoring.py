"""Answers of the scorer are those of a pass over each text alone, bit for bit, whatever is asked
beside it."""

from __future__ import annotations

import math
from typing import Any, cast
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import TokensUnfit
from pellucid.evaluate.forward import Part, nothing, read
from pellucid.evaluate.scoring import Asked, Likelihood, Scorer, _side_by_side, _Tokens
from pellucid.model import Decoder
from pellucid.train.state import State, initial
from tests.families.test_families import FAMILIES, VOCABULARY, recipe_of, scattered, shape_of

CONTEXT = 32


class Letters:
    """A tokenizer whose text says which tokens it is of."""

    document_token = 0

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(0x4E00 + token) for token in tokens)


def state_of(family: str, arithmetic: str = "portable", **changes: Any) -> State:
    state = initial(recipe_of(shape_of(family, **changes), arithmetic), VOCABULARY)
    scattered(state.model)
    return state


def scorer_of(state: State, rows: int = 2048) -> Scorer:
    return Scorer(state.model, cast(Tokenizer, Letters()), rows=rows)


@pytest.fixture(scope="module")
def state() -> State:
    return state_of("llama")


def alone(model: Decoder, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Of a text read whole and by itself: the loss of every token but the first, and the likeliest
    in its place."""
    row = torch.tensor([tokens])
    with torch.no_grad():
        said, _ = model.losses(row[:, :-1], row[:, 1:])
        likeliest = model(row[:, :-1])[0].numpy().argmax(1)
    return said.losses_BT[0], likeliest


def expected(model: Decoder, context: list[int], continuation: list[int]) -> Likelihood:
    tokens = [*context, *continuation][-CONTEXT - 1 :]
    losses, likeliest = alone(model, tokens)
    count = min(len(continuation), len(tokens) - 1)
    greedy = (likeliest[-count:] == np.array(tokens[-count:])).all()
    return Likelihood(-math.fsum(losses[-count:].tolist()), bool(greedy))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_read_in_parts_has_the_bits_of_one_pass(family: str) -> None:
    model = state_of(family).model
    tokens = np.random.default_rng(3).integers(0, VOCABULARY, CONTEXT).tolist()
    with torch.no_grad():
        whole, _ = model.hidden(torch.tensor([tokens]))
    memory, parts = nothing(model), []
    for begin, end in ((0, 1), (1, 9), (9, 10), (10, 31), (31, 32)):
        beside = Part(nothing(model), tokens[: begin + 1])
        x_1ND, _ = read(model, [Part(memory, tokens[begin:end]), beside])
        parts.append(x_1ND[:, : end - begin])
    assert memory.length == CONTEXT
    assert torch.equal(torch.cat(parts, 1), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_native_arithmetic_reads_in_parts_too(family: str) -> None:
    model = state_of(family, "native").model
    tokens = np.random.default_rng(3).integers(0, VOCABULARY, CONTEXT).tolist()
    with torch.no_grad():
        whole, _ = model.hidden(torch.tensor([tokens]))
    memory = nothing(model)
    parts = [read(model, [Part(memory, tokens[i : i + 8])])[0] for i in range(0, CONTEXT, 8)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)


token_lists = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=14)
questions = st.builds(
    Asked,
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=40),
    st.lists(token_lists, min_size=1, max_size=4),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(questions, min_size=1, max_size=5), st.sampled_from([1, 7, 64, 2048]))
def test_every_likelihood_is_that_of_the_text_alone(asked: list[Asked], rows: int) -> None:
    state = state_of("llama")
    answers = list(scorer_of(state, rows).likelihoods(asked))
    assert answers == [
        [expected(state.model, [*ask.context], [*tokens]) for tokens in ask.continuations]
        for ask in asked
    ]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=2, max_size=20),
    st.lists(st.tuples(st.integers(0, 20), questions), min_size=2, max_size=6),
    st.sampled_from([1, 20, 2048]),
)
def test_questions_behind_the_same_shots_are_those_alone(
    shots: list[int], asked: list[tuple[int, Asked]], rows: int
) -> None:
    """Behind all of the shots, or a part of them."""
    state = state_of("llama")
    behind = [ask._replace(context=[*shots[:kept], *ask.context]) for kept, ask in asked]
    with mock.patch("pellucid.evaluate.scoring._SHOTS", 1):
        answers = list(scorer_of(state, rows).likelihoods(behind))
    assert answers == [
        [expected(state.model, [*ask.context], [*tokens]) for tokens in ask.continuations]
        for ask in behind
    ]


def test_shots_are_read_once(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.evaluate.scoring._SHOTS", 8)
    asked = [Asked([*range(20), 20 + number], [[1, 2], [3]]) for number in range(9)]
    sizes = list[int]()

    def counted(model: Decoder, parts: list[Part]) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(sum(len(part.tokens) for part in parts))
        return read(model, parts)

    monkeypatch.setattr("pellucid.evaluate.scoring.read", counted)
    answers = list(scorer_of(state, 64).likelihoods(asked))
    assert answers == [
        [expected(state.model, [*ask.context], [*tokens]) for tokens in ask.continuations]
        for ask in asked
    ]
    assert sizes[0] == 20 and sum(sizes) == 20 + len(asked) * 3


def test_a_text_of_the_likeliest_tokens_alone_is_greedy(state: State) -> None:
    scorer = scorer_of(state)
    (likeliest,) = scorer.continuations([([5, 3, 8], 6)])
    others = [
        [*likeliest[:at], (likeliest[at] + 1) % VOCABULARY, *likeliest[at + 1 :]] for at in range(6)
    ]
    (scores,) = scorer.likelihoods([Asked([5, 3, 8], [[*likeliest], *others])])
    assert [score.greedy for score in scores] == [True, *[False] * 6]


def test_texts_behind_the_same_shots_are_those_that_grow_alone(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pellucid.evaluate.scoring._SHOTS", 4)
    asked = [([*range(10), *tail], 7) for tail in ([11], [12, 13], [11], [])]
    scorer = scorer_of(state)
    together = [*scorer.continuations(asked)]
    assert together == [next(iter(scorer_of(state).continuations([one]))) for one in asked]


def test_many_long_choices_are_read_in_passes_of_bounded_rows(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(5).integers(0, VOCABULARY, (256, 28)).tolist()
    asked = [Asked([1, 2, 3, 4], drawn), Asked([5], [[6]])]
    sizes = list[int]()

    def counted(model: Decoder, parts: list[Part]) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(sum(len(part.tokens) for part in parts))
        return read(model, parts)

    monkeypatch.setattr("pellucid.evaluate.scoring.read", counted)
    whole = list(scorer_of(state, 10**6).likelihoods(asked))
    assert max(sizes) > 7000
    sizes.clear()
    assert list(scorer_of(state, 128).likelihoods(asked)) == whole
    assert max(sizes) <= 128 and [len(group) for group in whole] == [256, 1]


def test_a_whole_text_is_scored_in_windows_that_share_no_target(state: State) -> None:
    tokens = np.random.default_rng(4).integers(0, VOCABULARY, 2 * CONTEXT + 5).tolist()
    scorer = scorer_of(state)
    windows = scorer.rolling(tokens)
    targets = [token for window in windows for token in window.continuations[0]]
    assert targets == tokens
    assert [*windows[0].context] == [Letters.document_token]
    # The last window is as long as the others.
    assert len(windows[-1].context) + 5 == CONTEXT + 1
    answers = list(scorer.likelihoods(windows))
    assert answers == [
        [expected(state.model, [*window.context], [*window.continuations[0]])] for window in windows
    ]


def grown(model: Decoder, context: list[int], count: int) -> list[int]:
    """The likeliest token after each other, every one by a pass over all tokens before it."""
    tokens = [*context]
    for _ in range(count):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].numpy().argmax()))
        if tokens[-1] == Letters.document_token:
            return tokens[len(context) : -1]
    return tokens[len(context) :]


def test_texts_that_grow_side_by_side_are_those_that_grow_alone(state: State) -> None:
    contexts = [[5, 6, 7], [9], [*range(1, 20)], [250, 251]]
    wanted = [grown(state.model, context, 9) for context in contexts]
    asked = [(context, (), 9) for context in contexts]
    texts = list(scorer_of(state).generate(asked))
    assert texts == [Letters().decode(tokens) for tokens in wanted]
    assert any(len(tokens) == 9 for tokens in wanted)


def test_tokens_behind_tokens_are_the_likeliest_of_a_pass_over_all_before(state: State) -> None:
    """The document token is one of them, and ends nothing."""
    chance = np.random.default_rng(7)
    contexts = [chance.integers(0, VOCABULARY, size).tolist() for size in (1, 3, 9, 20, 24)]
    asked = [(context, count) for context in contexts for count in (1, 9)]
    wanted = []
    for context, count in asked:
        tokens = [*context]
        for _ in range(count):
            with torch.no_grad():
                logits_V = state.model(torch.tensor([tokens]))[0, -1]
            tokens.append(int(logits_V.numpy().argmax()))
        wanted.append(tuple(tokens[len(context) :]))
    assert list(scorer_of(state).continuations(asked)) == wanted
    assert len({*wanted}) > 5


def test_tokens_that_the_model_cannot_be_asked_are_named(state: State) -> None:
    scorer = scorer_of(state)
    assert list(scorer.continuations([([1] * 25, 8)]))  # Nothing reads the last one.
    with pytest.raises(TokensUnfit, match="longer than the context 32"):
        list(scorer.continuations([([1] * 25, 9)]))
    with pytest.raises(TokensUnfit, match=f"holds {VOCABULARY}, and the vocabulary has"):
        list(scorer.continuations([([1, VOCABULARY], 2)]))


def test_a_text_ends_before_the_first_stop_string(state: State) -> None:
    tokens = grown(state.model, [5, 6, 7], 9)
    whole = Letters().decode(tokens)
    stops = (whole[4:6], whole[2], "absent")
    (text,) = scorer_of(state).generate([([5, 6, 7], stops, 9)])
    assert text == whole[: whole.find(whole[2])]


def test_a_context_is_cut_so_that_the_text_fits(state: State) -> None:
    context = [*range(1, 60)]
    (text,) = scorer_of(state).generate([(context, (), 8)])
    assert text == Letters().decode(grown(state.model, context[-CONTEXT + 8 :], 8))


def test_texts_side_by_side_are_bounded_by_their_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.evaluate.scoring.POSITIONS", 30)
    monkeypatch.setattr("pellucid.evaluate.scoring.TEXTS", 3)
    texts = [_Tokens([1] * size, 5) for size in (5, 10, 5, 5, 5, 100, 1, 1, 1, 1)]
    packs = [[text.most for text in pack] for pack in _side_by_side(texts)]
    assert packs == [[10, 15], [10, 10, 10], [105], [6, 6, 6], [6]]
