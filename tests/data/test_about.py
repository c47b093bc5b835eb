"""What records say of their texts: ids, licences, origins and dates,
of every format with fields."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.corpus import WITH_FIELDS
from pellucid.data import about, roots, sources, tables, times
from pellucid.data.documents import Documents
from pellucid.errors import FieldMissing, NamesUnclear, RecipeInvalid
from pellucid.recipe import Recipe, Source, parse
from pellucid.settings import settings_of
from tests.data.conftest import Interrupted, interrupted, text_of
from tests.forgery.forge import edit_table

KEYS = {"id_key": "id", "licence_key": "meta.licence", "origin_key": "url", "date_key": "meta.date"}
LICENCES = ["CC0-1.0", "MIT", None, "  "]


def rows_of(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Records: of each four, one without a licence and one with a blank one; ids stand twice."""
    return [
        {
            "id": f"page/{n // 2}",
            "url": f"https://example.org/{n}",
            "meta": {"licence": LICENCES[n % 4], "date": f"20{n % 90 + 10}-01-02"},
            "text": text_of(n, 12),
        }
        for n in range(first, first + count)
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The records as a file of the format that its ending names; flat where that has no objects."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        flat = [
            {**row, **{f"meta.{name}": value for name, value in row.get("meta", {}).items()}}
            for row in rows
        ]
        with path.open("w", encoding="utf-8", newline="") as file:
            names = [name for name in flat[0] if name != "meta"]
            writer = csv.DictWriter(file, names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(flat)
    return path


def read(path: Path, format: str, **keys: str) -> list[sources.Document]:
    source = Source.model_validate(
        {"name": "s", "path": str(path), "format": format, "licence": "ODC-By-1.0", **keys}
    )
    return [one for one, _ in sources.Reader(source, "replace", 10**6, Path()).documents()]


@pytest.mark.parametrize("format", WITH_FIELDS)
def test_every_format_with_fields_says_what_its_texts_are(tmp_path: Path, format: str) -> None:
    path = written(tmp_path / f"t.{format}", rows_of(6))
    found = read(path, format, **KEYS)
    numbers = [2, 3, 4, 5, 6, 7] if format == "csv" else [1, 2, 3, 4, 5, 6]
    assert [one.id for one in found] == [
        f"s/t.{format}:page/{n // 2}" + (f":{numbers[n]}" if n % 2 else "") for n in range(6)
    ]
    fallen = "ODC-By-1.0"
    assert [one.licence for one in found] == ["CC0-1.0", "MIT", fallen, fallen, "CC0-1.0", "MIT"]
    assert [one.origin for one in found] == [f"https://example.org/{n}" for n in range(6)]
    assert [one.date for one in found] == [f"20{n + 10}-01-02" for n in range(6)]
    plain = read(path, format)
    assert [(one.licence, one.origin, one.date) for one in plain] == [
        (fallen, f"t.{format}:{number}", "") for number in numbers
    ]


def test_formats_with_fields_are_those_that_have_readers() -> None:
    assert set(WITH_FIELDS) == set(tables.VALUES)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("MIT", "MIT"),
        (" MIT ", " MIT "),
        ("x" * 256, "x" * 256),
        ("x" * 257, ""),
        ("", ""),
        (" \t\n", ""),
        (None, ""),
        (2019, "2019"),
        (-(10**300), ""),
        (True, ""),
        (1.5, ""),
        (["MIT"], ""),
        ({"spdx": "MIT"}, ""),
        ("\ud800", ""),
        ("\u202eMIT", "\u202eMIT"),
    ],
)
def test_a_value_is_a_text_or_an_integer_of_bounded_length(value: object, said: str) -> None:
    source = Source.model_validate({"name": "s", "format": "jsonl", "licence_key": "licence"})
    found = about.about({"licence": value}, source)
    assert found == about.About(licence=said)
    assert about.lacking(found, source) == ([] if said else ["no_licence"])


@pytest.mark.parametrize(
    ("kind", "count", "said"),
    [
        (pa.date32(), 19_844, "2024-05-01"),
        (pa.date32(), -719_162, "0001-01-01"),
        (pa.date32(), 2**31 - 1, None),
        (pa.date64(), 19_844 * 86_400_000, "2024-05-01"),
        (pa.timestamp("s"), 1_714_566_600, "2024-05-01T12:30:00"),
        (pa.timestamp("ms"), 1_714_566_600_250, "2024-05-01T12:30:00.25"),
        (pa.timestamp("us"), -1, "1969-12-31T23:59:59.999999"),
        (pa.timestamp("ns"), 1_714_566_600_000_000_001, "2024-05-01T12:30:00.000000001"),
        (pa.timestamp("us", tz="Asia/Tokyo"), 1_714_566_600_000_000, "2024-05-01T12:30:00Z"),
        (pa.timestamp("us"), 2**62, None),
        (pa.time64("ns"), 1, None),
        (pa.duration("ns"), 1, None),
    ],
)
def test_dates_and_times_have_one_spelling(kind: pa.DataType, count: int, said: str | None) -> None:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    array = pa.array([count, None], width).cast(kind)
    inner = pa.StructArray.from_arrays([array, pa.array(["a", "b"])], names=["t", "x"])
    kept = pa.ListArray.from_arrays(pa.array([0, 2, 2], pa.int32()), inner)
    batch = pa.record_batch([array, inner, kept], names=["plain", "inner", "list"])
    found = times.spelled(batch.slice(0, 1)).to_pylist() + times.spelled(batch).to_pylist()[1:]
    assert [row["plain"] for row in found] == [said, None]
    assert [row["inner"] for row in found] == [{"t": said, "x": "a"}, {"t": None, "x": "b"}]
    assert [[one["x"] for one in row["list"]] for row in found] == [["a", "b"], []]


def test_a_table_with_nanoseconds_is_read_whatever_is_asked(
    tmp_path: Path, recipe_of: Callable[..., Recipe]
) -> None:
    """Arrow's own values of Python refuse them."""
    column = pa.array([1_714_566_600_000_000_001, None], pa.timestamp("ns"))
    pq.write_table(pa.table({"at": column, "text": ["a", "b"]}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", "parquet", date_key="at", text_key="text")
    assert [one.date for one in found] == ["2024-05-01T12:30:00.000000001", ""]
    sources.check(recipe_of({"name": "s", "path": "t.parquet", "format": "parquet"}), tmp_path)


# ---- a run -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    written(tmp_path / "pages/a.jsonl", rows_of(40))
    written(tmp_path / "pages/b.jsonl", rows_of(40, first=40) + rows_of(3))
    return tmp_path / "pages"


def source_of(folder: Path, **fields: Any) -> dict[str, Any]:
    about = {"licence": "ODC-By-1.0", **KEYS, **fields}
    return {"name": "s", "path": str(folder), "format": "jsonl", **about}


def test_documents_keep_what_their_records_say(
    tmp_path: Path, folder: Path, recipe_of: Callable[..., Recipe], prepare: Callable[..., Path]
) -> None:
    recipe = recipe_of(source_of(folder))
    run = prepare(recipe, tmp_path / "run")
    documents = Documents.open(run)
    rows = [documents.get(index) for index in range(documents.count)]
    assert [(row["id"], row["licence"], row["origin"], row["date"]) for row in rows] == [
        (one.id, one.licence, one.origin, one.date)
        for one in read(folder, "jsonl", **KEYS)[: len(rows)]
    ]
    assert documents.about(7) == {
        name: rows[7][name] for name in ("id", "licence", "origin", "date")
    }
    assert documents.manifest["sources"][0]["dropped"] == {"duplicate": 3, "no_licence": 41}
    assert roots.recompute_root(run, recipe)[1] == []


@pytest.mark.parametrize("words", [5, 20, 45, 60])
def test_a_killed_stage_goes_on_to_the_same_bytes(
    words: int,
    tmp_path: Path,
    folder: Path,
    recipe_of: Callable[..., Recipe],
    prepare: Callable[..., Path],
    content_of: Callable[[Path], dict[str, bytes]],
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of a file whose ids stand twice: names go on as they would."""
    recipe = recipe_of(source_of(folder))
    whole = prepare(recipe, tmp_path / "whole")
    monkeypatch.setattr("pellucid.data.stage.PAUSE", 0)
    with pytest.raises(Interrupted):
        prepare(recipe, tmp_path / "run", interrupted(words))
    assert content_of(prepare(recipe, tmp_path / "run")) == content_of(whole)


FORGED = {
    "another licence": ("licence", "Apache-2.0", ""),
    "another date": ("date", "1999-01-01", ""),
    "another origin": ("origin", "https://example.org/x", ""),
    "no date": ("date", "", ""),
    "a licence that no field gives": ("licence", "x" * 257, "is none that a field gives"),
    "no licence": ("licence", "", "is none that a field gives"),
    "a date that no field gives": ("date", "x" * 65, "is none that a field gives"),
    "an origin that no field gives": ("origin", "x" * 2049, "and its id that of"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_field_is_found(
    what: str,
    tmp_path: Path,
    folder: Path,
    recipe_of: Callable[..., Recipe],
    prepare: Callable[..., Path],
) -> None:
    """Any value that a field can give has another leaf, and so another root; others are named."""
    recipe = recipe_of(source_of(folder))
    run = prepare(recipe, tmp_path / "run")
    root, _ = roots.recompute_root(run, recipe)
    column, value, said = FORGED[what]
    forge(run, column, value)
    forged, problems = roots.recompute_root(run, recipe)
    assert forged != root
    assert any("root is" in detail for _, detail in problems)
    assert not said or any(
        f"document 3: its {column}" in one and said in one for _, one in problems
    )


def forge(run: Path, column: str, value: str) -> None:
    """Document 3 with another value in a column."""
    path = run / "data/documents/00000.parquet"
    edit_table(path, column, lambda row: value if row["index"] == 3 else row[column])


def test_a_date_without_a_key_is_found(
    tmp_path: Path, folder: Path, recipe_of: Callable[..., Recipe], prepare: Callable[..., Path]
) -> None:
    recipe = recipe_of(source_of(folder, date_key="", licence_key=""))
    run = prepare(recipe, tmp_path / "run")
    for column in ("date", "licence"):
        forge(run, column, "2024")
        problems = roots.recompute_root(run, recipe)[1]
        assert any(f"its text gives another {column}" in detail for _, detail in problems)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "near"), [("licens", "licence"), ("meta.licens", "meta.licence")])
@pytest.mark.parametrize("format", WITH_FIELDS)
def test_a_field_that_no_record_has_is_named(
    tmp_path: Path, recipe_of: Callable[..., Recipe], format: str, key: str, near: str
) -> None:
    name = near.rpartition(".")[2]
    rows = [{"text": text_of(n), "meta": {name: "MIT"}, name: "MIT"} for n in range(4)]
    written(tmp_path / f"t.{format}", rows)
    source = {"name": "s", "path": f"t.{format}", "format": format, "licence_key": key}
    with pytest.raises(FieldMissing) as caught:
        sources.check(recipe_of(source), tmp_path)
    told = str(caught.value)
    assert f'have no field "{key}" (did you mean {near}?), which licence_key names' in told
    assert f"--set data.sources.s.licence_key={near}, or none" in told
    sources.check(recipe_of({**source, "licence_key": near}), tmp_path)


def test_settings_that_an_error_tells_are_words_of_a_shell(
    tmp_path: Path, recipe_of: Callable[..., Recipe]
) -> None:
    written(tmp_path / "t.jsonl", [{"text": text_of(n), "its licence": "MIT"} for n in range(4)])
    source = {"name": "s", "path": "t.jsonl", "format": "jsonl", "licence_key": "its licenc"}
    with pytest.raises(FieldMissing) as caught:
        sources.check(recipe_of(source), tmp_path)
    words = shlex.split(str(caught.value).partition("Choose a field: ")[2])
    assert list(settings_of([words[1].removesuffix(",")]).values()) == ["its licence"]
    assert words[-1] == "data.sources.s.licence_key="
    (tmp_path / "t").mkdir()
    for name in ("a", "a:b $x's"):
        written(tmp_path / f"t/{name}.jsonl", rows_of(4))
    (tmp_path / "t/a.jsonl").rename(tmp_path / "t/a")
    with pytest.raises(NamesUnclear) as caught:
        sources.check(recipe_of(source_of(tmp_path / "t", include=("*",))), tmp_path / "run")
    word = shlex.split(str(caught.value).rpartition("--set ")[2])[0]
    assert list(settings_of([word]).values()) == [["a:b $x's.jsonl"]]


def test_a_field_that_is_null_at_first_is_one(
    tmp_path: Path, recipe_of: Callable[..., Recipe]
) -> None:
    rows = [{"text": text_of(n), "meta": None, "licence": None} for n in range(4)]
    written(tmp_path / "t.jsonl", rows)
    source = {"name": "s", "path": "t.jsonl", "format": "jsonl"}
    for key in ("meta.licence", "licence"):
        sources.check(recipe_of({**source, "licence_key": key}), tmp_path)


@pytest.mark.parametrize("key", KEYS)
def test_keys_belong_to_records_with_fields(key: str) -> None:
    content = f'name = "r"\ndata.sources = [{{name = "s", format = "lines", {key} = "x"}}]\n'
    with pytest.raises(RecipeInvalid, match=f'{key} belongs to .* format = "lines" has none'):
        parse(content.encode(), "recipe.toml")


def test_files_whose_records_could_have_one_id_are_refused(
    tmp_path: Path, recipe_of: Callable[..., Recipe]
) -> None:
    """Equal ids in two files are told apart by the file; not where
    one's name goes on as another's."""
    (tmp_path / "t").mkdir()
    written(tmp_path / "t/a.jsonl", rows_of(4))
    written(tmp_path / "t/b.jsonl", rows_of(4))
    recipe = recipe_of(source_of(tmp_path / "t"))
    sources.check(recipe, tmp_path / "run")
    assert len({one.id for one in read(tmp_path / "t", "jsonl", **KEYS)}) == 8
    written(tmp_path / "t/b.jsonl:page.jsonl", rows_of(4))
    with pytest.raises(NamesUnclear, match=r"b\.jsonl and of b\.jsonl:page\.jsonl"):
        sources.check(recipe, tmp_path / "run")
    sources.check(recipe_of(source_of(tmp_path / "t", id_key="")), tmp_path / "run")


def test_thousands_of_different_licences_outgrow_a_dictionary(
    tmp_path: Path, recipe_of: Callable[..., Recipe], prepare: Callable[..., Path]
) -> None:
    rows = [{"text": f"text {n}", "licence": f"{n:0256}"} for n in range(6000)]
    path = written(tmp_path / "t.jsonl", rows)
    recipe = recipe_of(
        {"name": "s", "path": str(path), "format": "jsonl", "licence_key": "licence"}
    )
    run = prepare(recipe, tmp_path / "run")
    assert roots.recompute_root(run, recipe)[1] == []
    assert Documents.open(run).about(5999)["licence"] == f"{5999:0256}"
