"""Proofs are checked from the head alone: every changed bit is refused, and so is
whatever a hostile file can hold."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pellucid.errors import ChunkDiffers, ProofInvalid
from pellucid.record import chain, digests, elements, entries, merkle, proofs, rows
from pellucid.record.entries import CHUNK

DIGEST = "ab" * 32
SOURCES, STREAMS, DOCUMENTS, BLOCKS, TENSORS = 40, 80, 65_536, 1 << 20, 3_000


class Made:
    """Proofs over made-up trees, as of a run of so many steps; each leaf beside the
    proven one is a drawn digest."""

    def __init__(self, steps: int, seed: int) -> None:
        self._draws = random.Random(seed)
        self.document: dict[str, Any] = {
            "id": "s/" + "x" * 80,
            "licence": "CC0-1.0",
            "origin": "x" * 80,
            "date": "2026-11-30",
            "salt": DIGEST,
        }
        self.document["sha256"] = self._hex()
        self.block: dict[str, Any] = {"number": BLOCKS - 7, "ids": 4097}
        self.tensor: dict[str, Any] = {
            "group": "exp_avg",
            "name": "model.layers.11.mlp.down_proj.weight",
            "dtype": "F32",
        }
        self.contents = [self._hex() for _ in range(688)]  # Of 4096 · 11008 elements.
        self.chunks = self._chunks(301, 302)
        self.tensor |= {"shape": [4096, 11008], "content": self._levels().root_with({}).hex()}
        self.number = steps - 7
        self._grow()
        self._record(steps)

    def _hex(self) -> str:
        return self._draws.randbytes(32).hex()

    def _levels(self) -> merkle.Levels:
        return merkle.Levels(merkle.leaf(bytes.fromhex(digest)) for digest in self.contents)

    def _chunks(self, first: int, last: int) -> dict[str, Any]:
        path = [sibling.hex() for _, sibling in self._levels().path(first, last - first)]
        return {"first": first, "digests": self.contents[first:last], "path": path}

    def with_chunks(self, first: int, last: int) -> dict[str, Any]:
        return self.proof("chunks") | {"chunks": self._chunks(first, last)}

    def _tree(self, leaf: bytes, count: int) -> tuple[bytes, list[str]]:
        """The root over a leaf at a drawn place among others, and its path."""
        leaves = [self._draws.randbytes(32) for _ in range(count)]
        place = self._draws.randrange(count)
        leaves[place] = leaf
        return merkle.root(leaves), proofs.sided(merkle.Levels(leaves).path(place))

    def _grow(self) -> None:
        document = self.document
        salt, sha256 = bytes.fromhex(document["salt"]), bytes.fromhex(document["sha256"])
        labels = (document["id"], document["licence"], document["origin"], document["date"])
        leaf = digests.document_leaf_of(salt, *labels, sha256)
        part, in_part = self._tree(leaf, DOCUMENTS)
        documents, in_documents = self._tree(digests.part_leaf(part), 1000)
        self.document_paths = [in_part, in_documents]
        block = merkle.root([rows.block_head(**self.block), bytes(32)])
        stream, in_stream = self._tree(block, BLOCKS // 16)
        self.stream: dict[str, Any] = {
            "source": "web",
            "split": "train",
            "documents": 9,
            "blocks": BLOCKS,
        }
        self.stream |= {"root": stream.hex(), "tokens": "7"}
        streams, in_streams = self._tree(digests.value_leaf("stream", self.stream), STREAMS)
        self.block_paths = [["R" + "00" * 32, *in_stream], in_streams]
        self.data: dict[str, Any] = {
            "pipeline": 2,
            "documents": documents.hex(),
            "streams": streams.hex(),
        }
        self.data |= {"sources": self._hex(), "tokenizer": self._hex()}
        tensor = self.tensor
        leaf = digests.tensor_leaf(
            tensor["group"],
            tensor["name"],
            tensor["dtype"],
            tuple(tensor["shape"]),
            bytes.fromhex(tensor["content"]),
        )
        group, in_group = self._tree(leaf, TENSORS)
        state, in_state = self._tree(digests.group_leaf(self.number, "exp_avg", group), 3)
        self.tensor_paths, self.state = [in_group, in_state], state.hex()

    def _record(self, steps: int) -> None:
        """A ledger whose entries are drawn digests in its tree, but for those that are proven."""
        genesis = {
            "kind": "genesis",
            "format": 1,
            "arithmetic": "portable 1",
            "pipeline": 2,
            "recipe_version": 4,
        }
        genesis |= {
            "recipe": DIGEST,
            "data": digests.of_value("data", self.data).hex(),
            "tokenizer": DIGEST,
        }
        fields = dict.fromkeys(("batch", "microbatches", "segments"), DIGEST)
        fields |= dict.fromkeys(("loss", "lr", "grad_norm", "weight_norm"), "3ff0000000000000")
        step = {
            "kind": "step",
            "step": self.number,
            "tokens": str(self.number * 4_000_000),
            **fields,
        }
        bodies = {
            0: {**genesis, "state": DIGEST},
            self.number: {**step, "weights": DIGEST, "state": self.state},
        }
        leaves = [self._draws.randbytes(32) for _ in range(steps + 1)]
        self.lines: dict[int, bytes] = {}
        for n, body in bodies.items():
            self.lines[n] = chain.line_of({"prev": DIGEST, "n": n, "log": DIGEST, **body})
            leaves[n] = chain.leaf_of(self.lines[n])
        self.levels = merkle.Levels(leaves)
        root = merkle.root(leaves).hex()
        self.last = chain.line_of(
            {"prev": DIGEST, "n": steps + 1, "log": root, "kind": "end", "step": steps}
        )
        self.head = chain.digest_of(self.last)

    def proof(self, kind: str) -> dict[str, Any]:
        n = 0 if kind in ("document", "block") else self.number
        named: dict[str, Any] = {
            "step": {},
            "document": {
                "document": self.document,
                "data": self.data,
                "paths": self.document_paths,
            },
            "block": {"block": self.block, "stream": self.stream, "data": self.data}
            | {"paths": self.block_paths},
            "tensor": (of_tensor := {"tensor": self.tensor, "paths": self.tensor_paths}),
            "chunks": {**of_tensor, "chunks": self.chunks},
        }[kind]
        lines = {"last": self.last[:-1].decode(), "entry": self.lines[n][:-1].decode()}
        log = [sibling.hex() for _, sibling in self.levels.path(n)]
        return {"pellucid": 1, "kind": kind, **lines, "log": log, **named}


KINDS = ("step", "document", "block", "tensor", "chunks")


@pytest.fixture(scope="module")
def small() -> Made:
    return Made(12, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_proven_and_said_in_one_line(kind: str, small: Made) -> None:
    proven = proofs.check(proofs.written(small.proof(kind)), small.head)
    assert proven.kind == kind and small.head in str(proven) and "\n" not in str(proven)
    assert proven.as_json()["head"] == small.head


def test_a_proof_is_small_for_a_run_of_a_million_steps() -> None:
    run = Made(1_000_000, 2)
    sizes = {kind: len(proofs.written(run.proof(kind))) for kind in KINDS}
    for kind in KINDS:
        proofs.check(proofs.written(run.proof(kind)), run.head)
    assert max(sizes.values()) < 8192, sizes


@pytest.mark.parametrize("kind", KINDS)
def test_every_changed_bit_is_refused(kind: str, small: Made) -> None:
    content = proofs.written(small.proof(kind))
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            with pytest.raises(ProofInvalid):
                proofs.check(bytes(changed), small.head)


@pytest.mark.parametrize("kind", KINDS)
def test_another_head_is_refused(kind: str, small: Made) -> None:
    content = proofs.written(small.proof(kind))
    for head in (DIGEST, small.head.upper(), small.head[:-1], "", small.head + "\n"):
        with pytest.raises(ProofInvalid, match="head"):
            proofs.check(content, head)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_proof_lacks_or_has_besides_is_refused(kind: str, small: Made) -> None:
    proof = small.proof(kind)
    for name in proof:
        with pytest.raises(ProofInvalid):
            proofs.check(
                proofs.written({key: value for key, value in proof.items() if key != name}),
                small.head,
            )
        for value in (None, 7, True, "x", [], {}, [[]], {"x": 1}):
            with pytest.raises(ProofInvalid):
                proofs.check(proofs.written({**proof, name: value}), small.head)
        if isinstance(proof[name], dict):
            for inner in [*proof[name], "more"]:
                for value in (
                    None,
                    -1,
                    True,
                    2**70,
                    [],
                    {},
                    "\ud800",
                    "a\0b",
                    [10**18],
                    ["7"],
                    1 << 63,
                ):
                    with pytest.raises(ProofInvalid):
                        proofs.check(
                            proofs.written({**proof, name: {**proof[name], inner: value}}),
                            small.head,
                        )
    with pytest.raises(ProofInvalid, match="other fields"):
        proofs.check(proofs.written({**proof, "more": 1}), small.head)
    with pytest.raises(ProofInvalid):
        proofs.check(proofs.written({**proof, "kind": KINDS[KINDS.index(kind) - 1]}), small.head)


@pytest.mark.parametrize("span", [(0, 1), (687, 688), (0, 5), (3, 4), (5, 23), (600, 688)])
def test_neighbouring_chunks_are_proven_for_their_place_alone(
    span: tuple[int, int], small: Made
) -> None:
    proof = small.with_chunks(*span)
    proven = proofs.check(proofs.written(proof), small.head)
    assert proven.thing["digests"] == small.contents[slice(*span)]
    assert proofs.elements_of(proven) == (span[0] * CHUNK, span[1] * CHUNK)
    chunks = proof["chunks"]
    changes: list[dict[str, Any]] = [{"first": first} for first in (span[0] + 1, span[0] - 1, 688)]
    changes += [{"digests": []}, {"digests": chunks["digests"][1:]}, {"path": chunks["path"][1:]}]
    changes += [{"digests": [*chunks["digests"], DIGEST]}, {"path": [*chunks["path"], DIGEST]}]
    for change in changes:
        with pytest.raises(ProofInvalid):
            proofs.check(proofs.written({**proof, "chunks": chunks | change}), small.head)


def test_another_shape_gives_no_place_to_a_chunk(small: Made) -> None:
    """How many chunks there are follows from the shape, which the tensor's leaf binds."""
    proof = small.proof("chunks")
    for shape in ([4096, 11009], [0], [], [1 << 40, 1 << 19]):
        with pytest.raises(ProofInvalid):
            changed = {**proof, "tensor": small.tensor | {"shape": shape}}
            proofs.check(proofs.written(changed), small.head)


def test_bytes_are_held_against_the_chunks_of_a_proof() -> None:
    run = Made(12, 3)
    content = random.Random(4).randbytes(4 * CHUNK * 3)
    pieces = [content[start : start + 4 * CHUNK] for start in range(0, len(content), 4 * CHUNK)]
    run.contents[7:10] = [digests.content_digest(piece).hex() for piece in pieces]
    run.tensor["content"] = run._levels().root_with({}).hex()
    about = {**run.tensor, "first": 7, "digests": run.contents[7:10]}
    proven = proofs.Proven("chunks", run.head, {"n": 1, "step": 1}, about)
    proofs.check_content(proven, 7, 10, content, "x")
    proofs.check_content(proven, 8, 9, pieces[1], "x")
    flipped = pieces[1][:-1] + bytes([pieces[1][-1] ^ 1])
    for number, wrong in [(8, flipped), (8, pieces[1] + b"x"), (8, pieces[1][:-1]), (9, pieces[1])]:
        with pytest.raises(ChunkDiffers, match=f"at element {number * CHUNK} "):
            proofs.check_content(proven, number, number + 1, wrong, "x")
    with pytest.raises(ChunkDiffers, match=f"at element {9 * CHUNK} "):
        proofs.check_content(proven, 7, 10, content[: 8 * CHUNK], "x")


def test_the_widths_of_types_are_those_of_arrays() -> None:
    assert {name: dtype.itemsize for name, dtype in elements.DTYPES.items()} == entries.WIDTHS


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]\n",
    "deep": b"[" * 60_000 + b"]" * 60_000,
    "deep, and short enough": b"[" * 30_000 + b"]" * 30_000,
    "long": b" " * (proofs.MAX_BYTES + 1),
    "a number of many digits": b'{"pellucid":' + b"1" * 6000 + b"}\n",
    "no ASCII": '{"pellucid":"ä"}\n'.encode(),
    "no number": b'{"pellucid":NaN}\n',
    "a number with a point": b'{"pellucid":1.0}\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, small: Made) -> None:
    with pytest.raises(ProofInvalid):
        proofs.check(HOSTILE[name], small.head)


OTHERS: dict[str, Callable[[bytes], bytes]] = {
    "no line break": lambda content: content[:-1],
    "two": lambda content: content + b"\n",
    "a space": lambda content: content.replace(b'"kind":', b'"kind": '),
    "an escape": lambda content: content.replace(b'"step"', b'"st\\u0065p"', 1),
    "a key twice": lambda content: content.replace(b'{"entry"', b'{"entry":"","entry"', 1),
    "another order": lambda content: (
        json.dumps(dict(reversed(json.loads(content).items()))).encode() + b"\n"
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_proof_has_one_spelling(name: str, small: Made) -> None:
    content = proofs.written(small.proof("step"))
    assert OTHERS[name](content) != content
    with pytest.raises(ProofInvalid):
        proofs.check(OTHERS[name](content), small.head)


def test_the_last_entry_proves_itself_without_a_path(small: Made) -> None:
    lines = list(
        chain.lines_of([{"kind": "genesis"}, {"kind": "step", "step": 1}], chain.LedgerTip())
    )
    last = lines[-1][:-1].decode()
    proof = {"pellucid": 1, "kind": "step", "last": last, "entry": last, "log": []}
    assert proofs.check(proofs.written(proof), chain.digest_of(lines[-1])).step == 1
    for change in (
        {"log": [DIGEST]},
        {"entry": last.replace('"n":1', '"n":2')},
        {"entry": last[:-1] + ',"x":1}'},
    ):
        with pytest.raises(ProofInvalid):
            proofs.check(proofs.written({**proof, **change}), chain.digest_of(lines[-1]))


def test_an_entry_is_proven_for_its_own_place_alone(small: Made) -> None:
    """The number in a line is its place in the tree: no other entry's path proves it."""
    proof = small.proof("step")
    log = [sibling.hex() for _, sibling in small.levels.path(small.number - 1)]
    assert len(log) == len(proof["log"])
    with pytest.raises(ProofInvalid, match="not in the log"):
        proofs.check(proofs.written({**proof, "log": log}), small.head)


def test_a_node_passes_for_no_leaf(small: Made) -> None:
    """A path that begins higher up: what stands there is a hash of two others, and no document."""
    proof = small.proof("document")
    paths = [proof["paths"][0][1:], proof["paths"][1]]
    with pytest.raises(ProofInvalid, match="not in the documents"):
        proofs.check(proofs.written({**proof, "paths": paths}), small.head)


def test_checking_imports_nothing_for_arrays() -> None:
    script = (
        "import sys, pellucid.cli, pellucid.record.proofs; "
        "print([m for m in sys.argv[1:] if m in sys.modules])"
    )
    names = ("numpy", "torch", "pyarrow", "safetensors", "tokenizers")
    result = subprocess.run(
        [sys.executable, "-c", script, *names], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
