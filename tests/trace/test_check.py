"""verify over the index: each thing that can be wrong with it is told, and
an honest one is not blamed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.data.streams import COLUMNS, ROW
from pellucid.errors import FormatInvalid, PellucidError
from pellucid.recipe import load as load_recipe
from pellucid.release.verify import verify
from pellucid.trace import index
from pellucid.trace.check import check
from pellucid.trace.where import Traced
from pellucid.trace.words import Words
from tests.forgery.forge import edit_table


def problems(folder: Path) -> list[str]:
    report = verify(folder, lambda what: None)
    return [f"{one.error} {one.where}: {one.detail}" for one in report.problems]


def test_an_honest_index_is_not_blamed(twice: Path) -> None:
    assert problems(twice) == []
    assert "index" in verify(twice, lambda what: None).checked


Damage = Callable[[Path], object]


def change(name: str, kind: str, edit: Callable[[np.ndarray], object]) -> Damage:
    def done(folder: Path) -> None:
        path = folder / "trace" / name
        values = np.fromfile(path, kind)
        edit(values)
        values.tofile(path)

    return done


def swap(values: np.ndarray) -> None:
    values[[50, 900]] = values[[900, 50]]


def neighbours(values: np.ndarray) -> None:
    values[[200, 201]] = values[[201, 200]]


def manifest(edit: Callable[[dict[str, Any]], object]) -> Damage:
    def done(folder: Path) -> None:
        path = folder / "trace" / "manifest.json"
        value = json.loads(path.read_text())
        edit(value)
        path.write_text(json.dumps(value))

    return done


def beyond(every: int | None) -> Damage:
    """Tokens of a shard that no vocabulary has: one of them, or all behind the first."""

    def done(folder: Path) -> None:
        for path in sorted((folder / "data" / "shards").glob("*.train.bin")):
            values = np.fromfile(path, "<u2")
            values[len(values) // 2 if every else slice(1, None)] = 60_000
            values.tofile(path)

    return done


DAMAGE: dict[str, tuple[Damage, str]] = {
    "two suffixes change places": (change("00000.positions", "V3", swap), "positions"),
    "two neighbours change places": (change("00000.positions", "V3", neighbours), "positions"),
    "a text is hidden": (
        change("00000.positions", "V3", lambda v: v.__setitem__(7, v[8])),
        "positions",
    ),
    "a position behind the end": (
        change("00000.positions", "V3", lambda v: v.__setitem__(7, np.void(b"\xff\xff\xff"))),
        "positions",
    ),
    "a table that sends elsewhere": (
        change("00000.top", "u1", lambda v: v.__setitem__(0, 255 - v[0])),
        "top",
    ),
    "a key that sends elsewhere": (
        change("00000.keys", "u1", lambda v: v.__setitem__(32, 255 - v[32])),
        "keys",
    ),
    "another byte before a suffix": (
        change("00000.before", "u1", lambda v: v.__setitem__(9, 255 - v[9])),
        "before",
    ),
    "another count": (
        change("00000.counts", "<u4", lambda v: v.__setitem__(slice(None), v[::-1].copy())),
        "counts",
    ),
    "a file cut short": (lambda f: (f / "trace" / "00000.top").write_bytes(b""), "top"),
    "a file gone": (lambda f: (f / "trace" / "00000.positions").unlink(), "positions"),
    "a piece gone": (manifest(lambda m: m["pieces"].pop()), "manifest"),
    "a piece twice": (manifest(lambda m: m["pieces"].append(m["pieces"][0])), "manifest"),
    "another piece first": (manifest(lambda m: m["pieces"].reverse()), "manifest"),
    "a kind nobody knows": (manifest(lambda m: m["pieces"][0].update(kind="magic")), "manifest"),
    "a piece of text without one": (manifest(lambda m: m["pieces"][0].update(kind="text")), "0000"),
    "other tables": (manifest(lambda m: m.update(every=1)), "manifest"),
    "a token beyond the vocabulary": (beyond(1), "positions"),
    "tokens beyond the vocabulary alone": (beyond(None), "positions"),
    "of other data": (manifest(lambda m: m.update(recipe="0" * 64)), "manifest"),
    "a number that is none": (manifest(lambda m: m["pieces"][0].update(stop="many")), "manifest"),
    "a shard that is not there": (manifest(lambda m: m["pieces"][0].update(shard=99)), "manifest"),
    "a piece that ends inside a document": (
        manifest(lambda m: m["pieces"][0].update(stop=5)),
        "manifest",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_told_and_searching_it_gives_no_other_error(what: str, indexed: Path) -> None:
    damage, where = DAMAGE[what]
    damage(indexed)
    told = problems(indexed)
    assert any("trace/" in one and where in one for one in told), told
    try:
        traced = Traced(indexed)
        for query in ("the river", "e", "東京の水", "ght"):
            traced.where(query, before=50)
            traced.where(query)
    except PellucidError:
        pass  # Named: what a search over a damaged index finds is not promised.


def test_where_tokens_begin_is_computed_again(
    indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an index that keeps the text, as where tokens have no bytes of their own."""
    monkeypatch.setattr(Words, "of", staticmethod(lambda tokenizer: None))
    (indexed / "trace" / "manifest.json").unlink()
    assert index.prepare(load_recipe(indexed), indexed)
    assert list(check(indexed)) == []
    change("00000.starts", "<u4", lambda v: v.__setitem__(5, v[5] + 1))(indexed)
    told = [problem for problem in check(indexed) if problem.where.endswith("00000.starts")]
    assert [problem.error for problem in told] == ["DataDiffers"]


@pytest.mark.parametrize("field", ["format", "recipe", "every", "key", "pieces"])
def test_no_field_of_the_manifest_may_say_anything_else(field: str, indexed: Path) -> None:
    manifest(lambda m: m.update({field: [] if field == "pieces" else "0" * 64}))(indexed)
    assert any("trace/manifest.json" in one for one in problems(indexed))


def test_a_text_beside_the_tokens_of_another_is_told(indexed: Path) -> None:
    """Of the same length, so that nothing but its bytes can tell; the index made anew from it."""

    def turned(row: dict[str, Any]) -> str:
        return row["text"][1:] + row["text"][:1] if row["index"] == 3 else row["text"]

    edit_table(indexed / "data/documents/00000.parquet", "text", turned)
    (indexed / "trace" / "manifest.json").unlink()
    assert index.prepare(load_recipe(indexed), indexed)
    assert any(
        "its tokens are not those of its documents' texts" in one.detail for one in check(indexed)
    )


def test_sizes_that_no_text_has_are_refused_before_pieces_are_planned(indexed: Path) -> None:
    """By them alone a table of one row could ask for any number of pieces."""
    (path, *_) = (indexed / "data/shards").glob("*.validation.documents.bin")
    table = np.fromfile(path, ROW).reshape(-1, COLUMNS)
    table[0, 2] = 2**53
    table.tofile(path)
    with pytest.raises(FormatInvalid, match=r"its texts have more than 1,099,511,627,776 bytes"):
        index.pieces(indexed)
    assert any("which no part has" in one for one in problems(indexed))
