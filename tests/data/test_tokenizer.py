"""Tokenizers: lossless, never fooled by a text, bounded, and the same from one corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data import documents, kinds, patterns, stage, tokenizer
from pellucid.data.kinds import DOCUMENT
from pellucid.data.tokenizer import Tokenizer
from pellucid.philox import draws

TEXTS = ["", " ", "a", "The quick  brown fox\n\n\tjumps.", "é 😀 \u0301\u200d\ufeff\u2028\r\n", "\0\x01"]
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


@pytest.fixture(scope="module", params=["bpe", "bytes"])
def lossless(request) -> Tokenizer:
    if request.param == "bytes":
        content = kinds.bytes_file()
    else:
        trained, trainer = kinds.untrained_bpe(400, 8)
        trained.train_from_iterator(["the cat sat on the mat, the cat sat é é"] * 3, trainer)
        content = kinds.bpe_file(kinds.merges_of(trained), 8)
    return Tokenizer(content, Path("memory"))


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
        st.one_of(st.sampled_from("aé \n0_\u00a0\u0301"), st.characters(exclude_categories=["Cs"])), max_size=80
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


def test_a_long_unbroken_run_is_cut(made, corpus):
    (corpus / "dna.txt").write_text("".join("ACGT"[draw & 3] for draw in draws(1, 0, 400_000).tolist()))
    vocabulary = made(kind="bpe", vocabulary=1000, max_pretoken=8).vocabulary  # Unbounded, close to a minute.
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
        (corpus / f"trap{number}.txt").write_text(f"{number} <|document|> <|unknown|> <|document|><|document|>")
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
    content = {"model": {"type": "BPE", "merges": ["a b", "ab c"], "vocab": {"a": 0, "b": 1}, "dropout": None}}
    other = {"model": {"vocab": {"b": 1, "a": 0}, "type": "BPE", "merges": [["a", "b"], ["ab", "c"]]}, "padding": None}
    digest = tokenizer.digest_of(content)
    assert tokenizer.digest_of(other) == digest
    other["model"]["merges"].reverse()
    assert tokenizer.digest_of(other) != digest
