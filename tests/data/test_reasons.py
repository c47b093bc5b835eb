"""What was left out: counted and named by reason, told in a table, and warned of."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from pellucid.data import documents, encodings, recognise, sources, stage
from pellucid.data.reasons import REASONS, LeftOut, report
from pellucid.data.survey import survey
from pellucid.errors import SourceRepeated
from pellucid.recipe import Source
from pellucid.terminal import print_sources, warnings
from tests.data.conftest import Interrupted, interrupted


@pytest.fixture
def littered(tmp_path, corpus):
    """A corpus with something of most reasons in it."""
    (corpus / "x.png").write_bytes(b"png!")
    (corpus / "latin.txt").write_bytes(
        "très bien, déjà vu; this text is Latin-1 ".encode("latin-1") * 3
    )
    (corpus / "cyrillic.txt").write_bytes("Привет, мир".encode("cp1251"))
    (corpus / "nul.txt").write_bytes(b"\0" * 7)
    (corpus / "records.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    return corpus


def test_the_report_counts_and_names_what_was_left_out(tmp_path, littered, recipe_of):
    told = []
    recipe = recipe_of({"name": "all", "path": str(littered)})
    documents.prepare(recipe, tmp_path / "run", tell=told.append)
    (report,) = told[0]
    left = {one["reason"]: one for one in report["left_out"]}
    assert {
        reason: (one["documents"], one["bytes"])
        for reason, one in left.items()
        if reason != "duplicate"
    } == {
        "not_included": (1, 4),
        "binary": (1, 7),
        "empty": (1, 0),
        "invalid_utf8_replaced": (1, 11),
        "latin1_guessed": (1, 123),
        "json_lines": (1, 28),
    }
    assert left["json_lines"]["examples"] == ["records.json"] and left["latin1_guessed"]["kept"]
    assert report["replaced_bytes"] == 9 and report["documents"] == 63


def test_examples_survive_an_interruption(tmp_path, littered, recipe_of, small_parts, monkeypatch):
    monkeypatch.setattr(stage, "PAUSE", 0.0)
    recipe = recipe_of(
        {"name": "a", "path": str(littered / "a")}, {"name": "all", "path": str(littered)}
    )
    told, again = [], []
    documents.prepare(recipe, tmp_path / "whole", tell=told.append)
    for limit in range(1, 200, 7):
        try:
            documents.prepare(recipe, tmp_path / "run", interrupted(limit), again.append)
            break
        except Interrupted:
            continue
    assert limit > 20 and json.loads(json.dumps(again[-1])) == json.loads(json.dumps(told[0]))


def test_the_report_is_told_before_an_error(tmp_path, recipe_of):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"\0")
    told = []
    with pytest.raises(sources.SourceEmpty, match="binary: 1"):
        documents.prepare(recipe_of({"name": "in", "path": "in"}), tmp_path, tell=told.append)
    assert told[0][0]["left_out"][0]["examples"] == ["a.txt"]


def test_what_another_source_of_the_folder_takes_is_not_left_out(tmp_path, recipe_of):
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number}.txt").write_text(f"text {number} " * 9)
    (tmp_path / "in" / "a.fa").write_text("".join(f">r{n}\n{'ACGT' * n}\n" for n in range(1, 40)))
    told = []
    recipe = recipe_of({"name": "t", "path": "in"}, {"name": "f", "path": "in", "format": "fasta"})
    documents.prepare(recipe, tmp_path, tell=told.append)
    assert [
        [(one["reason"], one["quiet"]) for one in source["left_out"]] for source in told[0]
    ] == [[("elsewhere", True)]] * 2


def test_the_table_and_its_warning():
    left = {
        "reason": "empty",
        "words": "empty",
        "kept": False,
        "quiet": False,
        "of_file": False,
        "documents": 4,
        "bytes": 5,
    }
    one = {"source": "s", "documents": 960, "texts": 96, "items": "files", "bytes": 95}
    one |= {"replaced_bytes": 1, "left_out": [left | {"examples": ["a", "b\x1b[2J", "c"]}]}
    out = io.StringIO()
    print_sources([one], Console(file=out))
    assert "a, b\ufffd[2J, c, …" in out.getvalue() and "replaced bytes" in out.getvalue()
    assert "source s leaves out 4 of 100 files, 5.0% of the bytes: empty (4)" in out.getvalue()
    assert len(warnings(one)) == 2
    records = one | {"items": "records"}
    assert "s leaves out 4 of 100 records" in warnings(records)[0]
    both = [*one["left_out"], one["left_out"][0] | {"of_file": True, "documents": 1}]
    assert "s leaves out 1 file and 4 of 100 records," in warnings(records | {"left_out": both})[0]
    assert "s leaves out 5 of 101 files," in warnings(one | {"left_out": both})[0]
    quiet = one | {"replaced_bytes": 0, "left_out": [left | {"quiet": True, "examples": []}]}
    assert warnings(quiet) == []
    few = one | {"texts": 10_000, "bytes": 10_000, "left_out": [left | {"examples": []}]}
    assert warnings(few) == []


def test_a_warning_counts_texts_and_not_the_parts_they_are_cut_into(tmp_path, recipe_of):
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number}.txt").write_text(f"text {number}. " * 100)
    (tmp_path / "in" / "nul.txt").write_bytes(b"\0")
    data, told = {"max_document_characters": 100, "split": "parts"}, []
    recipe = recipe_of({"name": "in", "path": "in"}, data=data)
    documents.prepare(recipe, tmp_path, tell=told.append)
    ((one,),) = told
    assert (one["texts"], one["documents"] > 150) == (20, True)
    assert "source in leaves out 1 of 21 files" in warnings(one)[0]


def test_a_source_whose_texts_are_all_taken_says_by_which(tmp_path, recipe_of, corpus):
    first, same = ({"name": name, "path": str(corpus)} for name in ("a", "b"))
    with pytest.raises(SourceRepeated, match=r"Source b: every text of .* before it \(a\)"):
        documents.prepare(recipe_of(first, same), tmp_path / "run")
    with pytest.raises(SourceRepeated, match=r"Source b: "):
        survey(recipe_of(first, same), tmp_path / "run")


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("format", ["text", "jsonl"])
def test_wide_texts_without_a_mark_are_told_the_command(tmp_path, recipe_of, name, format):
    text = "some text — äöü “quoted”\r\n" * 9 if format == "text" else '{"text": "words"}\n'
    (tmp_path / "it's.txt").write_bytes(text.encode(name))
    recipe = recipe_of({"name": "a", "path": "it's.txt", "format": format})
    with pytest.raises(sources.SourceEmpty, match="without a byte order mark") as caught:
        documents.prepare(recipe, tmp_path)
    command = str(caught.value).partition("this writes: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert (tmp_path / "it's-2.txt").read_bytes().decode() == text


@pytest.mark.parametrize("content", [b"\0" * 90, b"\0\1" * 90, bytes(range(256)), b"PK\0\0ab\0\0"])
def test_other_binary_files_look_like_no_wide_text(content):
    assert encodings.unmarked_wide(content) == ""


def test_what_every_package_has_is_no_warning():
    left = LeftOut()
    for reason in ("not_included", "empty", "hidden", "excluded"):
        left.add(reason, "a", 100)
    assert warnings(report(Source(name="p", path="package:p", format="package"), 9, 9, left)) == []
    assert "another ending" in warnings(report(Source(name="s"), 9, 9, left))[0]


def test_the_page_lists_every_reason_in_its_words():
    page = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    rows = [
        f"| `{name}` | {one.words}{'; the document is kept' * one.kept} |"
        for name, one in REASONS.items()
    ]
    assert page.rstrip().endswith("\n".join(rows))


def test_every_kind_of_file_has_a_reason():
    assert set(recognise.KINDS) <= set(REASONS)
