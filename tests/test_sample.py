"""`new` looks at the beginning of a source, however much a small file unpacks to."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.data import packings, tables
from pellucid.errors import SourceEmpty, TextKeyMissing
from pellucid.new import new
from pellucid.recipe import load
from tests.conftest import prose

MB = 1 << 20


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each piece that is unpacked."""
    sizes: list[int] = []
    chunks, rows = packings.chunks, tables.VALUES["parquet"]

    def counted(*given: Any, **named: Any) -> Iterator[bytes]:
        for chunk in chunks(*given, **named):
            sizes.append(len(chunk))
            yield chunk

    def counted_rows(*given: Any) -> Iterator[tables.Value]:
        for value in rows(*given):
            sizes.append(len((value.fields or {}).get("text", "")))
            yield value

    monkeypatch.setattr(packings, "chunks", counted)
    monkeypatch.setitem(tables.VALUES, "parquet", counted_rows)
    return sizes


def equal_rows(path: Path) -> Path:
    """1 GB of one text, as a dictionary of it and the numbers of the rows."""
    text = pa.array([prose(1, 120_000)])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1500, pa.int32()), text)
    pq.write_table(pa.table({"text": column}), path, compression="zstd")
    return path


def equal_lines(path: Path) -> Path:
    line = json.dumps({"text": prose(1, 200)}).encode() + b"\n"
    with gzip.open(path, "wb") as file:
        for _ in range(20):
            file.write(line * (10 * MB // len(line)))
    return path


@pytest.mark.parametrize(("make", "name"), [(equal_rows, "a.parquet"), (equal_lines, "a.jsonl.gz")])
def test_a_file_that_unpacks_to_much_is_looked_at_from_its_beginning(
    tmp_path: Path, unpacked: list[int], make: Any, name: str
) -> None:
    place = make(tmp_path / name)
    assert place.stat().st_size < 2 * MB
    told: list[tuple[str, int]] = []
    notes = new(
        tmp_path / "run", [str(place)], "1M", [], lambda stage, done, *_: told.append((stage, done))
    )
    assert load(tmp_path / "run").data.sources[0].path == str(place)
    assert any("too few" in note for note in notes)
    assert 0 < sum(unpacked) < 30 * packings.SAMPLE
    assert told and {stage for stage, _ in told} == {"look"}


@pytest.mark.parametrize(
    ("name", "first", "more", "error"),
    [
        ("a.csv.gz", b"text,n\n", b"\n", SourceEmpty),
        ("a.lines.gz", b"", b"\n", SourceEmpty),
        ("a.jsonl.gz", b"", b'{"other": 1}\n', TextKeyMissing),
    ],
)
def test_records_without_a_text_do_not_keep_it_busy(
    tmp_path: Path, unpacked: list[int], name: str, first: bytes, more: bytes, error: Any
) -> None:
    place = tmp_path / name
    with gzip.open(place, "wb", 1) as file:
        file.write(first)
        for _ in range(100):
            file.write(more * (MB // len(more)))
    with pytest.raises(error):
        new(tmp_path / "run", [str(place)], "1M", [])
    assert sum(unpacked) < 99 * MB


def test_a_source_whose_beginning_repeats_another_is_kept(tmp_path: Path) -> None:
    """More of it may be new: nothing is told of what was not looked at."""
    lines = [json.dumps({"text": prose(seed, 400)}) + "\n" for seed in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    content = "".join(lines) * (17 * MB // len("".join(lines)))
    (tmp_path / "b.jsonl").write_text(content + json.dumps({"text": "something new"}) + "\n")
    places = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    new(tmp_path / "run", places, "1M", ["model.context=32", "train.batch=2"])
    assert [source.name for source in load(tmp_path / "run").data.sources] == ["a", "b"]
