"""The stage "index": for every piece of every shard its suffixes in order, so that
any text is found in a few reads.

A piece is at most about 32 MiB of text: whole documents of one shard. Pieces need nothing of each
other, so processes share them; each takes up to twenty-one times its piece's bytes in memory. The
bytes written follow from the shards alone."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from pellucid import machine
from pellucid.data import stage
from pellucid.data.parquet import Documents
from pellucid.data.streams import TYPES, open_shard
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import FormatInvalid, IndexLost, StageNotReady
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.store import files, layout
from pellucid.trace.build import EVERY, KEY, Builder, Piece

FORMAT = 2
# Text of one piece, but for a document that is longer: what sorts fast, and few to ask.
PIECE_BYTES = 32 << 20
_MOST_TEXT = 1 << 40  # Bytes of one part of the documents, about: its pieces fit in memory.

WORTH = 8 << 20  # Text for which one more process is worth its start.
# Bytes that building takes for one of text, at most: where every token
# is one byte. Of three: twelve.
MEMORY = 21


def prepare(recipe: Recipe, folder: Path, progress: stage.Progress = stage.silent) -> bool:
    """Write trace/; continues after a kill, and returns at once where it is done.

    Raises StageNotReady, IndexLost, FormatInvalid, DiskFull.
    """
    if not (folder / stage.DATA).is_file():
        raise StageNotReady(stage="the index", needs="prepared data", path=folder)
    place = folder / layout.TRACE
    made_from = _made_from(folder)
    if stage.done(place, "index", made_from):
        return False
    state = stage.unfinished(place, made_from)
    if state is None:
        files.remove_folder(place)
        state = {"kinds": {}}
    with files.named_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    planned, kinds = pieces(folder), state["kinds"]
    missing = [piece for piece in planned if str(piece.number) not in kinds]
    total = sum(piece.text for piece in planned)
    meter = stage.Meter(
        progress, "index", "bytes", total - sum(piece.text for piece in missing), total
    )
    meter.tell()
    for piece, kind in _built(folder, missing, lossless=recipe.tokenizer.kind != "file"):
        kinds[str(piece.number)] = kind
        stage.note(place, made_from, {"kinds": kinds})
        meter.add(piece.text)
    meter.tell()
    stage.finish(place, manifest(folder, [kinds[str(piece.number)] for piece in planned]))
    return True


def manifest(folder: Path, kinds: list[str]) -> dict[str, Any]:
    """What the index's manifest says, given what the positions of each piece count; of other kinds
    than there are pieces, that of the pieces that there should be."""
    entries = [
        {"kind": kind, **piece._asdict()}
        for kind, piece in itertools.zip_longest(kinds, pieces(folder))
        if piece
    ]
    about = {
        "format": stage.FORMAT,
        "kind": "index",
        "recipe": _made_from(folder),
        "every": EVERY,
        "key": KEY,
    }
    return about | {"pieces": entries}


def done(folder: Path) -> bool:
    """Whether a run has its whole index, made from the shards that are there."""
    manifest = folder / layout.TRACE / stage.MANIFEST
    return manifest.is_file() and stage.read_manifest(manifest, "index").get(
        "recipe"
    ) == _made_from(folder)


def _made_from(folder: Path) -> str:
    """The digest of what this stage depends on."""
    manifest = stage.read_manifest(folder / stage.DATA, "data")
    root = stage.digest_in(manifest, "root", folder / stage.DATA)
    fields = {"index": FORMAT, "data": root, "piece": PIECE_BYTES, "every": EVERY, "key": KEY}
    return digests.of_value("index stage", fields).hex()


def pieces(folder: Path) -> list[Piece]:
    """How the shards' documents are shared among pieces, each shard in as few as
    PIECE_BYTES allow, of even size."""
    manifest, place = _shards(folder)
    kind = TYPES[manifest["token_type"]]
    planned: list[Piece] = []
    for number, entry in enumerate(stage.list_in(manifest, "parts", place)):
        shard = open_shard(entry, place, kind)
        if float(shard.table[:, 2].astype(np.float64).sum()) > _MOST_TEXT:
            detail = f"says that its texts have more than {_MOST_TEXT:,} bytes, which no part has"
            raise FormatInvalid(path=shard.table_path, detail=detail)
        ends = np.cumsum(shard.table[:, 2].astype(np.int64) + 1)  # Of each document's text.
        parts = -(-int(ends[-1]) // PIECE_BYTES)
        bounds = np.searchsorted(ends, ends[-1] * np.arange(1, parts) // parts, side="right")
        for first, last in itertools.pairwise(
            np.unique([0, *bounds.tolist(), shard.documents]).tolist()
        ):
            stop = int(shard.table[last, 1]) if last < shard.documents else shard.tokens
            text = int(ends[last - 1] - (ends[first - 1] if first else 0))
            planned.append(
                Piece(len(planned), number, first, last, int(shard.table[first, 1]), stop, text)
            )
    return planned


def _shards(folder: Path) -> tuple[dict[str, Any], Path]:
    place = folder / stage.SHARDS / stage.MANIFEST
    return stage.read_manifest(place, "shards"), place


def _built(folder: Path, planned: list[Piece], lossless: bool) -> Iterator[tuple[Piece, str]]:
    """Every piece and what its positions count, as they get ready. Raises IndexLost."""
    longest, total = (
        max((piece.text for piece in planned), default=0),
        sum(piece.text for piece in planned),
    )
    workers = min(
        len(planned), machine.cores(), machine.available() // (MEMORY * longest + 1), total // WORTH
    )
    if workers < 2:
        _open(folder, lossless)
        for piece in planned:
            yield piece, _build(piece)
        return
    # A fork would copy locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _open, (folder, lossless, os.getpid())) as pool:
            waiting = {
                pool.submit(_build, piece): piece
                for piece in sorted(planned, key=lambda entry: -entry.text)
            }
            for ready in as_completed(waiting):
                yield waiting[ready], ready.result()
    except BrokenProcessPool as error:
        raise IndexLost(path=folder) from error


_opened: list[tuple[Builder, dict[str, Any], Path]] = []  # Of this process.


def _open(folder: Path, lossless: bool, parent: int | None = None) -> None:
    manifest, place = _shards(folder)
    tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
    builder = Builder(folder / layout.TRACE, Documents.open(folder), tokenizer, lossless, parent)
    _opened[:] = [(builder, manifest, place)]


def _build(piece: Piece) -> str:
    builder, manifest, place = _opened[0]
    shard = open_shard(manifest["parts"][piece.shard], place, TYPES[manifest["token_type"]])
    return builder.build(piece, shard)
