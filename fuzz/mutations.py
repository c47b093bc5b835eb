"""Changes to the files of a release, as somebody would make them who knows what each file is.

Every choice is drawn from a string of bytes, so that one input is one change: hypothesis and
atheris both make such strings, shorten them, and give the same change again."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.data.parquet import DICTIONARIES
from pellucid.record import chain
from pellucid.store import parquet
from tests.store import compact

T = TypeVar("T")

NUMBERS = [
    0,
    1,
    -1,
    2,
    7,
    13,
    255,
    256,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
]
NUMBERS += [10**30, 10**4000, -(2**63)]
TEXTS = [
    "",
    "x",
    "0",
    "00" * 32,
    "7ff0000000000000",
    "fff8000000000001",
    "../x",
    "/etc/passwd",
    "a/../b",
    "C:x",
    "a\\b",
]
TEXTS += [
    "\0",
    "\x1b[2J\x1b]0;x\7",
    "\ud800",
    "é" * 3,
    "x" * 5000,
    "step5",
    "train",
    "train.bin",
    "[bold]x[/]",
    "stones",
]
BYTES = [
    b"",
    b"\0",
    b"\n",
    b"{",
    b"[",
    b'"',
    b"\\",
    b"\xff",
    b"\xed\xa0\x80",
    b"\0" * 64,
    b"\xff" * 64,
    b"[" * 5000,
]


class Choices:
    """Numbers drawn from bytes, and behind their end from a generator that the bytes seed."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place, self._more = data, 0, random.Random(data)

    def below(self, bound: int) -> int:
        """A number from 0 to bound - 1."""
        size = (max(bound - 1, 1).bit_length() + 7) // 8
        taken = self._data[self._place : self._place + size]
        self._place += size
        return (
            int.from_bytes(taken) if len(taken) == size else self._more.randrange(bound)
        ) % bound

    def of(self, options: list[T]) -> T:
        return options[self.below(len(options))]

    def bytes(self, count: int) -> bytes:
        return bytes(self.below(256) for _ in range(count))


def mutate(path: str, content: bytes, choices: Choices) -> bytes:
    """The content of a file, changed. path says what it is, by its ending."""
    structured = STRUCTURED.get(PurePosixPath(path).suffix, [])
    how = choices.of([_raw, *structured])
    changed = how(content, choices)
    return _raw(changed, choices) if choices.below(8) == 0 else changed


# ---- bytes -------------------------------------------------------------------------------------


def _raw(content: bytes, choices: Choices) -> bytes:
    out = bytearray(content)
    for _ in range(1 + choices.below(3)):
        choices.of(_RAW)(out, choices)
    return bytes(out)


def _flip(out: bytearray, choices: Choices) -> None:
    if out:
        out[choices.below(len(out))] ^= 1 << choices.below(8)


def _set(out: bytearray, choices: Choices) -> None:
    if out:
        out[choices.below(len(out))] = choices.below(256)


def _integer(out: bytearray, choices: Choices) -> None:
    """Another little-endian integer, at the beginning, near the end or anywhere."""
    size = choices.of([2, 4, 8])
    place = choices.of([0, max(0, len(out) - 8), choices.below(len(out) + 1)])
    out[place : place + size] = (choices.of(NUMBERS[:18]) % 2 ** (8 * size)).to_bytes(
        size, "little"
    )


def _cut(out: bytearray, choices: Choices) -> None:
    del out[choices.below(len(out) + 1) :]


def _remove(out: bytearray, choices: Choices) -> None:
    place = choices.below(len(out) + 1)
    del out[place : place + 1 + choices.below(64)]


def _repeat(out: bytearray, choices: Choices) -> None:
    place = choices.below(len(out) + 1)
    out[place:place] = out[place : place + 1 + choices.below(4096)] * choices.of([1, 2, 100])


def _insert(out: bytearray, choices: Choices) -> None:
    place = choices.below(len(out) + 1)
    out[place:place] = choices.of([*BYTES, choices.bytes(4)])


_RAW: list[Callable[[bytearray, Choices], None]] = [
    _flip,
    _flip,
    _set,
    _integer,
    _cut,
    _remove,
    _repeat,
    _insert,
]


# ---- values ------------------------------------------------------------------------------------


def hostile(choices: Choices) -> Any:
    """A value where another is expected."""
    kind = choices.below(8)
    if kind < 2:
        return choices.of(NUMBERS)
    if kind < 4:
        return choices.of(TEXTS)
    if kind == 4:
        return str(choices.of(NUMBERS[:18]))
    if kind == 5:
        return choices.of([None, True, False, 0.5, -0.0, 1e308, float("nan"), float("inf")])
    if kind == 6:
        return choices.of(
            [[], {}, [[]], [{}], {"": 0}, [0] * 1000, {str(n): n for n in range(1000)}]
        )
    return nested(choices.of([3, 70, 900, 990, 5000]), choices.below(2) == 0)


def nested(depth: int, lists: bool) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value] if lists else {"a": value}
    return value


def change_value(value: Any, choices: Choices) -> Any:
    """One place of a structured value changed: replaced, removed, doubled, or
    put in the place of another."""
    places = list(_places(value))
    if not places:
        return hostile(choices)
    parent, key = choices.of(places)
    how = choices.below(6)
    if how == 0:
        del parent[key]
    elif how == 1 and isinstance(parent, list):
        parent[key:key] = [parent[key]] * choices.of([1, 2, 500])
    elif how == 1:
        parent[choices.of(TEXTS)] = parent[key]
    elif how == 2:
        other, at = choices.of(places)
        parent[key] = other[at]
    else:
        parent[key] = hostile(choices)
    return value


def _places(value: Any) -> Any:
    """Every (container, key) below a value."""
    items: Any = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def dumped(value: Any) -> bytes:
    """JSON without spaces; brackets alone where the library's writer gives up."""
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (
        RecursionError,
        ValueError,
    ):  # Nested deeper than it writes, or an integer longer than it prints.
        return b"[" * 3000 + b"]" * 3000


# ---- by file -----------------------------------------------------------------------------------


def _json(content: bytes, choices: Choices) -> bytes:
    return dumped(change_value(json.loads(content), choices))


def _lines(content: bytes, choices: Choices) -> bytes:
    """A chain or a manifest with a line changed, and its hashes made to fit, or not."""
    lines = content.splitlines(keepends=True)
    at = choices.below(len(lines))
    how = choices.below(6)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[at:at] = [lines[at]] * choices.of([1, 2, 50])
    elif how == 2:
        other = choices.below(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = dumped(change_value(json.loads(lines[at]), choices)) + b"\n"
    return b"".join(_sealed(lines) if choices.below(4) else lines)


def _sealed(lines: list[bytes]) -> list[bytes]:
    """The lines with their hashes computed anew, as far as they still have any."""
    if lines and lines[0].startswith(b'{"pellucid"'):
        end = {"sha256": hashlib.sha256(b"".join(lines[:-1])).hexdigest()}
        return [*lines[:-1], json.dumps(end, separators=(",", ":")).encode() + b"\n"]
    if not any(b'"prev":"' in line for line in lines):
        return lines  # No chain: an evaluation's examples.
    out: list[bytes] = []
    tip = chain.LedgerTip() if any(b'"log":"' in line for line in lines) else chain.Tip()
    for line in lines:
        try:
            said = {key: value for key, value in json.loads(line).items() if key not in chain.PLACE}
            out.append(chain.line_of({**tip.place(), **said}))
        except (ValueError, AttributeError, RecursionError):
            out.append(line)
        tip.take(out[-1])
    return out


def _toml(content: bytes, choices: Choices) -> bytes:
    """A line of the recipe with another value, removed, doubled, or moved."""
    lines = content.decode().splitlines()
    at = choices.below(len(lines))
    how = choices.below(5)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[at:at] = [lines[at]]
    elif how == 2:
        lines[at:at] = [
            choices.of(
                [
                    "x = 1",
                    "[x]",
                    "[[data.sources]]",
                    "a" + ".a" * 5000 + " = 1",
                    "x = " + "[" * 2000,
                ]
            )
        ]
    else:
        key = lines[at].partition("=")[0]
        value = hostile(choices)
        text = (
            value
            if isinstance(value, str) and choices.below(4) == 0
            else dumped(value).decode("utf-8", "replace")
        )
        lines[at] = f"{key}= {text}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _safetensors(content: bytes, choices: Choices) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    encoded = dumped(change_value(header, choices))
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + content[8 + length :]


def _binary(content: bytes, choices: Choices) -> bytes:
    """Rows of integers with some of them others: a shard or its document table."""
    width = 8 if content[2:8] == b"\0" * 6 else 2
    values = np.frombuffer(content, f"<u{width}", len(content) // width).copy()
    for _ in range(1 + choices.below(4)):
        number = choices.of([*NUMBERS[:18], int(values[choices.below(len(values))])])
        values[choices.below(len(values))] = number % 2 ** (8 * width)
    return values.tobytes()


def _parquet(content: bytes, choices: Choices) -> bytes:
    table = pq.read_table(io.BytesIO(content))
    at = choices.below(table.num_columns)
    changed = choices.of([_cell, _cell, _cell, _column, _rows])(table, at, choices)
    groups = choices.of([1 << 20, 1, 7])
    if choices.below(4):  # As we write it, so that its rows are read.
        with (
            tempfile.NamedTemporaryFile() as file,
            contextlib.suppress(KeyError),
        ):  # A type that no table of ours has.
            dictionaries = DICTIONARIES if "text" in changed.schema.names else None
            parquet.write(Path(file.name), changed, groups, dictionaries)
            return Path(file.name).read_bytes()
    out, codec = io.BytesIO(), choices.of(["zstd", "none", "snappy", "gzip"])
    dictionary = choices.below(2) == 0
    pq.write_table(
        changed, out, compression=codec, row_group_size=groups, use_dictionary=dictionary
    )
    return out.getvalue()


def _footer(content: bytes, choices: Choices) -> bytes:
    """Some fields of a footer others, gone, or there that should not be."""
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = compact.read(content[end:-8])
    for _ in range(1 + choices.below(3)):
        place = footer
        while choices.below(4):  # Down into the structs within.
            inner = [value for kind, value in place.values() if kind == compact.STRUCT]
            inner += [
                one
                for kind, (item, some) in _lists(place)
                for one in some
                if item == compact.STRUCT
            ]
            if not inner:
                break
            place = choices.of(inner)
        numbers = [
            number for number, (kind, _) in place.items() if kind in (compact.I32, compact.I64)
        ]
        how = choices.below(4)
        if how == 0 and place:
            del place[choices.of(list(place))]
        elif how == 1:
            kind, value = choices.of(
                [
                    (compact.TEXT, b"x"),
                    (compact.I64, 4),
                    (compact.STRUCT, {5: (compact.TEXT, b"x")}),
                ]
            )
            place[1 + choices.below(17)] = kind, value
        elif numbers:
            number = choices.of(numbers)
            place[number] = (
                place[number][0],
                choices.of([*NUMBERS[:16], place[number][1] + 1, place[number][1] - 1]),
            )
    written = compact.spelled(compact.STRUCT, footer)
    return content[:end] + written + len(written).to_bytes(4, "little") + b"PAR1"


def _lists(place: compact.Struct) -> list[tuple[int, Any]]:
    return [(kind, value) for kind, value in place.values() if kind == compact.LIST]


def _cell(table: pa.Table, at: int, choices: Choices) -> pa.Table:
    """One value another, of its type or null."""
    field = table.schema.field(at)
    values = table.column(at).to_pylist()
    if not values:
        return table
    if pa.types.is_string(field.type):
        value: Any = choices.of([*[t for t in TEXTS if t != "\ud800"], "x" * 100_000])
    elif pa.types.is_floating(field.type):
        value = choices.of([0.0, -1.0, 1e308, float("nan"), float("inf"), 5e-324])
    else:
        value = min(max(choices.of(NUMBERS), -(2**63)), 2**63 - 1)
    nullable = choices.below(4) == 0
    values[choices.below(len(values))] = None if nullable else value
    field = pa.field(field.name, field.type, nullable=True) if nullable else field
    return table.set_column(at, field, pa.array(values, field.type))


def _column(table: pa.Table, at: int, choices: Choices) -> pa.Table:
    """A column gone, renamed, of another type, or not valid Unicode."""
    how, name = choices.below(4), table.column_names[at]
    if how == 0:
        return table.drop_columns([name])
    if how == 1:
        return table.rename_columns(
            [choices.of(["x", ""]) if one == name else one for one in table.column_names]
        )
    if how == 2 and pa.types.is_string(table.schema.field(at).type):
        raw = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary())
        return table.set_column(
            at, table.schema.field(at), pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
        )
    other = choices.of([pa.string(), pa.int32(), pa.float32(), pa.binary(), pa.bool_()])
    values = {pa.string(): "x", pa.binary(): b"x", pa.bool_(): True}.get(other, 1)
    return table.set_column(at, name, pa.array([values] * table.num_rows, other))


def _rows(table: pa.Table, at: int, choices: Choices) -> pa.Table:
    """Rows gone, doubled, turned round, or very many of one."""
    how = choices.below(4)
    if how == 0:
        return table.slice(choices.below(table.num_rows + 1), choices.below(table.num_rows + 1))
    if how == 1:
        return pa.concat_tables([table, table])
    if how == 2:
        return table.take(pa.array(range(table.num_rows - 1, -1, -1), pa.int64()))
    return pa.concat_tables([table.slice(choices.below(table.num_rows + 1), 1)] * 3000)


STRUCTURED: dict[str, list[Callable[[bytes, Choices], bytes]]] = {
    ".json": [_json, _json, _json],
    ".jsonl": [_lines, _lines, _lines],
    ".toml": [_toml, _toml],
    ".safetensors": [_safetensors, _safetensors],
    ".bin": [_binary, _binary],
    ".positions": [_binary, _binary],
    ".counts": [_binary],
    ".parquet": [_parquet, _parquet, _footer, _footer],
}
