"""Every number that is shown of what was recorded is the one that SQL
gives over the same tables."""

from __future__ import annotations

import itertools
import math
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import pellucid
from pellucid.data.documents import Documents
from pellucid.data.order import blocks_of
from pellucid.data.parquet import Part
from pellucid.errors import DocumentUnknown
from pellucid.look import seen
from pellucid.look.show import Shown
from pellucid.recipe import Fork, load
from pellucid.store import metrics, parquet
from pellucid.trace.where import Traced
from tests.conftest import finish
from tests.trace.conftest import make

STEPS = 320
EVERY = 8  # Steps of a part, where a run that goes on has its tables in parts.


@pytest.fixture(scope="module")
def long(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several hundred steps, six passes over a source that stands
    twice in each. Only to be read."""
    settings = ["data.sources.water.weight=2", f"train.steps={STEPS}", "tokenizer.vocabulary=500"]
    settings += ["validation.every=160", "checkpoints.every=320", "placement.anchors={every = 160}"]
    return finish(make(tmp_path_factory.mktemp("runs") / "long", sources, settings))


def cut(folder: Path, rows: int, parts: bool) -> None:
    """The tables again in row groups of so many rows, or as parts of a run that goes on, a few
    steps each."""
    for name in metrics.TABLES:
        path = folder / f"metrics/{name}.parquet"
        table = pq.read_table(path)
        parquet.write(path, table, rows)
        if parts:
            path.unlink()
            (folder / "metrics" / name).mkdir()
            for last in range(0, STEPS + EVERY, EVERY):
                inside = (pc.field("step") > last - EVERY) & (pc.field("step") <= last)
                part = folder / f"metrics/{name}/{last:012}.parquet"
                parquet.write(part, table.filter(inside), rows)


@pytest.fixture(scope="module", params=[(90, 1, False), (23, 3, True), (40, 16, False)], ids=str)
def folder(
    request: pytest.FixtureRequest, long: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The run with its tables in several row groups, read in several spans of steps."""
    rows, near, parts = request.param
    copied = Path(shutil.copytree(long, tmp_path_factory.mktemp("cut") / "run"))
    cut(copied, rows, parts)
    (path, *_) = sorted(
        copied.glob("metrics/segments/*104.parquet" if parts else "metrics/segments.parquet")
    )
    assert pq.ParquetFile(path).num_row_groups > 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(seen, "_NEAR", near)
        yield copied


Ask = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(long: Path) -> Ask:
    """The answer to a question in SQL to the tables as they were written."""
    connection = duckdb.connect()
    for name in metrics.TABLES:
        connection.register(name, pq.read_table(long / f"metrics/{name}.parquet"))
    return lambda query: connection.sql(query).to_arrow_table().to_pylist()


def of_document(ask: Ask, document: int, condition: str = "true") -> list[dict[str, Any]]:
    """Every time that something of a document was trained on, from the tables alone."""
    return ask(
        "SELECT s.step, s.row, q.epoch, q.block, sum(s.tokens)::BIGINT AS tokens, "
        "fsum(s.loss_sum) AS loss_sum, fsum(s.loss_sum) / sum(s.tokens) AS loss "
        "FROM segments s JOIN sequences q USING (step, row) "
        f"WHERE s.document = {document} AND {condition} "
        "GROUP BY ALL ORDER BY s.step, s.row",
    )


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Equal, but for the last bits of sums."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            near = isinstance(value, float) and math.isclose(one[name], value, rel_tol=1e-13)
            assert near or one[name] == value, (name, one, other)


def test_of_documents(folder: Path, ask: Ask) -> None:
    shown, run = Shown(folder), pellucid.open(folder)
    train = [row["index"] for row in shown.list_documents() if row["split"] == "train"]
    counted = several = 0
    for index in random.Random(1).sample(train, 12):
        expected = of_document(ask, index)
        gaps = [two["step"] - one["step"] for one, two in itertools.pairwise(expected)]
        several += max(gaps) > seen._NEAR
        about = shown.document(shown.documents.get(index)["id"])
        times = [
            {**time, "block": one["block"]} for one in about["blocks"] for time in one["steps"]
        ]
        same(
            sorted(
                (one for one in times if "loss" in one), key=lambda one: (one["step"], one["row"])
            ),
            expected,
        )
        steps = run.document(index).steps()
        same([one for one in steps if "loss" in one], expected)
        # A row also holds a document whose one token there is nobody's target.
        assert len(steps) == len({(one["step"], one["row"]) for one in steps}) >= len(expected)
        epochs = ask(
            "SELECT q.epoch, count(DISTINCT (s.step, s.row)) AS times, "
            "min(s.step) AS first, max(s.step) AS last, sum(s.tokens)::BIGINT AS tokens, "
            "fsum(s.loss_sum) AS loss_sum, fsum(s.loss_sum) / sum(s.tokens) AS loss "
            "FROM segments s JOIN sequences q USING (step, row) "
            f"WHERE s.document = {index} "
            "GROUP BY ALL ORDER BY ALL",
        )
        same(about["epochs"], epochs)
        counted += sum(one["tokens"] for one in about["epochs"])
    assert counted > 2000 and several >= 6, "documents lie in several spans of row groups"


def test_of_blocks_and_steps(folder: Path, ask: Ask) -> None:
    shown, run = Shown(folder), pellucid.open(folder)
    for number in random.Random(2).sample(range(shown.shards.blocks), 12):
        expected = ask(
            "SELECT step, row, epoch, start, tokens, loss_sum, loss_sum / tokens AS loss "
            "FROM sequences "
            f"WHERE block = {number} ORDER BY ALL",
        )
        same(shown.block(number)["steps"], expected)
        same(run.block(number).steps(), expected)
    for step in random.Random(3).sample(range(1, STEPS + 1), 6):
        about = shown.step(step)
        rows = ask(
            "SELECT row, epoch, block, start, loss_sum, loss_sum / tokens AS loss FROM sequences "
            f"WHERE step = {step} ORDER BY ALL",
        )
        same(about["rows"], rows)
        pieces = [{"row": row["row"], **one} for row in about["rows"] for one in row["segments"]]
        told = [
            {"row": one["row"], "document": one["index"], "loss": one["loss"]}
            for one in pieces
            if one["loss"] is not None
        ]
        segments = ask(
            "SELECT row, document, loss_sum / tokens AS loss FROM segments WHERE step = "
            f"{step} ORDER BY row, start"
        )
        same(told, segments)
        assert [one.index for one in run.step(step).documents()] == list(
            dict.fromkeys(one["index"] for one in pieces)
        )


def test_of_places_and_spans(folder: Path, ask: Ask) -> None:
    traced, documents = Traced(folder), Documents.open(folder)
    for seed in range(8):
        draw = random.Random(seed)
        text = documents.get(draw.randrange(documents.count))["text"]
        begin = draw.randrange(len(text) - 60)
        query = text[begin : begin + draw.choice([25, 40, 60])]
        places = [
            (hit["document"], one)
            for hit in traced.where(query)["hits"]
            for one in (hit, *hit["continues"])
        ]
        rows: dict[tuple[int, int], dict[int, dict[str, Any]]] = {}
        for name, place in places:
            index, block = documents.find(name), place["block"]
            told = [{**one, "block": block} for one in place["steps"] if "loss" in one]
            expected = [] if block is None else of_document(ask, index, f"q.block = {block}")
            same(told, expected)
            for one in expected:
                rows.setdefault((one["step"], one["row"]), {})[index] = one
        (span, *_) = traced.trace(query, least=len(query))["spans"] or [{"steps": []}]
        expected = [
            {
                "step": step,
                "row": row,
                **seen.total((one["tokens"], one["loss_sum"]) for one in own.values()),
            }
            for (step, row), own in sorted(rows.items())
        ]
        same([one for one in span["steps"] if "loss" in one], expected)


@pytest.fixture(scope="module")
def parted(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose texts are cut into parts of a hundred characters. Only to be read."""
    settings = ["data.max_document_characters=100", "data.split=parts", "train.steps=60"]
    return finish(make(tmp_path_factory.mktemp("runs") / "parted", sources, settings))


def test_of_a_text_that_was_cut(parted: Path, sources: list[Path]) -> None:
    shown = Shown(parted)
    names = [one["id"] for one in shown.list_documents()]
    for text in sorted({name.partition("#")[0] for name in names if "#" in name})[:8]:
        about, parts = (
            shown.document(text),
            [shown.document(name) for name in names if name.startswith(f"{text}#")],
        )
        assert about["id"] == text and about["parts"] == [one["id"] for one in parts]
        assert about["text"] == "".join(one["text"] for one in parts)
        assert about["text"] == (sources[0].parent / text).read_text()
        for key in ("tokens", "bytes", "characters"):
            assert about[key] == sum(one[key] for one in parts)
        expected = seen.total(
            (one["tokens"], one["loss_sum"]) for part in parts for one in part["epochs"]
        )
        found = seen.total((one["tokens"], one["loss_sum"]) for one in about["epochs"])
        assert found.get("tokens") == expected.get("tokens")
        assert math.isclose(found.get("loss_sum", 0), expected.get("loss_sum", 0), rel_tol=1e-12)
        held = {one["block"] for part in parts for one in part["blocks"]}
        assert held == {one["block"] for one in about["blocks"]}
        recipe = load(parted)
        by_text, by_part = (
            blocks_of(parted, recipe.model_copy(update={"fork": Fork(without=names)}), shown.shards)
            for names in ((text,), tuple(one["id"] for one in parts))
        )
        assert set(by_text.tolist()) == set(by_part.tolist()) >= held


def test_many_ids_are_found_in_one_pass(parted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documents, reads = Documents.open(parted), 0
    ids = [one["id"] for one in Shown(parted).list_documents()]
    read = Part.read

    def counted(*words: Any) -> Any:
        nonlocal reads
        reads += 1
        return read(*words)

    monkeypatch.setattr(Part, "read", counted)
    assert documents.found(ids) == {name: [index] for index, name in enumerate(ids)}
    assert reads == sum(part.groups for part in documents.parts)
    assert [documents.find(name) for name in ids[:3]] == [0, 1, 2]
    with pytest.raises(DocumentUnknown, match="stones/zzz"):
        documents.found(["stones/zzz", ids[0]])
    with pytest.raises(DocumentUnknown):
        documents.find(ids[0].partition("#")[0])
