"""Tokenizers: lossless, never fooled by a text, bounded, and the same from one corpus."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import recipe
from pellucid.data import documents, kinds, patterns, stage, tokenizer
from pellucid.data.kinds import DOCUMENT
from pellucid.data.tokenizer import Tokenizer
from pellucid.philox import draws
from tests.conftest import prose

TEXTS = [
    "",
    " ",
    "a",
    "The quick  brown fox\n\n\tjumps.",
    "é 😀 \u0301\u200d\ufeff\u2028\r\n",
    "\0\x01",
]
TEXTS += ["x" * 1000, "  \n" * 99]
LETTERS = st.characters(exclude_categories=["Cs"])


@pytest.fixture
def made(tmp_path, corpus, recipe_of):
    """Run the stages documents and tokenizer, with these tokenizer fields."""

    def make(data=None, **fields) -> Tokenizer:
        recipe = recipe_of({"name": "all", "path": str(corpus)}, tokenizer=fields, data=data)
        documents.prepare(recipe, tmp_path)
        tokenizer.prepare(recipe, tmp_path)
        return Tokenizer.load(tmp_path)

    return make


PATTERNS = ("llama3", "qwen2", "gpt2", "o200k", "pellucid")


@functools.cache
def trained_with(pattern: str) -> Tokenizer:
    """On letters of both cases, numbers, marks, endings and blanks, so that merges
    meet what the patterns part."""
    texts = [
        prose(number, 40) + "The CatSat's 12345 é é\n\n  if x_1 == 1024:\r\n\tit's\n"
        for number in range(9)
    ]
    trained, trainer = kinds.untrained_bpe(600, pattern, 8)
    trained.train_from_iterator(texts, trainer)
    return Tokenizer(kinds.bpe_file(kinds.merges_of(trained), pattern, 8), Path("memory"))


@pytest.fixture(scope="module", params=["bytes", *PATTERNS])
def lossless(request) -> Tokenizer:
    return (
        Tokenizer(kinds.bytes_file(), Path("memory"))
        if request.param == "bytes"
        else trained_with(request.param)
    )


ODD = st.text(st.one_of(st.sampled_from("aAé's \n\r\t0!_/\u00a0\u0301東ªǅ"), LETTERS), max_size=80)
# Written here once more, as tiktoken, Hugging Face and llama.cpp have them; GPT-2's
# comes from the library itself.
PUBLISHED = {
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def test_the_recipe_names_the_patterns_that_there_are():
    assert set(get_args(recipe.Tokenizer.model_fields["pattern"].annotation)) == {
        *patterns.NAMED,
        "pellucid",
    }
    assert patterns.NAMED == PUBLISHED
    assert set(PUBLISHED.values()) <= patterns.PATTERNS


@functools.cache
def published(pattern: str) -> tokenizers.Tokenizer:
    """The same merges, put together by the library's own parts."""
    model = json.loads(trained_with(pattern).content)["model"]
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]
        )
    )
    if pattern == "gpt2":
        made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PUBLISHED[pattern]), "isolated")
        letters = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([split, letters])
    return made


@settings(max_examples=300, deadline=None)
@given(text=ODD, pattern=st.sampled_from(sorted(PUBLISHED)))
def test_ids_are_those_of_tokenizers_with_the_published_pattern(text, pattern):
    assert trained_with(pattern).encode(text) == published(pattern).encode(text).ids


@settings(max_examples=300, deadline=None)
@given(text=ODD, pattern=st.sampled_from(PATTERNS))
def test_ids_are_those_of_tiktoken_from_our_file(text, pattern):
    tiktoken = pytest.importorskip("tiktoken")
    made = trained_with(pattern)
    byte_of = {letter: byte for byte, letter in kinds.byte_letters().items()}
    ranks = {
        bytes(byte_of[one] for one in token): number
        for token, number in made.tokens.items()
        if number
    }
    theirs = tiktoken.Encoding(
        "made",
        pat_str=patterns.split_pattern(pattern, 8),
        mergeable_ranks=ranks,
        special_tokens={DOCUMENT: 0},
    )
    assert made.encode(text) == theirs.encode_ordinary(text)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_token_stands_for_itself(pattern):
    """So ids are the same in runtimes that look a whole piece up before they
    merge: tiktoken, llama.cpp."""
    model = json.loads(trained_with(pattern).content)["model"]
    assert len(model["vocab"]) > 300
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]]
        )
    )
    assert all(
        made.encode(token).ids == [number] for token, number in model["vocab"].items() if number
    )


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_run_of_400000_letters_is_encoded_at_once(pattern):
    """About 0.2 s each; a merge that looked at all pairs again would take hours."""
    for text in (
        "x" * 400_000,
        " " * 400_000 + "x",
        "A" * 400_000,
        "東京" * 200_000,
        "\n \n" * 133_000,
        "!" * 400_000,
    ):
        started = time.process_time()
        ids = trained_with(pattern).encode(text)
        assert time.process_time() - started < 20
        assert trained_with(pattern).decode(ids) == text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_token_is_longer_than_the_recipe_says(pattern):
    """Also of a published pattern, whose pieces have no bound."""
    trained, trainer = kinds.untrained_bpe(600, pattern, 5)
    trained.train_from_iterator(["x" * 999, "é" * 999, "the cat sat", " xxxx"] * 9, trainer)
    merges = kinds.merges_of(trained)
    fields = recipe.Tokenizer(pattern=pattern, max_pretoken=5, vocabulary=600)
    content = kinds.bpe_file(merges, pattern, 5)
    assert "Ġxxxx" in json.loads(content)["model"]["vocab"]
    assert kinds.wrong_in(content, json.loads(content), fields) == ""
    shorter = fields.model_copy(update={"max_pretoken": 4})
    assert "of more than max_pretoken = 4" in kinds.wrong_in(content, json.loads(content), shorter)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_file_of_another_pattern_is_not_the_recipes(pattern):
    merges = kinds.merges_of(tokenizers.Tokenizer.from_str(trained_with(pattern).content.decode()))
    for other in PATTERNS:
        content = kinds.bpe_file(merges, other, 8)
        wrong = kinds.wrong_in(
            content, json.loads(content), recipe.Tokenizer(pattern=pattern, max_pretoken=8)
        )
        assert bool(wrong) == (other != pattern)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_come_back(lossless, text):
    assert lossless.decode(lossless.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=st.text(LETTERS, max_size=60))
def test_any_text_comes_back(lossless, text):
    ids = lossless.encode(text)
    assert lossless.decode(ids) == text
    assert lossless.document_token not in ids
    assert np.array_equal(lossless.encode_batch([text])[0], np.array(ids, dtype=np.uint32))


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(
        st.one_of(st.sampled_from("aé \n0_\u00a0\u0301"), st.characters(exclude_categories=["Cs"])),
        max_size=80,
    ),
    longest=st.integers(1, 9),
)
def test_pretokens_cover_every_character_and_are_bounded(text, longest):
    split = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex(patterns.pretoken_pattern(longest)), "removed", invert=True
    )
    pieces = split.pre_tokenize_str(text)
    assert "".join(piece for piece, _ in pieces) == text
    assert max((len(piece) for piece, _ in pieces), default=0) <= longest


@pytest.mark.parametrize("pattern", ["llama3", "pellucid"])
def test_a_long_unbroken_run_is_cut(made, corpus, pattern):
    (corpus / "dna.txt").write_text(
        "".join("ACGT"[draw & 3] for draw in draws(1, 0, 400_000).tolist())
    )
    # Unbounded, close to a minute.
    vocabulary = made(kind="bpe", vocabulary=1000, pattern=pattern, max_pretoken=8).vocabulary
    assert vocabulary == 1000


def test_the_vocabulary_is_as_asked_or_smaller(made):
    found = made(kind="bpe", vocabulary=300)
    assert (found.vocabulary, found.document_token) == (300, 0)
    assert made(kind="bpe", vocabulary=60_000).vocabulary < 60_000


def test_bytes_are_bytes(made):
    found = made(kind="bytes")
    assert found.vocabulary == 257
    assert found.encode("aé\0") == [b + 1 for b in "aé\0".encode()]
    assert found.offsets("aé\0") == [(0, 1), (1, 2), (1, 2), (2, 3)]


def test_characters_are_characters(made, corpus):
    (corpus / "z.txt").write_text("\x01\n😀é <|document|>")
    found = made(kind="characters")
    seen = sorted(set("".join(path.read_text() for path in corpus.rglob("*.*"))))
    assert found.vocabulary == 2 + len(seen)
    assert found.encode("é\n😀") == [2 + seen.index(letter) for letter in "é\n😀"]
    assert found.decode(found.encode("é\n 😀\x01")) == "é\n 😀\x01"
    assert found.encode("ж") == [1]


@pytest.mark.parametrize("kind", ["bpe", "bytes", "characters"])
def test_special_tokens_in_a_text_are_text(made, corpus, kind):
    for number in range(30):
        (corpus / f"trap{number}.txt").write_text(
            f"{number} <|document|> <|unknown|> <|document|><|document|>"
        )
    found = made(kind=kind, vocabulary=400)
    for text in ("<|document|>", "a<|document|>b", "<|unknown|>"):
        ids = found.encode(text)
        assert found.document_token not in ids
        assert len(ids) > 1 or kind == "bpe"
        assert found.decode(ids) == text
        assert found.encode_batch([text])[0].tolist() == ids
    assert found.decode([found.document_token]) == DOCUMENT


def test_the_sample_is_chosen_by_hash(made, tmp_path):
    made(kind="bytes")
    opened = documents.Documents.open(tmp_path)
    meter = stage.Meter(stage.silent, "tokenizer", "characters")
    every = [text for texts in kinds.sample(opened, 10**9, meter) for text in texts]
    some = [text for texts in kinds.sample(opened, 5000, meter) for text in texts]
    train = [row for batch in opened.rows(["text"], "train") for row in batch.column(0).to_pylist()]
    assert every == train
    assert 0 < len(some) < len(every)
    assert some == [text for text in every if text in some]


def test_the_same_corpus_gives_the_same_tokenizer(made, tmp_path):
    first = made(kind="bpe", vocabulary=500).digest
    content = (tmp_path / "data/tokenizer/tokenizer.json").read_bytes()
    made(kind="bytes")
    assert made(kind="bpe", vocabulary=500).digest == first
    assert (tmp_path / "data/tokenizer/tokenizer.json").read_bytes() == content
    manifest = json.loads((tmp_path / "data/tokenizer/manifest.json").read_text())
    assert manifest["digest"] == first.hex()
    assert manifest["made_with"] == {"tokenizers": tokenizers.__version__}


def test_the_digest_is_over_content_alone():
    content = {
        "model": {
            "type": "BPE",
            "merges": ["a b", "ab c"],
            "vocab": {"a": 0, "b": 1},
            "dropout": None,
        }
    }
    other = {
        "model": {"vocab": {"b": 1, "a": 0}, "type": "BPE", "merges": [["a", "b"], ["ab", "c"]]},
        "padding": None,
    }
    digest = tokenizer.digest_of(content)
    assert tokenizer.digest_of(other) == digest
    other["model"]["merges"].reverse()
    assert tokenizer.digest_of(other) != digest
