"""Thrift's compact protocol, as much of it as Parquet's footers and page headers need,
by tables that list every field.

Bytes that hold another field, another type or another spelling than the table's are
refused: no two readers may find two meanings in them. Decoding takes as long as there are
bytes, and is as deep as the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """A type: its number on the wire, and how to read it (from a place; gives the
    place behind it, too; raises ValueError, IndexError) and write it."""

    wire: int
    read: Callable[[bytes, int], tuple[Any, int]]
    write: Callable[[Any], bytes]


class Field(NamedTuple):
    name: str
    kind: Kind
    optional: bool = False


def decode(content: bytes, struct: Kind, start: int = 0) -> tuple[dict[str, Any], int]:
    """The fields by name of the struct that begins at start, and where
    it ends. Raises ValueError."""
    try:
        return struct.read(content, start)
    except IndexError as error:
        raise ValueError("is cut short") from error


def struct_of(
    name: str, fields: Mapping[int, Field], refused: Mapping[int, str] | None = None
) -> Kind:
    """A struct by its fields' numbers; refused says what some of those are that it may not have."""
    known = {
        number << 4 | field.kind.wire: (field.name, field.kind.read)
        for number, field in fields.items()
    }
    needed = {field.name for field in fields.values() if not field.optional}

    def read(content: bytes, place: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        number = 0
        while byte := content[place]:
            number += byte >> 4
            entry = known.get(number << 4 | byte & 15)
            if entry is None or byte < 16:  # A number that does not ascend has another form.
                unknown = (refused or {}).get(number) or f"the field {number} or another type of it"
                raise ValueError(f"{name} has {unknown}, which is not allowed")
            values[entry[0]], place = entry[1](content, place + 1)
        if not needed <= values.keys():
            raise ValueError(f"{name} lacks {', '.join(sorted(needed - values.keys()))}")
        return values, place + 1

    def write(value: Mapping[str, Any]) -> bytes:
        out, last = bytearray(), 0
        for number, field in sorted(fields.items()):
            if field.name in value:
                out.append((number - last) << 4 | field.kind.wire)
                out += field.kind.write(value[field.name])
                last = number
        return bytes(out) + b"\0"

    return Kind(12, read, write)


def list_of(item: Kind) -> Kind:
    def read(content: bytes, place: int) -> tuple[list[Any], int]:
        head, place = content[place], place + 1
        count = head >> 4
        if count == 15:
            count, place = _number(content, place)
        if head & 15 != item.wire or (head >> 4 == 15 and count < 15):
            raise ValueError("a list has other items, or a length in another spelling")
        if count > len(content) - place:  # Each takes a byte.
            raise IndexError
        items = []
        for _ in range(count):
            value, place = item.read(content, place)
            items.append(value)
        return items, place

    def write(value: list[Any]) -> bytes:
        count = len(value)
        head = (
            bytes([count << 4 | item.wire])
            if count < 15
            else bytes([0xF0 | item.wire]) + _spelled(count)
        )
        return head + b"".join(map(item.write, value))

    return Kind(9, read, write)


def _number(content: bytes, place: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; without zeros behind them, as
    those would be another spelling. Raises ValueError, and IndexError where the end is cut."""
    number, shift = 0, 0
    while (byte := content[place]) > 127:
        number |= (byte & 127) << shift
        shift += 7
        place += 1
        if shift > 63:
            break
    number |= byte << shift
    if (byte == 0 and shift) or number >> 64:
        raise ValueError("a number has another spelling, or more than 64 bits")
    return number, place + 1


def _spelled(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def _read_integer(content: bytes, place: int) -> tuple[int, int]:
    if (byte := content[place]) < 128:
        return (byte >> 1) ^ -(byte & 1), place + 1
    number, place = _number(content, place)
    return (number >> 1) ^ -(number & 1), place


def _write_integer(value: int) -> bytes:
    return _spelled(value << 1 if value >= 0 else -(value << 1) - 1)


def _read_text(content: bytes, place: int) -> tuple[bytes, int]:
    length, place = _number(content, place)
    if length > len(content) - place:
        raise IndexError
    return content[place : place + length], place + length


I32 = Kind(5, _read_integer, _write_integer)
I64 = Kind(6, _read_integer, _write_integer)
TEXT = Kind(8, _read_text, lambda value: _spelled(len(value)) + value)
# Its number on the wire is its value.
FALSE = Kind(2, lambda content, place: (False, place), lambda value: b"")
