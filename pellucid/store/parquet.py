"""Parquet files, written and read in one spelling: what other readers believe
is proved here or is not there.

A footer has the fields of the tables below and no others: no statistics, indexes, filters, metadata
or names of other files. Its row groups and their columns fill the file without a gap, and have the
rows that it says. A dictionary holds values of its rows and no others."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.errors import FormatInvalid
from pellucid.store import files
from pellucid.store.remote import RemotePath
from pellucid.store.thrift import FALSE, I32, I64, TEXT, Field, decode, list_of, struct_of

_MAGIC = b"PAR1"
_END = 8  # Bytes behind the footer: its length, and the magic.
_GUESS = 16 << 10  # Bytes: most footers are shorter.
_LONGEST = 32 << 20  # Bytes of a footer: a hundred thousand row groups.
_MOST_ENTRIES = 16 << 20  # Bytes of a dictionary: writers end one at 1 MiB, and a batch of values.
_HEADER = 128  # Bytes: more than any header of a page takes.

_TYPES = {pa.int64(): 2, pa.float64(): 5, pa.string(): 6}
_ENCODINGS = {"PLAIN": 0, "RLE": 3, "RLE_DICTIONARY": 8}
_ZSTD = 6
_DATA, _DICTIONARY = 0, 2  # Kinds of pages.

_LOGICAL = struct_of("LogicalType", {1: Field("string", struct_of("StringType", {}))})
_ELEMENT = struct_of(
    "SchemaElement",
    {
        1: Field("type", I32, optional=True),
        3: Field("repetition", I32),
        4: Field("name", TEXT),
        5: Field("children", I32, optional=True),
        6: Field("converted", I32, optional=True),
        10: Field("logical", _LOGICAL, optional=True),
    },
)
_COLUMN = struct_of(
    "ColumnMetaData",
    {
        1: Field("type", I32),
        2: Field("encodings", list_of(I32)),
        3: Field("path", list_of(TEXT)),
        4: Field("codec", I32),
        5: Field("values", I64),
        6: Field("unpacked", I64),
        7: Field("packed", I64),
        9: Field("data", I64),
        11: Field("dictionary", I64, optional=True),
    },
    refused={
        8: "key-value metadata",
        10: "an index page",
        12: "statistics",
        13: "counts of its encodings",
        14: "a bloom filter",
        15: "a bloom filter",
        16: "statistics of sizes",
        17: "statistics of places",
    },
)
_CHUNK = struct_of(
    "ColumnChunk",
    {2: Field("offset", I64), 3: Field("about", _COLUMN)},
    refused={
        1: "the name of another file",
        4: "a page index",
        5: "a page index",
        6: "a page index",
        7: "a page index",
        8: "encryption",
        9: "encryption",
    },
)
_GROUP = struct_of(
    "RowGroup",
    {1: Field("columns", list_of(_CHUNK)), 2: Field("unpacked", I64), 3: Field("rows", I64)},
    refused={4: "columns that it is said to be sorted by"},
)
_FOOTER = struct_of(
    "FileMetaData",
    {
        1: Field("version", I32),
        2: Field("schema", list_of(_ELEMENT)),
        3: Field("rows", I64),
        4: Field("groups", list_of(_GROUP)),
    },
    refused={
        5: "key-value metadata",
        6: "the name of what wrote it",
        7: "orders of its columns",
        8: "encryption",
    },
)
_PAGE = struct_of(
    "PageHeader",
    {
        1: Field("kind", I32),
        2: Field("unpacked", I32),
        3: Field("packed", I32),
        5: Field(
            "data",
            struct_of(
                "DataPageHeader",
                {
                    1: Field("values", I32),
                    2: Field("encoding", I32),
                    3: Field("definitions", I32),
                    4: Field("repetitions", I32),
                    # Written without a field.
                    5: Field("statistics", struct_of("Statistics", {}), optional=True),
                },
            ),
            optional=True,
        ),
        7: Field(
            "dictionary",
            struct_of(
                "DictionaryPageHeader",
                {
                    1: Field("values", I32),
                    2: Field("encoding", I32),
                    3: Field("sorted", FALSE, optional=True),
                },
            ),
            optional=True,
        ),
    },
)


# ---- writing -----------------------------------------------------------------------------------


@contextmanager
def writer(
    path: Path, schema: pa.Schema, dictionaries: list[str] | None = None
) -> Iterator[pq.ParquetWriter]:
    """A file to write row groups to; dictionaries: the columns of few values, None for all."""
    metadata: list[pq.FileMetaData] = []
    options: dict[str, Any] = {"use_dictionary": True if dictionaries is None else dictionaries}
    options |= {
        "compression": "zstd",
        "compression_level": 3,
        "write_statistics": False,
        "store_schema": False,
    }
    with pq.ParquetWriter(path, schema, metadata_collector=metadata, **options) as opened:
        yield opened
    _replace_footer(path, schema, metadata[0])


def write(
    path: Path, table: pa.Table, group: int = 1 << 20, dictionaries: list[str] | None = None
) -> None:
    """A table as a file, in row groups of so many rows; dictionaries as of writer."""
    with writer(path, table.schema, dictionaries) as opened:
        if table.num_rows:
            opened.write_table(table, row_group_size=group)


def _replace_footer(path: Path, schema: pa.Schema, metadata: pq.FileMetaData) -> None:
    """pyarrow cannot be told to leave out statistics of sizes, and names itself: our
    footer in the place of its own."""
    footer = _FOOTER.write(
        {
            "version": 2,
            "schema": _elements(schema),
            "rows": metadata.num_rows,
            "groups": [
                _written(schema, metadata.row_group(i)) for i in range(metadata.num_row_groups)
            ],
        }
    )
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(-_END, os.SEEK_END)
        file.seek(size - _END - int.from_bytes(file.read(4), "little"))
        file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)
        file.truncate()


def _written(schema: pa.Schema, group: pq.RowGroupMetaData) -> dict[str, Any]:
    columns = []
    for number, field in enumerate(schema):
        column = group.column(number)
        about = {
            "type": _TYPES[field.type],
            "encodings": sorted(_ENCODINGS[name] for name in column.encodings),
            "path": [field.name.encode()],
            "codec": _ZSTD,
            "values": column.num_values,
            "unpacked": column.total_uncompressed_size,
            "packed": column.total_compressed_size,
            "data": column.data_page_offset,
        }
        if column.has_dictionary_page:
            about["dictionary"] = column.dictionary_page_offset
        columns.append({"offset": 0, "about": about})
    return {"columns": columns, "unpacked": group.total_byte_size, "rows": group.num_rows}


def _elements(schema: pa.Schema) -> list[dict[str, Any]]:
    """The schema as a footer spells it."""
    elements: list[dict[str, Any]] = [{"repetition": 0, "name": b"schema", "children": len(schema)}]
    for field in schema:
        kind = {
            "type": _TYPES[field.type],
            "repetition": int(field.nullable),
            "name": field.name.encode(),
        }
        elements.append(
            kind
            | ({"converted": 0, "logical": {"string": {}}} if field.type == pa.string() else {})
        )
    return elements


# ---- reading -----------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """Where one column of a row group lies, and what its pages must hold."""

    start: int
    data: int  # Where the first page of values begins; before it, a dictionary.
    end: int
    values: int
    unpacked: int
    encodings: list[int]


def opened(path: Path, schema: pa.Schema) -> pq.ParquetFile:
    """The file, its footer read and proved. Raises FileMissing,
    FormatInvalid, and what pyarrow raises."""
    about = _proved(path, *_footer(path), schema)
    if isinstance(path, RemotePath):
        return pq.ParquetFile(path.ranges(), metadata=about, pre_buffer=True)
    # By its descriptor: by its name pyarrow could meet something else.
    with files.open_file(path) as file:
        return pq.ParquetFile(f"/dev/fd/{file.fileno()}", metadata=about)


@functools.lru_cache(maxsize=8)  # A question opens a table many times, whose footer may be long.
def _proved(path: Path, footer: bytes, place: int, schema: pa.Schema) -> pq.FileMetaData:
    """What a footer says that was read at a place of a file, once it is proved."""
    _chunks_of(path, footer, place, schema)
    framed = _MAGIC + footer + len(footer).to_bytes(4, "little") + _MAGIC
    return pq.read_metadata(io.BytesIO(framed))


def source(path: Path) -> pa.NativeFile:
    """The file opened to be read, for pyarrow. Raises FileMissing,
    FormatInvalid, and what pyarrow raises."""
    files.require_file(path)
    return (
        pa.PythonFile(path.ranges(), "r") if isinstance(path, RemotePath) else pa.OSFile(str(path))
    )


class Column(NamedTuple):
    """One column of a row group, by the headers of its pages."""

    values: int
    unpacked: int  # Bytes of the pages of values.
    dictionary: Dictionary | None


class Dictionary(NamedTuple):
    """Where the page of a dictionary lies, behind its header, and what it holds."""

    start: int
    packed: int
    unpacked: int
    values: int


def check_pages(path: Path, schema: pa.Schema) -> list[list[Column]]:
    """That the headers of all pages fill the file and say what the footer
    does; what they say, by row group.

    Nothing is unpacked. Raises FileMissing, FormatInvalid.
    """
    columns: list[Column] = []
    footer, place = _footer(path)
    with files.open_file(path) as file:

        def read(start: int) -> bytes:
            file.seek(start)
            return file.read(_HEADER)

        if read(0)[:4] != _MAGIC:
            raise FormatInvalid(path=path, detail="does not begin like a Parquet file")
        for chunk in _chunks_of(path, footer, place, schema):
            try:
                columns.append(_check_chunk(chunk, read))
            except ValueError as error:
                raise FormatInvalid(path=path, detail=f"at byte {chunk.start}: {error}") from error
    return [columns[first : first + len(schema)] for first in range(0, len(columns), len(schema))]


def _footer(path: Path) -> tuple[bytes, int]:
    """The footer alone, and where it begins. Raises FileMissing, FormatInvalid."""
    files.require_file(path)
    size = path.stat().st_size
    if isinstance(path, RemotePath):
        end = path.served.read(path.inner, max(size - _GUESS, 0), size)
        return _cut(path, size, end, lambda start: path.served.read(path.inner, start, size))
    with files.open_file(path) as file:

        def read(start: int) -> bytes:
            file.seek(start)
            return file.read(size - start)

        return _cut(path, size, read(max(size - _GUESS, 0)), read)


def _cut(path: Path, size: int, end: bytes, read: Callable[[int], bytes]) -> tuple[bytes, int]:
    length = int.from_bytes(end[-_END:-4], "little")
    if end[-4:] != _MAGIC or not length <= min(size - _END - len(_MAGIC), _LONGEST):
        raise FormatInvalid(path=path, detail="does not end like a Parquet file")
    start = size - _END - length
    if len(end) < length + _END:
        end = read(start)
    return end[-_END - length : -_END], start


def _chunks_of(path: Path, footer: bytes, place: int, schema: pa.Schema) -> list[Chunk]:
    """What a footer says that begins at place, where all of it holds. Raises FormatInvalid."""
    try:
        about, end = decode(footer, _FOOTER)
        if end != len(footer) or about["version"] != 2:
            raise ValueError("FileMetaData has another length or version")
        if about["schema"] != _elements(schema):
            raise ValueError("does not have the columns of this table")
        chunks, start = [], len(_MAGIC)
        for number, group in enumerate(about["groups"]):
            columns = _chunks(group, schema, start)
            if not columns:
                raise ValueError(
                    f"the row group {number} has different rows or columns than it says"
                )
            chunks += columns
            start = columns[-1].end
        if start != place or sum(group["rows"] for group in about["groups"]) != about["rows"]:
            raise ValueError("its row groups do not fill it, or have a different number of rows")
    except ValueError as error:
        raise FormatInvalid(path=path, detail=str(error)) from error
    return chunks


def _chunks(group: dict[str, Any], schema: pa.Schema, start: int) -> list[Chunk]:
    """The columns of a row group that begins at start; none where it says what cannot be."""
    chunks, rows = [], group["rows"]
    if rows < 1 or len(group["columns"]) != len(schema):
        return []
    for column, field in zip(group["columns"], schema, strict=True):
        about = column["about"]
        known = (column["offset"], about["type"], about["path"], about["codec"], about["values"])
        first = about.get("dictionary", about["data"])
        chunk = Chunk(
            start,
            about["data"],
            start + about["packed"],
            rows,
            about["unpacked"],
            about["encodings"],
        )
        if known != (0, _TYPES[field.type], [field.name.encode()], _ZSTD, rows) or first != start:
            return []
        if not start + ("dictionary" in about) <= chunk.data < chunk.end:
            return []
        chunks.append(chunk)
        start = chunk.end
    return chunks if sum(chunk.unpacked for chunk in chunks) == group["unpacked"] else []


def _check_chunk(chunk: Chunk, read: Callable[[int], bytes]) -> Column:
    """That a column's pages are what the footer says of them. Raises ValueError."""
    place, values, unpacked, encodings = (
        chunk.start,
        0,
        0,
        {_ENCODINGS["RLE"]},
    )  # The levels are always of that.
    content, dictionary = 0, None
    while place < chunk.end:
        header, length = decode(read(place), _PAGE)
        kind = "dictionary" if place < chunk.data else "data"
        about = header.get(kind)
        if (
            header["kind"] != (_DICTIONARY if place < chunk.data else _DATA)
            or about is None
            or len(header) != 4
        ):
            raise ValueError("a page of another kind")
        if kind == "data":
            values += about["values"]
            if (place == chunk.start and chunk.data != chunk.start) or about["values"] < 1:
                raise ValueError("a page without values")
            if {about["definitions"], about["repetitions"]} != {_ENCODINGS["RLE"]}:
                raise ValueError("a page with levels of another encoding")
        if min(header["packed"], header["unpacked"]) < 0:
            raise ValueError("a page of no size")
        if kind == "dictionary" and place + length + header["packed"] != chunk.data:
            raise ValueError("a dictionary that does not end where the values begin")
        if kind == "dictionary":
            dictionary = Dictionary(
                place + length, header["packed"], header["unpacked"], about["values"]
            )
            if header["unpacked"] > _MOST_ENTRIES:
                raise ValueError(f"a dictionary of more than {_MOST_ENTRIES} bytes")
        else:
            content += header["unpacked"]
        encodings.add(about["encoding"])
        unpacked += length + header["unpacked"]
        place += length + header["packed"]
    if (place, values, unpacked) != (chunk.end, chunk.values, chunk.unpacked):
        raise ValueError(
            "pages that do not fill their column, or have a different number of values"
        )
    if chunk.encodings != sorted(encodings) or not encodings <= set(_ENCODINGS.values()):
        raise ValueError("pages of other encodings than the footer says")
    return Column(values, content, dictionary)
