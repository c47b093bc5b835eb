"""Making proofs (record/proofs.py) of what a run or a release holds, and reading by them.

Each is checked against the ledger's head before it is handed out, so no proof comes of a
run that is damaged there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data import leaves, parquet, stage
from pellucid.data.documents import Documents
from pellucid.data.roots import data_value, stream_leaves, stream_value
from pellucid.data.salts import Salts, of_run
from pellucid.data.streams import Shards
from pellucid.errors import FormatInvalid, ProofInvalid, RowsUnknown, StateNotKept, TensorUnknown
from pellucid.recipe import load as load_recipe
from pellucid.record import chain, digests, merkle, proofs, rows
from pellucid.record.elements import DTYPES
from pellucid.record.entries import CHUNK, Content
from pellucid.record.merkle import Levels
from pellucid.store import anchors, files, layout, tensors
from pellucid.store.ledger import LedgerFile

WEIGHTS = "weights"

Groups = dict[str, dict[str, Any]]


def step(folder: Path, number: int) -> bytes:
    """A proof of what the ledger records of a step. Raises StepUnknown."""
    ledger = LedgerFile(folder)
    return _proof(ledger, ledger.step(number), "step", {})


def document(folder: Path, document_id: str) -> bytes:
    """A proof that a document is in the data. Raises DocumentUnknown."""
    documents, salts = Documents.open(folder), of_run(folder, load_recipe(folder))
    index = documents.find(document_id)
    part, row = documents.part_of(index), documents.about(index)
    texts = Levels(_document_leaves(part, salts))
    roots = [bytes.fromhex(entry["root"]) for entry in documents.manifest["parts"]]
    parts = Levels(digests.part_leaf(root) for root in roots)
    about = {
        **row,
        "salt": salts.of(index).hex(),
        "sha256": documents.sha256(index),
    }
    paths = [texts.path(index - part.first_index), parts.path(documents.parts.index(part))]
    return _of_data(folder, "document", {"document": about}, paths)


def block(folder: Path, number: int) -> bytes:
    """A proof that a train block is in the data. Raises StepUnknown."""
    shards, salts = Shards.open(folder), of_run(folder, load_recipe(folder))
    ids = shards.ids(number)
    source = shards.source_of(number)
    place, stream = next(
        (i, stream) for i, stream in enumerate(shards.train) if stream.source == source
    )
    streams = [stream_value(entry) for entry in _manifest(folder)["streams"]]
    blocks, index = (
        list(stream_leaves(stream, shards.block, salts, place)),
        number - stream.first_block,
    )
    documents, first = stream.documents_and_first(
        index * shards.block, (index + 1) * shards.block + 1
    )
    parts = Levels(
        [rows.block_head(number, len(ids)), *leaves.part_leaves(salts, ids, documents, first)]
    )
    in_stream = [*parts.path(0), *Levels(blocks).path(index)]
    in_all = Levels(digests.value_leaf("stream", entry) for entry in streams).path(place)
    named = {"block": {"number": number, "ids": len(ids)}, "stream": streams[place]}
    return _of_data(folder, "block", named, [in_stream, in_all])


def tensor(
    folder: Path, name: str, number: int | None = None, rows: tuple[int, int] | None = None
) -> bytes:
    """A proof of the content of a tensor after a step, the last one where none is named: of the
    weights, or with its group before it (`GROUP/NAME`) of another. With rows (from, behind the
    last) one of the chunks that these lie in.

    Raises StepUnknown, TensorUnknown, RowsUnknown; where no state of that step is stored, needs
    torch, and raises what a replay raises.
    """
    ledger = LedgerFile(folder)
    number = ledger.steps_done if number is None else number
    entry, groups = ledger.step(number), _groups(folder, number)
    group, _, own = name.partition("/")
    if group not in groups or not own:
        group, own = WEIGHTS, name
    if own not in groups[group]:
        known = f"{', '.join(sorted(groups[WEIGHTS])[:3])} … in {', '.join(sorted(groups))}"
        raise TensorUnknown(tensor=name, step=number, known=known)
    roots = tensors.state_roots(number, groups)
    named, content = roots.tensors[group], roots.tensors[group][own]
    paths = [_path({name: other.leaf(group, name) for name, other in named.items()}, own)]
    if group != WEIGHTS:
        group_leaves = {
            name: digests.group_leaf(number, name, root) for name, root in roots.groups.items()
        }
        paths.append(_path(group_leaves, group))
    about = {
        "group": group,
        "name": own,
        "dtype": content.dtype,
        "shape": list(content.shape),
        "content": digests.content_root(content.chunks).hex(),
    }
    shown: dict[str, Any] = {"tensor": about, "paths": [proofs.sided(path) for path in paths]}
    if rows is None:
        return _proof(ledger, entry, "tensor", shown)
    shown["chunks"] = _chunks_shown(content, *_chunks_of(own, content.shape, *rows))
    return _proof(ledger, entry, "chunks", shown)


def _chunks_shown(content: Content, first: int, last: int) -> dict[str, Any]:
    """What a proof shows of some chunks of a tensor."""
    path = Levels(merkle.leaf(chunk) for chunk in content.chunks).path(first, last - first)
    return {
        "first": first,
        "digests": [chunk.hex() for chunk in content.chunks[first:last]],
        "path": [sibling.hex() for _, sibling in path],
    }


def read_rows(folder: Path, proof: bytes, head: str, first: int, last: int) -> np.ndarray:
    """The rows first .. last - 1 of a tensor of which a proof of chunks is given, shape (last -
    first, …). No more of the state is read than the chunks that they lie in, behind a URL by
    ranges, and these are held against the proof, and so the head.

    Raises ProofInvalid, RowsUnknown, StateNotKept, FormatInvalid, ChunkDiffers.
    """
    proven = proofs.check(proof, head)
    if proven.kind != "chunks":
        raise ProofInvalid(detail=f"it proves a {proven.kind}, not rows of a tensor")
    about = proven.thing
    dtype, shape = about["dtype"], about["shape"]
    begin, end = _chunks_of(about["name"], shape, first, last)
    known = about["first"], about["first"] + len(about["digests"])
    if not known[0] <= begin < end <= known[1]:
        shown = proofs.elements_of(proven)
        detail = f"the proof shows only its elements {shown[0]} to {shown[1] - 1}"
        raise RowsUnknown(tensor=about["name"], first=first, last=last, detail=detail)
    file, name = _file_with(folder, proven.step, about["group"], about["name"])
    if file.entries.get(name, ("", ()))[:2] != (dtype, tuple(shape)):
        detail = f"does not have the tensor {name!r} of type {dtype} and shape {shape}"
        raise FormatInvalid(path=file.path, detail=detail)
    start = begin * CHUNK
    content = file.part(name, start, min(end * CHUNK, math.prod(shape)))
    proofs.check_content(proven, begin, end, content, file.path)
    row = math.prod(shape[1:])
    elements_N = np.frombuffer(content, DTYPES[dtype])[first * row - start : last * row - start]
    return elements_N.reshape(last - first, *shape[1:])


def _file_with(folder: Path, number: int, group: str, name: str) -> tuple[tensors.Tensors, str]:
    """The file with a group of the state after a step, and a tensor's name in it."""
    file, own = (
        (anchors.WEIGHTS, name) if group == WEIGHTS else (anchors.OPTIMIZER, f"{group}/{name}")
    )
    for place in (layout.anchor(folder, number), layout.checkpoint(folder, number)):
        if (place / file).is_file():
            return tensors.Tensors(place / file), own
    raise StateNotKept(path=folder, group=group, step=number)


def _chunks_of(name: str, shape: Sequence[int], first: int, last: int) -> tuple[int, int]:
    """The chunks that the rows first .. last - 1 of a tensor lie in: from, behind the last. Raises
    RowsUnknown."""
    detail = "" if shape else "the tensor has no rows"
    if shape and not 0 <= first < last <= shape[0]:
        detail = f"the tensor has {shape[0]}"
    row = math.prod(shape[1:])
    begin, end = first * row // CHUNK, -(-last * row // CHUNK)
    if not detail and not begin < end <= begin + proofs.MAX_CHUNKS:
        detail = f"they span {end - begin} chunks, but a proof covers 1 to {proofs.MAX_CHUNKS}"
    if detail:
        raise RowsUnknown(tensor=name, first=first, last=last, detail=detail)
    return begin, end


def _path(named: Mapping[str, bytes], name: str) -> list[tuple[bool, bytes]]:
    """The path of one of several leaves that are sorted by their names."""
    names = sorted(named, key=str.encode)
    return Levels(named[leaf_name] for leaf_name in names).path(names.index(name))


def _groups(folder: Path, number: int) -> Groups:
    """The state after a step, as arrays: stored, or replayed."""
    if number in layout.steps_in(folder / layout.ANCHORS):
        return anchors.read(layout.anchor(folder, number))
    from pellucid.inputs import Inputs
    from pellucid.replay.materialise import materialise

    return materialise(
        Inputs.load(folder, load_recipe(folder)), number, lambda done, total: None
    ).groups()


def _document_leaves(part: parquet.Part, salts: Salts) -> Iterator[bytes]:
    names = ["id", "licence", "origin", "date", "text"]
    for batch in parquet.rows_of(part, ["index", *names]):
        for row in batch.to_pylist():
            yield digests.document_leaf(salts.of(row["index"]), *(row[name] for name in names))


def _of_data(
    folder: Path, kind: str, named: dict[str, Any], paths: list[list[tuple[bool, bytes]]]
) -> bytes:
    """A proof of something that the data root, and so the genesis, commits to."""
    ledger, about, documents = (
        LedgerFile(folder),
        _manifest(folder),
        Documents.open(folder).manifest,
    )
    data = data_value(
        about["documents_root"],
        documents["sources"],
        about["tokenizer"],
        about["streams"],
        about["pipeline"],
    )
    return _proof(
        ledger,
        ledger.genesis,
        kind,
        {**named, "data": data, "paths": [proofs.sided(path) for path in paths]},
    )


def _manifest(folder: Path) -> dict[str, Any]:
    return stage.read_manifest(folder / layout.DATA_MANIFEST, "data")


def _proof(ledger: LedgerFile, entry: dict[str, Any], kind: str, named: dict[str, Any]) -> bytes:
    """The proof of what an entry commits to. Raises ProofInvalid where the run does
    not hold what its head says."""
    proof = {
        "pellucid": proofs.VERSION,
        "kind": kind,
        "last": _line(ledger.last),
        "entry": _line(entry),
        "log": [sibling.hex() for sibling in _audit_path(ledger, entry["n"])],
        **named,
    }
    written = proofs.written(proof)
    proofs.check(written, ledger.head)
    return written


def _line(entry: dict[str, Any]) -> str:
    return chain.line_of(entry).decode("ascii").removesuffix("\n")


def _audit_path(ledger: LedgerFile, n: int) -> list[bytes]:
    """The path of an entry in the log of the last one; of the last one itself there is none."""
    count = ledger.last["n"]
    if n == count:
        return []
    logged: list[bytes] = []
    with files.open_file(ledger.path) as file:
        while len(logged) < count and (line := file.readline(chain.MAX_LINE + 2)):
            logged.append(chain.leaf_of(line))
    if len(logged) < count or n > count:
        raise FormatInvalid(
            path=ledger.path, detail=f"has {len(logged)} entries, but the last entry says {count}"
        )
    return [sibling for _, sibling in Levels(logged).path(n)]
