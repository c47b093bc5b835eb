"""Long texts in parts: where they are cut, that they stay together, what verify says."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.data import cutting, documents, parquet
from pellucid.data.cutting import Texts, cut, text_of
from pellucid.data.documents import Documents, split_of
from pellucid.data.roots import recompute_root
from pellucid.recipe import Recipe
from pellucid.store import parquet as tables
from tests.data.conftest import text_of as words_of

LONGEST = 400


def parts(text: str, longest: int) -> list[str]:
    return [part for _, _, part in cut("a", text, longest)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (
            "one two. three 3\nfo. five. six seven",
            "one two. three 3\n",
        ),  # A line's end before any other.
        ("one two three four. five six seven", "one two three four. "),  # Then a sentence's,
        ("東京の水は澄んでいるよ東京の水は。水が澄んでいる", "東京の水は澄んでいるよ東京の水は。"),
        ("one two three five sixteen twenty", "one two three five "),  # then white space.
        ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrst"),  # Nothing ends: at the limit,
        ("abcdefghijklmnopqrse\u0301xyz", "abcdefghijklmnopqrs"),  # but behind whole characters,
        ("abcdefghijklmnopqr👩\u200d🚀xyzabc", "abcdefghijklmnopqr"),
        ("abcdefghijklmnopqrs\r\nxyzabcdefg", "abcdefghijklmnopqrs"),  # and line ends.
        ("ab\ncdefghijklmnopqrstuvwxyz", "ab\ncdefghijklmnopqrs"),  # Too far before the limit.
        ("e" + "\u0301" * 30, "e" + "\u0301" * 19),  # There is no end to it.
        ("exactly twenty chars", "exactly twenty chars"),
    ],
)
def test_where_a_text_is_cut(text: str, first: str) -> None:
    assert parts(text, 20)[0] == first


def by_the_rules(text: str, longest: int) -> int:
    """Where a text is cut, by looking at every place."""
    places = range(longest - longest // 4 + 1, longest + 1)
    rules = [
        lambda p: text[p - 1] == "\n",
        lambda p: (
            (p > places[0] and text[p - 2] in ".!?" and text[p - 1] == " ") or text[p - 1] == "。"
        ),
        lambda p: text[p - 1] == " ",
        lambda p: (
            text[p] not in "\u0301\u200d"
            and text[p - 1] != "\u200d"
            and text[p - 1 : p + 1] != "\r\n"
        ),
    ]
    found = (max(fits) for rule in rules if (fits := [place for place in places if rule(place)]))
    return next(found, longest)


@pytest.mark.parametrize("seed", range(0, 300, 50))
def test_parts_add_up_and_are_cut_by_the_rules(seed: int) -> None:
    pieces = ["a", "bc", " ", "\n", ". ", "\r\n", "é", "e\u0301", "水", "。", "👩\u200d🚀", "! "]
    for number in range(seed, seed + 50):
        draw = random.Random(number)
        longest = draw.choice([1, 2, 3, 5, 20, 80])
        weights = [draw.choice([0, 1, 9]) + 0.01 for _ in pieces]
        text = "".join(draw.choices(pieces, weights, k=200))
        made = parts(text, longest)
        assert "".join(made) == text and all(made)
        at = 0
        for part in made[:-1]:
            assert len(part) == by_the_rules(text[at:], longest), (number, at)
            at += len(part)
        assert len(made[-1]) <= longest
        names = [f"x{suffix}" for _, suffix, _ in cut("x", text, longest)]
        assert len(made) == 1 or [text_of(name) for name in names] == [
            ("x", n) for n in range(1, len(made) + 1)
        ]


def test_a_name_that_ends_like_a_parts_is_numbered() -> None:
    assert list(cut("a#7", "text", 9)) == [(1, "#1", "text")]
    assert (
        text_of("s/a#7#1") == ("s/a#7", 1)
        and text_of("s/a") == ("s/a", 0)
        and text_of("s/a#0") == ("s/a#0", 0)
    )


def test_texts_are_put_together_again() -> None:
    texts, ended = Texts(), []
    for name, content in [("a", b"x"), ("b#1", b"y"), ("b#2", b"z"), ("c#1", b"v"), ("d", b"w")]:
        ended.append(texts.take(name, content))
    whole = [hashlib.sha256(content).digest() for content in (b"x", b"yz", b"v", b"w")]
    assert [one for one in [*ended, texts.digest] if one] == whole


@pytest.fixture
def recipe(tmp_path: Path, recipe_of: Callable[..., Recipe]) -> Recipe:
    """Texts of one to five parts, of which some stand twice, as a whole or in part."""
    folder = tmp_path / "long"
    folder.mkdir()
    for number in range(24):
        text = "\n".join(words_of(number * 10 + line, 30) for line in range(1 + number % 4 * 3))
        (folder / f"{number:02}.txt").write_text(text)
    (folder / "90.txt").write_text((folder / "03.txt").read_text())  # A whole text again,
    # and one that begins so.
    (folder / "91.txt").write_text((folder / "03.txt").read_text() + "\nand on it goes")
    source = {"name": "s", "path": str(folder)}
    return recipe_of(source, data={"max_document_characters": LONGEST})


def rows_of(run: Path) -> list[dict]:
    found = Documents.open(run)
    return [found.get(index) for index in range(found.count)]


def wholes(run: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in rows_of(run):
        found.setdefault(text_of(row["id"])[0], []).append(row)
    return found


def test_the_parts_of_a_text_have_one_split_and_none_is_missing(
    tmp_path: Path, recipe: Recipe, prepare: Callable[..., Path], small_parts: None
) -> None:
    run = prepare(recipe, tmp_path / "run")
    texts, sizes = wholes(run), set()
    for name, rows in texts.items():
        text = "".join(row["text"] for row in rows)
        sizes.add(len(rows))
        assert text == (tmp_path / "long" / name.removeprefix("s/")).read_text()
        assert {row["split"] for row in rows} == {
            split_of(hashlib.sha256(text.encode()).digest(), 1500)
        }
        assert all(row["text"][-1] in " \n" for row in rows[:-1])
    assert sizes > {1, 3} and {row["split"] for row in rows_of(run)} == {"train", "validation"}
    # Of texts that are the same one is kept; a part that stands in two texts is kept in both.
    assert "s/90.txt" not in texts and texts["s/91.txt"][0]["text"] == texts["s/03.txt"][0]["text"]
    assert Documents.open(run).manifest["sources"][0]["dropped"]["duplicate"] == 1
    assert recompute_root(run, recipe)[1] == []


def changed(run: Path, change: Callable[[list[dict]], None]) -> None:
    """The documents with something changed; their number stays."""
    path = run / "data/documents/00000.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    table = pa.Table.from_pylist(rows, parquet.SCHEMA)
    tables.write(path, table, dictionaries=parquet.DICTIONARIES)


def first_of_three(rows: list[dict]) -> int:
    return next(
        at
        for at, row in enumerate(rows)
        if rows[at + 2]["id"].endswith("#3") and row["id"].endswith("#1")
    )


def other_split(rows: list[dict]) -> None:
    for row in rows[(at := first_of_three(rows)) : at + 3]:
        row["split"] = "validation" if row["split"] == "train" else "train"


def split_parts(rows: list[dict]) -> None:
    row = rows[first_of_three(rows) + 1]
    row["split"] = "validation" if row["split"] == "train" else "train"


def no_split(rows: list[dict]) -> None:
    for row in rows[(at := first_of_three(rows)) : at + 3]:
        row["split"] = "neither"


def gap(rows: list[dict]) -> None:
    at = first_of_three(rows)
    rows[at + 1]["id"], rows[at + 2]["id"] = rows[at + 2]["id"], rows[at + 1]["id"]


def elsewhere(rows: list[dict]) -> None:
    at = first_of_three(rows)
    rows[at]["text"], moved = rows[at]["text"][:-9], rows[at]["text"][-9:]
    rows[at + 1]["text"] = moved + rows[at + 1]["text"]


def longer(rows: list[dict]) -> None:
    """By what another part lacks: all of them together have no more
    bytes than the manifest says."""
    first, second = rows[(at := first_of_three(rows)) : at + 2]
    first["text"], second["text"] = first["text"] + second["text"][:-1], second["text"][-1:]


def as_part(rows: list[dict]) -> None:
    row = next(row for row in rows if "#" not in row["id"])
    row["id"] += "#1"


def without_number(rows: list[dict]) -> None:
    row = next(row for row in rows if "#" not in row["id"])
    row["id"] += "#0"


def text_again(rows: list[dict]) -> None:
    """A text in the place of another of as many parts."""
    texts: dict[str, list[dict]] = {}
    for row in rows:
        texts.setdefault(text_of(row["id"])[0], []).append(row)
    first, second = [parts for parts in texts.values() if len(parts) == 3][:2]
    for row, other in zip(first, second, strict=True):
        other["text"] = row["text"]


def short_text_again(rows: list[dict]) -> None:
    """As a part, which may be like another."""
    first, second = [row for row in rows if "#" not in row["id"]][:2]
    second["text"], second["id"] = first["text"], second["id"] + "#1"


def licence(rows: list[dict]) -> None:
    rows[first_of_three(rows) + 1]["licence"] = "MIT"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_split, "its text gives another split"),
        (no_split, "its text gives another split"),
        (split_parts, "has another split"),
        (gap, "does not follow the part before it"),
        (elsewhere, "is not cut where the text gives it"),
        (longer, "is longer than max_document_characters"),
        (licence, "has another licence"),
        (as_part, "#1 is a part of a text that is not cut"),
        (without_number, "#0 has no part's number"),
        (text_again, "its text is that of another document"),
        (short_text_again, "its text is that of another document"),
    ],
)
def test_what_verify_says_of_parts_that_are_not_a_text(
    change: Callable[[list[dict]], None],
    said: str,
    tmp_path: Path,
    recipe: Recipe,
    prepare: Callable[..., Path],
) -> None:
    run = prepare(recipe, tmp_path / "run")
    changed(run, change)
    assert any(said in detail for _, detail in recompute_root(run, recipe)[1])


def test_parts_can_have_a_split_each(
    tmp_path: Path, recipe: Recipe, prepare: Callable[..., Path]
) -> None:
    """One long text, which by texts would be all training or all validation."""
    data = recipe.data.model_copy(update={"split": "parts"})
    other = recipe.model_copy(update={"data": data})
    run = prepare(other, tmp_path / "run")
    for row in rows_of(run):
        assert row["split"] == split_of(bytes.fromhex(row["sha256"]), 1500)
    assert any(len({row["split"] for row in rows}) == 2 for rows in wholes(run).values())
    assert recompute_root(run, other)[1] == []


def test_stopped_inside_a_text_it_goes_on_with_the_same_parts(
    tmp_path: Path,
    recipe: Recipe,
    content_of: Callable[[Path], dict[str, bytes]],
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parquet, "PART_BYTES", 1000)  # A text's parts lie in several files.
    documents.prepare(recipe, tmp_path / "whole")
    expected = content_of(tmp_path / "whole")
    note = documents._Stage._note
    for limit in range(1, 60, 3):
        told = 0

        def interrupting(self: documents._Stage, limit: int = limit) -> None:
            nonlocal told
            note(self)
            told += 1
            if told == limit:
                raise KeyboardInterrupt

        monkeypatch.setattr(documents._Stage, "_note", interrupting)
        run = tmp_path / f"run{limit}"
        try:
            documents.prepare(recipe, run)
        except KeyboardInterrupt:
            monkeypatch.setattr(documents._Stage, "_note", note)
            documents.prepare(recipe, run)
            assert content_of(run) == expected
        else:
            break
    assert limit > 12
    assert cutting.text_of(rows_of(tmp_path / "whole")[-1]["id"])[0] == "s/91.txt"
