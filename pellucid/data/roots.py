"""The roots over a run's data, and their recomputation from the texts and tokens themselves.

A part of the documents has the Merkle root over digests.document_leaf of its rows. A stream has the
root over digests.sequence_leaf(seed, global id, T + 1 ids) of its sequences; where tokens lie behind
the last sequence, one more leaf covers [sequences * T, tokens), under the number 2^63 + the stream's
place in the manifest, so that every token is in a leaf. The data root is over all of these and the
tokenizer's digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data import parquet, stage
from pellucid.data import tokenizer as tokenizers
from pellucid.data.documents import Documents, root_of, split_of
from pellucid.data.streams import Shards, Stream
from pellucid.errors import DataError
from pellucid.recipe import Recipe
from pellucid.record import digests, merkle
from pellucid.store import files

_TAIL = 1 << 63
_BLOCK = 1 << 20  # Tokens read at once, about.


def unused_in(stream: Stream, context: int) -> int:
    """The stream's tokens that are in no sequence."""
    return stream.tokens - (stream.sequences * context + 1 if stream.sequences else 0)


def stream_root(stream: Stream, context: int, seed: int, place: int) -> bytes:
    """The root of a stream, the place-th in the manifest's list of streams."""
    tree = merkle.Tree()
    block = max(1, _BLOCK // context)
    for first in range(0, stream.sequences, block):
        last = min(first + block, stream.sequences)
        tokens = stream.read(first * context, last * context + 1)
        rows = np.lib.stride_tricks.sliding_window_view(tokens, context + 1)[::context]
        tree.extend(digests.sequence_leaves(seed, stream.first_sequence + first, rows))
    if unused_in(stream, context) > 0:
        tail = stream.read(stream.sequences * context, stream.tokens)
        tree.add(digests.sequence_leaf(seed, _TAIL + place, tail))
    return tree.root()


def data_root(documents_root: str, tokenizer: str, streams: list[dict[str, Any]]) -> str:
    """The root of a run's data, in hex, from the parts' roots and the streams of the manifest."""
    wanted = ("source", "split", "documents", "sequences", "root")
    value = {
        "pipeline": stage.PIPELINE,
        "documents": documents_root,
        "tokenizer": tokenizer,
        "streams": [{key: entry[key] for key in wanted} | {"tokens": str(entry["tokens"])} for entry in streams],
    }
    return digests.of_value("data", value).hex()


def recompute_root(folder: Path, recipe: Recipe) -> tuple[str, list[tuple[str, str]]]:
    """The data root in hex, from the texts in Parquet and the tokens in the shards alone, and every
    (where, detail) at which they and the manifests disagree. "" where it cannot be computed.

    Manifests are believed only about which file is which part. Raises nothing of the DataErrors.
    """
    problems: list[tuple[str, str]] = []
    try:
        documents, shards = Documents.open(folder), Shards.open(folder)
        part_roots = _documents(documents, recipe, problems)
        streams = _streams(shards, documents.count, recipe, problems)
        content = files.read_json(folder / stage.TOKENIZER / tokenizers.FILE, limit=256 << 20)
        tokenizer = tokenizers.digest_of(content).hex()
        root = data_root(root_of(part_roots).hex(), tokenizer, streams)
        found = {"root": root, "tokenizer": tokenizer, "documents_root": root_of(part_roots).hex(), "streams": streams}
        _compare(folder, found, problems)
    except DataError as error:
        return "", [*problems, (str(error.fields.get("path", folder / "data")), str(error))]
    except FileNotFoundError as error:
        return "", [*problems, (str(error.filename), "is missing")]
    return root, problems


def _documents(documents: Documents, recipe: Recipe, problems: list[tuple[str, str]]) -> list[str]:
    roots = []
    for part, entry in zip(documents.parts, documents.manifest["parts"], strict=True):
        tree, index = merkle.Tree(), part.first_index
        for row in _rows(part):
            tree.add(digests.document_leaf(recipe.seed, index, row.id, row.text))
            for detail in _faults(row, index, part.source, recipe):
                problems.append((str(part.path), f"document {index}: {detail}"))
            index += 1
        roots.append(tree.root().hex())
        if roots[-1] != entry.get("root"):
            problems.append((str(part.path), f"its texts have the root {roots[-1]}, its manifest says another"))
    return roots


def _rows(part: parquet.Part) -> Iterator[parquet.Row]:
    for group in range(part.groups):
        yield from map(parquet.Row, *(column.to_pylist() for column in part.read(group).columns))


def _faults(row: parquet.Row, index: int, source: str, recipe: Recipe) -> Iterator[str]:
    """What about a row does not follow from its text."""
    content = row.text.encode("utf-8")
    digest = hashlib.sha256(content)
    if row.index != index:
        yield f"is numbered {row.index}"
    if row.source != source:
        yield f"is of the source {row.source}, its part of {source}"
    if row.sha256 != digest.hexdigest():
        yield "its text has another SHA-256"
    if row.split != split_of(digest.digest(), recipe.data.validation_per_10000):
        yield f"its split is not {row.split}"
    if (row.characters, row.bytes) != (len(row.text), len(content)):
        yield "its text has another length"


def _streams(shards: Shards, documents: int, recipe: Recipe, problems: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """The streams' entries, recomputed, in the manifest's order."""
    out = []
    entries = shards.manifest["streams"]
    for place, (stream, entry) in enumerate(zip([*shards.train, *shards.validation], entries, strict=True)):
        for shard in stream.shards:
            begins = shard.table[:, 1].astype(np.int64)
            indices = shard.table[:, 0].astype(np.int64)
            if begins[0] != 0 or (np.diff(begins) <= 0).any() or begins[-1] >= shard.tokens:
                problems.append((str(shard.table_path), "its first tokens do not ascend from 0"))
            if (np.diff(indices) <= 0).any() or indices[-1] >= documents or indices[0] < 0:
                problems.append((str(shard.table_path), "its document indices do not ascend"))
        root = stream_root(stream, shards.context, recipe.seed, place).hex()
        out.append(summary(stream, shards.context, root))
        if out[-1] != entry:
            detail = f"{stream.source} {stream.split}: its tokens give {out[-1]}, its manifest says {entry}"
            problems.append((stage.SHARDS, detail))
    return out


def summary(stream: Stream, context: int, root: str) -> dict[str, Any]:
    """A stream's entry in the manifests."""
    return {
        "source": stream.source,
        "split": stream.split,
        "tokens": str(stream.tokens),
        "documents": stream.documents,
        "bytes": str(stream.bytes),
        "sequences": stream.sequences,
        "unused_tokens": unused_in(stream, context),
        "root": root,
    }


def _compare(folder: Path, found: dict[str, Any], problems: list[tuple[str, str]]) -> None:
    path = folder / stage.DATA
    manifest = stage.read_manifest(path, "data")
    for key, value in found.items():
        if manifest.get(key) != value:
            problems.append((str(path), f"{key} is {manifest.get(key)}, and the data gives {value}"))
