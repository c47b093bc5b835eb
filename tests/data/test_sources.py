"""Folders, patterns, ids, cursors, packages, and what `check` finds before long work."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import sys
from pathlib import Path

import pytest

from pellucid.data import sources
from pellucid.errors import (
    NoPermission,
    PackageDiffers,
    PackageMissing,
    RecipeInvalid,
    SourceEmpty,
    SourceMissing,
    TokenizerInvalid,
)
from pellucid.recipe import Source
from pellucid.settings import settings_of


def reader(folder, longest=10**6, policy="replace", **fields) -> sources.Reader:
    return sources.Reader(Source(name="s", path=str(folder), **fields), policy, longest, folder)


def ids(folder, **fields) -> list[str]:
    return [document.id for document, _ in reader(folder, **fields).documents()]


def put(folder, **contents: str) -> None:
    for name, content in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_files_are_read_in_the_order_of_their_paths_as_bytes(tmp_path):
    expected = [
        "B.txt",
        "a-b.txt",
        "a.txt",
        "a/b/c.md",
        "a/z.txt",
        "b.txt",
        "é.txt",
        "\uffee.txt",
        "\U00010000.txt",
    ]
    for name in reversed(expected):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert ids(tmp_path) == [f"s/{name}" for name in expected]


def test_links_hidden_names_and_other_endings_are_counted(tmp_path):
    put(tmp_path, a_txt="a", image_png="b", _hidden_txt="c", _git__x_txt="d", sub__e_md="e")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "folder").symlink_to(tmp_path / "sub")
    os.mkfifo(tmp_path / "pipe.txt")
    found = reader(tmp_path)
    assert [document.id for document, _ in found.documents()] == ["s/a.txt", "s/sub/e.md"]
    assert found.left.counts == {"not_included": 1, "hidden": 2, "link": 2, "not_a_file": 1}


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.c",), (), ["a.c", "x/a.c", "x/y/a.c"]),
        (("x/*.c",), (), ["x/a.c"]),
        (("x/**",), (), ["x/a.c", "x/a.h", "x/y/a.c"]),
        (("**/y/*",), (), ["x/y/a.c"]),
        (("**/a.?",), ("x/**",), ["a.c", "a.h"]),
        (("[!b].[ch]",), ("**/*.h",), ["a.c", "x/a.c", "x/y/a.c"]),
        (("A.c",), (), []),
        ((), ("*.h", "y/**"), ["a.c", "x/a.c", "x/y/a.c"]),
        ((), ("**/y/**",), ["a.c", "a.h", "x/a.c", "x/a.h"]),
        (("a.c+",), (), []),
    ],
)
def test_patterns(tmp_path, include, exclude, expected):
    put(tmp_path, a_c="1", a_h="2", x__a_c="3", x__a_h="4", x__y__a_c="5")
    assert ids(tmp_path, include=include, exclude=exclude) == [f"s/{name}" for name in expected]


def test_a_single_file_is_read_whatever_its_ending(tmp_path):
    put(tmp_path, odd_xyz="one\ntwo\n")
    assert ids(tmp_path / "odd.xyz") == ["s/odd.xyz"]
    assert ids(tmp_path / "odd.xyz", format="lines") == ["s/odd.xyz:1", "s/odd.xyz:2"]


def test_origins_are_relative(tmp_path):
    put(tmp_path, x__y_txt="one")
    found = [document.origin for document, _ in reader(tmp_path).documents()]
    assert found == ["x/y.txt"]


def test_long_documents_are_cut_at_exact_character_counts(tmp_path):
    (tmp_path / "a.txt").write_text("é" * 10 + "😀" * 5)
    (tmp_path / "a.txt#1").write_text("short")
    found = [document for document, _ in reader(tmp_path, longest=5, include=("a*",)).documents()]
    assert [(document.id, document.text) for document in found] == [
        ("s/a.txt#1", "é" * 5),
        ("s/a.txt#2", "é" * 5),
        ("s/a.txt#3", "😀" * 5),
        ("s/a.txt#1#1", "short"),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 exist on Linux")
def test_names_that_are_not_utf8_get_readable_unique_ids(tmp_path):
    for name in (b"a\xff.txt", b"a\\xff.txt", b"a\\\\xff.txt"):
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    found = ids(tmp_path)
    assert len(set(found)) == 3
    assert "s/a\\xff.txt" in found


@pytest.mark.parametrize("format", ["text", "lines", "fasta"])
def test_reading_goes_on_behind_any_cursor(tmp_path, format):
    for number in range(3):
        records = "\n".join(
            f">r\n{number}{i}abcdef" if format == "fasta" else f"{number}{i}abcdef\n"
            for i in range(4)
        )
        (tmp_path / f"{number}.txt").write_text(records)
    (tmp_path / "bad.txt").write_bytes(b"\0")
    options = {"longest": 5, "format": format, "include": ("*",)}
    whole = reader(tmp_path, **options)
    every, counts = [], []
    for document, cursor in whole.documents():
        every.append((document, cursor))
        counts.append(dict(whole.left.counts))
    assert len(every) > 8
    for number, (_, cursor) in enumerate(every):
        again = reader(tmp_path, **options)
        again.left.counts.update(counts[number])
        assert list(again.documents(cursor)) == every[number + 1 :]
        assert again.left.counts == whole.left.counts


def test_counts_do_not_grow_by_reading_again(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff" * 12)
    (tmp_path / "b.png").write_bytes(b"")
    whole = reader(tmp_path, longest=5)
    (_, cursor), *rest = whole.documents()
    again = reader(tmp_path, longest=5)
    again.left.counts.update({"invalid_utf8_replaced": 1})
    assert list(again.documents(cursor)) == rest
    assert again.left.counts == whole.left.counts == {"invalid_utf8_replaced": 1, "not_included": 1}


# ---- check -------------------------------------------------------------------------------------


def test_missing_sources_are_named(tmp_path, recipe_of):
    for path in ("nowhere", ""):
        with pytest.raises(SourceMissing, match="books"):
            sources.check(recipe_of({"name": "books", "path": path}), tmp_path)


def test_a_folder_without_a_fitting_file_is_named_with_its_drops(tmp_path, recipe_of):
    put(tmp_path, texts__a_png="x", texts___b="y")
    with pytest.raises(SourceEmpty, match="hidden: 1, not_included: 1"):
        sources.check(recipe_of({"name": "books", "path": "texts"}), tmp_path)


def test_the_endings_that_are_there_are_told_with_the_setting_that_takes_them(tmp_path, recipe_of):
    put(tmp_path, texts__a_txt=">x\nACGT\n", texts__b_txt=">y\nACGT\n", texts__c_seq=">z\nACGT\n")
    source = {"name": "genes", "path": "texts", "format": "fasta"}
    with pytest.raises(SourceEmpty) as caught:
        sources.check(recipe_of(source), tmp_path)
    words = shlex.split(str(caught.value).rpartition(": ")[2])
    assert words == ["--set", 'data.sources.genes.include=["*.txt", "*.seq"]']
    included = settings_of(words[1:])["data.sources.genes.include"]
    sources.check(recipe_of({**source, "include": tuple(included)}), tmp_path)
    with pytest.raises(SourceEmpty, match=r"the include patterns\.$"):
        sources.check(recipe_of({**source, "include": ("*.fa",)}), tmp_path)


def test_paths_begin_at_the_run_folder(tmp_path, recipe_of):
    put(tmp_path, texts__a_txt="x")
    (tmp_path / "run").mkdir()
    sources.check(recipe_of({"name": "books", "path": "../texts"}), tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path, recipe_of):
    put(tmp_path, texts__a_txt="x")
    (tmp_path / "texts").chmod(0)
    try:
        with pytest.raises(NoPermission):
            sources.check(recipe_of({"name": "books", "path": "texts"}), tmp_path)
    finally:
        (tmp_path / "texts").chmod(0o755)


def test_no_permission_as_the_system_reports_it(tmp_path, monkeypatch):
    put(tmp_path, texts__a_txt="x")

    def denied(path):
        raise PermissionError(13, "denied", str(path))

    monkeypatch.setattr(sources.os, "scandir", denied)
    with pytest.raises(NoPermission, match="texts"):
        ids(tmp_path / "texts")


def test_an_unusable_tokenizer_is_found_before_any_work(tmp_path, recipe_of):
    put(tmp_path, texts__a_txt="x", tokenizer_json="{}")
    recipe = recipe_of(
        {"name": "books", "path": "texts"}, tokenizer={"kind": "file", "path": "tokenizer.json"}
    )
    with pytest.raises(TokenizerInvalid):
        sources.check(recipe, tmp_path)


# ---- packages ----------------------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A small distribution "Some.Pkg" 1.2 on the path; returns a
    function that writes its RECORD."""
    site = tmp_path / "site"
    contents = {
        "some/b.py": "b = 1\n",
        "some/a.py": "a = 1\n",
        "some/notes.md": "notes",
        "some/tests/test_a.py": "test",
        "some/testing/x.py": "test",
        "some/data.bin": "no",
        "Some.Pkg-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: Some.Pkg\n"
        "Version: 1.2\nLicense: MIT\n",
        "Some.Pkg-1.2.dist-info/top_level.txt": "some\n",
    }
    rows: dict[str, str] = {}
    for name, text in contents.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        digest = (
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        )
        rows[name] = f"{name},sha256={digest},{len(text)}"
    rows["../../bin/some.py"] = "../../bin/some.py,sha256=AAAA,3"
    monkeypatch.syspath_prepend(str(site))

    def record(**changes: str):
        lines = [
            changes.get(name.rsplit("/")[-1].replace(".", "_"), row) for name, row in rows.items()
        ]
        (site / "Some.Pkg-1.2.dist-info/RECORD").write_text("\n".join(lines) + "\n")
        return site

    record()
    return record


def package(path: str, **fields) -> sources.Reader:
    return sources.Reader(
        Source(name="s", path=path, format="package", **fields), "replace", 10**6, Path()
    )


def test_a_package_gives_its_own_source_files(installed):
    found = package("package:some.pkg==1.2")
    assert [
        (document.id, document.origin, document.licence) for document, _ in found.documents()
    ] == [
        ("s/some/a.py", "pkg:pypi/some-pkg@1.2#some/a.py", "MIT"),
        ("s/some/b.py", "pkg:pypi/some-pkg@1.2#some/b.py", "MIT"),
        ("s/some/notes.md", "pkg:pypi/some-pkg@1.2#some/notes.md", "MIT"),
    ]
    assert found.left.counts == {"not_included": 1, "excluded": 2}
    assert package("package:some.pkg", licence="X").licence == "X"


def test_tests_can_be_included(installed):
    found = package("package:some.pkg", exclude=("nothing",))
    assert "s/some/tests/test_a.py" in [document.id for document, _ in found.documents()]


def test_packages_that_differ_are_refused(installed):
    with pytest.raises(PackageMissing, match="no-such-package"):
        package("package:no-such-package")
    with pytest.raises(PackageDiffers, match=r"1\.2, not 1\.3"):
        package("package:some.pkg==1.3")
    with pytest.raises(RecipeInvalid, match="package:NAME"):
        package("some.pkg")
    site = installed(a_py="some/a.py,,6")
    with pytest.raises(PackageDiffers, match="no SHA-256"):
        list(package("package:some.pkg").documents())
    installed()
    (site / "some/a.py").write_text("a = 2\n")
    with pytest.raises(PackageDiffers, match=r"some/a\.py"):
        list(package("package:some.pkg").documents())
    (site / "some/a.py").unlink()
    with pytest.raises(PackageDiffers, match="is missing"):
        list(package("package:some.pkg").documents())
    (site / "Some.Pkg-1.2.dist-info/RECORD").unlink()
    with pytest.raises(PackageDiffers, match="RECORD"):
        list(package("package:some.pkg").documents())
