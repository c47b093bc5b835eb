"""The stage "index": the same bytes however it came about, and only where it is wanted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pellucid.data import stage
from pellucid.errors import IndexLost, ReleaseSealed, StageNotReady
from pellucid.recipe import load as load_recipe
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.trace import index
from pellucid.trace.where import Traced
from tests.conftest import finish, make_run, pellucid
from tests.trace.conftest import make


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "trace").iterdir())}


@pytest.fixture
def prepared(sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards and no index, in pieces of few documents."""
    monkeypatch.setattr(index, "PIECE_BYTES", 2000)
    folder = make(tmp_path / "prepared", sources, [])
    for only in ("documents", "tokenizer", "shards"):
        finish(folder, only)
    return folder


def test_pieces_are_whole_documents_of_about_even_size(prepared: Path) -> None:
    pieces = index.pieces(prepared)
    assert len(pieces) > 8
    assert all(piece.text < 2 * 2000 for piece in pieces)
    assert sum(piece.text for piece in pieces) == sum(
        int(entry["bytes"]) + int(entry["documents"])
        for entry in stage.read_manifest(prepared / stage.DATA, "data")["streams"]
    )


def test_one_process_or_several_write_the_same_bytes(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(prepared, tmp_path / "other")
    assert index.prepare(load_recipe(prepared), prepared)
    monkeypatch.setattr(index, "WORTH", 1)
    monkeypatch.setattr("pellucid.machine.cores", lambda: 2)
    assert index.prepare(load_recipe(other), other)
    assert contents(prepared) == contents(other)
    assert Traced(prepared).where("river", limit=0) == Traced(other).where("river", limit=0)


def test_interrupted_after_any_piece_it_ends_with_the_same_bytes(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.copytree(prepared, tmp_path / "whole")
    index.prepare(load_recipe(whole), whole)
    built: list[int] = []
    build = index._build

    def interrupted(piece):
        if len(built) == 4 and piece.number not in built:
            raise KeyboardInterrupt
        built.append(piece.number)
        return build(piece)

    monkeypatch.setattr(index, "_build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.prepare(load_recipe(prepared), prepared)
    assert not index.done(prepared)
    monkeypatch.setattr(
        index, "_build", lambda piece: (built.append(piece.number), build(piece))[1]
    )
    assert index.prepare(load_recipe(prepared), prepared)
    assert len(built) == len(set(built)) == len(index.pieces(prepared))  # Nothing was built twice.
    assert contents(prepared) == contents(whole)
    assert not index.prepare(load_recipe(prepared), prepared)


def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    sources: list[Path], tmp_path: Path
) -> None:
    folder = make(tmp_path / "killed", sources, [])
    for only in ("documents", "tokenizer", "shards"):
        finish(folder, only)
    whole = shutil.copytree(folder, tmp_path / "whole")
    index.prepare(load_recipe(whole), whole)
    code = (
        "import sys; from pathlib import Path; "
        "from pellucid.trace import index; from pellucid.recipe import load; "
        "index.WORTH = 1; index.machine.cores = lambda: 2; print('ready', flush=True); "
        "folder = Path(sys.argv[1]); index.prepare(load(folder), folder)"
    )
    for delay in (0.0, 0.3, 0.8):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, env=os.environ
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    finish(folder, "index")
    assert contents(folder) == contents(whole)


def test_a_lost_worker_is_named(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WORTH", 1)
    monkeypatch.setattr("pellucid.machine.cores", lambda: 2)
    monkeypatch.setattr(index, "_open", _leave)
    with pytest.raises(IndexLost, match="--only index"):
        index.prepare(load_recipe(prepared), prepared)


def _leave(*_: object) -> None:
    os._exit(1)


def test_shards_come_first(sources: list[Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "early", sources, [])
    with pytest.raises(StageNotReady, match="shards"):
        finish(folder, "index")


def test_other_shards_need_another_index(indexed: Path) -> None:
    assert index.done(indexed)
    manifest = stage.read_manifest(indexed / stage.DATA, "data")
    (indexed / stage.DATA).write_text(str(manifest | {"root": "0" * 64}).replace("'", '"'))
    assert not index.done(indexed)


def test_a_recipe_may_go_without_and_take_it_up_later(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "without", corpus, ["placement.trace=false"]))
    assert not (folder / "trace").exists()
    head = pellucid("status", folder, "--json").stdout
    finish(folder, "index")
    assert (folder / "trace" / "manifest.json").is_file()
    assert (
        pellucid("status", folder, "--json").stdout.replace('"index": true', '"index": false')
        == head
    )


def test_a_finished_run_gets_its_index_and_keeps_its_ledger(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "late", corpus))
    ledger, written = (folder / "record" / "ledger.jsonl").read_bytes(), contents(folder)
    shutil.rmtree(folder / "trace")
    finish(folder)
    assert (
        contents(folder) == written and (folder / "record" / "ledger.jsonl").read_bytes() == ledger
    )


def test_a_sealed_release_without_index_is_left_alone(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "sealed", corpus, ["placement.trace=false"]))
    publish(folder)
    with pytest.raises(ReleaseSealed):
        finish(folder, "index")
    finish(folder)
    assert verify(folder, lambda what: None).ok
