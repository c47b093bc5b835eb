"""A chain: lines of JSON, each naming the SHA-256 of the line before it.

The ledger and the journal are both chains. An entry is hashed as the bytes stored, without its line
break; the hash of the last entry is the chain's head. The first two keys are always `prev` and `n`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

START = "0" * 64
MAX_LINE = 1 << 20  # Bytes: no honest entry comes near it.


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is a number with a point; a chain holds floats as bits")


_decode = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse).raw_decode
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


class Entry(NamedTuple):
    """One entry as read: its place, the hash of its bytes, what it says, and what is wrong with it."""

    n: int
    digest: str
    body: dict[str, Any]
    problem: str | None
    known: bool = False  # By its line alone, and sound: see `known` of read.


def line_of(prev: str, n: int, body: dict[str, Any]) -> bytes:
    """The bytes of an entry, with its line break."""
    return _encode({"prev": prev, "n": n, **body}).encode("ascii") + b"\n"


def digest_of(line: bytes) -> str:
    """The hash of an entry's bytes; a trailing line break does not count."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def digest_of_body(body: Mapping[str, Any]) -> str:
    """The hash of an entry as read, `prev` and `n` included."""
    return digest_of(_encode(body).encode("ascii"))


Known = Callable[[bytes], dict[str, Any] | None]


def read(
    lines: Iterable[bytes], known: Known = lambda line: None, prev: str = START, first: int = 0
) -> Iterator[Entry]:
    """Every entry of a chain, in order, from the first-th on, before which prev is the head. Nothing is raised: a wrong
    entry carries its problem.

    known tells an entry from its line, where that has the one spelling and every field is sound; None where it cannot.

    An entry whose `prev` is not the hash of the line before it blames both, for either may have
    been changed; reading goes on from its own bytes.
    """
    for n, line in enumerate(lines, first):
        body, problem = known(line), None
        if sound := body is not None:
            follows = body["prev"] == prev and body["n"] == n
        else:
            body, problem = parse(line)
            follows = problem is not None or _follows(line, prev, n)
        if not follows:
            problem = "does not continue the entry before it: one of the two was changed"
        prev = digest_of(line)
        yield Entry(n, prev, body, problem, sound)


def _follows(line: bytes, prev: str, n: int) -> bool:
    # The spelling is known to be ours, so the first two keys can be held against the bytes.
    start = b'{"prev":"%b","n":%d' % (prev.encode(), n)
    return line.startswith((start + b",", start + b"}"))


def parse(line: bytes) -> tuple[dict[str, Any], str | None]:
    """What a line with its line break says, and what is wrong with it."""
    if len(line) > MAX_LINE:
        return {}, f"is longer than {MAX_LINE} bytes"
    if not line.endswith(b"\n"):
        return {}, "has no line break: it was cut short"
    try:
        text = line[:-1].decode("ascii")
        body, end = _decode(text)
        if not isinstance(body, dict) or end != len(text):
            return {}, "is not one JSON object"
        # One spelling only: two readers must not find two meanings in a repeated key or a space.
        if _encode(body) != text:
            return body, "is not spelled as a ledger's entries are"
    except (ValueError, RecursionError):
        return {}, "is not JSON, or holds a number with a point (floats are stored as bits)"
    return body, None
