"""What a recipe says of its sources, held against the names of the documents: by
verify, without the sources."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid.data import parquet, sources
from pellucid.data.claims import Claims
from pellucid.data.globs import Glob
from pellucid.data.roots import recompute_root
from pellucid.errors import RecipeInvalid
from pellucid.recipe import Recipe, Source
from tests.data.conftest import text_of

ROW = parquet.Row(0, "", "s", "MIT", "", "", "train", 1, 1, "", "x")


def told(source: Source, named: list[tuple[str, str]]) -> list[str]:
    claims = Claims(source)
    found = (claims.wrong(ROW._replace(id=name, origin=origin)) for name, origin in named)
    return [wrong for wrong in found if wrong]


def read(source: Source, longest: int = 9) -> list[tuple[str, str]]:
    reader = sources.Reader(source, "replace", longest, Path())
    return [(one.id, one.origin) for one, _ in reader.documents()]


CONTENT = {
    "text": "a text that is cut into parts\n",
    "lines": "one line\nanother one that is long enough to be cut\n\nlast",
    "jsonl": '{"text": "one that is cut"}\n{"text": "two"}\n',
    "fasta": ">a:b.fa:7\nACGTACGTACGTACGT\n>a:b.fa:7\nACGTTTTTACGTACGT\n>\nACGTACGTAAAAAAAA\n",
}
NAMES = {"text": "txt", "lines": "txt", "jsonl": "jsonl", "fasta": "fa"}


@pytest.mark.parametrize("format", CONTENT)
def test_what_is_read_contradicts_no_claim(format: Any, tmp_path: Path) -> None:
    """A folder with odd names, one of names without endings, one with
    patterns, and a file by itself."""
    end = NAMES[format]
    odd = [
        f"a.{end}",
        f"x/b#7.{end}",
        f"x:7.{end}",
        f"y\\z.{end}",
        os.fsdecode(b"\xff.") + end,
        f"x/y/c.{end}",
    ]
    for folder, names in {
        "odd": odd,
        "bare": ["README", "x/NOTES:7"],
        "one": ["odd.xyz", ".hidden"],
    }.items():
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(CONTENT[format])
    (tmp_path / f"odd/d.{end}#3").write_text(CONTENT[format])
    cases: dict[str, dict[str, Any]] = {
        "odd": {},
        "one/odd.xyz": {"exclude": ("*",)},
        "one/.hidden": {},
        "one": {"include": ("*.xyz",)},
        "bare": {},
        "odd/": {"include": ("*#3", "x/**"), "exclude": ("**/y/*",)},
    }
    for path, options in cases.items():
        source = Source(name="s", path=str(tmp_path / path), format=format, **options)
        named = read(source)
        assert named and told(source, named) == [], path


CLAIMED: dict[str, tuple[dict[str, Any], list[tuple[str, str]], str]] = {
    "lines for a text": (
        {"format": "lines"},
        [("s/a.txt", "a.txt")],
        "no name that the format lines gives",
    ),
    "fasta for a text": (
        {"format": "fasta"},
        [("s/a.fa", "a.fa")],
        "no name that the format fasta gives",
    ),
    "a text for lines": (
        {"format": "text"},
        [("s/a.txt:1", "a.txt:1"), ("s/a.txt:2", "a.txt:2")],
        "not included",
    ),
    "a line in no number": ({"format": "jsonl"}, [("s/a.jsonl:07", "a.jsonl:07")], "no name"),
    "jsonl for lines": (
        {"format": "jsonl"},
        [("s/a.txt:1", "a.txt:1"), ("s/b.txt:1", "b.txt:1")],
        "'b.txt', or the one before it, is not included",
    ),
    "no package": (
        {"format": "package", "licence": "unknown"},
        [("s/a.py", "a.py")],
        "in the one package",
    ),
    "two packages": (
        {"format": "package"},
        [("s/a.py", "pkg:pypi/a@1#a.py"), ("s/b.py", "pkg:pypi/b@1#b.py")],
        "in the one package",
    ),
    "another file of the package": (
        {"format": "package"},
        [("s/a.py", "pkg:pypi/a@1#b.py")],
        "in the one package",
    ),
    "tests of a package": (
        {"format": "package"},
        [("s/a/tests/b.py", "pkg:pypi/a@1#a/tests/b.py")],
        "excluded by the recipe",
    ),
    "a package for a folder": ({}, [("s/a.py", "pkg:pypi/a@1#a.py")], "its origin is"),
    "another package": (
        {"format": "package", "path": "package:openwebtext"},
        [("s/a.py", "pkg:pypi/a@1#a.py")],
        "its origin 'pkg:pypi/a@1#a.py' is not of 'package:openwebtext'",
    ),
    "a package whose name begins so": (
        {"format": "package", "path": "package:a"},
        [("s/a.py", "pkg:pypi/a-b@1#a.py")],
        "is not of",
    ),
    "another version of it": (
        {"format": "package", "path": "package:a==1"},
        [("s/a.py", "pkg:pypi/a@1.1#a.py")],
        "is not of",
    ),
    "a folder for a package": (
        {"format": "package", "path": "a"},
        [("s/a.py", "pkg:pypi/a@1#a.py")],
        "is not of 'a'",
    ),
    "a text of a package": (
        {"path": "package:a"},
        [("s/a.txt", "a.txt")],
        "'package:a', and its format text",
    ),
    "another origin": ({}, [("s/a.txt", "b.txt")], "its origin is"),
    "not included": (
        {"include": ("*.md",)},
        [("s/x/a.txt", "x/a.txt")],
        "not included by the recipe",
    ),
    "excluded": (
        {"exclude": ("x/**",)},
        [("s/a.txt", "a.txt"), ("s/x/a.txt", "x/a.txt")],
        "excluded by the recipe",
    ),
    "a path that no path reads as": (
        {},
        [("s/a\\b.txt", "a\\b.txt")],
        "no name that the format text gives",
    ),
    "files without endings": ({}, [("s/a.txt", "a.txt"), ("s/b", "b")], "and files without"),
}


@pytest.mark.parametrize("path", ["", "package:My_Own.Name", "package:my-own-name==1.0"])
def test_a_package_is_named_by_any_of_its_spellings(path: str) -> None:
    source = Source(name="s", format="package", path=path)
    assert told(source, [("s/a/b.py", "pkg:pypi/my-own-name@1.0#a/b.py")]) == []


@pytest.mark.parametrize("what", CLAIMED)
def test_a_claim_that_the_names_contradict_is_named(what: str) -> None:
    claim, named, said = CLAIMED[what]
    assert [one for one in told(Source(name="s", **claim), named) if said in one]


@pytest.mark.parametrize(
    "claim",
    [{"format": "lines"}, {"format": "package", "licence": "unknown"}, {"include": ("*.rst",)}],
)
def test_verify_names_the_document(
    claim: dict[str, Any],
    tmp_path: Path,
    recipe_of: Callable[..., Recipe],
    prepare: Callable[..., Path],
) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(30):
        (tmp_path / "texts" / f"{number}.txt").write_text(text_of(number))
    source = {"name": "s", "path": str(tmp_path / "texts")}
    honest = recipe_of(source)
    run = prepare(honest, tmp_path / "run")
    assert recompute_root(run, honest)[1] == []
    problems = recompute_root(run, recipe_of({**source, **claim}))[1]
    assert any(
        "00000.parquet" in where and "document 1: " in detail for where, detail in problems
    ), problems


# ---- patterns ----------------------------------------------------------------------------------


def by_expression(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, which tries every way."""
    special = {
        "**/": "(?:.*/)?",
        "**": ".*",
        "*": "[^/]*",
        "?": "[^/]",
        "[ab]": "[ab]",
        "[!a]": "[^a/]",
    }
    pattern = pattern if "/" in pattern else f"**/{pattern}"
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[ab\]|\[!a\]|.", pattern)
    return re.compile("".join(special.get(token) or re.escape(token) for token in tokens))


def test_patterns_match_as_a_regular_expression_does() -> None:
    chance, matched = random.Random(1), 0
    for _ in range(3000):
        pattern = "".join(
            chance.choices(
                ["*", "**", "**/", "/", "a", "b", "?", "[ab]", "[!a]", "."], k=chance.randint(0, 6)
            )
        )
        for _ in range(5):
            path = "".join(chance.choices("aab//.", k=chance.randint(0, 7)))
            matches = bool(by_expression(pattern).fullmatch(path))
            assert Glob(pattern).matches(path) == matches, (pattern, path)
            matched += matches
    assert matched > 1000


def test_patterns_take_time_in_the_length_of_a_path() -> None:
    """A regular expression would take it in a power of it, with as many stars."""
    started = time.process_time()
    for pattern in ("*a" * 3000 + "b", "**/" * 3000 + "b", "**/a/" * 1500 + "b", "[!b]" * 3000):
        for path in ("a" * 4000, "a/" * 2000 + "c", "a/b" * 1000 + "c"):
            assert not Glob(pattern).matches(path + ("b" if pattern.startswith("[") else ""))
    assert time.process_time() - started < 4


def test_an_empty_range_takes_nothing() -> None:
    assert not Glob("[z-a]").matches("m") and Glob("[a-z]").matches("x/m")
    for pattern, empty in (
        ("x/[z-a]*", "[z-a]"),
        ("[ab][c-dz-a]", "[c-dz-a]"),
        ("a[]", "[]"),
        ("[!]", "[!]"),
    ):
        assert Glob(pattern).empty == empty
    assert not any(
        Glob(pattern).empty for pattern in ("[a-z]", "[!a]*", "[[]x", "[]]", "a[b", "**/[^a]", "*]")
    )


@pytest.mark.parametrize("field", ["include", "exclude"])
def test_a_pattern_that_takes_nothing_is_named(
    tmp_path: Path, recipe_of: Callable[..., Recipe], field: str
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "m.txt").write_text("text")
    source = {"name": "s", "path": "texts", field: ("*.md", "[z-a].txt")}
    with pytest.raises(
        RecipeInvalid,
        match=rf"data\.sources\.s\.{field}: \[z-a\]\.txt matches no path, as \[z-a\]",
    ):
        sources.check(recipe_of(source), tmp_path)
