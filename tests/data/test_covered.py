"""What validation covers: whole documents, chosen by their texts and from all over a source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.data.covered import Covered, covered
from pellucid.data.documents import Documents
from pellucid.data.shards import Shards
from pellucid.data.streams import ROW
from pellucid.errors import FormatInvalid
from pellucid.recipe import Recipe
from tests.data.conftest import text_of


def by_text(run: Path, source: str, least: int) -> list[dict[str, Any]]:
    """The documents that should be covered, by the plainest way."""
    documents = Documents.open(run)
    rows = [documents.get(index) for index in range(documents.count)]
    rows = [row for row in rows if (row["source"], row["split"]) == (source, "validation")]
    rows.sort(key=lambda row: hashlib.sha256(row["text"].encode()).digest()[8:16])
    chosen, tokens = [], 0
    for row in rows:
        if tokens < max(least, 2):
            chosen.append(row)
            tokens += 1 + row["bytes"]
    return sorted(chosen, key=lambda row: row["index"])


def test_covers_whole_documents_in_the_order_of_their_texts(
    run: Path, streams_of: Callable[[Path], Any]
) -> None:
    opened, expected = Shards.open(run), streams_of(run)
    for stream in opened.validation:
        ids, begins = expected[stream.source, "validation"]
        stops = [*(begin for _, begin in begins[1:]), len(ids)]
        ends = {index: end for (index, _), end in zip(begins, stops, strict=True)}
        first = dict(begins)
        for least in [*range(1, stream.tokens + 50, 7), 2**63 - 1]:
            rows, found = by_text(run, stream.source, least), Covered(stream, least)
            assert found.documents.tolist() == [row["index"] for row in rows]
            joined = [
                (row["index"], one)
                for row in rows
                for one in ids[first[row["index"]] : ends[row["index"]]]
            ]
            assert (found.tokens, found.bytes) == (len(joined), sum(row["bytes"] for row in rows))
            for start, stop in ((0, len(joined)), (1, 2), (len(joined) // 3, len(joined) // 2 + 1)):
                owners, tokens = zip(*joined[start:stop], strict=True)
                assert tuple(found.read(start, stop)) == tokens
                assert tuple(found.documents_at(start, stop)) == owners


def test_covers_the_whole_range_of_a_source(
    tmp_path: Path, recipe_of: Callable[..., Recipe], prepare: Callable[..., Path]
) -> None:
    """A thousand files in the order of their names, of which a tenth of the validation is covered:
    not the first tenth of them, whatever the seed."""
    (tmp_path / "texts").mkdir()
    for number in range(1000):
        (tmp_path / f"texts/{number:04d}.txt").write_text(text_of(number, 20))
    found = []
    for seed in (1, 2):
        recipe = recipe_of(
            {"name": "s", "path": str(tmp_path / "texts")},
            seed=seed,
            validation={"tokens": 2000},
            data={"validation_per_10000": 2000},
        )
        run = prepare(recipe, tmp_path / f"run{seed}")
        (one,) = covered(Shards.open(run), recipe)
        assert 2000 <= one.tokens < 2200
        found.append([Documents.open(run).get(index)["id"] for index in one.documents.tolist()])
    assert found[0] == found[1]
    numbers = [int(name.removeprefix("s/").removesuffix(".txt")) for name in found[0]]
    assert len(numbers) > 12 and numbers[0] < 250 and numbers[-1] > 750
    assert np.histogram(numbers, bins=4, range=(0, 1000))[0].min() >= 1


def test_a_corpus_that_grows_keeps_most_of_what_it_is_measured_by(
    tmp_path: Path, recipe_of: Callable[..., Recipe], prepare: Callable[..., Path]
) -> None:
    (tmp_path / "texts").mkdir()
    names = []
    for count in (400, 440):
        for number in range(count):
            place = tmp_path / f"texts/{number if number < 400 else 'A' + str(number)}.txt"
            place.write_text(text_of(number, 20))
        recipe = recipe_of(
            {"name": "s", "path": str(tmp_path / "texts")}, validation={"tokens": 2000}
        )
        run = prepare(recipe, tmp_path / f"run{count}")
        (one,) = covered(Shards.open(run), recipe)
        names.append({Documents.open(run).get(index)["id"] for index in one.documents.tolist()})
    assert len(names[0] & names[1]) >= 0.7 * len(names[0])


@pytest.mark.parametrize("change", [(0, 1, 1), (1, 1, 0), (2, 1, 2**63), (1, 1, 2**40)])
def test_a_table_that_does_not_ascend_is_named(run: Path, change: tuple[int, int, int]) -> None:
    path = Shards.open(run).validation[0].shards[0].table_path
    table = np.fromfile(path, ROW).reshape(-1, 4)
    row, column, value = change
    table[row, column] = value
    path.write_bytes(table.tobytes())
    with pytest.raises(FormatInvalid, match=path.name):
        Covered(Shards.open(run).validation[0], 10)
