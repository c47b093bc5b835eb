"""Somebody else's tokenizers: taken as they are, their document token from what they do,
and never fooled by a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pellucid.data import documents, shards, tokenizer
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import DocumentTokenUnclear, TokenizerInvalid, VocabularyTooLarge
from tests.data import shapes
from tests.data.shapes import SHAPES, TEXTS, added, byte_pairs


@pytest.fixture
def take(tmp_path, corpus, recipe_of):
    """The stages documents and tokenizer with this content as an existing tokenizer.json."""

    def taken(
        content: dict[str, Any] | str, document_token: str = "", data: dict | None = None
    ) -> Tokenizer:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "have.json").write_text(text, encoding="utf-8")
        fields = {"kind": "file", "path": "have.json", "document_token": document_token}
        recipe = recipe_of({"name": "all", "path": str(corpus)}, tokenizer=fields, data=data)
        documents.prepare(recipe, tmp_path)
        tokenizer.prepare(recipe, tmp_path)
        return Tokenizer.load(tmp_path)

    return taken


def made(shape: str) -> Tokenizer:
    build, document, _ = SHAPES[shape]
    content = build()
    return Tokenizer(
        json.dumps(content).encode(), Path(shape), document or content["added_tokens"][0]["content"]
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_document_token_is_the_one_that_the_file_shows(take, tmp_path, shape):
    build, document, lossless = SHAPES[shape]
    content = build()
    if not document:
        with pytest.raises(
            DocumentTokenUnclear, match=content["added_tokens"][1]["content"]
        ) as raised:
            take(content)
        assert "<tool_call>" not in str(raised.value)  # A plain added token.
        document = content["added_tokens"][0]["content"]
    found = take(content, document if not SHAPES[shape][1] else "")
    assert (found.document, found.document_token) == (
        document,
        tokenizer.components.ids_of(content)[document],
    )
    assert (tmp_path / "data/tokenizer/tokenizer.json").read_text(encoding="utf-8") == json.dumps(
        content
    )
    assert tokenizer.recorded(tmp_path).lossless == lossless == found.lossless


@pytest.mark.parametrize("shape", SHAPES)
def test_a_text_never_becomes_a_special_token(shape):
    found = made(shape)
    special = {one["content"]: one["id"] for one in found.parsed["added_tokens"] if one["special"]}
    unknown = found.parsed["model"].get("unk_token")
    for text in (*TEXTS, *special, "".join(special), *(f"the {one} cat {one}" for one in special)):
        ids = found.encode(text)
        assert not set(ids) & {number for token, number in special.items() if token != unknown}, (
            text
        )
        assert found.encode_batch([text])[0].tolist() == ids
        assert not found.lossless or found.decode(ids) == text


def test_tags_of_html_do_not_begin_documents(take):
    content = shapes.gemma()
    # What is left are <pad>, <eos> and <bos>; </s> is a tag there.
    content["post_processor"] = None
    with pytest.raises(DocumentTokenUnclear, match="<pad>, <eos>, <bos>:") as raised:
        take(content)
    assert "</s>" not in str(raised.value)
    assert take(content, "<eos>").document_token == 1


def test_a_token_that_is_not_special_is_taken_where_the_recipe_names_it(take):
    content = byte_pairs("<|endoftext|>")
    content["added_tokens"][0]["special"] = False
    with pytest.raises(DocumentTokenUnclear, match=r"document_token=<\|endoftext\|>"):
        take(content)
    found = take(content, "<|endoftext|>")
    assert found.document_token not in found.encode("the <|endoftext|> cat")
    assert take(content | {"added_tokens": []}, "Ġthe").document == "Ġthe"
    with pytest.raises(TokenizerInvalid, match="no token '<none>'"):
        take(content, "<none>")
    with pytest.raises(TokenizerInvalid, match="no special token"):
        take(content | {"added_tokens": []})


def test_a_text_that_spells_the_document_token_is_told(take, tmp_path, corpus, recipe_of):
    """Of a vocabulary of words any word is a token, also where it is no special one."""
    take(byte_pairs("<|endoftext|>"), "Ġthe")
    fields = {"kind": "file", "path": "have.json", "document_token": "Ġthe"}
    with pytest.raises(TokenizerInvalid, match="contains Ġthe, the token"):
        shards.prepare(recipe_of({"name": "all", "path": str(corpus)}, tokenizer=fields), tmp_path)


def test_a_document_token_is_a_recipes_only_where_the_tokenizer_is_a_file(recipe_of):
    with pytest.raises(ValueError, match="document_token needs"):
        recipe_of({"name": "all"}, tokenizer={"kind": "bytes", "document_token": "<s>"})
    plain = recipe_of({"name": "all"}, tokenizer={"kind": "file"})
    chosen = recipe_of({"name": "all"}, tokenizer={"kind": "file", "document_token": "<s>"})
    assert plain.fields()["tokenizer.document_token"] == ""
    assert (
        chosen.fields()["tokenizer.document_token"] == "<s>" and chosen.digest() != plain.digest()
    )


def test_what_cuts_fills_up_or_adds_is_not_used_and_not_exported(take):
    found = take(shapes.bert())
    assert len(found.encode("the cat sat on the mat, the cat sat")) == 10
    exported = json.loads(found.exported)
    assert [exported[key] for key in ("truncation", "padding", "post_processor")] == [None] * 3
    assert Tokenizer(found.exported, Path("again"), "[CLS]").exported == found.exported


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "nothing", '{"model": 3}', '{"version": "1.0", "added_tokens": 5}']
)
def test_files_that_are_no_tokenizer(take, content):
    with pytest.raises(TokenizerInvalid):
        take(content)


def test_a_file_that_is_not_there(tmp_path, recipe_of):
    recipe = recipe_of({"name": "all"}, tokenizer={"kind": "file", "path": "nothing.json"})
    with pytest.raises(TokenizerInvalid, match="no such file"):
        tokenizer.check(recipe, tmp_path)


def test_a_vocabulary_too_large_for_the_shards(take):
    content = shapes.gemma()
    content["model"]["vocab"]["far"] = 65536
    with pytest.raises(VocabularyTooLarge, match="65537"):
        take(content)
    assert take(content, data={"token_type": "uint32"}).vocabulary == 65537


def test_what_gives_its_text_back_is_told_from_what_does_not():
    """Each of these changes one thing, and a text is then not given back."""
    plain = byte_pairs("<|endoftext|>")
    changes: list[dict[str, Any]] = [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": shapes.LETTERS | {"add_prefix_space": True}},
        {"decoder": {"type": "Fuse"}},
        {"added_tokens": [*plain["added_tokens"], added("b é", 298, special=False, lstrip=True)]},
        {"added_tokens": [*plain["added_tokens"], added("éé", 298, special=False)]},
    ]
    text = "The cat \n sat  b éé\t東"

    def taken(content: dict[str, Any]) -> Tokenizer:
        return Tokenizer(json.dumps(content).encode(), Path("plain"))

    assert taken(plain).lossless and taken(plain).decode(taken(plain).encode(text)) == text
    for change in changes:
        found = taken(plain | change)
        assert not found.lossless, change
        assert found.decode(found.encode(text)) != text, change
    fewer = json.loads(json.dumps(plain))
    letters = [token for token in plain["model"]["vocab"] if "Ċ" not in token]
    fewer["model"] |= {
        "vocab": {token: number for number, token in enumerate(letters)},
        "merges": [],
    }
    fewer["added_tokens"][0]["id"] = len(letters)
    found = taken(fewer)
    assert not found.lossless and found.decode(found.encode("a\nb")) == "ab"
