"""Proofs that a run holds a step, a document, a block, a tensor or chunks of one: one small
file, checked from the head alone.

A proof holds the last line of a ledger, whose SHA-256 is the head; the line of one entry, with its
audit path in the tree of the last line's `log`; and the path from the thing to a digest in that
entry. It holds digests, salts and names, and no texts, ids or values. What is checked is pure: no
file but the proof, and no library for arrays.

Two kinds of paths: in the tree of entries, and in that of a tensor's chunks, a leaf's place is
proven too (RFC 9162, section 2.1.3.2), and so a path is a list of hashes. Elsewhere only membership
is: each sibling says on which side it stands, L or R.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pellucid.errors import ChunkDiffers, ProofInvalid, ProofUnreadable
from pellucid.record import chain, digests, merkle, rows
from pellucid.record.entries import CHUNK, WIDTHS

VERSION = 1
MAX_BYTES = 1 << 16  # No honest proof comes near it.
_MAX_PATH = 64  # Hashes: a tree with more leaves than 2^64 is none.
MAX_CHUNKS = 512  # In one proof: 33,554,432 elements.
_COUNTS = 10**18  # Every count is lower.
_MAX_DIMENSIONS = 8
_SIBLING = re.compile(f"[LR]{digests.DIGEST}").fullmatch

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof shows of the run with a head."""

    kind: str
    head: str
    entry: Body  # The entry that commits to it, as written.
    thing: Body  # What it is, by the proof's own fields; of a step nothing beyond its entry.

    @property
    def step(self) -> int:
        """The step of the entry; of a genesis that of the state which the run begins with."""
        return int(self.entry.get("step", 0))

    @property
    def parent(self) -> str:
        """Of a fork's genesis the parent's head, from which the proof of an earlier
        step goes on; else nothing."""
        return str(self.entry.get("parent", ""))

    def as_json(self) -> dict[str, Any]:
        about = {"kind": self.kind, "head": self.head, "entry": self.entry["n"], "step": self.step}
        return about | dict(self.thing) | ({"parent": self.parent} if self.parent else {})

    def __str__(self) -> str:
        """One line."""
        place = f"of the run with the head {self.head}"
        claim = _SENTENCES[self.kind](self)
        if self.parent:
            place += f", a fork of the run with the head {self.parent} after its step {self.step}"
        return f"{claim} {place}"


def check(content: bytes, head: str) -> Proven:
    """What a proof shows of the run with this head. Raises ProofInvalid."""
    try:
        return _check(content, head)
    except (ValueError, RecursionError) as error:  # Also a text that is no Unicode.
        raise ProofInvalid(detail=str(error)) from error


def elements_of(proven: Proven) -> tuple[int, int]:
    """Of which elements, by their places in row order, a proof of chunks holds the digests: from
    the first to one behind the last."""
    first, count = proven.thing["first"], len(proven.thing["digests"])
    return first * CHUNK, min((first + count) * CHUNK, math.prod(proven.thing["shape"]))


def check_content(proven: Proven, first: int, last: int, content: bytes, where: object) -> None:
    """Hold bytes against a proof of chunks: those of its chunks `first` to `last` - 1, by their
    numbers in the tensor. where names the bytes in errors. Raises ChunkDiffers."""
    about, size = proven.thing, CHUNK * WIDTHS[proven.thing["dtype"]]
    for number in range(first, last):
        start = (number - first) * size
        # All that is left is the last one's, so that bytes too many are another chunk.
        end = start + size if number + 1 < last else None
        digest = digests.content_digest(content[start:end]).hex()
        if digest != (expected := about["digests"][number - about["first"]]):
            raise ChunkDiffers(
                path=where,
                first=number * CHUNK,
                tensor=f"{about['group']} {about['name']}",
                found=digest,
                expected=expected,
            )


def written(proof: Mapping[str, Any]) -> bytes:
    """The one spelling of a proof."""
    return digests.canonical(proof) + b"\n"


def sided(path: Iterable[tuple[bool, bytes]]) -> list[str]:
    """A path of merkle.Levels as a proof spells it."""
    return [("L" if left else "R") + sibling.hex() for left, sibling in path]


def _check(content: bytes, head: str) -> Proven:
    proof = _parsed(content)
    _require(digests.is_digest(head), "the head is not 64 hex digits")
    _require(
        proof.get("pellucid") == VERSION and type(proof["pellucid"]) is int,
        "is not a proof of version 1",
    )
    kind = proof.get("kind")
    _require(isinstance(kind, str) and kind in _KINDS, "is of no known kind")
    fields, prove = _KINDS[str(kind)]
    _require(
        set(proof) == {"pellucid", "kind", "last", "entry", "log", *fields},
        f"has other fields than a {kind}'s",
    )
    entry = _entry(proof, head)
    return Proven(str(kind), head, entry, prove(proof, entry))


def _parsed(content: bytes) -> dict[str, Any]:
    _require(len(content) <= MAX_BYTES, f"is longer than {MAX_BYTES} bytes")
    try:
        proof = json.loads(content.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ProofUnreadable(detail="it is not JSON in ASCII") from error
    if not isinstance(proof, dict) or "pellucid" not in proof:
        raise ProofUnreadable(detail='it is not a JSON object with the key "pellucid"')
    _require(written(proof) == content, "is not spelled as proofs are")
    return proof


def _entry(proof: Body, head: str) -> Body:
    """The entry, which the ledger with this head has."""
    last, entry = _line(proof, "last"), _line(proof, "entry")
    _require(
        chain.digest_of(_bytes(proof, "last")) == head,
        f"its last entry is not that of the head {head}",
    )
    path = [bytes.fromhex(digest) for digest in _list(proof["log"], digests.is_digest, "log")]
    if entry["n"] == last["n"]:
        _require(
            proof["entry"] == proof["last"] and not path,
            "its entry is not the last one, and has its number",
        )
        return entry
    root = merkle.root_of_path([chain.leaf_of(_bytes(proof, "entry"))], entry["n"], last["n"], path)
    _require(root.hex() == last.get("log"), "its entry is not in the log of the last one")
    return entry


def _bytes(proof: Body, name: str) -> bytes:
    return proof[name].encode("ascii") + b"\n"


def _line(proof: Body, name: str) -> Body:
    """An entry of a ledger, from its line."""
    _require(isinstance(proof[name], str), f"{name} is not a line")
    body, problem = chain.parse(_bytes(proof, name))
    _require(problem is None, f"its {name} entry {problem}")
    _require(
        _is_count(body.get("n")) and _is_count(body.get("step", 0)),
        f"its {name} entry has no number",
    )
    return body


def _step(proof: Body, entry: Body) -> Body:
    _require(entry.get("kind") in ("step", "genesis"), "its entry is not that of a step")
    return {}


def _document(proof: Body, entry: Body) -> Body:
    document, data = proof["document"], _data(proof, entry)
    _object(
        document,
        "document",
        id=_is_text,
        licence=_is_text,
        origin=_is_text,
        date=_is_text,
        salt=digests.is_digest,
        sha256=digests.is_digest,
    )
    salt, sha256 = bytes.fromhex(document["salt"]), bytes.fromhex(document["sha256"])
    labels = (document["id"], document["licence"], document["origin"], document["date"])
    leaf = digests.document_leaf_of(salt, *labels, sha256)
    in_part, in_all = _paths(proof, 2)
    root = _climbed(digests.part_leaf(_climbed(leaf, in_part)), in_all)
    _require(root.hex() == data["documents"], "its document is not in the documents of the data")
    return document


def _block(proof: Body, entry: Body) -> Body:
    block, stream, data = proof["block"], proof["stream"], _data(proof, entry)
    _object(block, "block", number=_is_count, ids=_is_count)
    counts = dict.fromkeys(("documents", "blocks"), _is_count)
    _object(
        stream,
        "stream",
        source=_is_text,
        split=_is_text,
        root=digests.is_digest,
        tokens=_is_text,
        **counts,
    )
    _require(block["ids"] < 1 << 32, "its block has too many ids")
    in_stream, in_all = _paths(proof, 2)
    root = _climbed(rows.block_head(block["number"], block["ids"]), in_stream)
    _require(root.hex() == stream["root"], "its block is not in its stream")
    root = _climbed(digests.value_leaf("stream", stream), in_all)
    _require(root.hex() == data["streams"], "its stream is not in the data")
    return {**block, "source": stream["source"], "split": stream["split"]}


def _data(proof: Body, entry: Body) -> Body:
    """What the data root of a genesis is the digest of."""
    data = proof["data"]
    roots = dict.fromkeys(("documents", "sources", "streams", "tokenizer"), digests.is_digest)
    _object(data, "data", pipeline=_is_count, **roots)
    _require(entry.get("kind") == "genesis", "its entry is not a genesis")
    _require(
        digests.of_value("data", data).hex() == entry.get("data"),
        "its data are not those of the genesis",
    )
    return data


def _tensor(proof: Body, entry: Body) -> Body:
    tensor = proof["tensor"]
    texts = dict.fromkeys(("group", "name"), _is_name)
    _object(tensor, "tensor", dtype=_is_dtype, shape=_is_shape, content=digests.is_digest, **texts)
    _step(proof, entry)
    content = bytes.fromhex(tensor["content"])
    leaf = digests.tensor_leaf(
        tensor["group"], tensor["name"], tensor["dtype"], tuple(tensor["shape"]), content
    )
    in_group, *in_state = _paths(proof, 1 if tensor["group"] == "weights" else 2)
    root, field = _climbed(leaf, in_group), "weights"
    if in_state:
        root, field = (
            _climbed(digests.group_leaf(entry.get("step", 0), tensor["group"], root), in_state[0]),
            "state",
        )
    _require(root.hex() == entry.get(field), f"its tensor is not in the {field} of its entry")
    return tensor


def _chunks(proof: Body, entry: Body) -> Body:
    tensor, chunks = _tensor(proof, entry), proof["chunks"]
    lists = dict.fromkeys(("digests", "path"), _is_list)
    _object(chunks, "chunks", first=_is_count, **lists)
    own = _list(chunks["digests"], digests.is_digest, "digests", MAX_CHUNKS)
    path = _list(chunks["path"], digests.is_digest, "path", 2 * _MAX_PATH)
    root = merkle.root_of_path(
        [merkle.leaf(bytes.fromhex(digest)) for digest in own],
        chunks["first"],
        -(-math.prod(tensor["shape"]) // CHUNK),
        [bytes.fromhex(digest) for digest in path],
    )
    _require(root.hex() == tensor["content"], "its chunks are not those of its tensor")
    return {**tensor, "first": chunks["first"], "digests": own}


_Check = Callable[[Body, Body], Body]
# Of each kind the fields that it has besides those of all, and what checks them against its entry.
_KINDS: dict[str, tuple[tuple[str, ...], _Check]] = {
    "step": ((), _step),
    "document": (("data", "document", "paths"), _document),
    "block": (("data", "block", "stream", "paths"), _block),
    "tensor": (("tensor", "paths"), _tensor),
    "chunks": (("tensor", "chunks", "paths"), _chunks),
}


def _step_sentence(proven: Proven) -> str:
    tokens = f", {proven.entry['tokens']} tokens so far" if "tokens" in proven.entry else ""
    state, number = proven.entry.get("state"), proven.entry["n"]
    return f"step {proven.step} with the state {state}{tokens} is entry {number}"


def _document_sentence(proven: Proven) -> str:
    document = proven.thing
    date = f", date {document['date']}" if document["date"] else ""
    about = f"licence {document['licence']}, origin {document['origin']}{date}"
    digest = document["sha256"]
    return f"document {document['id']} ({about}, SHA-256 of its text {digest}) is in the data"


def _block_sentence(proven: Proven) -> str:
    block = proven.thing
    about = f"{block['ids']} ids of {block['source']}, {block['split']}"
    return f"block {block['number']} ({about}) is in the data"


def _tensor_sentence(proven: Proven) -> str:
    tensor = proven.thing
    about = f"{tensor['dtype']} {tensor['shape']}, content root {tensor['content']}"
    name = f"{tensor['group']} {tensor['name']}"
    return f"tensor {name} ({about}) is in the state after step {proven.step}"


def _chunks_sentence(proven: Proven) -> str:
    first, end = elements_of(proven)
    tensor = _tensor_sentence(proven)
    return f"the chunks of elements {first} to {end - 1} are shown, and their {tensor}"


_SENTENCES: dict[str, Callable[[Proven], str]] = {
    "step": _step_sentence,
    "document": _document_sentence,
    "block": _block_sentence,
    "tensor": _tensor_sentence,
    "chunks": _chunks_sentence,
}


def _climbed(leaf_hash: bytes, path: list[str]) -> bytes:
    for sibling in path:
        leaf_hash = merkle.above(leaf_hash, bytes.fromhex(sibling[1:]), left=sibling[0] == "L")
    return leaf_hash


def _paths(proof: Body, count: int) -> list[list[str]]:
    paths = proof["paths"]
    _require(isinstance(paths, list) and len(paths) == count, f"has not {count} paths")
    return [_list(path, _SIBLING, "a path") for path in paths]


def _list(
    value: object, form: Callable[[str], object], name: str, most: int = _MAX_PATH
) -> list[str]:
    sound = isinstance(value, list) and len(value) <= most
    _require(sound, f"{name} is not a list of at most {most} hashes")
    assert isinstance(value, list)
    _require(
        all(isinstance(item, str) and form(item) for item in value),
        f"{name} holds what is not a hash",
    )
    return value


def _object(value: object, name: str, /, **fields: Callable[[object], bool]) -> None:
    """That a value is an object with exactly these fields, each as it should be."""
    _require(isinstance(value, dict), f"{name} is not an object")
    assert isinstance(value, dict)
    _require(set(value) == set(fields), f"{name} has other fields than {', '.join(sorted(fields))}")
    for field, is_sound in fields.items():
        _require(is_sound(value[field]), f"{field} of its {name} is not written as it should be")


def _require(condition: bool, detail: str) -> None:
    if not condition:
        raise ProofInvalid(detail=detail)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_name(value: object) -> bool:
    """A text without the byte that ends a name in a leaf."""
    return isinstance(value, str) and "\0" not in value


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and value in WIDTHS


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _COUNTS  # true is 1 to Python.


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= _MAX_DIMENSIONS
        and all(_is_count(dimension) for dimension in value)
    )
