"""What is hashed, to the byte: documents, segments, microbatches, tensors, states.

Each kind of content begins with its own name and version, so that no two kinds can be confused.
Integers are little-endian; tokens enter as 32-bit ids whatever the shards hold them in.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeGuard

from blake3 import blake3

from pellucid.record import merkle

DIGEST = "[0-9a-f]{64}"  # As it is written.
_WRITTEN = re.compile(DIGEST).fullmatch


def is_digest(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _WRITTEN(value) is not None


def float_bits(value: float) -> str:
    """A float64 as 16 hex digits, most significant first: 1.0 is 3ff0000000000000."""
    return struct.pack(">d", value).hex()


def bits_float(bits: str) -> float:
    """The inverse of float_bits; accepts 8 digits (float32) and 16 (float64)."""
    return struct.unpack(">f" if len(bits) == 8 else ">d", bytes.fromhex(bits))[0]


def canonical(value: object) -> bytes:
    """JSON with sorted keys, no spaces, ASCII, and every float as {"f64": bits}."""
    return json.dumps(_without_floats(value), sort_keys=True, separators=(",", ":")).encode("ascii")


def _without_floats(value: object) -> object:
    if isinstance(value, float):
        return {"f64": float_bits(value)}
    if isinstance(value, Mapping):
        return {str(key): _without_floats(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_floats(inner) for inner in value]
    return value


def of_value(kind: str, value: object) -> bytes:
    """The digest of a small structured value: the kind's name, then its canonical JSON."""
    return hashlib.sha256(f"pellucid {kind} 1\0".encode() + canonical(value)).digest()


def salt(seed: int, kind: str, *numbers: int) -> bytes:
    """The public salt of one document, from the recipe's seed."""
    return hashlib.sha256(
        f"pellucid salt 1\0{kind}\0".encode() + struct.pack(f"<{1 + len(numbers)}Q", seed, *numbers)
    ).digest()


def document_leaf(
    salt: bytes, document_id: str, licence: str, origin: str, date: str, text: str
) -> bytes:
    """The leaf of one document: its salt, its id, licence, origin and date, and its text."""
    sha256, labels = hashlib.sha256(text.encode()).digest(), (document_id, licence, origin, date)
    return document_leaf_of(salt, *labels, sha256)


def document_leaf_of(
    salt: bytes, document_id: str, licence: str, origin: str, date: str, sha256: bytes
) -> bytes:
    """As document_leaf, given the salt and the SHA-256 of the text's UTF-8: a proof shows what a
    document is, and not its text."""
    parts = [b"pellucid document 1\0", salt]
    for label in (document_id, licence, origin, date):
        encoded = label.encode()
        parts += [struct.pack("<Q", len(encoded)), encoded]
    return merkle.leaf(b"".join([*parts, sha256]))


def documents_root(part_roots: Iterable[str]) -> bytes:
    """The root over all documents, from those of their parts in hex."""
    return merkle.root(part_leaf(bytes.fromhex(root)) for root in part_roots)


def part_leaf(root: bytes) -> bytes:
    """The leaf of a part of the documents, from its root."""
    return merkle.leaf(root)


def value_leaf(kind: str, value: object) -> bytes:
    """The leaf of a small structured value in a tree of them."""
    return merkle.leaf(of_value(kind, value))


def segments_leaf(segments: Iterable[tuple[int, int, int, int, float]]) -> bytes:
    """The leaf of one row's segments: (document, start, tokens, weight, loss sum) each."""
    packed = b"".join(struct.pack("<QIIId", *segment) for segment in segments)
    return merkle.leaf(b"pellucid segments 1\0" + packed)


def microbatch_leaf(
    index: int, tokens: int, weight: int, loss_sum: float, objective: float, gradient_root: bytes
) -> bytes:
    """The leaf of one microbatch; gradient_root is empty where the recipe does not commit to it."""
    packed = struct.pack("<IQQdd", index, tokens, weight, loss_sum, objective)
    return merkle.leaf(b"pellucid microbatch 1\0" + packed + gradient_root)


def content_root(chunks: Iterable[bytes]) -> bytes:
    """The root over a tensor's content, given the BLAKE3 digest of each of its chunks."""
    return merkle.root(merkle.leaf(chunk) for chunk in chunks)


def tensor_leaf(group: str, name: str, dtype: str, shape: tuple[int, ...], content: bytes) -> bytes:
    """The leaf of one tensor of a group, given the root over its content."""
    return merkle.leaf(_tensor_head(group, name, dtype, shape) + content)


@lru_cache(maxsize=4096)  # The same tensors are hashed at every step.
def _tensor_head(group: str, name: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    texts = "".join(f"{text}\0" for text in ("pellucid tensor 1", group, name, dtype))
    return texts.encode() + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)


def group_root(leaves: Mapping[str, bytes]) -> bytes:
    """The root over a group's tensor leaves, in the order of their names as UTF-8 bytes."""
    return merkle.root(leaves[name] for name in sorted(leaves, key=str.encode))


def state_root(step: int, groups: Mapping[str, bytes]) -> bytes:
    """The root of a full state from its groups' roots ("weights", the
    optimizer's), sorted by name."""
    return merkle.root(group_leaf(step, name, groups[name]) for name in sorted(groups))


def group_leaf(step: int, name: str, root: bytes) -> bytes:
    """The leaf of one group of a state, from its root."""
    return merkle.leaf(
        b"pellucid state 1\0" + struct.pack("<Q", step) + name.encode() + b"\0" + root
    )


def content_digest(buffer: memoryview | bytes) -> bytes:
    """BLAKE3 of some of a tensor's bytes (81 MB in about 11 ms on two cores)."""
    return blake3(buffer).digest()
