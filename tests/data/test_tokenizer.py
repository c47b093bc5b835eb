"""Tokenizers: lossless, never fooled by a text, bounded, and the same from one corpus."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data import documents, stage, tokenizer
from pellucid.data.tokenizer import DOCUMENT, Tokenizer
from pellucid.errors import TokenizerInvalid, VocabularyTooLarge
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
        content = tokenizer._bytes().to_str()
    else:
        trained, trainer = tokenizer.untrained_bpe(400, 8)
        trained.train_from_iterator(["the cat sat on the mat, the cat sat é é"] * 3, trainer)
        content = trained.to_str()
    return Tokenizer(content.encode(), "memory")


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
        tokenizers.Regex(tokenizer.pretoken_pattern(longest)), "removed", invert=True
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
    every = [text for texts in tokenizer.sample(opened, 10**9, meter) for text in texts]
    some = [text for texts in tokenizer.sample(opened, 5000, meter) for text in texts]
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


# ---- an existing tokenizer ------------------------------------------------------------------------


def existing(path, special: str = "<|endoftext|>", truncated: bool = False, mark: bool = True) -> bytes:
    trained, trainer = tokenizer.untrained_bpe(400, 8)
    trainer.special_tokens = [special]
    trained.train_from_iterator(["the cat sat on the mat"] * 9, trainer)
    if truncated:
        trained.enable_truncation(3)
        trained.enable_padding(length=9)
    content = json.loads(trained.to_str())
    for token in content["added_tokens"]:
        token["special"] = mark
    path.write_bytes(json.dumps(content).encode())
    return path.read_bytes()


@pytest.mark.parametrize("special", ["<|document|>", "<|endoftext|>", "</s>", "<s>", "[SEP]"])
@pytest.mark.parametrize("mark", [True, False])
def test_an_existing_tokenizer_is_copied_as_it_is(made, tmp_path, special, mark):
    content = existing(tmp_path / "have.json", special, truncated=True, mark=mark)
    found = made(kind="file", path="have.json")
    assert (tmp_path / "data/tokenizer/tokenizer.json").read_bytes() == content
    assert found.document_token == 0
    assert found.decode(found.encode("the cat sat on the mat")) == "the cat sat on the mat"
    assert 0 not in found.encode(f"the {special} cat")
    assert len(found.encode_batch(["the", "the mat the mat"])) == 2
    assert found.encode_batch(["the"])[0].tolist() == found.encode("the")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "nothing", '{"model": 3}', '{"version": "1.0", "added_tokens": 5}']
)
def test_files_that_are_no_tokenizer(made, tmp_path, content):
    (tmp_path / "have.json").write_text(content)
    with pytest.raises(TokenizerInvalid):
        made(kind="file", path="have.json")


def test_a_tokenizer_without_a_document_token(made, tmp_path):
    existing(tmp_path / "have.json", "[UNUSED]")
    with pytest.raises(TokenizerInvalid, match=re.escape("<|document|>, <|endoftext|>")):
        made(kind="file", path="have.json")
    with pytest.raises(TokenizerInvalid, match="no such file"):
        made(kind="file", path="nothing.json")


def test_a_vocabulary_too_large_for_the_shards(made, tmp_path):
    content = json.loads(existing(tmp_path / "have.json"))
    content["model"]["vocab"]["far"] = 65536
    (tmp_path / "have.json").write_text(json.dumps(content))
    with pytest.raises(VocabularyTooLarge, match="65537"):
        made(kind="file", path="have.json")
    assert made(kind="file", path="have.json", data={"token_type": "uint32"}).vocabulary == 65537
