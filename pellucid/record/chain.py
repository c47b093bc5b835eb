"""A chain: lines of JSON, each naming the SHA-256 of the line before it.

The ledger and the journal are both chains. An entry is hashed as the bytes stored, without its line
break; the hash of the last entry is the chain's head. The first two keys are always `prev` and `n`.
A ledger's entry names third, as `log`, the Merkle root over all lines before it, so that the last
one proves every other by a short path (record/proofs.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pellucid.record import merkle

START = "0" * 64
PLACE = ("prev", "n", "log")  # Where an entry stands; its other fields are what it says.
MAX_LINE = 1 << 20  # Bytes: no honest entry comes near it.


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is a number with a point; a chain holds floats as bits")


_decode = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse).raw_decode
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


class Entry(NamedTuple):
    """One entry as read: its place, the hash of its bytes, what it
    says, and what is wrong with it."""

    n: int
    digest: str
    body: dict[str, Any]
    problem: str | None
    known: bool = False  # By its line alone, and sound: see `known` of read.


class Tip:
    """Where a chain stands: the hash of its last entry and how many there are."""

    def __init__(self) -> None:
        self.digest, self.n = START, 0

    def place(self) -> dict[str, Any]:
        """The fields with which the next entry begins."""
        return {"prev": self.digest, "n": self.n}

    def take(self, line: bytes) -> str:
        """Go on behind a line; returns its hash."""
        self.digest, self.n = digest_of(line), self.n + 1
        return self.digest

    def lose(self) -> None:
        """Go on although an entry is wrong."""

    def wrong(self, line: bytes) -> str | None:
        """What is wrong with the place of a line, which is spelled as ours are."""
        # So the first keys can be held against the bytes.
        start = b'{"prev":"%b","n":%d' % (self.digest.encode(), self.n)
        if line.startswith((start + b",", start + b"}")):
            return None
        return "does not continue the entry before it: one of the two was changed"


class LedgerTip(Tip):
    """A ledger's: with the tree over its lines. Where an entry was wrong nothing is
    known of `log` from there on."""

    def __init__(self) -> None:
        super().__init__()
        self.tree, self.lost = merkle.Tree(), False

    def place(self) -> dict[str, Any]:
        return {**super().place(), "log": self.tree.root().hex()}

    def take(self, line: bytes) -> str:
        if not self.lost:
            self.tree.add(leaf_of(line))
        return super().take(line)

    def lose(self) -> None:
        self.lost = True

    def take_all(self, digests: list[bytes], tree: merkle.Tree) -> None:
        """Go on behind lines with these hashes, and a tree that has them."""
        self.digest, self.n, self.tree = digests[-1].hex(), self.n + len(digests), tree

    def wrong(self, line: bytes) -> str | None:
        if (detail := super().wrong(line)) or self.lost:
            return detail
        start = b'{"prev":"%b","n":%d,"log":"%b"' % (
            self.digest.encode(),
            self.n,
            self.tree.root().hex().encode(),
        )
        if line.startswith((start + b",", start + b"}")):
            return None
        return "has a log that is not the root over the entries before it"


def line_of(entry: Mapping[str, Any]) -> bytes:
    """The bytes of an entry, with its line break; its first fields are those that a Tip gives."""
    return _encode(entry).encode("ascii") + b"\n"


def lines_of(bodies: Iterable[Mapping[str, Any]], tip: Tip) -> Iterator[bytes]:
    """The lines of entries that go on from a tip, which goes along."""
    for body in bodies:
        line = line_of({**tip.place(), **body})
        tip.take(line)
        yield line


def leaf_of(line: bytes) -> bytes:
    """The leaf of an entry in the ledger's tree; a trailing line break does not count."""
    return merkle.leaf(line.removesuffix(b"\n"))


def digest_of(line: bytes) -> str:
    """The hash of an entry's bytes; a trailing line break does not count."""
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def digest_of_body(body: Mapping[str, Any]) -> str:
    """The hash of an entry as read, `prev` and `n` included."""
    return digest_of(line_of(body))


Known = Callable[[bytes], dict[str, Any] | None]


def read(lines: Iterable[bytes], tip: Tip, known: Known = lambda line: None) -> Iterator[Entry]:
    """Every entry of a chain, in order, from its tip on, which goes along. Nothing is raised: a
    wrong entry carries its problem.

    known tells an entry from its line, where that has the one spelling and every field
    is sound; None where it cannot.

    An entry whose `prev` is not the hash of the line before it blames both, for either may have
    been changed; reading goes on from its own bytes.
    """
    for line in lines:
        body, problem = known(line), None
        if not (sound := body is not None):
            body, problem = parse(line)
        if (problem := problem or tip.wrong(line)) is not None:
            tip.lose()
        yield Entry(tip.n, tip.take(line), body, problem, sound)


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
