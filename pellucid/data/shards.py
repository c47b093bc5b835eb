"""The stage "shards": every document becomes [document token] + its tokens, in flat arrays on disk.

Part k of the documents gives data/shards/{k}.train.bin and {k}.validation.bin, little-endian ids of
data.token_type, each beside its document table {k}.{split}.documents.bin: rows of four uint64, the
document's index, its first token's position in the shard, its text's UTF-8 bytes, and the key by
which validation chooses among documents. What would be empty is not written. The stage
ends with data/manifest.json, which holds the data root."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from pellucid.data import beside, parquet, roots, stage
from pellucid.data.documents import key_of
from pellucid.data.parquet import Documents
from pellucid.data.salts import of_documents
from pellucid.data.streams import ROW, TYPES, Piece, Shards, Stream, open_shard
from pellucid.data.tokenizer import LIMITS, Tokenizer
from pellucid.errors import (
    CorpusTooSmall,
    DataDiffers,
    DocumentUnknown,
    FormatInvalid,
    TokenizerInvalid,
    VocabularyTooLarge,
)
from pellucid.recipe import Recipe
from pellucid.store import files
from pellucid.store.ledger import begun

__all__ = ["Piece", "Shards", "Stream", "characters", "position_of", "prepare"]

SPLITS = ("train", "validation")
_BATCH_BYTES = 4 << 20  # Text that is encoded at once; the library needs about 100 bytes per token.


def prepare(recipe: Recipe, folder: Path, progress: stage.Progress = stage.silent) -> bool:
    """Write data/shards and data/manifest.json; continues after a kill, returns at once where done.

    Raises CorpusTooSmall, VocabularyTooLarge, DataDiffers, DiskFull.
    """
    place = beside.find(folder, recipe, stage.SHARDS)
    fresh = not place.done
    state = (place.begin() if fresh else None) or {"parts": [], "done": 0}
    documents, tokenizer = Documents.open(place.root), Tokenizer.load(place.root / stage.TOKENIZER)
    _check_fits(tokenizer, recipe)
    if fresh:
        _make(recipe, place.path, documents, tokenizer, place.made_from, state, progress)
    _seal(recipe, place, documents, tokenizer)
    beside.settle(place)
    return fresh


def _check_fits(tokenizer: Tokenizer, recipe: Recipe) -> None:
    kind = recipe.data.token_type
    if tokenizer.vocabulary > LIMITS[kind]:
        raise VocabularyTooLarge(
            vocabulary=tokenizer.vocabulary, token_type=kind, limit=LIMITS[kind]
        )


def _make(
    recipe: Recipe,
    place: Path,
    documents: Documents,
    tokenizer: Tokenizer,
    made_from: str,
    state: dict[str, Any],
    progress: stage.Progress,
) -> None:
    parts, kind = state["parts"], TYPES[recipe.data.token_type]
    with files.named_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    stage.keep_only(place, [entry[key] for entry in parts for key in ("file", "documents_file")])
    sizes = [int(entry["bytes"]) for entry in documents.manifest["parts"]]
    meter = stage.Meter(progress, "shards", "bytes", sum(sizes[: state["done"]]), sum(sizes))
    for number in range(state["done"], len(documents.parts)):
        parts += _part(place, number, documents.parts[number], tokenizer, kind, meter)
        stage.note(place, made_from, {"parts": parts, "done": number + 1})
        meter.tell()
    manifest = {
        "format": stage.FORMAT,
        "kind": "shards",
        "recipe": made_from,
        "token_type": recipe.data.token_type,
        "block": recipe.block,
        "parts": parts,
    }
    streams = _streams(recipe, documents, place, manifest)
    stage.finish(place, manifest | {"streams": streams})


def _check_texts(
    indices: list[int], encoded: list[np.ndarray], tokenizer: Tokenizer, path: Path
) -> None:
    """Raises TokenizerInvalid: of some models a text can spell any token."""
    for index, ids in zip(indices, encoded, strict=True):
        if (ids == tokenizer.document_token).any():
            detail = (
                f"the text of document {index} contains {tokenizer.document}, the token that "
                "begins documents: "
            )
            raise TokenizerInvalid(
                path=path, detail=detail + "set tokenizer.document_token to another token"
            )


class _Split:
    """The two files of one part and split while they are written."""

    def __init__(self, ids: BinaryIO, table: BinaryIO, kind: np.dtype) -> None:
        self._ids, self._table, self._kind = ids, table, kind
        self.tokens = self.documents = 0

    def add(self, texts: Texts, document_token: int, encoded: list[np.ndarray]) -> None:
        """Append documents and their token ids."""
        lengths = np.array([len(ids) + 1 for ids in encoded], dtype=np.int64)
        begins = self.tokens + np.concatenate([[0], np.cumsum(lengths)[:-1]])
        opening = np.array([document_token], dtype=np.uint32)
        flat = np.concatenate([array for ids in encoded for array in (opening, ids)])
        self._ids.write(flat.astype(self._kind).tobytes())
        columns = (texts.indices, begins, texts.sizes, texts.keys)
        self._table.write(np.stack([np.array(column, ROW) for column in columns], axis=1).tobytes())
        self.tokens += len(flat)
        self.documents += len(encoded)


def _part(
    place: Path,
    number: int,
    part: parquet.Part,
    tokenizer: Tokenizer,
    kind: np.dtype,
    meter: stage.Meter,
) -> list[dict[str, Any]]:
    """Write the shards of one part of the documents; returns their entries in the manifest."""
    entries = []
    for split in SPLITS:
        coming = batches(part, split)
        first = next(coming, None)
        if first is None:
            continue
        name, table = f"{number:05d}.{split}.bin", f"{number:05d}.{split}.documents.bin"
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(files.whole_file(place / name))
            partial_table = stack.enter_context(files.whole_file(place / table))
            with partial.open("xb") as ids_file, partial_table.open("xb") as table_file:
                written = _Split(ids_file, table_file, kind)
                while first is not None:
                    encoded = tokenizer.encode_batch(first.texts)
                    _check_texts(first.indices, encoded, tokenizer, place)
                    written.add(first, tokenizer.document_token, encoded)
                    meter.add(sum(first.sizes))
                    first = next(coming, None)
        entries.append(
            {
                "file": name,
                "documents_file": table,
                "source": part.source,
                "split": split,
                "tokens": written.tokens,
                "documents": written.documents,
            }
        )
    return entries


class Texts(NamedTuple):
    """Some documents."""

    indices: list[int]
    sizes: list[int]  # Bytes.
    keys: list[int]  # By which validation chooses: key_of().
    texts: list[str]


def batches(part: parquet.Part, split: str) -> Iterator[Texts]:
    """A part's documents of one split, a few MiB at a time."""
    for rows in parquet.rows_of(part, ["index", "bytes", "sha256", "text"], split):
        sizes = rows.column("bytes").to_pylist()
        start = total = 0
        for stop, size in enumerate(sizes, 1):
            total += size
            if total >= _BATCH_BYTES or stop == len(sizes):
                chosen = rows.slice(start, stop - start)
                digests = map(bytes.fromhex, chosen.column("sha256").to_pylist())
                yield Texts(
                    chosen.column("index").to_pylist(),
                    sizes[start:stop],
                    [key_of(digest) for digest in digests],
                    chosen.column("text").to_pylist(),
                )
                start, total = stop, 0


def _streams(
    recipe: Recipe, documents: Documents, place: Path, manifest: dict[str, Any]
) -> list[dict[str, Any]]:
    """The streams' entries with their roots. Raises CorpusTooSmall."""
    parts = manifest["parts"]
    kind = TYPES[recipe.data.token_type]
    made, first = [], 0
    for split in SPLITS:
        for source in recipe.data.sources:
            mine = [
                entry
                for entry in parts
                if (entry["source"], entry["split"]) == (source.name, split)
            ]
            shards = [open_shard(entry, place / stage.MANIFEST, kind) for entry in mine]
            made.append(Stream(source.name, split, recipe.block, first, shards))
            first += made[-1].blocks
    _check_enough(recipe, made)
    salts = of_documents(documents, recipe)
    stream_roots = (
        roots.stream_root(stream, recipe.block, salts, i) for i, stream in enumerate(made)
    )
    return [
        roots.summary(stream, recipe.block, digest.hex())
        for stream, digest in zip(made, stream_roots, strict=True)
    ]


def _check_enough(recipe: Recipe, streams: list[Stream]) -> None:
    trained = recipe.trained
    used = [stream for stream in streams if stream.split == "train" and stream.source in trained]
    for stream in used:
        if not stream.blocks:
            kept = sum(
                entry.documents
                for entry in streams
                if (entry.source, entry.split) == (stream.source, "validation")
            )
            fix = (
                "Add text, or lower data.block and model.context: a block is longer than the "
                "corpus."
            )
            if kept:
                fix = (
                    f"The validation split has {kept} of its documents. Add text, lower "
                    "data.validation_per_10000 "
                    "or model.context, or use the source for validation only with weight = 0."
                )
            raise CorpusTooSmall(
                found=stream.tokens,
                what=f"train tokens from the source {stream.source}",
                needed=recipe.block + 1,
                fix=fix,
            )
    stage.require_batches(recipe, {stream.source: stream.blocks for stream in used}, "train rows")


def _seal(recipe: Recipe, place: beside.Place, documents: Documents, tokenizer: Tokenizer) -> None:
    """Write data/manifest.json, the last of the data. Raises DataDiffers, CorpusTooSmall."""
    shards = Shards.open(place.root)
    _check_enough(recipe, [*shards.train, *shards.validation])
    streams, digest = shards.manifest["streams"], tokenizer.digest.hex()
    about, pipeline = documents.manifest, recipe.data.pipeline
    root = roots.data_root(about["root"], about["sources"], digest, streams, pipeline)
    pinned = recipe.data.root or _begun_with(place.folder)
    if pinned and pinned != root:
        raise DataDiffers(pinned=pinned, found=root)
    manifest = {
        "format": stage.FORMAT,
        "kind": "data",
        "pipeline": pipeline,
        "root": root,
        "documents_root": about["root"],
        "tokenizer": digest,
        "streams": streams,
    }
    path = place.root / stage.DATA
    if not path.is_file() or files.read_json(path) != manifest:
        files.write_json(path, manifest)


def _begun_with(folder: Path) -> str:
    """The data root that a run's ledger begins with, where it has one."""
    ledger = begun(folder)
    return str(ledger.genesis["data"]) if ledger else ""


# ---- token positions and characters ------------------------------------------------------------


def characters(
    shards: Shards, documents: Documents, tokenizer: Tokenizer, stream: Stream, position: int
) -> tuple[int, int, int]:
    """(document index, start, end): the characters of the document's text that the token at a
    stream position stands for; (index, 0, 0) for a document token. Raises FormatInvalid where the
    shard does not hold the text's tokens."""
    document, token = stream.document_of(position)
    if token == 0:
        return document, 0, 0
    start, end = _spans(documents, tokenizer, stream, document)[token - 1]
    return document, start, end


def position_of(
    shards: Shards, documents: Documents, tokenizer: Tokenizer, document: int, character: int
) -> tuple[Stream, int]:
    """The stream, and the position in it, of the first token that
    stands for a document's character.

    Raises DocumentUnknown, FormatInvalid, and IndexError where no token stands for the character.
    """
    row = documents.get(document)
    streams = shards.train if row["split"] == "train" else shards.validation
    stream = next((stream for stream in streams if stream.source == row["source"]), None)
    if stream is None:
        raise DocumentUnknown(document=document)
    for token, (start, end) in enumerate(_spans(documents, tokenizer, stream, document)):
        if start <= character < end:
            return stream, stream.token_of(document) + 1 + token
    raise IndexError(f"no token of document {document} stands for character {character}")


def _spans(
    documents: Documents, tokenizer: Tokenizer, stream: Stream, document: int
) -> list[tuple[int, int]]:
    """The character spans of a document's tokens, after its document token."""
    text = documents.get(document)["text"]
    ids, spans = tokenizer.encode_with_offsets(text)
    begin = stream.token_of(document)
    stored = stream.read(begin, begin + stream.length_of(document))
    if stored[0] != tokenizer.document_token or not np.array_equal(
        stored[1:], np.array(ids, dtype=np.uint32)
    ):
        path = f"{stream.source} {stream.split}"
        raise FormatInvalid(
            path=path, detail=f"the tokens of document {document} do not match its text"
        )
    return spans
