"""A release goes to an address and comes back, whole or in part, also when it is stopped halfway;
and nothing is written over what somebody else has there."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pellucid.errors import (
    CommandInvalid,
    FolderTaken,
    FormatInvalid,
    PartUnknown,
    PlaceDiffers,
    PlaceTaken,
    PlaceUnwritable,
    RemoteDiffers,
)
from pellucid.places.download import download
from pellucid.places.sample import sample
from pellucid.places.send import send
from pellucid.release.verify import verify
from pellucid.store import files, layout, sealed
from pellucid.store.home import home
from tests.conftest import pellucid
from tests.serving import serving

URL = "memory://places/run"


@pytest.fixture(autouse=True)
def memory() -> Iterator[MemoryFileSystem]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


class Counting:
    """What is written through a driver, and what breaks it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, breaks_after: int = 1 << 60) -> None:
        self.bytes, self.puts, self.left = 0, 0, breaks_after
        put, lock = MemoryFileSystem.put_file, threading.Lock()

        def counted(system: Any, local: str, remote: str, *rest: Any, **more: Any) -> None:
            with lock:
                if self.left == 0:
                    raise ConnectionError("the line is cut")
                self.left -= 1
                self.puts += 1
                self.bytes += Path(local).stat().st_size
            put(system, local, remote, *rest, **more)

        monkeypatch.setattr(MemoryFileSystem, "put_file", counted)


def contents(folder: Path) -> dict[str, str]:
    return {
        path: hashlib.sha256((folder / path).read_bytes()).hexdigest()
        for path in files.walk(folder)
    }


def unique(folder: Path) -> int:
    """Bytes of the contents of a release, each once."""
    return sum({one.sha256: one.size for one in sealed.read(folder).files}.values())


@pytest.mark.parametrize("url", ["memory://places/run", "local://places/run"])
def test_there_and_back(
    finished: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = send(finished, url)
    assert sent.bytes == unique(finished) and sent.kept == 0
    assert sent.files + sent.copied == len(sealed.read(finished).files)
    done = download(home(url), tmp_path / "back")  # type: ignore[arg-type]
    assert done.bytes == unique(finished) and not done.left_out
    assert contents(tmp_path / "back") == contents(finished)
    assert verify(tmp_path / "back", lambda what: None).ok


def test_a_release_that_is_there_is_not_sent_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(finished, URL)
    counting = Counting(monkeypatch)
    again = send(finished, URL)
    assert (counting.bytes, again.files, again.copied) == (0, 0, 0)


@pytest.mark.parametrize("after", [0, 1, 9])
def test_what_was_sent_before_the_line_was_cut_is_kept(
    finished: Path, monkeypatch: pytest.MonkeyPatch, after: int, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        first = Counting(patched, breaks_after=after)
        with pytest.raises(PlaceUnwritable, match="the line is cut"):
            send(finished, URL)
    assert layout.MANIFEST not in {name.rpartition("/")[2] for name in MemoryFileSystem.store}
    with monkeypatch.context() as patched:
        second = Counting(patched)
        send(finished, URL)
    assert first.puts >= after and first.bytes + second.bytes == unique(finished)
    download(home(URL), tmp_path / "back")  # type: ignore[arg-type]
    assert contents(tmp_path / "back") == contents(finished)


def test_a_place_that_keeps_other_bytes_is_caught(
    finished: Path, memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = MemoryFileSystem.put_file

    def damaged(system: Any, local: str, remote: str, *rest: Any, **more: Any) -> None:
        put(system, local, remote, *rest, **more)
        if remote.endswith("data/shards/00000.train.bin"):
            content = system.cat_file(remote)
            system.pipe_file(remote, b"x" + content[1:])

    with monkeypatch.context() as patched:
        patched.setattr(MemoryFileSystem, "put_file", damaged)
        with pytest.raises(PlaceDiffers, match=r"00000\.train\.bin"):
            send(finished, URL)
    assert not memory.exists(f"{URL}/{layout.MANIFEST}")
    assert send(finished, URL).bytes == (finished / "data/shards/00000.train.bin").stat().st_size


def test_nothing_is_written_over_other_files(
    finished: Path, memory: MemoryFileSystem, release: Path
) -> None:
    memory.pipe_file("/places/run/mine.txt", b"mine")
    with pytest.raises(PlaceTaken, match=r"mine\.txt"):
        send(finished, URL)
    assert [*memory.store] == ["/places/run/mine.txt"]
    memory.rm_file("/places/run/mine.txt")
    send(finished, URL)
    seal = memory.cat_file(f"/places/run/{layout.MANIFEST}")
    memory.pipe_file(f"/places/run/{layout.MANIFEST}", seal.replace(b'"small"', b'"other"'))
    with pytest.raises(PlaceTaken, match="another release"):
        send(finished, URL)


def test_what_verify_refuses_is_not_sent(release: Path, memory: MemoryFileSystem) -> None:
    path = next((release / "anchors").rglob("optimizer.safetensors"))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = pellucid("publish", release, "--to", "memory://places/run", check=None)
    assert done.returncode and "Nothing was sent" in done.stderr


def test_a_part_comes_and_then_the_rest(finished: Path, tmp_path: Path) -> None:
    with serving(finished) as server:
        begun = pellucid("download", server.url, tmp_path / "back", "--only", "record", "--json")
        told = json.loads(begun.stdout)
        assert told["files"] == len([*(finished / "record").iterdir()])
        assert (
            "anchors/" in told["left_out"]["parts"] and "record/" not in told["left_out"]["parts"]
        )
        assert sorted(contents(tmp_path / "back")) == sorted(
            [layout.MANIFEST, *(f"record/{one.name}" for one in (finished / "record").iterdir())]
        )
        words = pellucid("download", server.url, tmp_path / "back", "--only", "record/ledger.jsonl")
        assert "0 files" in words.stdout and "not here, so not checked" in words.stdout
        rest = json.loads(pellucid("download", server.url, tmp_path / "back", "--json").stdout)
    assert rest["kept"] == told["files"] and rest["left_out"]["files"] == 0
    assert contents(tmp_path / "back") == contents(finished)


def test_files_that_are_equal_come_once_and_share_their_room(
    finished: Path, tmp_path: Path
) -> None:
    with serving(finished) as server:
        done = download(home(server.url), tmp_path / "back")  # type: ignore[arg-type]
    assert done.bytes == unique(finished)
    last = max(layout.steps_in(finished / "checkpoints"))
    weights = "model.safetensors"
    own, kept = (tmp_path / "back" / weights), tmp_path / f"back/checkpoints/step{last}" / weights
    assert own.stat().st_ino == kept.stat().st_ino


def test_a_download_that_was_stopped_goes_on(finished: Path, tmp_path: Path) -> None:
    """A file that did not come whole has no name, and its rest is removed."""
    send(finished, URL)
    source, target = home(URL), tmp_path / "back"
    pieces, left = source.served.pieces, [12]  # type: ignore[attr-defined]

    def cut(path: str) -> Iterator[bytes]:
        left[0] -= 1
        for piece in pieces(path):
            yield piece[: len(piece) // 2] if left[0] == 0 else piece
            if left[0] == 0:
                raise ConnectionError("the line is cut")

    source.served.pieces = cut  # type: ignore[attr-defined]
    with pytest.raises(ConnectionError):
        download(source, target)  # type: ignore[arg-type]
    assert not (target / layout.MANIFEST).exists()
    (target / "data").mkdir(exist_ok=True)
    (target / "data/.partial-manifest.json").write_bytes(b"half")
    came = {path for path in files.walk(target) if ".partial-" not in path}
    assert came
    done = download(home(URL), target)  # type: ignore[arg-type]
    assert done.kept == len(came)
    assert contents(target) == contents(finished)


def test_damage_on_the_way_is_named_and_leaves_no_file(
    finished: Path, tmp_path: Path, memory: MemoryFileSystem
) -> None:
    send(finished, URL)
    name = "data/shards/00000.train.bin"
    content = memory.cat_file(f"/places/run/{name}")
    memory.pipe_file(f"/places/run/{name}", b"x" + content[1:])
    with pytest.raises(RemoteDiffers, match=r"00000\.train\.bin"):
        download(home(URL), tmp_path / "back")  # type: ignore[arg-type]
    assert not (tmp_path / "back" / name).exists()
    assert not (tmp_path / "back" / layout.MANIFEST).exists()


def test_a_folder_of_other_things_is_left_alone(finished: Path, tmp_path: Path) -> None:
    send(finished, URL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(FolderTaken, match=r"notes\.txt"):
        download(home(URL), tmp_path / "mine")  # type: ignore[arg-type]
    assert contents(tmp_path / "mine").keys() == {"notes.txt"}


def test_another_release_is_not_mixed_in(finished: Path, tmp_path: Path) -> None:
    send(finished, URL)
    back = tmp_path / "back"
    back.mkdir()
    (back / layout.MANIFEST).write_bytes(b"{}\n")
    with pytest.raises(FolderTaken, match="another release"):
        download(home(URL), back)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["anchor", "data/doc", "../record", "manifest.jsonl", ""])
def test_a_name_of_nothing_is_named(finished: Path, tmp_path: Path, name: str) -> None:
    send(finished, URL)
    with pytest.raises(PartUnknown, match="anchors/"):
        download(home(URL), tmp_path / "back", [name])  # type: ignore[arg-type]
    assert not (tmp_path / "back").exists()


def test_a_manifest_may_not_name_what_no_release_has(tmp_path: Path) -> None:
    content = b"import os\n"
    lines = [
        {"pellucid": 1, "run": "x", "head": "0" * 64, "files": 1, "readme": 2},
        {"path": "setup.py", "size": len(content), "sha256": hashlib.sha256(content).hexdigest()},
    ]
    body = b"".join(map(sealed.line_of, lines))
    seal = body + sealed.line_of({"sha256": hashlib.sha256(body).hexdigest()})
    system = fsspec.filesystem("memory")
    system.pipe_file("/places/run/setup.py", content)
    system.pipe_file(f"/places/run/{layout.MANIFEST}", seal)
    with pytest.raises(FormatInvalid, match=r"setup\.py"):
        download(home(URL), tmp_path / "back")  # type: ignore[arg-type]
    assert not (tmp_path / "back").exists()


def test_a_path_is_no_address(finished: Path, tmp_path: Path) -> None:
    done = pellucid("download", finished, tmp_path / "back", check=2)
    assert "is no address" in done.stderr


def test_a_sample_of_the_files_is_held_against_the_manifest(
    finished: Path, memory: MemoryFileSystem
) -> None:
    send(finished, URL)
    source: Any = home(URL)
    count = len(sealed.read(finished).files)
    assert sample(source).as_json()["files"] == count and sample(source).ok
    few = sample(source, "5%", seed=3)
    assert few == sample(source, "5%", seed=3) and few.ok
    assert few.files == math.ceil(count / 20) and few.total == count
    assert sample(source, "3").files == 3 and sample(source, "0.01%").files == 1
    assert 0 < few.bytes < few.total_bytes
    name = "/places/run/data/shards/00000.train.bin"
    memory.pipe_file(name, b"x" + memory.cat_file(name)[1:])
    memory.rm_file("/places/run/record/journal.jsonl")
    found = {(one.error, one.where) for one in sample(home(URL)).problems}  # type: ignore[arg-type]
    assert found == {
        ("FileDiffers", "data/shards/00000.train.bin"),
        ("FileMissing", "record/journal.jsonl"),
    }


@pytest.mark.parametrize("share", ["0", "0%", "101%", "-1", "5 %", "half", "1e3", "٥"])
def test_a_share_that_is_none_is_named(finished: Path, share: str) -> None:
    send(finished, URL)
    with pytest.raises(CommandInvalid, match="5%, or a number"):
        sample(home(URL), share)  # type: ignore[arg-type]


def test_verify_of_an_address_says_what_it_did_not_check(finished: Path) -> None:
    with serving(finished) as server:
        done = pellucid("verify", server.url, "--sample", "10%", "--seed", "1")
        told = json.loads(pellucid("verify", server.url, "--json").stdout)
    assert "not checked" in done.stdout and "chosen by seed 1" in done.stdout
    assert told["ok"] and told["files"] == told["total"]
    assert "is for an address" in pellucid("verify", finished, "--sample", "5%", check=2).stderr
