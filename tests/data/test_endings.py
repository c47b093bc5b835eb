"""Which files of a folder a format takes by their names."""

from __future__ import annotations

import gzip
import lzma

import pytest

from pellucid.data import endings, sources
from pellucid.recipe import Source


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.TXT", "txt"),
        ("b/Notes.Md.GZ", "md"),
        ("x.gz", ""),
        ("Makefile", ""),
        (".txt", ""),
        ("a.tar.xz", "tar"),
    ],
)
def test_endings(name, ending):
    assert endings.of(name) == ending


def test_a_folder_gives_files_of_any_case_and_packing(tmp_path):
    for name, content in {
        "a.TXT": b"a",
        "b.txt.gz": gzip.compress(b"b"),
        "c.md.xz": lzma.compress(b"c"),
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "README").write_bytes(b"not taken beside others")
    (tmp_path / "d.png").write_bytes(b"d")
    reader = sources.Reader(Source(name="s", path=str(tmp_path)), "replace", 99, tmp_path)
    assert [document.text for document, _ in reader.documents()] == ["a", "b", "c"]
    assert reader.left.examples == {"not_included": ("README", "d.png")}


def test_files_without_ending_are_taken_where_there_is_nothing_else(tmp_path):
    for name in ("README", "part1", "x.png"):
        (tmp_path / name).write_text(name)
    reader = sources.Reader(Source(name="s", path=str(tmp_path)), "replace", 99, tmp_path)
    assert [document.text for document, _ in reader.documents()] == ["README", "part1"]
