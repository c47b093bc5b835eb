"""The entries of an evaluation chain and the lines of examples have one
form, and every other is named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pellucid.record import digests, evaluations
from pellucid.record.evaluations import Examples

DIGEST = "ab" * 32
LINES = [
    evaluations.example("doc 1", "Größe", {"acc": 1.0, "loglikelihood": -0.1}),
    evaluations.example("doc 2", "", {"acc": 0.0, "loglikelihood": -0.2}),
    evaluations.example("doc 3", "x", {"acc": 1.0, "loglikelihood": -1e16}),
]


def taken(lines: list[bytes]) -> Examples:
    examples = Examples()
    assert [examples.take(line) for line in lines] == [""] * len(lines)
    return examples


def entry(n: int = 1) -> dict[str, Any]:
    body = evaluations.evaluation(
        head=DIGEST,
        step=7,
        weights=DIGEST,
        task=("arc_easy", bytes(32)),
        harness=("lm-eval", "0.4.9"),
        settings={"shots": 5, "limit": None},
        examples=taken(LINES),
        sha256=DIGEST,
    )
    return {"prev": DIGEST, "n": n, **(body if n else evaluations.genesis(DIGEST))}


def test_numbers_are_the_means_of_exact_sums() -> None:
    numbers = taken(LINES).numbers()
    assert numbers["acc"] == digests.float_bits(2 / 3)
    assert numbers["loglikelihood"] == digests.float_bits(math.fsum([-0.1, -0.2, -1e16]) / 3)
    assert taken(LINES[::-1]).numbers() == numbers
    assert taken(LINES[::-1]).tree.root() != taken(LINES).tree.root()


def test_entries_as_they_are_made_are_sound() -> None:
    assert evaluations.wrong(0, entry(0)) == evaluations.wrong(1, entry()) == ""


OTHERS: dict[str, list[object]] = {
    "kind": ["genesis", "x", 1],
    **{name: ["", DIGEST.upper(), 7, None] for name in ("head", "weights", "results", "sha256")},
    "step": [-1, True, "7", 10**18, 1.0],
    **{name: ["", "x" * 201, 4, None] for name in ("task", "harness", "version")},
    "numbers": [
        {},
        [],
        {"acc": 1},
        {"acc": "7ff0000000000000"},
        {"acc": digests.float_bits(1e281)},
        {"b": "0" * 16, "a": "0" * 16},
        {"a b": "0" * 16},
        {f"n{number:02}": "0" * 16 for number in range(65)},
    ],
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_value_of_a_field_is_named(name: str) -> None:
    for value in OTHERS[name]:
        assert evaluations.wrong(1, entry() | {name: value})


@pytest.mark.parametrize("n", [0, 1])
def test_no_field_is_missing_or_added_or_elsewhere(n: int) -> None:
    body = entry(n)
    for name in body:
        assert evaluations.wrong(n, {key: body[key] for key in body if key != name})
    assert evaluations.wrong(n, body | {"more": 1})
    assert evaluations.wrong(n, dict(reversed(body.items())))
    assert evaluations.wrong(1 - n, body)
    for value in (2, True) if n == 0 else ():
        assert evaluations.wrong(0, body | {"format": value})


WRONG_LINES: dict[str, bytes] = {
    "cut": LINES[1][:-1],
    "long": evaluations.example("doc 2", "x" * (1 << 20), {"acc": 0.0, "loglikelihood": 0.0}),
    "no JSON": b"{\n",
    "deep": b"[" * 200_000 + b"\n",
    "a list": b"[]\n",
    "a space": LINES[1].replace(b":", b": ", 1),
    "a key twice": LINES[1].replace(b'{"example"', b'{"example":"","example"', 1),
    "another key": LINES[1].replace(b'"output"', b'"outputs"'),
    "a number": digests.canonical({"example": "d", "output": 1, "numbers": {}}) + b"\n",
    "no numbers": evaluations.example("doc 2", "", {}),
    "others": evaluations.example("doc 2", "", {"acc": 0.0}),
    "infinite": LINES[1].replace(digests.float_bits(0.0).encode(), b"7ff0000000000000"),
    "again": LINES[0],
    "no name": evaluations.example("", "", {"acc": 0.0, "loglikelihood": 0.0}),
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_a_wrong_line_is_named_and_not_taken(name: str) -> None:
    examples = taken(LINES[:1])
    assert examples.take(WRONG_LINES[name])
    assert examples.tree.count == 1 and examples.numbers() == taken(LINES[:1]).numbers()
