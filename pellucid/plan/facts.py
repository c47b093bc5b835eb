"""What the arithmetic of a plan needs to know of the data: as prepared, or assumed
where nothing is prepared yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pellucid.data import stage
from pellucid.data.covered import covered
from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.data.tokenizer import FILE, Tokenizer, existing, named
from pellucid.recipe import Recipe
from pellucid.schedule import Passed
from pellucid.store import files, layout
from pellucid.trace.build import EVERY, KEY

_ENTRY = 60  # Bytes that tokenizer.json takes a token, as in the demo's.


@dataclass(frozen=True, slots=True)
class Facts:
    vocabulary: int
    document_token: int
    document: str  # How that token is written.
    tokenizer_bytes: int
    # Of every source that is validated on: its name, tokens, UTF-8 bytes.
    validation: tuple[tuple[str, int, int], ...]
    segments: float  # Parts of documents in a row, on average.
    data: dict[str, int]  # Bytes of the documents, the shards and the index.
    passed: tuple[Passed, ...]  # Targets that phases pass over where they begin.
    assumed: tuple[str, ...]  # What of all this is not known yet, in words.


def facts(folder: Path, recipe: Recipe) -> Facts:
    """Of a run folder, or of the folder that an unprepared recipe lies in. Raises TokenizerInvalid
    and what the readers of the data and of its order raise."""
    assumed: list[str] = []
    vocabulary, token, document, size = _tokenizer(folder, recipe, assumed)
    if (folder / stage.DATA).is_file():
        shards = Shards.open(folder)
        known = [(part.source, part.tokens, part.bytes) for part in covered(shards, recipe)]
        documents = sum(shard.documents for stream in shards.train for shard in stream.shards)
        mean = sum(phase.context for phase in recipe.phases) / len(recipe.phases)
        segments = 1 + documents * mean / max(1, shards.blocks * shards.block)
        data = {
            name: _bytes_of(folder / place)
            for name, place in (("documents", stage.DOCUMENTS), ("shards", stage.SHARDS))
        }
        if recipe.placement.trace:
            tokens = sum(stream.tokens for stream in (*shards.train, *shards.validation))
            data["index"] = _bytes_of(folder / layout.TRACE) or _index(tokens, vocabulary)
        validation = tuple((name, tokens - 1, text) for name, tokens, text in known)
        return Facts(
            vocabulary,
            token,
            document,
            size,
            validation,
            segments,
            data,
            _passed(folder, recipe, shards, assumed),
            tuple(assumed),
        )
    tokens = sum(phase.steps * phase.tokens for phase in recipe.phases)
    width = 2 if recipe.data.token_type == "uint16" else 4
    assumed.append("shards hold every token of the run once; documents are not counted")
    assumed.append("a row holds parts of 2 documents")
    validation = tuple(
        (source.name, recipe.validation.tokens, 4 * recipe.validation.tokens)
        for source in recipe.data.sources
    )
    data = {"shards": tokens * width}
    if recipe.placement.trace:
        data["index"] = _index(tokens, vocabulary)
    passed = _passed(folder, recipe, None, assumed)
    return Facts(vocabulary, token, document, size, validation, 2.0, data, passed, tuple(assumed))


def _passed(
    folder: Path, recipe: Recipe, shards: Shards | None, assumed: list[str]
) -> tuple[Passed, ...]:
    """Empty where the shards are not made yet, or for another recipe: it takes their blocks."""
    names = [source.name for source in recipe.data.sources]
    if (
        shards
        and shards.block == recipe.block
        and [stream.source for stream in shards.train] == names
    ):
        return tuple(Order.of(folder, recipe, shards).route.passed(names))
    if len(recipe.phases) > 1:
        assumed.append("no phase passes over a target where it begins")
    return ()


def _tokenizer(folder: Path, recipe: Recipe, assumed: list[str]) -> tuple[int, int, str, int]:
    """The vocabulary, the token that begins a document and how it is written, and
    the bytes of tokenizer.json."""
    chosen, path = recipe.tokenizer, folder / stage.TOKENIZER / FILE
    if not path.is_file() and chosen.kind == "file":
        path = folder / chosen.path
    if path.is_file() or chosen.kind == "file":
        content = existing(path, follow=True)
        tokenizer = Tokenizer(content, path, named(recipe))
        return (
            tokenizer.vocabulary,
            tokenizer.document_token,
            tokenizer.document,
            len(tokenizer.exported),
        )
    vocabulary = chosen.vocabulary if chosen.kind == "bpe" else 257
    if chosen.kind != "bytes":
        assumed.append(f"the vocabulary has {vocabulary:,} tokens")
    return vocabulary, 0, "<|document|>", vocabulary * _ENTRY


def _index(tokens: int, vocabulary: int) -> int:
    """Bytes of the index, about: a position a token and the byte before it, keys of every 64th,
    counts of the vocabulary for some ten million tokens."""
    keys = -(-tokens // EVERY)
    counts = -(-tokens // 10_000_000) * vocabulary
    return tokens * 4 + (keys + -(-keys // EVERY)) * KEY + counts * 4


def _bytes_of(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in files.walk(folder))
