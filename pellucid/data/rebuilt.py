"""The manifests of a run's data, rebuilt from the rows, the tokens and the recipe: what
they have to say, every field.

What nothing binds is taken from the manifest itself where it has its form: the digest of
what a stage was made from, the versions it was made with, and how many records each
source left out, by reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pellucid.data import stage
from pellucid.data.streams import Stream
from pellucid.recipe import Recipe, Source
from pellucid.store import fields

_COUNTED = ("documents", "validation_documents", "bytes", "characters")


class Part(NamedTuple):
    """What the rows of a part of the documents give."""

    source: str
    first_index: int
    documents: int
    validation_documents: int
    bytes: int
    characters: int
    licence: str  # Of its first row.
    root: str


def licence_of(source: Source, found: str) -> str:
    """The licence of a source's documents: the recipe's, or where it leaves that
    to a package the one found."""
    return found if source.format == "package" and source.licence == "unknown" else source.licence


def documents(
    said: Mapping[str, Any], parts: list[Part], root: str, recipe: Recipe
) -> dict[str, Any]:
    """data/documents/manifest.json; said: what it says, opened, so that the counts of what
    was dropped have their form."""
    total = _total(parts)
    dropped = {one["name"]: one["dropped"] for one in said["sources"]}
    return {
        "format": stage.FORMAT,
        "kind": "documents",
        **_made_from(said),
        **{name: total[name] for name in ("documents", "bytes", "characters")},
        "root": root,
        "parts": [_part(number, part) for number, part in enumerate(parts)],
        "sources": [
            _source(source, parts, dropped.get(source.name)) for source in recipe.data.sources
        ],
        "made_with": fields.said(
            said.get("made_with"), dict.fromkeys(("python", "pyarrow", "unicode"), fields.VERSION)
        ),
    }


def _made_from(said: Mapping[str, Any]) -> dict[str, str]:
    return fields.said(said, {"recipe": fields.DIGEST})


def _total(parts: list[Part]) -> dict[str, Any]:
    total = {name: sum(getattr(part, name) for part in parts) for name in _COUNTED}
    return total | {name: str(total[name]) for name in ("bytes", "characters")}


def _part(number: int, part: Part) -> dict[str, Any]:
    return {
        "file": f"{number:05d}.parquet",
        "source": part.source,
        "documents": part.documents,
        "validation_documents": part.validation_documents,
        "first_index": part.first_index,
        "bytes": str(part.bytes),
        "root": part.root,
    }


def _source(source: Source, parts: list[Part], dropped: Mapping[str, int] | None) -> dict[str, Any]:
    own = [part for part in parts if part.source == source.name]
    total = _total(own)
    return {
        "name": source.name,
        "licence": licence_of(source, own[0].licence if own else ""),
        "format": source.format,
        **{
            name: total[name]
            for name in ("documents", "bytes", "characters", "validation_documents")
        },
        "dropped": dict(sorted(dropped.items())) if dropped else {},
    }


def tokenizer(said: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """data/tokenizer/manifest.json; found: what its file gives."""
    made_with = fields.said(said.get("made_with"), {"tokenizers": fields.VERSION})
    return {
        "format": stage.FORMAT,
        "kind": "tokenizer",
        **_made_from(said),
        **found,
        "made_with": made_with,
    }


def shards(
    said: Mapping[str, Any],
    parts: list[Part],
    streams: list[Stream],
    entries: list[dict[str, Any]],
    recipe: Recipe,
) -> dict[str, Any]:
    """data/shards/manifest.json."""
    return {
        "format": stage.FORMAT,
        "kind": "shards",
        **_made_from(said),
        "token_type": recipe.data.token_type,
        "block": recipe.block,
        "parts": list(_shards(parts, streams)),
        "streams": entries,
    }


def _shards(parts: list[Part], streams: list[Stream]) -> Iterator[dict[str, Any]]:
    following = {(stream.source, stream.split): iter(stream.shards) for stream in streams}
    for number, part in enumerate(parts):
        counts = {
            "train": part.documents - part.validation_documents,
            "validation": part.validation_documents,
        }
        for split, count in counts.items():
            shard = next(following.get((part.source, split), iter(())), None) if count else None
            if shard is not None:
                yield {
                    "file": f"{number:05d}.{split}.bin",
                    "documents_file": f"{number:05d}.{split}.documents.bin",
                    "source": part.source,
                    "split": split,
                    "tokens": shard.tokens,
                    "documents": count,
                }


def data(
    root: str, documents_root: str, tokenizer: str, streams: list[dict[str, Any]], recipe: Recipe
) -> dict[str, Any]:
    """data/manifest.json."""
    return {
        "format": stage.FORMAT,
        "kind": "data",
        "pipeline": recipe.data.pipeline,
        "root": root,
        "documents_root": documents_root,
        "tokenizer": tokenizer,
        "streams": streams,
    }
