"""From the fields of records to whatever names a document: licence, origin and date; and two
sources whose documents are called alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pellucid import opened, prove, sql
from pellucid.data import licences
from pellucid.data.documents import Documents
from pellucid.errors import DocumentUnknown
from pellucid.look.show import Shown
from pellucid.recipe import load
from pellucid.record import proofs
from pellucid.release import readme
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store.ledger import LedgerFile
from pellucid.trace.where import Traced
from tests.conftest import SETTINGS, finish, pellucid, prose
from tests.test_fork import forked

KEYS = {"id_key": "id", "licence_key": "licence", "origin_key": "url", "date_key": "date"}
LICENCES = ["CC0-1.0", "MIT", "CC-BY-4.0", None]
CALLED = "page.jsonl:7"


def record(source: str, number: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "text": f"{source} {number}: {prose(number + 1000 * (source == 'second'), 60)}",
        "licence": LICENCES[number % 4],
        "url": f"https://{source}.example/{number}",
        "date": f"2024-05-{number % 28 + 1:02}",
    }


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run from two sources, each with one file of records: equal names, and equal ids."""
    from pellucid.new import new

    place = tmp_path_factory.mktemp("provenance")
    settings = list(SETTINGS)
    for source in ("first", "second"):
        (place / source).mkdir()
        rows = [record(source, number) for number in range(40)]
        (place / source / "page.jsonl").write_text("\n".join(map(json.dumps, rows)))
        settings += [f"data.sources.{source}.{key}={field}" for key, field in KEYS.items()]
    new(place / "run", [str(place / "first"), str(place / "second")], "1M", settings)
    folder = finish(place / "run")
    publish(folder)
    return folder


def of(folder: Path, name: str) -> dict[str, Any]:
    documents = Documents.open(folder)
    return documents.get(documents.find(name))


def told(source: str, number: int) -> dict[str, str]:
    said = record(source, number)
    licence = said["licence"] or "unknown"
    return {"licence": licence, "origin": said["url"], "date": said["date"]}


def named(source: str) -> Iterator[tuple[str, int]]:
    yield from ((f"{source}/page.jsonl:{number}", number) for number in range(40))


def test_equal_ids_of_two_sources_are_two_documents(parent: Path) -> None:
    assert verify(parent, lambda _: None).problems == []
    shown, head = Shown(parent), LedgerFile(parent).head
    for source in ("first", "second"):
        for name, number in named(source):
            expected = told(source, number)
            about = shown.document(name)
            assert about["text"].startswith(f"{source} {number}: ")
            assert {key: about[key] for key in expected} == expected
            assert of(parent, name)["index"] == about["indices"][0]
        proven = proofs.check(prove.document(parent, f"{source}/{CALLED}"), head)
        expected = {"id": f"{source}/{CALLED}", **told(source, 7)}
        assert {key: proven.thing[key] for key in expected} == expected
        assert f"date {expected['date']}" in str(proven)


def test_an_id_without_its_source_names_both(parent: Path) -> None:
    wanted = f"did you mean first/{CALLED} or second/{CALLED}?"
    for ask in (Shown(parent).document, lambda name: prove.document(parent, name)):
        with pytest.raises(DocumentUnknown, match="did you mean") as caught:
            ask(CALLED)
        assert wanted in str(caught.value)
    with pytest.raises(DocumentUnknown) as caught:
        opened.Run(parent).document("7")
    assert wanted in str(caught.value)


def test_both_are_named_however_far_apart(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pellucid.data.parquet._COMPARED", 3)
    with pytest.raises(DocumentUnknown) as caught:
        Documents.open(parent).find(CALLED)
    assert f"did you mean first/{CALLED} or second/{CALLED}?" in str(caught.value)


def test_a_fork_goes_without_one_of_two_that_are_called_alike(parent: Path, tmp_path: Path) -> None:
    seen = [
        piece["document"]
        for step in range(8, 14)
        for row in Shown(parent).step(step)["rows"]
        for piece in row["segments"]
    ]
    gone = next(name for name in seen if name.startswith("second/"))
    other = gone.replace("second/", "first/")
    after = Shown(finish(forked(parent, tmp_path / "fork", 7, without=(gone,))))
    assert after.document(gone)["blocks"] and load(after.folder).fork.without == (gone,)
    assert steps_of(after, gone) == []
    assert steps_of(after, other) == steps_of(Shown(parent), other)
    with pytest.raises(DocumentUnknown, match=f"did you mean first/{CALLED} or second/{CALLED}"):
        forked(parent, tmp_path / "none", 7, without=(CALLED,))


def steps_of(shown: Shown, name: str) -> list[int]:
    """The steps behind the seventh that trained on a document."""
    steps = (one["step"] for block in shown.document(name)["blocks"] for one in block["steps"])
    return sorted(step for step in steps if step > 7)


def test_where_and_trace_tell_whose_text_it_is(parent: Path) -> None:
    traced = Traced(parent)
    for row in (row for row in sql_rows(parent) if row["split"] == "train"):
        expected = {
            "document": row["id"],
            **{key: row[key] for key in ("licence", "origin", "date")},
        }
        for hit in traced.where(row["text"][:60])["hits"]:
            assert {key: hit[key] for key in expected} == expected
        (span,) = traced.trace(row["text"][:60])["spans"]
        assert span["documents"] == [{**expected, "source": row["source"]}]
        break


def sql_rows(folder: Path) -> list[dict[str, Any]]:
    columns = "id, source, licence, origin, date, split, text"
    return sql.sql(folder, f"SELECT {columns} FROM documents ORDER BY document").to_pylist()


def test_sql_has_a_column_of_each(parent: Path) -> None:
    rows = {row["id"]: row for row in sql_rows(parent)}
    assert len(rows) == 80
    for source in ("first", "second"):
        for name, number in named(source):
            expected = told(source, number)
            assert {key: rows[name][key] for key in expected} == expected


def test_the_readme_counts_by_licence(parent: Path) -> None:
    documents = Documents.open(parent)
    rows = [documents.get(index) for index in range(documents.count)]
    shown = Shown(parent)
    text = (parent / "README.md").read_text()
    for licence in ("CC0-1.0", "MIT", "CC-BY-4.0", "unknown"):
        own = [row for row in rows if row["licence"] == licence]
        tokens = sum(shown.document(row["id"])["tokens"] for row in own)
        assert f"| {len(own)} | {sum(row['bytes'] for row in own):,} | {tokens:,} |" in text
    assert "The licence of 20 documents is unknown." in text
    assert licences.licences(parent).unknown == {"first": 10, "second": 10}
    assert readme.check(parent, readme.VERSION) == ""


def test_the_commonest_licences_are_named_and_the_others_counted(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = licences.licences(parent)
    assert [one.name for one in found.counted] == ["CC-BY-4.0", "CC0-1.0", "MIT", "unknown"]
    named, others = found.commonest(1)
    rest = [sum(one[column] for one in found.counted[1:]) for column in (1, 2, 3)]
    assert named == found.counted[:1] and others == ("", *rest)
    assert found.commonest(4) == (found.counted, None)
    monkeypatch.setattr(licences, "_KNOWN", 2)
    few = licences.licences(parent)
    named, others = few.commonest(10)
    assert named == [licence for licence in found.counted if licence in few.counted]
    assert others is not None and others[1:] == tuple(
        sum(one[column] for one in found.counted if one not in few.counted) for column in (1, 2, 3)
    )


def test_the_command_line_tells_them(parent: Path) -> None:
    said = pellucid("show", parent, "document", f"first/{CALLED}").stdout
    assert "licence    unknown" in said and "date       2024-05-08" in said
    assert "origin     https://first.example/7" in said
    said = pellucid("show", parent, "document", CALLED, check=2).stderr
    assert f"did you mean first/{CALLED} or second/{CALLED}?" in said
