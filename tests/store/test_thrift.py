"""Thrift's compact protocol by tables: one spelling, and nothing but
ValueError for what is none."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pellucid.store.thrift import FALSE, I32, I64, TEXT, Field, decode, list_of, struct_of
from tests.store import compact

INNER = struct_of("Inner", {1: Field("count", I64), 15: Field("far", I32, optional=True)})
STRUCT = struct_of(
    "Outer",
    {
        1: Field("number", I32),
        2: Field("texts", list_of(TEXT)),
        4: Field("never", FALSE, optional=True),
    }
    | {9: Field("inner", list_of(INNER))},
    refused={3: "a hat"},
)
KINDS = {
    "number": (1, 5),
    "texts": (2, 9),
    "never": (4, 2),
    "inner": (9, 9),
    "count": (1, 6),
    "far": (15, 5),
}


def anything(choices: random.Random) -> dict[str, Any]:
    def inner() -> dict[str, Any]:
        fields = {"count": choices.randrange(-(2**63), 2**63)}
        return fields | (
            {"far": choices.randrange(-(2**31), 2**31)} if choices.random() < 0.5 else {}
        )

    texts = [
        choices.randbytes(choices.choice([0, 1, 200]))
        for _ in range(choices.choice([0, 1, 14, 15, 40]))
    ]
    value: dict[str, Any] = {"number": choices.randrange(-300, 300), "texts": texts}
    value |= {"inner": [inner() for _ in range(choices.randrange(20))]}
    return value | ({"never": False} if choices.random() < 0.5 else {})


def plain(value: Any) -> Any:
    """The same for the second implementation."""
    if isinstance(value, dict):
        return {KINDS[name][0]: (KINDS[name][1], plain(member)) for name, member in value.items()}
    if isinstance(value, list):
        return (8 if value and isinstance(value[0], bytes) else 12, [plain(item) for item in value])
    return value


def test_what_is_written_is_read_and_so_by_another_implementation() -> None:
    choices = random.Random(3)
    for _ in range(200):
        value = anything(choices)
        if not value["texts"] or not value["inner"]:
            continue  # The second cannot know what an empty list is of.
        written = STRUCT.write(value)
        assert written == compact.spelled(compact.STRUCT, plain(value))
        assert decode(b"xx" + written + b"y", STRUCT, 2) == (value, len(written) + 2)


def test_changed_bytes_have_one_spelling_or_none() -> None:
    """What is read at all is what would be written, so that no second spelling is ever taken."""
    choices, read = random.Random(5), 0
    for _ in range(3000):
        written = bytearray(STRUCT.write(anything(choices)))
        for _ in range(choices.randrange(3)):
            written[choices.randrange(len(written))] = choices.randrange(256)
        content = (
            bytes(written[: choices.randrange(len(written) + 1)])
            if choices.random() < 0.2
            else bytes(written)
        )
        try:
            value, end = decode(content, STRUCT)
        except ValueError:
            continue
        assert STRUCT.write(value) == content[:end]
        read += 1
    assert 500 < read < 2900


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "cut short"),
        (b"\x15", "cut short"),
        (b"\x00", "lacks inner, number, texts"),
        (b"\x15\x02\x19\x08\x16\x00\x00", "a hat"),
        (b"\x16\x02\x00", "the field 1 or another type"),
        (b"\x05\x02\x02\x00", "the field 0"),
        (b"\x15\x82\x00", "another spelling"),
        (b"\x15" + b"\xff" * 9 + b"\x7f", "64 bits"),
        (b"\x15" + b"\xff" * 1000, "64 bits"),
        (b"\x15\x02\x19\xf8\x0e", "length in another spelling"),
        (b"\x15\x02\x19\xf8\xff\xff\xff\xff\x0f", "cut short"),
        (b"\x15\x02\x19\x18\xff\xff\xff\x7f", "cut short"),
    ],
)
def test_bytes_that_are_nothing(content: bytes, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        decode(content, STRUCT)
