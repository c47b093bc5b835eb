"""What is prepared stays until what replaces it is complete, and where
the texts lie decides nothing."""

from __future__ import annotations

import gzip
import os
import shutil

import pytest

from pellucid.data import beside, documents, parquet, stage, tokenizer
from pellucid.errors import (
    CorpusTooSmall,
    DataError,
    NoValidation,
    SourceMissing,
    SourceUnreadable,
    StageNotReady,
    TokenizerInvalid,
)
from pellucid.store import files
from tests.data.conftest import text_of


@pytest.fixture
def recipe(corpus, recipe_of):
    return recipe_of(
        {"name": "all", "path": str(corpus)}, tokenizer={"kind": "bpe", "vocabulary": 300}
    )


@pytest.fixture
def moved(recipe, recipe_of):
    """moved(path, …): the same recipe with its source elsewhere, and other fields where given."""

    def make(path, **sections):
        return recipe_of(
            {"name": "all", "path": str(path)},
            **({"tokenizer": {"kind": "bpe", "vocabulary": 300}} | sections),
        )

    return make


@pytest.fixture
def prepared(tmp_path, recipe, prepare, small_parts):
    return prepare(recipe, tmp_path / "run")


def times(folder):
    return {name: (folder / name).stat().st_mtime_ns for name in files.walk(folder)}


def test_a_wrong_path_removes_nothing(prepared, recipe, moved, prepare):
    before = times(prepared)
    prepare(moved("/nonexistent"), prepared)  # Done, wherever the texts lie.
    assert times(prepared) == before
    with pytest.raises(SourceMissing, match="/nonexistent"):
        prepare(moved("/nonexistent", data={"max_document_characters": 300}), prepared)
    prepare(recipe, prepared)
    assert times(prepared) == before


@pytest.fixture
def spoilt(tmp_path, corpus):
    """spoilt(kind): another place for the texts, of which the last cannot be used."""

    def make(kind):
        place = tmp_path / kind
        if kind == "truncated":
            place.mkdir()
            lines = [(text_of(n) + "\n").encode() for n in range(60)]
            (place / "a.txt.gz").write_bytes(gzip.compress(b"".join(lines)))
            (place / "b.txt.gz").write_bytes(gzip.compress(b"".join(lines[::-1]) * 9)[:-100])
            return {"format": "lines"}
        shutil.copytree(corpus, place)
        return {}

    return make


@pytest.mark.parametrize(
    ("kind", "sections", "error"),
    [
        ("truncated", {}, SourceUnreadable),
        (
            "unvalidated",
            {"data": {"validation_per_10000": 1, "max_document_characters": 400}},
            NoValidation,
        ),
        (
            "early",
            {"model": {"context": 60_000}, "data": {"max_document_characters": 400}},
            CorpusTooSmall,
        ),
        (
            "late",
            {"model": {"context": 9_000}, "train": {"batch": 1, "microbatch": 1}},
            CorpusTooSmall,
        ),
        ("unreadable", {"tokenizer": {"kind": "file", "path": "none.json"}}, TokenizerInvalid),
    ],
)
def test_an_error_late_in_the_work_leaves_what_was_there(
    tmp_path, prepared, recipe, recipe_of, spoilt, prepare, kind, sections, error
):
    before = times(prepared)
    source = {"name": "all", "path": str(tmp_path / kind), **spoilt(kind)}
    other = recipe_of(source, **({"tokenizer": {"kind": "bpe", "vocabulary": 300}} | sections))
    for _ in range(2):
        with pytest.raises(error):
            prepare(other, prepared)
        assert {
            name: time for name, time in times(prepared).items() if not name.startswith(beside.NEXT)
        } == before
    prepare(recipe, prepared)
    assert times(prepared) == before  # What was begun beside it is gone, too.


def test_finished_parts_stay_where_the_last_file_was_truncated(
    tmp_path, recipe_of, prepare, content_of, small_parts
):
    folder, source = tmp_path / "run", tmp_path / "in"
    source.mkdir()
    packed = gzip.compress(b"".join((text_of(n) + "\n").encode() for n in range(30)))
    (source / "b.txt.gz").write_bytes(packed)
    for first in range(100, 160, 3):  # As many files as are looked at before any is read.
        (source / f"a{first}.txt").write_text(
            "".join(text_of(n) + "\n" for n in range(first, first + 3))
        )
    recipe = recipe_of({"name": "in", "path": str(source), "format": "lines"})
    undisturbed = content_of(prepare(recipe, tmp_path / "undisturbed"))
    (source / "b.txt.gz").write_bytes(packed[:-200])
    with pytest.raises(SourceUnreadable):
        prepare(recipe, folder)
    parts = {name: time for name, time in times(folder).items() if name.endswith(".parquet")}
    assert len(parts) > 4
    (source / "b.txt.gz").write_bytes(packed)
    assert content_of(prepare(recipe, folder)) == undisturbed
    assert {name: time for name, time in times(folder).items() if name in parts} == parts


@pytest.fixture
def stopped(tmp_path, recipe, small_parts, monkeypatch):
    """A run stopped after some parts of its documents; and how to go on, counting
    the parts that are written."""
    monkeypatch.setattr(stage, "PAUSE", 0.0)
    folder = tmp_path / "stopped"

    def progress(*_):
        if len(list(folder.glob("data/documents/0*.parquet"))) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        documents.prepare(recipe, folder, progress)
    written = []
    real = parquet.write_part
    monkeypatch.setattr(
        parquet, "write_part", lambda path, *rest: written.append(path.name) or real(path, *rest)
    )
    return folder, written


@pytest.mark.parametrize(
    "change", ["nothing", "copied", "one more", "one less", "one other", "another first", "a tail"]
)
def test_what_was_finished_is_kept_as_far_as_the_texts_are_the_same(
    tmp_path, corpus, moved, prepare, content_of, stopped, change
):
    folder, written = stopped
    place = shutil.copytree(corpus, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    files_there = files.walk(place)
    if change == "one more":
        (place / f"{files_there[12][:-4]}a.txt").write_text(text_of(1000))
    elif change == "one less":
        (place / files_there[12]).unlink()
    elif change == "one other":
        (place / files_there[12]).write_text(text_of(1001))
    elif change == "another first":
        (place / "a" / "0.txt").write_text(text_of(1002))
    elif change == "a tail":
        (place / "zzz.txt").write_text(text_of(1003))
    recipe = moved(corpus if change == "nothing" else place)
    prepare(recipe, folder)
    again = len(written)
    assert content_of(folder) == content_of(prepare(recipe, tmp_path / "anew"))
    total = len(list(folder.glob("data/documents/0*.parquet")))
    kept = {"nothing": 6, "copied": 6, "a tail": 6, "another first": 0}
    assert total - again == kept[change] if change in kept else 0 < total - again < 6


def test_sources_that_lie_elsewhere_after_too_small_a_corpus(
    tmp_path, recipe_of, prepare, content_of, small_parts
):
    """More text is what the error asks for."""
    place = tmp_path / "in"
    place.mkdir()
    (place / "b.txt").write_text(text_of(1))
    recipe = recipe_of({"name": "in", "path": str(place)})
    with pytest.raises(DataError):
        prepare(recipe, tmp_path / "run")
    for number in range(60):
        (place / f"{'a' if number % 2 else 'c'}{number}.txt").write_text(text_of(number + 2))
    assert content_of(prepare(recipe, tmp_path / "run")) == content_of(
        prepare(recipe, tmp_path / "anew")
    )


@pytest.mark.parametrize(
    "sections", [{"data": {"max_document_characters": 300}}, {"model": {"context": 40}}]
)
def test_stopped_at_any_rename_the_old_data_are_whole_or_the_new(
    tmp_path, corpus, prepared, moved, prepare, content_of, monkeypatch, sections
):
    other = moved(corpus, **sections)
    old = content_of(prepared)
    new = content_of(prepare(other, tmp_path / "anew"))
    real = {"replace": os.replace, "rename": os.rename}
    for limit in range(1, 1000):
        calls = 0

        def stopping(source, target, name, limit=limit):
            nonlocal calls
            calls += 1
            if calls == limit and limit % 2:
                raise KeyboardInterrupt
            real[name](source, target)
            if calls == limit:
                raise KeyboardInterrupt

        for name in real:
            monkeypatch.setattr(
                os, name, lambda source, target, name=name: stopping(source, target, name)
            )
        try:
            prepare(other, prepared)
            break
        except KeyboardInterrupt:
            files.remove_partial(prepared)
            found = {
                name: content
                for name, content in content_of(prepared).items()
                if name.startswith("data/")
            }
            assert found in (old, new, {})
            if not found:
                there = {
                    name.removeprefix("next/"): content
                    for name, content in content_of(prepared).items()
                }
                assert there == new
    assert limit > 4 and content_of(prepared) == new


def test_a_stage_by_itself_uses_what_the_recipe_made(prepared, corpus, moved):
    """And nothing that was made from another one."""
    other = moved(corpus, data={"max_document_characters": 300})
    with pytest.raises(StageNotReady, match="documents"):
        tokenizer.prepare(other, prepared)
    documents.prepare(other, prepared)
    with pytest.raises(StageNotReady, match="tokenizer"):
        from pellucid.data import shards

        shards.prepare(other, prepared)


def test_a_tokenizer_that_moves_is_kept_and_another_is_taken(
    tmp_path, corpus, prepared, moved, prepare, content_of
):
    content = (prepared / "data/tokenizer/tokenizer.json").read_bytes()
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_bytes(content)
    run = prepare(
        moved(corpus, tokenizer={"kind": "file", "path": str(tmp_path / "one.json")}),
        tmp_path / "file",
    )
    before = times(run)
    for path in (tmp_path / "two.json", "/nonexistent/tokenizer.json"):
        prepare(moved(corpus, tokenizer={"kind": "file", "path": str(path)}), run)
        assert times(run) == before
    other = moved(corpus, tokenizer={"kind": "bpe", "vocabulary": 280})
    (tmp_path / "two.json").write_bytes(
        (prepare(other, tmp_path / "x") / "data/tokenizer/tokenizer.json").read_bytes()
    )
    prepare(moved(corpus, tokenizer={"kind": "file", "path": str(tmp_path / "two.json")}), run)
    assert (run / "data/tokenizer/tokenizer.json").read_bytes() == (
        tmp_path / "two.json"
    ).read_bytes()
    assert times(run)["data/documents/manifest.json"] == before["data/documents/manifest.json"]
