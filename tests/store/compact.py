"""Thrift's compact protocol without tables, a second time: what the tests
break footers and headers with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# A struct is {field: (type, value)}, a list (type of its items, items).
Struct = dict[int, tuple[int, Any]]
I32, I64, TEXT, LIST, STRUCT = 5, 6, 8, 9, 12


def footer_of(path: Path) -> Struct:
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    return read(content[-8 - length : -8])


def read(content: bytes) -> Struct:
    return _read(content, 0, STRUCT)[0]


def with_footer(path: Path, footer: Struct) -> None:
    """The file with another footer."""
    content = path.read_bytes()
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    written = spelled(STRUCT, footer)
    path.unlink()
    path.write_bytes(content[:end] + written + len(written).to_bytes(4, "little") + b"PAR1")


def _read(content: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind in (I32, I64, 4):
        number, at = _varint(content, at)
        return (number // 2 if number % 2 == 0 else -(number + 1) // 2), at
    if kind == TEXT:
        length, at = _varint(content, at)
        return content[at : at + length], at + length
    if kind == LIST:
        item, count = content[at] % 16, content[at] // 16
        at += 1
        if count == 15:
            count, at = _varint(content, at)
        items = []
        for _ in range(count):
            value, at = _read(content, at, item)
            items.append(value)
        return (item, items), at
    assert kind == STRUCT
    fields: Struct = {}
    number = 0
    while content[at]:
        number, inner = number + content[at] // 16, content[at] % 16
        value, at = _read(content, at + 1, inner)
        fields[number] = inner, value
    return fields, at + 1


def _varint(content: bytes, at: int) -> tuple[int, int]:
    number = content[at] % 128
    if content[at] < 128:
        return number, at + 1
    high, at = _varint(content, at + 1)
    return number + 128 * high, at


def spelled(kind: int, value: Any) -> bytes:
    if kind in (1, 2):
        return b""
    if kind in (I32, I64):
        return _spelled(2 * value if value >= 0 else -2 * value - 1)
    if kind == TEXT:
        return _spelled(len(value)) + value
    if kind == LIST:
        item, items = value
        head = (
            bytes([16 * len(items) + item])
            if len(items) < 15
            else bytes([240 + item]) + _spelled(len(items))
        )
        return head + b"".join(spelled(item, element) for element in items)
    out, last = b"", 0
    for number, (inner, element) in sorted(value.items()):
        near = number - last < 16
        out += (
            bytes([16 * (number - last) + inner]) if near else bytes([inner]) + _spelled(2 * number)
        )
        out += spelled(inner, element)
        last = number
    return out + b"\0"


def _spelled(number: int) -> bytes:
    return (
        bytes([number]) if number < 128 else bytes([number % 128 + 128]) + _spelled(number // 128)
    )
