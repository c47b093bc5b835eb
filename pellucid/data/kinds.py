"""The tokenizers made here: bpe, bytes, characters. Each file follows from a
few values and has one spelling.

So a reader makes the file again from its own vocabulary or merges and compares bytes:
nothing else can hide in it, and what is written does not depend on the installed release
of the tokenizers library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from pellucid import recipe
from pellucid.data import stage
from pellucid.data.parquet import Documents
from pellucid.data.patterns import CHARACTER, RUN, split_pattern

DOCUMENT = "<|document|>"
UNKNOWN = "<|unknown|>"
_FIRST = 257  # The document token and the bytes.


def spelled(content: dict[str, Any]) -> bytes:
    """The one spelling of a tokenizer.json that is written here."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def byte_letters() -> dict[int, str]:
    """The printable letter that stands for each byte in byte-level vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


# ---- files -------------------------------------------------------------------------------------


def _file(special: Sequence[str], pre_tokenizer: Any, decoder: Any, model: dict[str, Any]) -> bytes:
    marks = {
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    added = [{"id": number, "content": content, **marks} for number, content in enumerate(special)]
    return spelled(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": None,
            "decoder": decoder,
            "model": model,
        }
    )


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _byte_level(prefix: bool, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _byte_pairs(
    vocabulary: list[str], merges: Sequence[Sequence[str]], pre_tokenizer: Any
) -> bytes:
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: number for number, token in enumerate(vocabulary)},
        "merges": [list(pair) for pair in merges],
    }
    return _file([DOCUMENT], pre_tokenizer, _byte_level(prefix=True, use_regex=True), model)


def bpe_file(merges: Sequence[Sequence[str]], pattern: str, max_pretoken: int) -> bytes:
    """The document token, the bytes by their letters, and what each merge makes, in order."""
    tokens = dict.fromkeys(
        [DOCUMENT, *sorted(byte_letters().values()), *("".join(pair) for pair in merges)]
    )
    return _byte_pairs(list(tokens), merges, _cutting(pattern, max_pretoken))


def _cutting(pattern: str, max_pretoken: int) -> dict[str, Any]:
    """A pattern as the files in use have it: GPT-2's stands in ByteLevel itself."""
    if pattern == "gpt2":
        return _byte_level(prefix=False, use_regex=True)
    split = _split(split_pattern(pattern, max_pretoken))
    return {
        "type": "Sequence",
        "pretokenizers": [split, _byte_level(prefix=False, use_regex=False)],
    }


def bytes_file() -> bytes:
    """Byte b is token b + 1."""
    letters = byte_letters()
    tokens = [DOCUMENT, *(letters[byte] for byte in range(256))]
    return _byte_pairs(tokens, [], _byte_level(prefix=False, use_regex=False))


def characters_file(characters: Iterable[str]) -> bytes:
    """Characters by code point, behind the two special tokens."""
    tokens = [DOCUMENT, UNKNOWN, *sorted(set(characters))]
    model = {
        "type": "WordLevel",
        "vocab": {token: number for number, token in enumerate(tokens)},
        "unk_token": UNKNOWN,
    }
    return _file([DOCUMENT, UNKNOWN], _split(CHARACTER), {"type": "Fuse"}, model)


def wrong_in(
    content: bytes,
    parsed: dict[str, Any],
    fields: recipe.Tokenizer,
    characters: set[str] | None = None,
) -> str:
    """What is wrong with the file of a kind made here, parsed and of allowed
    parts; empty where nothing is.

    characters: those of the documents, where they are known.
    """
    model = parsed["model"]
    if fields.kind == "bytes":
        again = bytes_file()
    elif fields.kind == "characters":
        own = {token for token in model["vocab"] if len(token) == 1}
        if characters is not None and (other := sorted(own ^ characters)):
            where = (
                "in the vocabulary and in no document"
                if other[0] in own
                else "in a document and not in the vocabulary"
            )
            return (
                f"{len(other)} characters are not those of the documents: {other[0]!a} is {where}"
            )
        again = characters_file(own)
    else:
        merges = model.get("merges", [])
        if len(merges) > fields.vocabulary - _FIRST:
            return (
                f"has {len(merges)} merges, and the recipe asks for a vocabulary of "
                f"{fields.vocabulary}"
            )
        if not all(isinstance(pair, list) for pair in merges):
            return "has merges that are not pairs"
        if long := [pair for pair in merges if _characters("".join(pair)) > fields.max_pretoken]:
            token = "".join(long[0])[:40]
            return (
                f"has the token {token!a}, of more than max_pretoken = {fields.max_pretoken} "
                "characters"
            )
        again = bpe_file(merges, fields.pattern, fields.max_pretoken)
    return (
        ""
        if content == again
        else f'is not the file that kind = "{fields.kind}" gives for its vocabulary'
    )


def _characters(token: str) -> int:
    """Characters whose bytes the letters of a token stand for: one that begins
    within a character has it too."""
    within = {letter for byte, letter in byte_letters().items() if 0x80 <= byte < 0xC0}
    return sum(letter not in within for letter in token) + (token[:1] in within)


# ---- training ----------------------------------------------------------------------------------


def made(fields: recipe.Tokenizer, documents: Documents, meter: stage.Meter) -> bytes:
    """The tokenizer.json of a kind made here."""
    if fields.kind == "bytes":
        return bytes_file()
    if fields.kind == "characters":
        return characters_file(_seen(documents, meter))
    trained, trainer = untrained_bpe(fields.vocabulary, fields.pattern, fields.max_pretoken)
    trained.train_from_iterator(sample(documents, fields.sample_characters, meter), trainer)
    return bpe_file(merges_of(trained), fields.pattern, fields.max_pretoken)


def merges_of(trained: tokenizers.Tokenizer) -> list[list[str]]:
    """The merges of a BPE tokenizer, in order."""
    merges = json.loads(trained.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]


def untrained_bpe(
    vocabulary: int, pattern: str, max_pretoken: int
) -> tuple[tokenizers.Tokenizer, trainers.BpeTrainer]:
    """A byte-level BPE tokenizer without merges, and its trainer.

    Training takes time in the square of a piece's length, so pieces are cut once more: here alone,
    for the file of a published pattern has no such cut, and encoding needs none."""
    untrained = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(split_pattern(pattern, max_pretoken)), "isolated")
    cut = pre_tokenizers.Split(Regex(RUN % max_pretoken), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    untrained.pre_tokenizer = pre_tokenizers.Sequence([split, cut, byte_level])
    untrained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[DOCUMENT],
        initial_alphabet=[letter for _, letter in sorted(byte_letters().items())],
        show_progress=False,
    )
    return untrained, trainer


def sample(documents: Documents, wanted: int, meter: stage.Meter) -> Iterator[list[str]]:
    """Train texts, in order, of about `wanted` characters: those whose hash lies below a bound."""
    total = 0
    for batch in documents.rows(["characters"], "train"):
        total += sum(batch.column(0).to_pylist())
    bound = 1 << 64 if total <= wanted else (wanted << 64) // total
    for batch in documents.rows(["sha256", "text"], "train"):
        # The split is decided by the hash's first eight bytes; the sample by the next eight.
        chosen = [int(digest[16:32], 16) < bound for digest in batch.column(0).to_pylist()]
        texts = [text.as_py() for text, taken in zip(batch.column(1), chosen, strict=True) if taken]
        yield texts
        meter.add(sum(map(len, texts)))


def _seen(documents: Documents, meter: stage.Meter) -> set[str]:
    """The documents' characters, train and validation."""
    seen: set[str] = set()
    for batch in documents.rows(["text"]):
        for text in batch.column(0).to_pylist():
            seen.update(text)
            meter.add(len(text))
    return seen
