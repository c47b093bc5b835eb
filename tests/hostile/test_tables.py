"""What fuzzing and reading the readers found in Parquet: each is refused by name, at no cost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.data.parquet import DICTIONARIES, Documents, Part
from pellucid.data.roots import recompute_root
from pellucid.errors import (
    FormatInvalid,
)
from pellucid.look.show import Shown
from pellucid.recipe import load
from pellucid.release import tables
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay import ledgers
from pellucid.sql import sql
from pellucid.store import files, metrics, parquet
from pellucid.store.ledger import LedgerFile
from tests.forgery.forge import edit_table
from tests.store.compact import I64, STRUCT, TEXT, footer_of, with_footer


def not_unicode(table: pa.Table, name: str) -> pa.Table:
    raw = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary())
    at = table.schema.get_field_index(name)
    return table.set_column(
        at, table.schema.field(at), pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    )


def change(path: Path, how: Callable[[pa.Table], pa.Table]) -> None:
    parquet.write(path, how(pq.read_table(path)))


def without_a_value(table: pa.Table) -> pa.Table:
    return table.set_column(2, "tokens", pa.array([None] * table.num_rows, pa.int64()))


def test_a_text_that_is_not_unicode(release: Path) -> None:
    change(release / "data/documents/00000.parquet", lambda table: not_unicode(table, "text"))
    change(release / "metrics/sources.parquet", lambda table: not_unicode(table, "source"))
    with pytest.raises(FormatInvalid, match="00000"):
        Documents.open(release).get(0)
    with pytest.raises(FormatInvalid, match="sources"):
        metrics.of_step(release, "sources", 7)


def test_a_table_without_values(release: Path) -> None:
    change(release / "metrics/sources.parquet", without_a_value)
    with pytest.raises(FormatInvalid, match="with a missing value"):
        metrics.of_step(release, "sources", 7)


@pytest.mark.parametrize("width", [8, 7, 0])
def test_statistics_are_refused(width: int, release: Path) -> None:
    """Those of eight bytes are believed by other readers; of seven, pyarrow does not
    catch what its library throws."""
    path = release / "metrics/steps.parquet"
    footer = footer_of(path)
    footer[4][1][1][0][1][1][1][0][3][1][12] = (
        STRUCT,
        {5: (TEXT, bytes(width)), 6: (TEXT, bytes(width))},
    )
    with_footer(path, footer)
    for read in (
        lambda: metrics.of_step(release, "steps", 7),
        lambda: sql(release, "SELECT max(step) FROM steps"),
    ):
        with pytest.raises(FormatInvalid, match=r"steps\.parquet: ColumnMetaData has statistics"):
            read()
    (release / "manifest.jsonl").unlink()
    publish(release, site=False)  # Which would read the table.
    found = [
        (problem.error, problem.where) for problem in verify(release, lambda what: None).problems
    ]
    assert ("FormatInvalid", "metrics/steps.parquet") in found


@pytest.mark.parametrize(
    "name", ["data/documents/00000", "metrics/segments", "abandoned/branch1/metrics/steps"]
)
def test_pages_that_do_not_hold_what_the_footer_says(name: str, release: Path) -> None:
    """A reader that goes by the footer finds a row less than one that goes by the pages."""
    path = release / f"{name}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True)
        shutil.copyfile(release / "metrics/steps.parquet", path)
    footer = footer_of(path)
    footer[3] = I64, footer[3][1] - 1
    group = footer[4][1][1][-1]
    group[3] = footer[3]
    for chunk in group[1][1][1]:
        chunk[3][1][5] = footer[3]
    with_footer(path, footer)
    found = [
        problem
        for problem in tables.check(release)
        if "a different number of values" in problem.detail
    ]
    assert [problem.where for problem in found] == [f"{name}.parquet"]


def test_a_step_is_found_in_many_row_groups(release: Path) -> None:
    path = release / "metrics/segments.parquet"
    table = pq.read_table(path)
    wanted = {step: [row for row in table.to_pylist() if row["step"] == step] for step in range(15)}
    for size in (1, 3, 7, 1000):
        parquet.write(path, table, size)
        for step, rows in wanted.items():
            assert metrics.of_step(release, "segments", step) == rows
    parquet.write(path, table.slice(0, 0))
    assert metrics.of_step(release, "segments", 7) == []


@pytest.mark.parametrize(
    "changed", [{"row": 2**60}, {"row": -1}, {"start": -1}, {"tokens": 2**40}, {"document": -1}]
)
def test_segments_that_none_can_be(changed: dict[str, int], release: Path) -> None:
    column, value = changed.popitem()
    edit_table(release / "metrics/segments.parquet", column, lambda row: value)
    with pytest.raises(FormatInvalid, match="not segments"):
        ledgers.published_segments(release, LedgerFile(release).step(7))


def test_more_rows_than_a_step_can_have(release: Path) -> None:
    change(
        release / "metrics/sequences.parquet",
        lambda table: pa.concat_tables([table.slice(24, 1)] * 5000),
    )
    with pytest.raises(FormatInvalid, match="more than the 4 rows"):
        Shown(release).step(7)
    assert any(
        problem.error == "NumbersDiffer" for problem in verify(release, lambda what: None).problems
    )


def test_a_row_group_of_no_size(release: Path) -> None:
    path = release / "data/documents/00000.parquet"
    table = pq.read_table(path)
    with parquet.writer(path, table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table)
    with pytest.raises(FormatInvalid, match="row group"):
        Documents.open(release).get(0)


def test_a_segment_of_no_tokens_is_no_division_by_zero(release: Path) -> None:
    def change_row(table: pa.Table) -> pa.Table:
        return table.set_column(4, "tokens", pa.array([0] * table.num_rows, pa.int64()))

    change(release / "metrics/segments.parquet", change_row)
    with pytest.raises(FormatInvalid, match="not segments of 32 targets"):
        Shown(release).step(7)


def test_a_segment_that_stands_twice_is_not_counted_twice(release: Path) -> None:
    def double(table: pa.Table) -> pa.Table:
        return table.take(sorted([*range(table.num_rows), *range(table.num_rows)]))

    change(release / "metrics/segments.parquet", double)
    with pytest.raises(FormatInvalid, match="not segments of 32 targets"):
        Shown(release).step(7)


def test_steps_that_do_not_ascend_are_refused(release: Path) -> None:
    change(
        release / "metrics/segments.parquet",
        lambda table: table.take([0, *reversed(range(1, table.num_rows))]),
    )
    with pytest.raises(FormatInvalid, match="do not ascend"):
        Shown(release).step(7)


def bomb(release: Path, rows: int, length: int) -> None:
    """A few thousand bytes that unpack to rows · length."""
    path = release / "metrics/validation.parquet"
    first = pq.read_table(path).slice(0, 1)
    columns = [
        pa.array([first.column(name)[0].as_py()] * rows, kind)
        for name, kind in zip(first.column_names, first.schema.types, strict=True)
    ]
    columns[1] = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int32()), pa.array(["x" * length])
    )
    pq.write_table(
        pa.table(columns, names=first.column_names), path, compression="zstd", compression_level=3
    )
    parquet._replace_footer(path, metrics.TABLES["validation"], pq.read_metadata(path))


def longer(release: Path, column: str, value: str, **options: Any) -> None:
    """Documents of which one column holds much more than its file's
    size, as texts of one letter do."""
    path = release / "data/documents/00000.parquet"
    table = pq.read_table(path).slice(0, 1)
    at = table.schema.get_field_index(column)
    changed = table.set_column(at, table.schema.field(at), pa.array([value]))
    parquet.write(path, changed, **{"dictionaries": DICTIONARIES, **options})
    manifest = files.read_json(path.with_name("manifest.json"))
    manifest["parts"][0]["documents"] = 1
    files.write_json(path.with_name("manifest.json"), manifest)


@pytest.mark.parametrize(
    ("column", "length", "longest", "dictionaries", "named"),
    [
        ("text", 5_000_000, 1_000_000, DICTIONARIES, "the texts are longer"),
        (
            "text",
            900_000,
            1_000_000,
            DICTIONARIES,
            "the texts are longer",
        ),  # Than the manifest says of all.
        ("text", 500, 100, DICTIONARIES, "the texts are longer"),
        ("id", 70_000, 1_000_000, DICTIONARIES, "id is too long"),
        ("licence", 70_000, 1_000_000, ["source"], "licence is too long"),
        ("text", 100, 1_000_000, ["text"], "text has a dictionary"),
    ],
)
def test_what_a_part_unpacks_to_is_told_before_it_is_unpacked(
    column: str,
    length: int,
    longest: int,
    dictionaries: list[str],
    named: str,
    release: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unpacked(*_: object) -> None:
        raise AssertionError("read")

    longer(release, column, "x" * length, dictionaries=dictionaries)
    recipe = load(release)
    recipe = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"max_document_characters": longest})}
    )
    monkeypatch.setattr(Part, "read", unpacked)
    root, problems = recompute_root(release, recipe)
    assert root == "" and any(
        "00000.parquet" in where and named in detail for where, detail in problems
    ), problems


def test_a_dictionary_of_values_that_no_row_has(release: Path) -> None:
    """Listed by readers of the dictionary alone: a source that nobody trained on."""
    path = release / "metrics/sources.parquet"
    table = pq.read_table(path)
    names = pa.DictionaryArray.from_arrays(
        pa.array([0] * table.num_rows, pa.int32()),
        pa.array([table["source"][0].as_py(), "wikipedia"]),
    )
    at = table.schema.get_field_index("source")
    options: dict[str, Any] = {
        "compression": "zstd",
        "write_statistics": False,
        "store_schema": False,
    }
    pq.write_table(table.set_column(at, "source", names), path, **options)
    parquet._replace_footer(path, metrics.TABLES["sources"], pq.read_metadata(path))
    (problem,) = tables.check(release)
    assert (
        problem.where == "metrics/sources.parquet" and "a value that no row has" in problem.detail
    )


LIMITED = """
import sys
from pellucid.cli import common
common.MEMORY = 768 << 20
sys.argv = ["pellucid", "verify", sys.argv[1], "--json"]
common.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux obeys RLIMIT_DATA")
def test_parquet_that_unpacks_to_more_than_verify_may_have(release: Path) -> None:
    bomb(release, 60_000, 1 << 18)
    publish(release)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(release)], capture_output=True, text=True
    )
    assert done.returncode == 5, done.stderr
    problems = json.loads(done.stdout)["problems"]
    assert any(
        one["error"] == "FormatInvalid" and "metrics/validation" in one["where"] for one in problems
    ), problems
