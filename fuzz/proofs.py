"""Proofs: one of each kind of a release, changes to them, and what checks and reads by them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuzz.mutations import Choices, change_value, dumped
from pellucid import prove
from pellucid.data.documents import Documents
from pellucid.errors import PellucidError
from pellucid.record import chain, digests, merkle, proofs, rows
from pellucid.store.ledger import LedgerFile
from pellucid.terminal import plain

_NAME = "model.embed_tokens.weight"


def made(folder: Path) -> list[tuple[str, bytes, Callable[[Path], object]]]:
    """Proofs of every kind, as of the inputs of a user: name, content, and who reads it."""
    document = Documents.open(folder).get(3)["id"]
    found = {
        "genesis": prove.step(folder, 0),
        "step": prove.step(folder, 7),
        "document": prove.document(folder, document),
        "block": prove.block(folder, 3),
        "tensor": prove.tensor(folder, _NAME),
        "moment": prove.tensor(folder, f"exp_avg/{_NAME}"),
        "rows": prove.tensor(folder, _NAME, rows=(0, 7)),
    }
    return [(f"{name}.proof", content, _reader(folder, content)) for name, content in found.items()]


def _reader(folder: Path, original: bytes) -> Callable[[Path], object]:
    head = LedgerFile(folder).head

    def checked(path: Path) -> bool:
        """Whether a proof is taken that says something else than the one that was made."""
        content = path.read_bytes()
        for one in (_own_head(content), head):
            with contextlib.suppress(PellucidError):
                _read(folder, content, one)
        return content != original and bool(proofs.check(content, head))

    return checked


def _read(folder: Path, content: bytes, head: str) -> None:
    proven = proofs.check(content, head)
    plain(f"{proven} {json.dumps(proven.as_json())}").encode()
    prove.read_rows(folder, content, head, 0, 7)


def _own_head(content: bytes) -> str:
    """The head that a proof would have; whoever makes both may put into it what he likes."""
    try:
        return chain.digest_of(json.loads(content)["last"].encode("ascii") + b"\n")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "00" * 32


def changed(content: bytes, choices: Choices) -> bytes:
    """A proof with another value, in it or in one of its lines, and what commits to that fitted to
    it, or not."""
    proof = json.loads(content)
    if choices.below(3):
        proof = change_value(proof, choices)
    else:
        line = choices.of(["last", "entry"])
        proof[line] = dumped(change_value(json.loads(proof[line]), choices)).decode()
    if choices.below(4):
        with contextlib.suppress(Exception):
            _fit(proof)
    try:
        return proofs.written(proof)
    except Exception:  # noqa: BLE001
        return dumped(proof) + b"\n"


def _fit(proof: dict[str, Any]) -> None:
    """An entry that commits to what the proof holds, which is the last one of its ledger."""
    entry, kind = json.loads(proof["entry"]), proof["kind"]
    if kind == "document":
        one = proof["document"]
        secret = bytes.fromhex(one["salt"]), one["id"], one["licence"], one["origin"]
        leaf = digests.document_leaf_of(*secret, bytes.fromhex(one["sha256"]))
        part = digests.part_leaf(_up(leaf, proof["paths"][0]))
        proof["data"]["documents"] = _up(part, proof["paths"][1]).hex()
    elif kind == "block":
        leaf = rows.block_head(proof["block"]["number"], proof["block"]["ids"])
        proof["stream"]["root"] = _up(leaf, proof["paths"][0]).hex()
        leaf = digests.value_leaf("stream", proof["stream"])
        proof["data"]["streams"] = _up(leaf, proof["paths"][1]).hex()
    elif kind in ("tensor", "chunks"):
        one = proof["tensor"]
        named = one["group"], one["name"], one["dtype"], tuple(one["shape"])
        root = _up(digests.tensor_leaf(*named, bytes.fromhex(one["content"])), proof["paths"][0])
        for path in proof["paths"][1:]:
            root = _up(digests.group_leaf(entry["step"], one["group"], root), path)
        entry["weights" if one["group"] == "weights" else "state"] = root.hex()
    if "data" in proof:
        entry["data"] = digests.of_value("data", proof["data"]).hex()
    proof["entry"] = proof["last"] = dumped(entry).decode()
    proof["log"] = []


def _up(leaf: bytes, path: list[str]) -> bytes:
    for one in path:
        leaf = merkle.above(leaf, bytes.fromhex(one[1:]), left=one[0] == "L")
    return leaf
