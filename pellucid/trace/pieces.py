"""The index of a run, opened: its pieces, each with the place of its
shard in a stream of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data import stage
from pellucid.data.streams import Shards, Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import FormatInvalid, IndexMissing
from pellucid.store import layout
from pellucid.trace.build import EVERY, KEY, Piece
from pellucid.trace.suffixes import Suffixes, TextSuffixes, TokenSuffixes
from pellucid.trace.words import Words


class Placed(NamedTuple):
    """A piece, and the position in its stream of its shard's first token."""

    suffixes: Suffixes
    stream: Stream
    offset: int


class Index(NamedTuple):
    """pieces: in the documents' order; words: None where no piece needs them."""

    pieces: list[Placed]
    words: Words | None


def opened(folder: Path, shards: Shards, tokenizer: Tokenizer) -> Index:
    """The index of a run folder. Raises IndexMissing, FormatInvalid, FormatTooNew."""
    path = folder / layout.TRACE / stage.MANIFEST
    if not path.is_file():
        raise IndexMissing(path=folder)
    manifest = stage.read_manifest(path, "index")
    if (manifest.get("every"), manifest.get("key")) != (EVERY, KEY):
        raise FormatInvalid(
            path=path, detail="was made with tables that this version does not read"
        )
    placed = _shards(shards)
    entries = [_piece(entry, path) for entry in stage.list_in(manifest, "pieces", path)]
    _check(entries, placed, path)
    words = Words.of(tokenizer) if any(kind == "tokens" for kind, _ in entries) else None
    pieces = []
    for kind, piece in entries:
        stream, number, offset = placed[piece.shard]
        shard = stream.shards[number]
        if kind == "text":
            suffixes: Suffixes = TextSuffixes(path.parent, piece, shard)
        elif words is not None:
            suffixes = TokenSuffixes(path.parent, piece, shard, words)
        else:
            raise FormatInvalid(
                path=path,
                detail="counts tokens, but the tokens of this tokenizer have no bytes of their own",
            )
        pieces.append(Placed(suffixes, stream, offset))
    return Index(pieces, words)


def _shards(shards: Shards) -> list[tuple[Stream, int, int]]:
    """For every shard of the manifest its stream, its number there, and where it begins in it."""
    streams = {
        (stream.source, stream.split): stream for stream in (*shards.train, *shards.validation)
    }
    seen: dict[tuple[str, str], tuple[int, int]] = dict.fromkeys(streams, (0, 0))
    placed = []
    for entry in shards.manifest["parts"]:
        key = (entry["source"], entry["split"])
        number, offset = seen[key]
        placed.append((streams[key], number, offset))
        seen[key] = number + 1, offset + streams[key].shards[number].tokens
    return placed


def _piece(entry: Any, path: Path) -> tuple[str, Piece]:
    kind = stage.text_in(entry, "kind", path)
    if kind not in ("tokens", "text"):
        raise FormatInvalid(path=path, detail=f"has a piece of the kind {kind[:40]!r}")
    return kind, Piece(*(stage.count_in(entry, name, path) for name in Piece._fields))


def _check(
    entries: list[tuple[str, Piece]], placed: list[tuple[Stream, int, int]], path: Path
) -> None:
    """Raises FormatInvalid unless the pieces are all of the shards, one behind the other."""
    at = (0, 0, 0)  # The shard, its next row, its next token.
    for number, (_, piece) in enumerate(entries):
        if at[0] >= len(placed):
            raise FormatInvalid(path=path, detail="has more pieces than there are shards")
        stream, inner, _ = placed[at[0]]
        shard = stream.shards[inner]
        follows = (piece.number, piece.shard, piece.first, piece.start) == (number, *at)
        if (
            not follows
            or not at[1] < piece.last <= shard.documents
            or not at[2] < piece.stop <= shard.tokens
        ):
            raise FormatInvalid(
                path=path, detail=f"its piece {number} does not follow the one before it"
            )
        ends = piece.last == shard.documents
        if ends != (piece.stop == shard.tokens):
            raise FormatInvalid(path=path, detail=f"its piece {number} ends inside a document")
        at = (piece.shard + 1, 0, 0) if ends else (piece.shard, piece.last, piece.stop)
    if at != (len(placed), 0, 0):
        raise FormatInvalid(path=path, detail="does not cover every shard")
