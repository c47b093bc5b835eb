from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import (
    DiskFull,
    FolderTaken,
    FolderUnfit,
    FormatInvalid,
    NoPermission,
    PathUnsafe,
    RunBusy,
)
from pellucid.store import files


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "a" / "file"
    files.write_bytes(target, b"old")
    with pytest.raises(KeyError), files.whole_file(target) as partial:
        partial.write_bytes(b"half")
        raise KeyError
    assert target.read_bytes() == b"old" and files.walk(tmp_path) == ["a/file"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("old", "new"):
        with files.whole_folder(target) as partial:
            (partial / content).write_text(content)
    with pytest.raises(KeyError), files.whole_folder(target) as partial:
        (partial / "half").write_text("half")
        raise KeyError
    assert files.walk(tmp_path) == ["folder/new"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_leaves_nothing(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="target"), files.whole_file(tmp_path / "target") as partial:
        partial.write_bytes(b"half")
        raise OSError(number, os.strerror(number))
    assert files.walk(tmp_path) == []


def test_a_file_beyond_the_limit_of_the_system_is_a_full_disk(tmp_path: Path) -> None:
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path.cwd())!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from pathlib import Path
from pellucid.errors import DiskFull
from pellucid.store import files
try:
    files.write_bytes(Path({str(tmp_path)!r}) / "big", bytes(10000))
except DiskFull:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
    assert files.walk(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_denied_write_is_named(number: int, tmp_path: Path) -> None:
    with (
        pytest.raises(NoPermission, match="No permission to write"),
        files.named_errors(tmp_path / "x"),
    ):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    "entry",
    [
        "",
        ".",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "./a",
        "a/.",
        "a\\b",
        "C:/x",
        "a\0b",
        "..",
    ],
)
def test_paths_that_leave_the_folder_are_refused(entry: str, tmp_path: Path) -> None:
    with pytest.raises(PathUnsafe):
        files.inside(tmp_path, entry, "manifest.jsonl")


def test_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    for entry in ("link", "link/passwd"):
        with pytest.raises(PathUnsafe, match="symbolic link"):
            files.inside(tmp_path, entry, "manifest.jsonl")


@given(st.text(max_size=20))
def test_whatever_is_taken_lies_inside(entry: str) -> None:
    folder = Path("/somewhere/run")
    try:
        path = files.inside(folder, entry, "manifest.jsonl")
    except PathUnsafe:
        return
    assert Path(os.path.normpath(path)).is_relative_to(folder) and path != folder


def test_what_was_left_unfinished_is_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / f"{files.TEMPORARY}folder").mkdir(parents=True)
    (tmp_path / "a" / f"{files.TEMPORARY}folder" / "x").write_text("x")
    (tmp_path / "a" / f"{files.TEMPORARY}file").write_text("x")
    (tmp_path / "a" / "kept").write_text("x")
    assert len(files.remove_partial(tmp_path)) == 2
    assert files.walk(tmp_path) == ["a/kept"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b"null"])
def test_json_that_is_no_object_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(FormatInvalid, match=r"x\.json"):
        files.read_json(tmp_path / "x.json")


def test_json_over_the_limit_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"a": "' + b"x" * 100 + b'"}')
    with pytest.raises(FormatInvalid, match="larger than 50"):
        files.read_json(tmp_path / "x.json", limit=50)


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with files.locked(tmp_path), pytest.raises(RunBusy), files.locked(tmp_path):
        pass
    with files.locked(tmp_path):
        pass


def test_links_share_and_the_walk_is_sorted(tmp_path: Path) -> None:
    files.write_text(tmp_path / "b", "x")
    files.link_or_copy(tmp_path / "b", tmp_path / "a")
    files.write_text(tmp_path / "a.d" / "é", "x")
    (tmp_path / "z").symlink_to("b")
    assert files.walk(tmp_path) == ["a", "a.d/é", "b", "z"]
    assert (tmp_path / "a").samefile(tmp_path / "b")


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name, detail in (
        ("file/x/y", "file is a file"),
        ("file", "is a file"),
        ("link/x", "link is not a folder"),
    ):
        with pytest.raises(FolderUnfit, match=f"Cannot make {tmp_path / name}: .*{detail}"):
            files.require_free(tmp_path / name)
        with (
            pytest.raises((FolderUnfit, FolderTaken)),
            files.new_folder(tmp_path / name) as partial,
        ):
            (partial / "a").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(FolderUnfit, match="end with a name"):
        files.require_free(Path())
    files.require_free(tmp_path / "some" / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "empty",
        "file",
        "link",
    ]  # What was tried is gone.


def test_a_new_folder_lies_where_a_link_to_an_empty_one_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with files.new_folder(tmp_path / "link") as partial:
        (partial / "a").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "a").is_file()


@pytest.mark.parametrize("place", ["more/..", ".."])
def test_a_folder_without_a_name_of_its_own_is_taken(place: str, tmp_path: Path) -> None:
    with pytest.raises(FolderTaken), files.new_folder(tmp_path / place):
        pass
