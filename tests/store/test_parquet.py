"""Parquet files: what other readers believe is proved, or is refused by name."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.errors import FormatInvalid, PellucidError
from pellucid.store import dictionaries, parquet
from pellucid.store.dictionaries import check_dictionaries
from tests.store.compact import I32, I64, LIST, STRUCT, TEXT, footer_of, with_footer

SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("loss", pa.float64()),
    ]
)
Footer = dict[int, tuple[int, Any]]


def table(rows: int) -> pa.Table:
    sources = [f"source {row % 3}" for row in range(rows)]
    return pa.table(
        {"step": range(rows), "source": sources, "loss": [row / 7 for row in range(rows)]},
        schema=SCHEMA,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    parquet.write(tmp_path / "table.parquet", table(500), group=200)
    return tmp_path / "table.parquet"


@pytest.mark.parametrize(("rows", "group"), [(0, 8), (1, 8), (700, 30), (60_000, 1 << 20)])
def test_other_readers_take_what_is_written(rows: int, group: int, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    parquet.write(path, table(rows), group)
    assert pq.read_table(path).equals(table(rows)) and parquet.opened(path, SCHEMA).read().equals(
        table(rows)
    )
    assert duckdb.sql(f"SELECT count(*), max(step) FROM '{path}'").fetchall() == [
        (rows, rows - 1 if rows else None)
    ]
    assert duckdb.sql(f"FROM '{path}'").to_arrow_table().to_pylist() == table(rows).to_pylist()
    parquet.check_pages(path, SCHEMA)


def test_nothing_is_written_that_nothing_proves(path: Path) -> None:
    about = pq.read_metadata(path)
    assert (about.metadata, about.created_by) == (None, "")
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        assert group.sorting_columns == ()
        for column in (group.column(place) for place in range(group.num_columns)):
            assert not (column.is_stats_set or column.has_offset_index or column.has_column_index)
            assert column.bloom_filter_offset is None and column.metadata is None


def in_footer(number: int, kind: int, value: Any) -> Callable[[Footer], None]:
    return lambda footer: footer.update({number: (kind, value)})


def in_group(number: int, kind: int, value: Any) -> Callable[[Footer], None]:
    return lambda footer: footer[4][1][1][1].update({number: (kind, value)})


def in_chunk(number: int, kind: int, value: Any) -> Callable[[Footer], None]:
    return lambda footer: footer[4][1][1][1][1][1][1][0].update({number: (kind, value)})


def in_column(number: int, kind: int, value: Any, column: int = 0) -> Callable[[Footer], None]:
    return lambda footer: footer[4][1][1][1][1][1][1][column][3][1].update({number: (kind, value)})


def in_schema(number: int, kind: int, value: Any) -> Callable[[Footer], None]:
    return lambda footer: footer[2][1][1][1].update({number: (kind, value)})


def counted(footer: Footer) -> None:
    """A row less than there is, in every count that says how many there are."""
    footer[3] = I64, 499
    group = footer[4][1][1][2]
    group[3] = I64, 99
    for chunk in group[1][1][1]:
        chunk[3][1][5] = I64, 99


def shifted(footer: Footer) -> None:
    """The columns of one row group in each other's place, with their names."""
    first, _, third = footer[4][1][1][0][1][1][1]
    footer[4][1][1][0][1][1][1][:] = [third, footer[4][1][1][0][1][1][1][1], first]


PAIR = (LIST, (STRUCT, [{1: (TEXT, b"ARROW:schema"), 2: (TEXT, b"x")}]))
FALSE_FOOTERS: dict[str, tuple[str, Callable[[Footer], None]]] = {
    "statistics": ("statistics", in_column(12, STRUCT, {5: (TEXT, bytes(8)), 6: (TEXT, bytes(8))})),
    "statistics of seven bytes": ("statistics", in_column(12, STRUCT, {5: (TEXT, bytes(7))})),
    "statistics of sizes": (
        "statistics of sizes",
        in_column(16, STRUCT, {3: (LIST, (I64, [0, 200]))}),
    ),
    "statistics of places": ("statistics of places", in_column(17, STRUCT, {})),
    "bloom filter": ("a bloom filter", in_column(14, I64, 4)),
    "length of a bloom filter": ("a bloom filter", in_column(15, I32, 4)),
    "index page": ("an index page", in_column(10, I64, 4)),
    "encodings counted": ("counts of its encodings", in_column(13, LIST, (STRUCT, []))),
    "metadata of a column": ("key-value metadata", in_column(8, *PAIR)),
    "offset index": ("a page index", in_chunk(4, I64, 4)),
    "column index": ("a page index", in_chunk(6, I64, 4)),
    "another file": ("another file", in_chunk(1, TEXT, b"other.parquet")),
    "encryption": ("encryption", in_chunk(8, STRUCT, {})),
    "offset of a chunk": ("row group 1", in_chunk(2, I64, 8)),
    "sorted by": ("sorted by", in_group(4, LIST, (STRUCT, []))),
    "metadata": ("key-value metadata", in_footer(5, *PAIR)),
    "writer": ("what wrote it", in_footer(6, TEXT, b"parquet-mr version 1.8.0")),
    "orders": ("orders of its columns", in_footer(7, LIST, (STRUCT, []))),
    "signed": ("encryption", in_footer(8, STRUCT, {})),
    "unknown": ("the field 12", in_footer(12, I64, 1)),
    "version": ("version", in_footer(1, I32, 1)),
    "rows": ("number of rows", in_footer(3, I64, 501)),
    "rows of a group": ("row group 1", in_group(3, I64, 100)),
    "no rows in a group": ("row group 1", in_group(3, I64, 0)),
    "bytes of a group": ("row group 1", in_group(2, I64, 100)),
    "values": ("row group 1", in_column(5, I64, 100)),
    "type of a column": ("row group 1", in_column(1, I32, 5)),
    "name of a column": ("row group 1", in_column(3, LIST, (TEXT, [b"loss"]))),
    "codec": ("row group 1", in_column(4, I32, 0)),
    "place of a page": ("row group 1", in_column(9, I64, 4)),
    "place of a dictionary": ("row group 1", in_column(11, I64, 5)),
    "place outside": ("row group 1", in_column(9, I64, 1 << 60)),
    "size": ("row group 2|row group 1", in_column(7, I64, 100)),
    "negative size": ("row group 1", in_column(7, I64, -100)),
    "columns shifted": ("row group 0", shifted),
    "column renamed": ("columns of this table", in_schema(4, TEXT, b"steps")),
    "column of another meaning": ("columns of this table", in_schema(6, I32, 14)),
    "column with nulls": ("columns of this table", in_schema(3, I32, 0)),
    "repeated column": ("columns of this table", in_schema(3, I32, 2)),
    "fewer rows everywhere": ("at byte .* a different number of values", counted),
    "unpacked bytes": ("row group 1", in_column(6, I64, 7)),
    "encodings": ("at byte .* other encodings", in_column(2, LIST, (I32, [0, 3]))),
}


@pytest.mark.parametrize("name", FALSE_FOOTERS)
def test_a_footer_that_says_what_is_not_so_is_refused(name: str, path: Path) -> None:
    """Statistics alone can make a query wrong, or end the process that asks for
    them: their presence is refused."""
    named, change = FALSE_FOOTERS[name]
    footer = footer_of(path)
    change(footer)
    with_footer(path, footer)
    with pytest.raises(FormatInvalid, match=named):
        parquet.check_pages(path, SCHEMA)
    if not named.startswith("at byte"):  # Those are found by reading the pages, as verify does.
        with pytest.raises(FormatInvalid, match=named):
            parquet.opened(path, SCHEMA)


def test_bytes_between_pages_and_footer_are_refused(path: Path) -> None:
    content, footer = path.read_bytes(), footer_of(path)
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    path.write_bytes(content[:end] + b"hidden" + content[end:])
    assert footer_of(path) == footer and pq.read_table(path).equals(table(500))
    with pytest.raises(FormatInvalid, match="do not fill it"):
        parquet.opened(path, SCHEMA)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"data_page_version": "2.0"}, "the field 8|another kind"),
        ({"write_page_checksum": True}, "the field 4"),
        (
            {"use_dictionary": False, "column_encoding": {"step": "DELTA_BINARY_PACKED"}},
            "other encodings",
        ),
        ({"use_dictionary": False, "use_byte_stream_split": ["loss"]}, "other encodings"),
    ],
)
def test_pages_of_another_kind_are_refused(
    options: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a footer of ours, so that only the pages can tell."""
    path, real = tmp_path / "table.parquet", pq.ParquetWriter
    more = {"DELTA_BINARY_PACKED": 5, "BYTE_STREAM_SPLIT": 9}
    with monkeypatch.context() as patched:
        patched.setattr(
            pq,
            "ParquetWriter",
            lambda *arguments, **known: real(*arguments, **{**known, **options}),
        )
        patched.setattr(parquet, "_ENCODINGS", parquet._ENCODINGS | more)
        parquet.write(path, table(50))
    with pytest.raises(FormatInvalid, match=named):
        parquet.check_pages(path, SCHEMA)


def test_pages_that_are_changed_are_refused_or_hold_the_same_number_of_values(path: Path) -> None:
    """Whatever a header says: an error of ours, or nothing that another
    number of rows can be read from."""
    content, choices, refused = path.read_bytes(), random.Random(9), 0
    headers = parquet._chunks_of(path, *parquet._footer(path), SCHEMA)
    for _ in range(100):
        changed = bytearray(content)
        chunk = choices.choice(headers)
        changed[choices.choice([chunk.start, chunk.data]) + choices.randrange(24)] = (
            choices.randrange(256)
        )
        path.write_bytes(changed)
        try:
            parquet.check_pages(path, SCHEMA)
        except PellucidError:
            refused += 1
            continue
        with contextlib.suppress(pa.ArrowException, OSError):
            assert parquet.opened(path, SCHEMA).read().num_rows == 500
    assert refused > 30


@pytest.mark.parametrize("length", [0xFFFFFFF0, 0x7FFFFFFF, 60_000])
def test_a_footer_longer_than_its_file_is_not_read(length: int, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-8] + length.to_bytes(4, "little") + b"PAR1")
    with pytest.raises(FormatInvalid, match="does not end"):
        parquet.opened(path, SCHEMA)


# ---- dictionaries ------------------------------------------------------------------------------


def with_dictionary(path: Path, entries: list[str], indices: list[int]) -> None:
    """A table whose texts are written with a dictionary of these entries,
    whether rows have them or not."""
    sources = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(entries))
    rows = table(len(indices))
    rows = rows.set_column(1, pa.field("source", sources.type, nullable=False), sources)
    options: dict[str, Any] = {
        "compression": "zstd",
        "write_statistics": False,
        "store_schema": False,
    }
    pq.write_table(rows, path, **options)
    parquet._replace_footer(path, SCHEMA, pq.read_metadata(path))


def proved(path: Path) -> None:
    check_dictionaries(path, SCHEMA, parquet.check_pages(path, SCHEMA))


def test_every_value_of_our_dictionaries_is_one_of_a_row(path: Path, tmp_path: Path) -> None:
    proved(path)
    assert any(column.dictionary for group in parquet.check_pages(path, SCHEMA) for column in group)
    with_dictionary(tmp_path / "x.parquet", ["a", "b"], [0, 1, 1, 0])
    proved(tmp_path / "x.parquet")
    parquet.write(tmp_path / "many.parquet", table(150_000))  # Its numbers outgrow a dictionary.
    proved(tmp_path / "many.parquet")


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        (["a", "nyt.com"], "a value that no row has"),
        (["x" * (1 << 20)], "may unpack to more"),
        (["y" * (17 << 20)], "a dictionary of more than"),
    ],
    ids=["no row's", "long in many rows", "long"],
)
def test_a_dictionary_of_other_values_is_refused(
    entries: list[str], named: str, tmp_path: Path
) -> None:
    with_dictionary(tmp_path / "x.parquet", entries, [0] * 2000)
    with pytest.raises(FormatInvalid, match=named):
        proved(tmp_path / "x.parquet")


def test_numbers_of_a_dictionary_are_told_from_those_of_rows() -> None:
    """Of numbers pyarrow writes no dictionary but its own: what is read
    from its page, and from rows."""
    page = np.array([7, -1], "<i8").tobytes()
    values = dictionaries._entries(page, 2, pa.int64())
    assert (
        {*values}
        == dictionaries._values(pa.chunked_array([[7, -1, 7]]))
        != dictionaries._values(pa.chunked_array([[7, 7]]))
    )
    for rows in ([7, 7], [7, -1, 8]):
        with pytest.raises(ValueError, match="a value that no row has"):
            dictionaries._check_entries(
                "loss", [*values, values[0]] if 8 in rows else values, pa.chunked_array([rows])
            )
    nans = np.array([0.0, -0.0, np.nan])
    assert {*dictionaries._entries(nans.tobytes(), 3, pa.float64())} == dictionaries._values(
        pa.chunked_array([nans])
    )


@pytest.mark.parametrize(
    ("page", "count"), [(bytes(8), 2), (bytes(12), 1), (bytes(16), 1), (bytes(0), 1), (bytes(8), 0)]
)
def test_a_dictionarys_page_of_another_length_is_refused(page: bytes, count: int) -> None:
    for kind in (pa.int64(), pa.float64()):
        with pytest.raises(ValueError, match="its header says"):
            dictionaries._entries(page, count, kind)
    for text in (b"\5\0\0\0abcd", b"\4\0\0\0abc", b"\0\0", b"\1\0\0\0a\1"):
        with pytest.raises(ValueError, match="its header says"):
            dictionaries._entries(text, 1, pa.string())


def test_a_footer_is_proved_once_however_often_its_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question opens a table a dozen times; of one that is written anew the new one counts."""
    proved = []
    real = parquet._chunks_of
    monkeypatch.setattr(
        parquet, "_chunks_of", lambda *arguments: proved.append(1) or real(*arguments)
    )
    schema = pa.schema([pa.field("step", pa.int64(), nullable=False)])
    for rows in (3, 5):
        with parquet.writer(tmp_path / "t.parquet", schema) as writer:
            writer.write_batch(pa.record_batch([pa.array(range(rows))], schema=schema))
        for _ in range(4):
            with parquet.opened(tmp_path / "t.parquet", schema) as file:
                assert file.metadata.num_rows == rows
    assert len(proved) == 2
