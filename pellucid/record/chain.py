"""A chain: lines of JSON, each naming the SHA-256 of the line before it.

The ledger and the journal are both chains. An entry is hashed as the bytes stored, without its line
break; the hash of the last entry is the chain's head. The first two keys are always `prev` and `n`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

START = "0" * 64
MAX_LINE = 1 << 20  # Bytes: no honest entry comes near it.

_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


class Entry(NamedTuple):
    """One entry as read: its place, the hash of its bytes, what it says, and what is wrong with it."""

    n: int
    digest: str
    body: dict[str, Any]
    problem: str | None


def line_of(prev: str, n: int, body: dict[str, Any]) -> bytes:
    """The bytes of an entry, with its line break."""
    return _encode({"prev": prev, "n": n, **body}).encode("ascii") + b"\n"


def digest_of(line: bytes) -> str:
    """The hash of an entry's bytes; a trailing line break does not count."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def digest_of_body(body: dict[str, Any]) -> str:
    """The hash of an entry as read, `prev` and `n` included."""
    return digest_of(_encode(body).encode("ascii"))


def read(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Every entry of a chain, in order. Nothing is raised: a wrong entry carries its problem.

    An entry whose `prev` is not the hash of the line before it blames both, for either may have
    been changed; reading goes on from its own bytes.
    """
    prev = START
    for n, line in enumerate(lines):
        body, problem = _parse(line)
        if problem is None and body.get("n") != n:
            problem = f"is numbered {body.get('n')!r}, not {n}"
        if problem is None and body.get("prev") != prev:
            problem = "does not continue the entry before it: one of the two was changed"
        prev = digest_of(line)
        yield Entry(n, prev, body, problem)


def _parse(line: bytes) -> tuple[dict[str, Any], str | None]:
    if len(line) > MAX_LINE:
        return {}, f"is longer than {MAX_LINE} bytes"
    if not line.endswith(b"\n"):
        return {}, "has no line break: it was cut short"
    try:
        body = json.loads(line)
    except (ValueError, RecursionError):
        return {}, "is not JSON"
    if not isinstance(body, dict):
        return {}, "is not a JSON object"
    # One spelling only: two readers must not find two meanings in a repeated key or a space.
    if _encode(body) + "\n" != line.decode("utf-8", "replace"):
        return body, "is not spelled as a ledger's entries are"
    return body, None
