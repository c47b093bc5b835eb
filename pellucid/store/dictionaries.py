"""The dictionaries of a Parquet file's columns, which readers list without reading the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pellucid.errors import FormatInvalid
from pellucid.store import files
from pellucid.store.parquet import Column, Dictionary, opened

_EXPANDED = 1 << 30  # Bytes that rows of a dictionary may unpack to.


def check_dictionaries(path: Path, schema: pa.Schema, groups: list[list[Column]]) -> None:
    """That every value of a dictionary is one of its rows, and stands there once: readers list
    them without the rows. groups are what check_pages gives. Raises FileMissing,
    FormatInvalid, and what pyarrow raises."""
    reader = opened(path, schema)
    with files.open_file(path) as file:
        for number, group in enumerate(groups):
            try:
                entries = dict(_listed(file, schema, group))
                for names in _together(entries, schema, group):
                    rows = reader.read_row_group(number, columns=names, use_threads=False)
                    for name in names:
                        _check_entries(name, entries[name], rows.column(name))
            except (ValueError, OSError) as error:
                detail = f"row group {number}, {error}"
                raise FormatInvalid(path=path, detail=detail) from error


def _listed(
    file: BinaryIO, schema: pa.Schema, group: list[Column]
) -> Iterator[tuple[str, list[bytes]]]:
    """The columns of a row group that have a dictionary, and its values. Raises ValueError."""
    for field, column in zip(schema, group, strict=True):
        if (own := column.dictionary) is None:
            continue
        try:
            yield field.name, _entries(_page(file, own), own.values, field.type)
        except (ValueError, OSError) as error:
            raise ValueError(f"{field.name}: {error}") from error


def _page(file: BinaryIO, own: Dictionary) -> bytes:
    file.seek(own.start)
    packed = file.read(own.packed)
    return pa.Codec("zstd").decompress(packed, own.unpacked, asbytes=True)


def _entries(page: bytes, count: int, kind: pa.DataType) -> list[bytes]:
    """The values of a dictionary's page, as they are spelled there: numbers of 8 bytes, or texts
    behind their lengths. Raises ValueError."""
    values, place = list[bytes](), 0
    while place < len(page) and len(values) < count:
        start = place + 4 * (kind == pa.string())
        place = start + (int.from_bytes(page[place:start], "little") if kind == pa.string() else 8)
        values.append(page[start:place])
    if (place, len(values)) != (len(page), count):
        raise ValueError("a dictionary has different values than its header says")
    return values


def _together(
    entries: dict[str, list[bytes]], schema: pa.Schema, group: list[Column]
) -> Iterator[list[str]]:
    """The names of columns whose rows unpack to little enough to be read together: each read of a
    row group costs as much as many rows. Raises ValueError where the rows of one could be made of
    so much that nobody should unpack them."""
    names, most = list[str](), 0
    for name, column in zip(schema.names, group, strict=True):
        if name not in entries:
            continue
        size = max(map(len, entries[name]), default=0) * column.values
        if size > _EXPANDED:
            raise ValueError(f"{name}: its rows may unpack to more than {_EXPANDED} bytes")
        if most + size > _EXPANDED:
            yield names
            names, most = [], 0
        names, most = [*names, name], most + size
    if names:
        yield names


def _check_entries(name: str, entries: list[bytes], rows: pa.ChunkedArray) -> None:
    """Raises ValueError where a dictionary does not have values of its rows alone, each once."""
    if len(set(entries)) != len(entries) or not {*entries} <= _values(rows):
        raise ValueError(f"{name}: a dictionary has a value twice, or a value that no row has")


def _values(rows: pa.ChunkedArray) -> set[bytes]:
    """The different values of some rows, as a page spells them."""
    if rows.type == pa.string():
        return {value for value in rows.cast(pa.binary()).unique().to_pylist() if value is not None}
    return {value.tobytes() for value in np.unique(rows.drop_null().to_numpy().view("<i8"))}
