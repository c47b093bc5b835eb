"""What a tokenizer.json may hold. The tokenizers library runs what a file asks for, and some of it
never ends, takes all memory, or ends the process: these tests hold that such parts are refused
before the library sees them."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from pellucid.data import components, kinds, patterns
from pellucid.data.tokenizer import Tokenizer, digest_of
from pellucid.errors import TokenizerInvalid
from tests.data.shapes import LETTERS, SHAPES, added, byte_pairs, split

REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}


def taken(content: dict[str, Any]) -> Tokenizer:
    return Tokenizer(
        json.dumps(content).encode(), Path("have.json"), content["added_tokens"][0]["content"]
    )


def sequence(key: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {key: {"type": "Sequence", components.PARTS[key][0]: list(parts)}}


REFUSED = {
    # A pattern that takes time in a power of the text's length, or more.
    "a pattern": ({"pre_tokenizer": split(r"(x+x+)+y")}, "Split has pattern"),
    "a pattern of a normalizer": (
        {"normalizer": REPLACE | {"pattern": {"Regex": "(x*)*"}}},
        "Replace has pattern",
    ),
    "a pattern of a decoder": (
        {"decoder": REPLACE | {"pattern": {"Regex": "(x*)*"}}},
        "Replace has pattern",
    ),
    "an empty string": (
        {"normalizer": REPLACE | {"pattern": {"String": ""}}},
        "Replace has pattern",
    ),
    # Texts that grow, each replacement twice as long as the one before it.
    "doubling": (sequence("normalizer", *[REPLACE] * 5), "16 times longer"),
    "doubling back": (sequence("decoder", *[REPLACE] * 5), "16 times longer"),
    "a long text": (
        {"normalizer": {"type": "Prepend", "prepend": "x" * 65}},
        "Prepend has prepend",
    ),
    "many parts": (sequence("pre_tokenizer", *[{"type": "Whitespace"}] * 33), "more than 32 parts"),
    # Tables and programs in a part's parameters, pieces of no length, quadratic words.
    "a compiled table": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        "'Precompiled'",
    ),
    "pieces of no length": (
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        "FixedLength has length",
    ),
    "another part": ({"decoder": {"type": "CTC"}}, "'CTC'"),
    "no type": ({"normalizer": {}}, "type 'None'"),
    "another key": ({"chat_template": "x"}, "the key 'chat_template'"),
    "another field": ({"normalizer": {"type": "NFC", "more": 1}}, "NFC has more"),
    "a sequence of more": (
        {"normalizer": {"type": "Sequence", "normalizers": [], "x": 1}},
        "other fields",
    ),
    "a deep sequence": (
        {
            "normalizer": sequence(
                "normalizer", sequence("normalizer", sequence("normalizer"))["normalizer"]
            )
        },
        "type 'None'",
    ),
    # Tokens.
    "a token twice": (
        {"added_tokens": [added("<a>", 297), added("<a>", 298)]},
        "stands there twice",
    ),
    "one id for two": ({"added_tokens": [added("<a>", 297), added("<b>", 297)]}, "one id"),
    "two ids for one": ({"added_tokens": [added("<a>", 297), added("Ċ", 298)]}, "two ids"),
    "other ids": ({"added_tokens": [added("<a>", 300)]}, "other ids"),
    "far ids": ({"added_tokens": [added("<a>", 1 << 20)]}, "no token's"),
    "no id": ({"added_tokens": [added("<a>", 297) | {"id": True}]}, "has the id"),
    "a long token": ({"added_tokens": [added("x" * 1025, 297)]}, "more than 1024"),
    "an empty token": ({"added_tokens": [added("", 297)]}, "no character"),
    "no list": ({"added_tokens": [added("<a>", 297) | {"special": 1}]}, "not a list of tokens"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_with_anything_else_is_refused(what, monkeypatch):
    change, message = REFUSED[what]
    content = byte_pairs("<|endoftext|>") | change
    if message != "other ids":  # That alone is the library's word.
        monkeypatch.delattr(tokenizers.Tokenizer, "from_str")
    with pytest.raises(TokenizerInvalid, match=message):
        taken({**content, "added_tokens": content["added_tokens"] or [added("<a>", 297)]})


MODELS = {
    "no model": None,
    "no type": {"vocab": {}},
    "another model": {"type": "Program"},
    "no vocabulary": {"type": "BPE", "merges": []},
    "no merges": {"type": "BPE", "vocab": {}},
    "chance": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.5},
    "long words": {
        "type": "WordPiece",
        "vocab": {"a": 0},
        "unk_token": "a",
        "max_input_chars_per_word": 1 << 30,
    },
    "a score": {"type": "Unigram", "vocab": [["a", 1e300]], "unk_id": 0},
    "a piece twice": {"type": "Unigram", "vocab": [["a", 0.0], ["a", 0.0]], "unk_id": 0},
    "a header": {"type": "BPE", "vocab": {"a": 0}, "merges": ["#version: 0.2"]},
    "a merge of three": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c"]},
    "a merge of one": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a"]]},
    "an id twice": {"type": "WordLevel", "vocab": {"a": 0, "b": 0}},
    "a large id": {"type": "WordLevel", "vocab": {"a": 1 << 40}},
}


@pytest.mark.parametrize("what", MODELS)
def test_models_are_bounded(what):
    content = byte_pairs("<|endoftext|>") | {"model": MODELS[what], "added_tokens": []}
    with pytest.raises(components.NotAllowed):
        components.parse(json.dumps(content).encode())


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_in_use_is_allowed(shape):
    assert components.parse(json.dumps(SHAPES[shape][0]()).encode())


def test_files_of_one_digest_give_the_same_ids():
    """Everything that the digest passes over: the two spellings of merges,
    and keys whose value is null."""
    chance = random.Random(1)
    for shape, (build, _, _) in SHAPES.items():
        content = build()
        name = content["added_tokens"][0]["content"]
        other = json.loads(
            json.dumps(content), object_pairs_hook=lambda pairs: _stirred(pairs, chance)
        )
        if "merges" in other["model"]:
            merges = [
                one.split(" ") if isinstance(one, str) else one for one in other["model"]["merges"]
            ]
            other["model"]["merges"] = (
                merges if chance.random() < 0.5 else [" ".join(pair) for pair in merges]
            )
        first = Tokenizer(json.dumps(content).encode(), Path(shape), name)
        second = Tokenizer(json.dumps(other).encode(), Path(shape), name)
        assert first.digest == second.digest
        for text in ("The cat's 1234\n\n  mat é東", "<|endoftext|> the"):
            assert first.encode(text) == second.encode(text)
            assert first.decode(first.encode(text)) == second.decode(second.encode(text))


def _stirred(pairs: list[tuple[str, Any]], chance: random.Random) -> dict[str, Any]:
    chance.shuffle(pairs)
    return {key: value for key, value in pairs if value is not None or chance.random() < 0.5}


def test_the_library_takes_no_two_lists_of_merges_for_one_digest():
    """As strings, merges were once split at the first space, and a line #version
    is no merge for the library."""
    vocabulary = {"#version": 0, "a": 1, "#versiona": 2}
    for merges in (["#version a"], [["#version", "a"]]):
        content = byte_pairs("<|endoftext|>")
        content["model"] |= {"vocab": vocabulary, "merges": merges}
        content["added_tokens"] = [added("<|endoftext|>", 3)]
        digest_of(content)
        if isinstance(merges[0], str):
            with pytest.raises(TokenizerInvalid, match="model BPE has merges"):
                taken(content)
        else:
            assert taken(content).vocabulary == 4


HARD = [
    "x" * 30_000,
    " " * 30_000 + "x",
    "\n \n" * 10_000,
    "'" * 30_000,
    "!a" * 15_000,
    "A" * 30_000,
    "é\u0301" * 15_000,
]


@pytest.mark.slow
def test_every_pattern_takes_time_in_the_length_of_a_text():
    """A twentieth of a second each; in the square of the length it would be
    ten, in a higher power hours."""
    for pattern in [
        *patterns.PATTERNS,
        *(patterns.pretoken_pattern(longest) for longest in (1, 2, 24, 256)),
    ]:
        cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
        for text in HARD:
            started = time.process_time()
            assert "".join(piece for piece, _ in cut.pre_tokenize_str(text)) == text
            assert time.process_time() - started < 4


# ---- the kinds made here -----------------------------------------------------------------------


def test_the_files_made_here_are_what_the_library_writes_of_them():
    trained, trainer = kinds.untrained_bpe(330, "llama3", 9)
    trained.train_from_iterator(["the cat sat on the mat, the cat sat é"] * 4, trainer)
    whole = kinds.bpe_file(kinds.merges_of(trained), "llama3", 9)
    kept, _, letters = trained.pre_tokenizer  # Between them, the cut of training.
    trained.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([kept, letters])
    assert digest_of(json.loads(whole)) == digest_of(json.loads(trained.to_str()))
    for content in (whole, kinds.bytes_file(), kinds.characters_file('\x01\n\x7f\u2028😀é<|"\\/')):
        again = tokenizers.Tokenizer.from_str(content.decode())
        assert digest_of(json.loads(again.to_str())) == digest_of(json.loads(content))


EDITS: list[tuple[str, Any]] = [
    ("decoder", {"type": "Fuse"}),
    ("decoder", None),
    ("normalizer", {"type": "Lowercase"}),
    ("post_processor", LETTERS),
    ("pre_tokenizer", None),
    (
        "truncation",
        {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
    ),
    ("added_tokens", [added("<|document|>", 0, special=False)]),
    ("added_tokens", [added("<|document|>", 0, lstrip=True)]),
]


@pytest.mark.parametrize("kind", ["bpe", "bytes", "characters"])
def test_a_file_of_our_kinds_holds_nothing_but_what_it_is_made_from(kind, recipe_of):
    fields = recipe_of(
        {"name": "all"}, tokenizer={"kind": kind, "max_pretoken": 9, "vocabulary": 300}
    ).tokenizer
    files = {
        "bpe": kinds.bpe_file([["t", "h"], ["th", "e"], ["a", "t"]], "llama3", 9),
        "bytes": kinds.bytes_file(),
        "characters": kinds.characters_file("the cat"),
    }
    honest = json.loads(files[kind])
    assert kinds.wrong_in(files[kind], honest, fields) == ""
    for other in files.keys() - {kind}:
        assert kinds.wrong_in(files[other], json.loads(files[other]), fields)
    for key, value in (edit for edit in EDITS if honest[edit[0]] != edit[1]):
        content = kinds.spelled(honest | {key: value})
        assert kinds.wrong_in(content, json.loads(content), fields), key
    for name, value in (
        ("ignore_merges", True),
        ("unk_token", "t"),
        ("vocab", honest["model"]["vocab"] | {"zz": 999}),
    ):
        content = kinds.spelled(honest | {"model": honest["model"] | {name: value}})
        assert kinds.wrong_in(content, json.loads(content), fields), name
    spaced = json.dumps(honest).encode()
    assert kinds.wrong_in(spaced, honest, fields)


def test_a_vocabulary_is_not_larger_than_the_recipe_asks_for(recipe_of):
    fields = recipe_of(
        {"name": "all"}, tokenizer={"kind": "bpe", "max_pretoken": 9, "vocabulary": 258}
    ).tokenizer
    for merges, wrong in (([["t", "h"]], ""), ([["t", "h"], ["a", "t"]], "has 2 merges")):
        content = kinds.bpe_file(merges, "llama3", 9)
        assert kinds.wrong_in(content, json.loads(content), fields).startswith(wrong)
        assert bool(wrong) == bool(kinds.wrong_in(content, json.loads(content), fields))
