"""Killed anywhere and started again, the data room ends with the same bytes;
nothing half-written stays."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from pellucid.data import parquet, stage
from pellucid.data.formats import Seen
from pellucid.errors import DiskFull, NoPermission, SetUnusable
from pellucid.store import files
from tests.data.conftest import Interrupted, interrupted


@pytest.fixture
def recipe(corpus, recipe_of):
    (corpus / "junk.png").write_bytes(b"")
    return recipe_of(
        {"name": "a", "path": str(corpus / "a")},
        {"name": "rest", "path": str(corpus), "weight": 2},
        data={"max_document_characters": 900},
        tokenizer={"kind": "bpe", "vocabulary": 300},
    )


@pytest.fixture
def undisturbed(
    tmp_path, recipe, prepare, content_of, small_parts, monkeypatch
) -> dict[str, bytes]:
    monkeypatch.setattr(stage, "PAUSE", 0.0)  # Progress is told of every document.
    return content_of(prepare(recipe, tmp_path / "undisturbed"))


def test_interrupted_at_every_word_of_progress(
    tmp_path, recipe, prepare, content_of, undisturbed, monkeypatch
):
    folder = tmp_path / "run"
    interruptions = 0
    for limit in range(1, 10_000, 3):
        try:
            prepare(recipe, folder, interrupted(limit))
            break
        except Interrupted:
            interruptions += 1
            assert not [name for name in files.walk(folder) if files.TEMPORARY in name]
            assert not (folder / stage.DATA).exists()
    assert interruptions > 10
    assert content_of(folder) == undisturbed


def test_interrupted_whenever_something_is_written(
    tmp_path, recipe, prepare, content_of, undisturbed, monkeypatch
):
    """Before and after each rename, which is where a kill leaves its traces."""
    replace, folder = os.replace, tmp_path / "run"
    for limit in range(1, 1000):
        calls = 0

        def interrupting(source, target, limit=limit):
            nonlocal calls
            calls += 1
            if calls == limit and limit % 2:
                raise Interrupted
            replace(source, target)
            if calls == limit:
                raise Interrupted

        monkeypatch.setattr(files.os, "replace", interrupting)
        try:
            prepare(recipe, folder)
            break
        except Interrupted:
            continue
    assert limit > 4
    assert content_of(folder) == undisturbed


def test_a_finished_part_is_not_redone(tmp_path, recipe, prepare, undisturbed):
    folder = tmp_path / "run"
    parts = []

    def progress(name, done, total, unit):
        found = sorted(folder.glob("data/documents/0*.parquet"))
        if len(found) == 5:
            parts.extend((path.name, path.stat().st_mtime_ns) for path in found[:4])
            raise Interrupted

    with pytest.raises(Interrupted):
        prepare(recipe, folder, progress)
    state = json.loads((folder / "data/documents/unfinished.json").read_text())
    assert [part["file"] for part in state["parts"]][:4] == [name for name, _ in parts]
    prepare(recipe, folder)
    assert [
        (name, (folder / "data/documents" / name).stat().st_mtime_ns) for name, _ in parts
    ] == parts
    assert not (folder / "data/documents/unfinished.json").exists()


def test_work_that_is_noted_in_another_way_is_begun_again(tmp_path):
    stage.note(tmp_path, "r", {"parts": []})
    assert stage.unfinished(tmp_path, "r") and stage.unfinished(tmp_path, "other") is None
    path = tmp_path / "unfinished.json"
    state = json.loads(path.read_text())
    for changed in ({"state": 2}, {"format": 2}):
        path.write_text(json.dumps(state | changed))
        assert stage.unfinished(tmp_path, "r") is None
    path.write_text(json.dumps({name: state[name] for name in state if name != "state"}))
    assert stage.unfinished(tmp_path, "r") is None


def test_parts_of_another_recipe_are_not_kept(
    tmp_path, recipe, corpus, recipe_of, prepare, content_of, undisturbed
):
    other = recipe_of({"name": "rest", "path": str(corpus)}, data={"max_document_characters": 300})

    def progress(name, done, total, unit):
        if name == "shards":
            raise Interrupted

    with pytest.raises(Interrupted):
        prepare(other, tmp_path / "run", progress)
    assert content_of(prepare(recipe, tmp_path / "run")) == undisturbed


SCRIPT = """
    import sys
    from pathlib import Path
    from pellucid import recipe
    from pellucid.data import documents, parquet, shards, stage, tokenizer

    parquet.PART_BYTES, parquet.GROUP_BYTES, shards._BATCH_BYTES, stage.PAUSE = 2500, 800, 700, 0.0
    limit = int(sys.argv[2])
    told = 0

    def progress(*_):
        global told
        told += 1
        if told == limit:
            print("now", flush=True)
            sys.stdin.read()

    folder = Path(sys.argv[1])
    values = recipe.load(folder)
    for room in (documents, tokenizer, shards):
        room.prepare(values, folder, progress)
    print("done", flush=True)
"""


def test_killed_at_random_moments(tmp_path, recipe, content_of, undisturbed):
    folder = tmp_path / "run"
    folder.mkdir()
    values = recipe.model_dump(include={"version", "name", "data", "tokenizer", "model", "train"})
    (folder / "recipe.toml").write_text(_toml(values))
    draw = random.Random(1)
    killed = 0
    for limit in [draw.randrange(2, 90) for _ in range(5)] + [10**9]:
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), str(limit)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            word = process.stdout.readline()
            if word == b"now\n":
                process.send_signal(signal.SIGKILL)
                killed += 1
            else:
                assert word == b"done\n"
    assert killed >= 3
    (folder / "recipe.toml").unlink()
    assert content_of(folder) == undisturbed


def _toml(values: dict) -> str:
    import tomlkit

    return tomlkit.dumps(values)


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path, recipe, content_of, prepare, undisturbed
):
    """A limit on the size of a file stands in for a full disk: both are refused by the system."""
    folder = tmp_path / "run"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (100, 1500, 5000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(DiskFull):
                prepare(recipe, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not [name for name in files.walk(folder) if files.TEMPORARY in name]
    assert content_of(prepare(recipe, folder)) == undisturbed


def test_what_sqlite_refuses_is_named_for_what_it_is(tmp_path, monkeypatch):
    seen = Seen(tmp_path / "seen")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        # To SQLite it is an I/O error, as that of a broken disk is.
        with pytest.raises(DiskFull, match="seen"):
            for number in range(10**7):
                seen.add(number.to_bytes(32, "big"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        seen.close()
    with pytest.raises(SetUnusable, match="unable to open"):
        Seen(tmp_path / "nowhere" / "seen")
    (tmp_path / "other").write_bytes(b"not a database " * 999)
    with pytest.raises(SetUnusable, match="not a database"):
        Seen(tmp_path / "other")
    other = Seen(tmp_path / "third")
    other._execute("pragma query_only = on")
    with pytest.raises(NoPermission, match="third"):
        other.add(b"x")
    other.close()


def test_part_sizes_are_those_of_the_pipeline():
    """The documents' root depends on them."""
    assert (parquet.PART_BYTES, parquet.GROUP_BYTES, parquet.GROUP_ROWS) == (
        128 << 20,
        8 << 20,
        1 << 16,
    )
