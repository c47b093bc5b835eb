"""The roots over a run's data, and their recomputation from the texts and tokens themselves.

A part of the documents has the Merkle root over digests.document_leaf of its rows. A stream has
the root over the leaves of its blocks (record/rows.py); where tokens lie behind the last block,
one more leaf covers [blocks * T_B, tokens), under the number 2^63 + the stream's place in the
manifest, so that every token is in a leaf. The data root is over all of these and the tokenizer's
digest; sources and streams enter by roots of their own, so that a proof of one of them is as
short with a thousand others."""

from __future__ import annotations

import array
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data import cutting, leaves, parquet, rebuilt, stage
from pellucid.data.about import keys_of
from pellucid.data.claims import Claims
from pellucid.data.documents import Documents, key_of, root_of, split_of
from pellucid.data.reasons import OF_CONTENT
from pellucid.data.salts import Salts, of_run, wrong_with
from pellucid.data.streams import ROW, Shard, Shards, Stream
from pellucid.data.tokenizer import FILE, Tokenizer, described, existing, named, recorded, wrong_in
from pellucid.errors import DataError, FormatInvalid
from pellucid.recipe import Recipe
from pellucid.record import digests, merkle
from pellucid.store import fields

_TAIL = 1 << 63
_BLOCK = 1 << 20  # Tokens read at once, about.
_SHORT = 16  # Bytes of a digest by which ids and texts are told apart.
_NAMED = 20  # Doubled documents that are named.


def unused_in(stream: Stream, block: int) -> int:
    """The stream's tokens that are in no block."""
    return stream.tokens - (stream.blocks * block + 1 if stream.blocks else 0)


def stream_root(stream: Stream, block: int, salts: Salts, place: int) -> bytes:
    """The root of a stream, the place-th in the manifest's list of streams."""
    return merkle.root(stream_leaves(stream, block, salts, place))


def stream_leaves(stream: Stream, block: int, salts: Salts, place: int) -> Iterator[bytes]:
    """The leaves that the root of a stream is over."""
    yield from leaves.block_leaves(stream, block, salts)
    if unused_in(stream, block) > 0:
        yield leaves.leaf_of_tail(stream, block, salts, _TAIL + place)


def data_root(
    documents_root: str,
    sources: list[dict[str, Any]],
    tokenizer: str,
    streams: list[dict[str, Any]],
    pipeline: int,
) -> str:
    """The root of a run's data, in hex, from the parts' roots, what was left out of
    each source, and the streams."""
    return digests.of_value(
        "data", data_value(documents_root, sources, tokenizer, streams, pipeline)
    ).hex()


def data_value(
    documents_root: str,
    sources: list[dict[str, Any]],
    tokenizer: str,
    streams: list[dict[str, Any]],
    pipeline: int,
) -> dict[str, Any]:
    """What the data root is the digest of."""
    return {
        "pipeline": pipeline,
        "documents": documents_root,
        "sources": merkle.root(
            digests.value_leaf("source", source_value(one)) for one in sources
        ).hex(),
        "tokenizer": tokenizer,
        "streams": merkle.root(
            digests.value_leaf("stream", stream_value(one)) for one in streams
        ).hex(),
    }


def source_value(source: dict[str, Any]) -> dict[str, Any]:
    """What the data root holds of a source, from its entry in the documents' manifest."""
    dropped = {reason: count for reason, count in source["dropped"].items() if reason in OF_CONTENT}
    return {"name": source["name"], "documents": source["documents"], "dropped": dropped}


def stream_value(stream: dict[str, Any]) -> dict[str, Any]:
    """What the data root holds of a stream, from its entry in the data's manifest."""
    kept = {key: stream[key] for key in ("source", "split", "documents", "blocks", "root")}
    return kept | {"tokens": str(stream["tokens"])}


def recompute_root(folder: Path, recipe: Recipe) -> tuple[str, list[tuple[str, str]]]:
    """The data root in hex, from the texts in Parquet and the tokens in the shards alone, and every
    (where, detail) at which they and the manifests disagree. "" where it cannot be computed.

    Manifests are believed only about which file is which part. Raises nothing of the DataErrors.
    """
    problems: list[tuple[str, str]] = []
    try:
        documents, shards = Documents.open(folder), Shards.open(folder)
        characters: set[str] = set()
        salts = of_run(folder, recipe)
        parts, tables = _documents(documents, recipe, salts, characters, problems)
        path = folder / stage.TOKENIZER / FILE
        made = Tokenizer(existing(path), path, named(recipe))
        tokenizer = made.digest.hex()
        _check_recipe(shards, recipe, problems)
        _check_tokenizer(folder, made, recipe, characters, problems)
        streams = _streams(shards, tables, made, recipe, salts, problems)
        documents_root, pipeline = (
            root_of([part.root for part in parts]).hex(),
            recipe.data.pipeline,
        )
        root = data_root(
            documents_root, documents.manifest["sources"], tokenizer, streams, pipeline
        )
        about = described(made, recipe)._asdict()
        manifests = {
            f"{stage.DOCUMENTS}/{stage.MANIFEST}": rebuilt.documents(
                documents.manifest, parts, documents_root, recipe
            ),
            f"{stage.TOKENIZER}/{stage.MANIFEST}": rebuilt.tokenizer(
                stage.read_manifest(folder / stage.TOKENIZER / stage.MANIFEST, "tokenizer"), about
            ),
            f"{stage.SHARDS}/{stage.MANIFEST}": rebuilt.shards(
                shards.manifest, parts, [*shards.train, *shards.validation], streams, recipe
            ),
            stage.DATA: rebuilt.data(root, documents_root, tokenizer, streams, recipe),
        }
        for name, manifest in manifests.items():
            if detail := fields.difference(folder / name, manifest):
                problems.append((name, detail))
    except DataError as error:
        return "", [*problems, (str(error.fields.get("path", folder / "data")), str(error))]
    return root, problems


# What the texts say of the document tables: per source and split, per part, rows of
# (index, bytes, key).
_Tables = dict[tuple[str, str], list[np.ndarray]]


def _documents(
    documents: Documents,
    recipe: Recipe,
    salts: Salts,
    characters: set[str],
    problems: list[tuple[str, str]],
) -> tuple[list[rebuilt.Part], _Tables]:
    """What the rows give, part by part, and their characters where the
    tokenizer is made of these."""
    parts, tables = [], _Tables()
    whole, ids = _Whole(recipe), bytearray()  # A digest of each id, to find one that stands twice.
    said = {source.name: Claims(source) for source in recipe.data.sources}
    for part, entry in zip(documents.parts, documents.manifest["parts"], strict=True):
        parquet.check_sizes(
            part, stage.count_in(entry, "bytes", part.path), recipe.data.max_document_characters
        )
        if wrong := wrong_with(part, recipe):
            raise FormatInvalid(path=part.path, detail=wrong)
        counted, found = _part(
            part, recipe, salts, whole, said.get(part.source), ids, characters, problems
        )
        parts.append(counted)
        for split, rows in found.items():
            if rows:
                tables.setdefault((part.source, split), []).append(np.array(rows, dtype=ROW))
    problems += [(stage.DOCUMENTS, detail) for detail in whole.end()]
    for what, index in [("id", index) for index in _twice(ids)] + [
        ("text", index) for index in whole.twice()
    ]:
        problems.append(
            (stage.DOCUMENTS, f"document {index}: its {what} is that of another document, too")
        )
    return parts, tables


def _part(
    part: parquet.Part,
    recipe: Recipe,
    salts: Salts,
    whole: _Whole,
    said: Claims | None,
    ids: bytearray,
    seen: set[str],
    problems: list[tuple[str, str]],
) -> tuple[rebuilt.Part, dict[str, list[tuple[int, int, int]]]]:
    """What the rows of a part give, and (index, bytes, key) of each by split."""
    found: dict[str, list[tuple[int, int, int]]] = {"train": [], "validation": []}
    source = next((one for one in recipe.data.sources if one.name == part.source), None)
    tree, characters, licence, keys = merkle.Tree(), 0, "", keys_of(source) if source else {}
    for index, row in enumerate(_rows(part), part.first_index):
        if index == part.first_index:
            licence = rebuilt.licence_of(source, row.licence) if source else row.licence
        content = row.text.encode("utf-8")
        digest = hashlib.sha256(content)
        if recipe.tokenizer.kind == "characters":
            seen.update(row.text)
        problems += [
            (str(part.path), detail) for detail in whole.take(row._replace(number=index), content)
        ]
        split = (
            row.split
            if whole.decides
            else split_of(digest.digest(), recipe.data.validation_per_10000)
        )
        known = parquet.Row(
            index, row.id, part.source, row.licence if "licence" in keys else licence,
            row.origin, row.date if "date" in keys else "", split,
            len(row.text), len(content), digest.hexdigest(), row.text,
        )  # fmt: skip
        labels = (row.id, row.licence, row.origin, row.date)
        tree.add(digests.document_leaf(salts.of(index), *labels, row.text))
        if row != known:
            names = [name for name in row._fields if getattr(row, name) != getattr(known, name)]
            problems.append(
                (str(part.path), f"document {index}: its text gives another {', '.join(names)}")
            )
        if wrong := _unfit(row, part.source, recipe):
            problems.append((str(part.path), f"document {index}: {wrong}"))
        if said and (wrong := said.wrong(row)):
            problems.append((str(part.path), f"document {index}: {wrong}"))
        ids += hashlib.sha256(row.id.encode()).digest()[:_SHORT]
        about = (index, len(content), key_of(digest.digest()))
        found["validation" if split == "validation" else "train"].append(about)
        characters += len(row.text)
    train, validation = found["train"], found["validation"]
    size = sum(size for _, size, _ in [*train, *validation])
    counts = (part.first_index, len(train) + len(validation), len(validation), size, characters)
    return rebuilt.Part(part.source, *counts, licence, tree.root().hex()), found


def _unfit(row: parquet.Row, source: str, recipe: Recipe) -> str:
    """What the recipe rules out of a document."""
    if not row.id.startswith(f"{source}/") or len(row.id) == len(source) + 1:
        return f"its id is {row.id[:60]!r}, which is none of the source {source}"
    if not row.text:
        return "has no text"
    return (
        "is longer than max_document_characters"
        if len(row.text) > recipe.data.max_document_characters
        else ""
    )


def _twice(seen: bytearray) -> list[int]:
    """The first places of what stands there more than once, of things so many bytes long."""
    keys = np.frombuffer(bytes(seen), f"S{_SHORT}")
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return sorted(first[counts > 1].tolist())[:_NAMED]


class _Whole:
    """Checks what the parts of long texts add up to: their numbers, where they are cut, their
    split, and that none stands twice."""

    def __init__(self, recipe: Recipe) -> None:
        self._data = recipe.data
        # Whether the split is the text's, not the part's.
        self.decides = recipe.data.split == "texts"
        self._texts = cutting.Texts()
        self._last: parquet.Row | None = None
        self._digests, self._indices = (
            bytearray(),
            array.array("q"),
        )  # Of each text, and of its last document.

    def take(self, row: parquet.Row, content: bytes) -> Iterator[str]:
        """What is wrong with the document before this one, or with this as the next one."""
        (name, part), last = cutting.text_of(row.id), self._last
        before = cutting.text_of(last.id) if last else ("", 0)
        follows = (
            last is not None
            and part > 1
            and (name, part - 1) == before
            and last.source == row.source
        )
        if part > 1 and not follows:
            yield f"document {row.number}: {row.id} does not follow the part before it"
        if last is not None and follows:
            yield from self._joint(last, row)
        digest = self._texts.take(row.id, content)
        if last is not None and digest is not None:
            yield from self._ended(last, digest)
        self._last = row

    def end(self) -> Iterator[str]:
        """What is wrong with the last document."""
        if self._last is not None and self._texts.digest is not None:
            yield from self._ended(self._last, self._texts.digest)

    def twice(self) -> list[int]:
        """The last documents of texts that stand more than once: of each the first."""
        return [self._indices[place] for place in _twice(self._digests)]

    def _joint(self, last: parquet.Row, row: parquet.Row) -> Iterator[str]:
        longest = self._data.max_document_characters
        begun = last.text + row.text[: longest + 1 - len(last.text)]
        if cutting.length(begun, longest) != len(last.text):
            yield f"document {last.number}: is not cut where the text gives it"
        about = ("source", "licence", "origin", "date", *(("split",) if self.decides else ()))
        if differing := [name for name in about if getattr(last, name) != getattr(row, name)]:
            yield f"document {row.number}: the part before it has another {', '.join(differing)}"

    def _ended(self, last: parquet.Row, digest: bytes) -> Iterator[str]:
        """The text that ends with this document, and so each part of
        it, has the split of its hash."""
        self._keep(digest, last)
        yield from self._number(last)
        if self.decides and last.split != split_of(digest, self._data.validation_per_10000):
            yield f"document {last.number}: its text gives another split"

    def _keep(self, digest: bytes, last: parquet.Row) -> None:
        self._digests += digest[:_SHORT]
        self._indices.append(last.number)

    def _number(self, last: parquet.Row) -> Iterator[str]:
        """Of a text that is one document: whether its id has a part's number is no choice."""
        name, part = cutting.text_of(last.id)
        if part == 0 and cutting.ends_as_part(name):
            yield (
                f"document {last.number}: {last.id} has no part's number, and ends like one "
                "that has"
            )
        if part == 1 and not cutting.ends_as_part(name):
            yield f"document {last.number}: {last.id} is a part of a text that is not cut"


def _rows(part: parquet.Part) -> Iterator[parquet.Row]:
    for group in range(part.groups):
        yield from map(parquet.Row, *(column.to_pylist() for column in part.read(group).columns))


def _check_recipe(shards: Shards, recipe: Recipe, problems: list[tuple[str, str]]) -> None:
    """The streams are those of the recipe's sources."""
    names = [source.name for source in recipe.data.sources]
    streams = [(stream.source, stream.split) for stream in [*shards.train, *shards.validation]]
    if streams != [(name, split) for split in ("train", "validation") for name in names]:
        problems.append(
            (
                stage.SHARDS,
                f"the streams are {streams}, which are not those of the recipe's sources",
            )
        )


def _check_tokenizer(
    folder: Path,
    made: Tokenizer,
    recipe: Recipe,
    characters: set[str],
    problems: list[tuple[str, str]],
) -> None:
    """The tokenizer is of the kind that the recipe asks for, and its
    manifest says what its file is."""
    if wrong := wrong_in(made, recipe, characters):
        problems.append((f"{stage.TOKENIZER}/{FILE}", wrong))
    made_fields, recorded_fields = described(made, recipe), recorded(folder)
    if made_fields != recorded_fields:
        detail = (
            f"{', '.join(made_fields._fields)} are {tuple(recorded_fields)}, but tokenizer.json "
            f"gives {tuple(made_fields)}"
        )
        problems.append((f"{stage.TOKENIZER}/{stage.MANIFEST}", detail))


def _streams(
    shards: Shards,
    tables: _Tables,
    made: Tokenizer,
    recipe: Recipe,
    salts: Salts,
    problems: list[tuple[str, str]],
) -> list[dict[str, Any]]:
    """The streams' entries, recomputed, in the manifest's order."""
    out = []
    for place, stream in enumerate([*shards.train, *shards.validation]):
        expected = tables.get((stream.source, stream.split), [])
        if len(expected) != len(stream.shards):
            detail = (
                f"{stream.source} {stream.split}: {len(stream.shards)} shards, {len(expected)} "
                "parts of documents"
            )
            problems.append((stage.SHARDS, detail))
        for shard, rows in zip(stream.shards, expected, strict=False):
            if not _fits(shard, rows, made.document_token):
                problems.append(
                    (str(shard.table_path), "its rows are not those of the documents and tokens")
                )
            if (largest := int(shard.ids.max())) >= made.vocabulary:
                detail = f"has the token {largest}, but the vocabulary is {made.vocabulary}"
                problems.append((str(shard.tokens_path), detail))
            shard.unmap()
        root = stream_root(stream, shards.block, salts, place).hex()
        out.append(summary(stream, shards.block, root))
    return out


def _fits(shard: Shard, rows: np.ndarray, document_token: int) -> bool:
    """Whether a document table says what the documents and the document tokens say."""
    table = np.asarray(shard.table)
    begins = table[:, 1].astype(np.int64)
    same = np.array_equal(table[:, [0, 2, 3]], rows)
    if not same or begins[0] != 0 or begins.max() >= shard.tokens:
        return False
    if not ((np.diff(begins) > 0).all() and (shard.ids[begins] == document_token).all()):
        return False
    # And nowhere else: a text never becomes the token that begins a document.
    blocks = (shard.ids[first : first + _BLOCK] for first in range(0, shard.tokens, _BLOCK))
    return sum(int(np.count_nonzero(block == document_token)) for block in blocks) == len(begins)


def summary(stream: Stream, block: int, root: str) -> dict[str, Any]:
    """A stream's entry in the manifests."""
    return {
        "source": stream.source,
        "split": stream.split,
        "tokens": str(stream.tokens),
        "documents": stream.documents,
        "bytes": str(stream.bytes),
        "blocks": stream.blocks,
        "unused_tokens": unused_in(stream, block),
        "root": root,
    }
