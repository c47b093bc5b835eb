"""Evaluations that no recipe schedules: the entries of their own chain, and their examples' lines.

The ledger follows from recipe and data alone, so what somebody measures later has no place
in it. Its chain begins with the head that the run had then. Each entry names the weights
that were measured, by head, step and root, with what, and what came out. docs/format.md,
section 14, has every field."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Mapping
from typing import Any

from pellucid.record import digests, entries, merkle
from pellucid.record.chain import MAX_LINE

FORMAT = 1
# What entry n says, in order; entry 0 is the genesis.
GENESIS = ("kind", "format", "head")
FIELDS = (
    *("kind", "head", "step", "weights", "task", "task_digest", "harness", "version", "settings"),
    *("results", "sha256", "numbers"),
)
EXAMPLE = ("example", "numbers", "output")  # Of an example's line, sorted.
_DIGESTS = ("head", "weights", "task_digest", "settings", "results", "sha256")
_WORDS, _LONGEST = ("task", "harness", "version"), 200  # Characters.
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_.,:@/+-]{0,63}").fullmatch
_MOST_NUMBERS, _MOST = 64, 1e280  # A float64 must hold the sum of any number of examples.
_COUNTS = 10**18
_FLOAT = re.compile(entries.FLOAT).fullmatch


def genesis(head: str) -> dict[str, Any]:
    """The first entry, of a run whose ledger has this head."""
    return {"kind": "genesis", "format": FORMAT, "head": head}


def evaluation(
    *,
    head: str,
    step: int,
    weights: str,
    task: tuple[str, bytes],
    harness: tuple[str, str],
    settings: Mapping[str, Any],
    examples: Examples,
    sha256: str,
) -> dict[str, Any]:
    """One evaluation of the weights after a step.

    task: its name and the digest of its data; harness: its name and version; examples: what their
    lines came to, of the file with this SHA-256.
    """
    return {
        "kind": "evaluation",
        "head": head,
        "step": step,
        "weights": weights,
        "task": task[0],
        "task_digest": task[1].hex(),
        "harness": harness[0],
        "version": harness[1],
        "settings": digests.of_value("settings", settings).hex(),
        "results": examples.tree.root().hex(),
        "sha256": sha256,
        "numbers": examples.numbers(),
    }


def example(name: str, output: str, numbers: Mapping[str, float]) -> bytes:
    """The line of one example: its id in the task, what the model said, and how that was rated."""
    bits = {key: digests.float_bits(value) for key, value in numbers.items()}
    return digests.canonical({"example": name, "output": output, "numbers": bits}) + b"\n"


class Examples:
    """What an evaluation's examples come to: the root over their lines, and the means of their
    numbers."""

    def __init__(self) -> None:
        self.tree, self._values = merkle.Tree(), dict[str, "array[float]"]()
        self._names = set[str]()

    def take(self, line: bytes) -> str:
        """Go on with a line; what is wrong with it, or nothing."""
        if len(line) > MAX_LINE or not line.endswith(b"\n"):
            return f"has no line break, or is longer than {MAX_LINE} bytes"
        body = _spelled(line)
        if tuple(body) != EXAMPLE or not isinstance(body["output"], str):
            return f"is not an object of {', '.join(EXAMPLE)} as they are spelled"
        if not _is_word(body["example"]) or not _are_numbers(body["numbers"]):
            return "has an example or numbers that are not written as they should be"
        if self.tree.count and [*body["numbers"]] != [*self._values]:
            return "has other numbers than the line before it"
        if body["example"] in self._names:
            return "is of an example that has a line already"
        self._names.add(body["example"])
        for name, bits in body["numbers"].items():
            self._values.setdefault(name, array("d")).append(digests.bits_float(bits))
        self.tree.add(merkle.leaf(b"pellucid example 1\0" + line[:-1]))
        return ""

    def numbers(self) -> dict[str, str]:
        """The mean of each number: the exact sum, rounded, divided by how many there are."""
        return {
            name: digests.float_bits(math.fsum(values) / len(values))
            for name, values in self._values.items()
        }


def wrong(n: int, body: Mapping[str, Any]) -> str:
    """What is wrong with entry n by itself, or nothing."""
    listed = ("prev", "n", *(FIELDS if n else GENESIS))
    if tuple(body) != listed:
        return f"has not exactly the fields {', '.join(listed)}, in this order"
    if body["kind"] != ("evaluation" if n else "genesis"):
        return "is of another kind than stands there"
    if not n and (type(body["format"]) is not int or body["format"] != FORMAT):
        return f"has another format than {FORMAT}"
    bad = [name for name in _DIGESTS if name in body and not digests.is_digest(body[name])]
    bad += [name for name in _WORDS if name in body and not _is_word(body[name])]
    if n and (type(body["step"]) is not int or not 0 <= body["step"] < _COUNTS):
        bad.append("step")
    if n and not _are_numbers(body["numbers"]):
        bad.append("numbers")
    return f"has {bad[0]} not written as it should be" if bad else ""


def _spelled(line: bytes) -> dict[str, Any]:
    """The object of a line in the one spelling; an empty one of any other line."""
    try:
        body = json.loads(line)
        sound = isinstance(body, dict) and digests.canonical(body) + b"\n" == line
    except (ValueError, RecursionError):
        return {}
    return body if sound else {}


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST


def _are_numbers(value: object) -> bool:
    """Names in order, each with the bits of a float64 of which many may be added."""
    if not isinstance(value, dict) or not 0 < len(value) <= _MOST_NUMBERS:
        return False
    return [*value] == sorted(value) and all(
        _NAME(name)
        and isinstance(bits, str)
        and _FLOAT(bits)
        and abs(digests.bits_float(bits)) <= _MOST
        for name, bits in value.items()
    )
