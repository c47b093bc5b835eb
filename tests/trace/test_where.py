"""where: complete against reading every text, exact in its counts, and right about the steps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.errors import IndexMissing, QueryEmpty
from pellucid.recipe import load as load_recipe
from pellucid.store import metrics
from pellucid.trace.where import Traced
from tests.conftest import finish
from tests.trace.conftest import Scanned, lossy, make, places


def drawn(scanned: Scanned, seed: int) -> bytes:
    """Bytes cut out of the texts anywhere, some of them changed."""
    draw = random.Random(seed)
    content = draw.choice(scanned.texts).encode()
    size = draw.choice([1, 2, 3, 4, 6, 9, 14, 25, 60])
    begin = draw.randrange(max(1, len(content) - size))
    query = bytearray(content[begin : begin + size])
    if draw.random() < 0.25:
        query[draw.randrange(len(query))] ^= 1 << draw.randrange(7)
    return bytes(query)


def same_places(traced: Traced, scanned: Scanned, query: bytes) -> None:
    answer = traced.where(query, limit=None)
    assert (answer["count"], places(answer)) == (len(found := scanned.find(query)), found)


@pytest.mark.parametrize("seed", range(0, 300, 20))
def test_counts_and_places_are_those_of_a_plain_scan(
    traced: Traced, scanned: Scanned, seed: int
) -> None:
    for number in range(seed, seed + 20):
        same_places(traced, scanned, drawn(scanned, number))


@settings(max_examples=60, deadline=None)
@given(query=st.text(alphabet="aeé東京🌊 \n\t.lightrv", min_size=1, max_size=6))
def test_any_text_is_found_as_often_as_it_is_there(
    traced: Traced, scanned: Scanned, query: str
) -> None:
    same_places(traced, scanned, query.encode())


@pytest.mark.parametrize("query", ["aa", "aaaa", "a", "é🌊é🌊", " "])
def test_places_that_overlap_count_each(traced: Traced, scanned: Scanned, query: str) -> None:
    same_places(traced, scanned, query.encode())


def test_nothing_is_found_across_documents(traced: Traced, scanned: Scanned) -> None:
    pairs = zip(scanned.texts, scanned.texts[1:], strict=False)
    assert not any(
        traced.where(a[-4:] + b[:4])["count"] > len(scanned.find((a[-4:] + b[:4]).encode()))
        for a, b in pairs
    )


@pytest.mark.parametrize("query", [b"\xff", b"a\xff", b"\xc3", b"\xa9\xf0", b"\x00"])
def test_bytes_that_are_no_text_give_a_count_and_no_error(
    traced: Traced, scanned: Scanned, query: bytes
) -> None:
    assert traced.where(query)["count"] == len(scanned.find(query))


def test_the_first_places_come_in_the_documents_order(
    traced: Traced, scanned: Scanned, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert places(traced.where("the", limit=7)) == scanned.find(b"the")[:7]
    monkeypatch.setattr("pellucid.trace.suffixes._OFTEN", 1)  # Read from the beginning instead.
    for query in (b"the", b"e", b"a", "水".encode(), b" "):
        assert places(traced.where(query, limit=7)) == scanned.find(query)[:7]


def test_texts_of_validation_are_counted_apart(twice: Path, traced: Traced) -> None:
    held = Scanned.of(twice, "validation")
    whole = held.texts[0]
    assert traced.where(whole)["validation"] == 1 and traced.where(whole)["count"] == 0
    assert traced.where("river")["validation"] == len(held.find(b"river"))


@pytest.fixture(scope="module")
def order(twice: Path) -> Order:
    return Order.of(twice, load_recipe(twice), Shards.open(twice))


def held(
    shards: Shards, steps: int, order: Order, first: int, last: int, offset: int
) -> list[tuple[int, int]]:
    """Every (step, row) whose targets hold a token of a stream's [first, last],
    by going through all of them."""
    found = []
    for step in range(1, steps + 1):
        rows, T = order.rows(step), order.phase(step).context
        for row, (block, start) in enumerate(
            zip(rows.blocks.tolist(), rows.starts.tolist(), strict=True)
        ):
            begin = (block - offset) * shards.block + start
            if begin < last and begin + T >= first:
                found.append((step, row))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_every_step_that_trained_on_a_text_is_told_and_no_other(
    twice: Path, traced: Traced, scanned: Scanned, order: Order, seed: int
) -> None:
    shards, steps = Shards.open(twice), load_recipe(twice).train.steps
    query = drawn(scanned, 1000 + seed)
    for hit in traced.where(query, limit=5)["hits"]:
        parts = [hit, *hit["continues"]]
        told = [(time["step"], time["row"]) for part in parts for time in part["steps"]]
        for part in parts:
            for time in part["steps"]:
                rows = order.rows(time["step"])
                found = tuple(
                    int(column[time["row"]]) for column in (rows.blocks, rows.epochs, rows.starts)
                )
                assert found == (part["block"], time["epoch"], time["start"])
        stream = next(one for one in shards.train if one.source == hit["source"])
        first, last = tokens_of(traced, hit, query)
        expected = held(shards, steps, order, first, last, stream.first_block)
        # Begins as the first id of its block: seen there as an input.
        whole = first % shards.block == 0
        assert sorted(told) == sorted(expected) or (whole and set(expected) <= set(told))


def tokens_of(traced: Traced, hit: dict, query: bytes) -> tuple[int, int]:
    """The stream's tokens [first, last] of a hit, from the encoded text."""
    shown = traced.shown
    row = shown.documents.get(shown.documents.find(hit["document"]))
    stream = next(one for one in shown.shards.train if one.source == hit["source"])
    begin = len(row["text"][: hit["offset"]].encode())
    content = row["text"].encode()
    begin = content.find(query, begin)
    begin = (
        begin if begin >= 0 else content.find(query, len(row["text"][: hit["offset"]].encode()) - 3)
    )
    at, first, last = 0, None, None
    start = stream.token_of(row["index"]) + 1
    for number, token in enumerate(shown.tokenizer.encode(row["text"])):
        size = int(traced._words.lengths[token])
        if first is None and at + size > begin:
            first = start + number
        if at < begin + len(query):
            last = start + number
        at += size
    assert first is not None and last is not None
    return first, last


def test_two_epochs_are_told_with_the_losses_recorded_there(
    twice: Path, traced: Traced, scanned: Scanned
) -> None:
    hit = traced.where(scanned.texts[-1][:12], limit=1)["hits"][0]
    assert {time["epoch"] for time in hit["steps"]} >= {0, 1}
    for time in hit["steps"]:
        rows = metrics.of_step(twice, "segments", time["step"])
        index = traced.shown.documents.find(hit["document"])
        mine = [row for row in rows if (row["row"], row["document"]) == (time["row"], index)]
        assert time["loss"] == mine[0]["loss_sum"] / mine[0]["tokens"]


@pytest.mark.parametrize("query", ["the river", "東京", "aaaa aaaa", "e"])
def test_before_keeps_what_earlier_steps_trained_on(
    traced: Traced, order: Order, query: str
) -> None:
    whole, first = traced.where(query, limit=None), first_steps(order)
    for before in (1, 2, 9, 40, 111):
        answer = traced.where(query, before=before, limit=None)
        kept = [
            hit for hit in whole["hits"] if seen_before(traced, hit, query.encode(), first, before)
        ]
        assert (answer["count"], places(answer)) == (
            len(kept),
            [(hit["document"], hit["offset"]) for hit in kept],
        )
        assert all(time["step"] < before for hit in answer["hits"] for time in hit["steps"])


def first_steps(order: Order) -> dict[tuple[int, int], int]:
    """The first step that had each target, (block, place), by going through all rows."""
    first: dict[tuple[int, int], int] = {}
    for step, rows in enumerate(order.each(1, order.schedule.steps), 1):
        for block, start in zip(rows.blocks.tolist(), rows.starts.tolist(), strict=True):
            for at in range(order.phase(step).context):
                first.setdefault((block, start + at), step)
    return first


def seen_before(
    traced: Traced, hit: dict, query: bytes, first: dict[tuple[int, int], int], before: int
) -> bool:
    """Each of its tokens but the first was a target by then; of a single one, that one."""
    stream = next(one for one in traced.shown.shards.train if one.source == hit["source"])
    begin, last = tokens_of(traced, hit, query)
    targets = range(min(begin, last - 1), last)
    places = [divmod(one, traced.block) for one in targets]
    return all(  # The tokens behind a stream's last block are no step's.
        block < stream.blocks and first.get((stream.first_block + block, at), before) < before
        for block, at in places
    )


@pytest.mark.parametrize("query", [b"", ""])
def test_nothing_cannot_be_looked_for(traced: Traced, query: str | bytes) -> None:
    with pytest.raises(QueryEmpty):
        traced.where(query)


def test_a_run_without_index_says_how_to_make_one(indexed: Path) -> None:
    (indexed / "trace" / "manifest.json").unlink()
    with pytest.raises(IndexMissing, match="--only index"):
        Traced(indexed)


KINDS = {
    "bytes": ["tokenizer.kind=bytes"],
    "characters": ["tokenizer.kind=characters"],
    "wide": ["data.token_type=uint32", "tokenizer.vocabulary=600"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_tokenizer_made_here_is_searched_by_its_tokens(
    kind: str, sources: list[Path], tmp_path: Path
) -> None:
    folder = make(tmp_path / kind, sources, KINDS[kind])
    for only in ("documents", "tokenizer", "shards", "index"):
        finish(folder, only)
    scanned, traced = Scanned.of(folder), Traced(folder)
    assert not list((folder / "trace").glob("*.text"))
    for seed in range(40):
        same_places(traced, scanned, drawn(scanned, seed))


def test_a_tokenizer_that_does_not_give_its_text_back_is_searched_by_the_text(
    sources: list[Path], tmp_path: Path
) -> None:
    folder = make(tmp_path / "words", sources, lossy(sources, tmp_path))
    for only in ("documents", "tokenizer", "shards", "index"):
        finish(folder, only)
    scanned, traced = Scanned.of(folder), Traced(folder, planned=True)
    assert list((folder / "trace").glob("*.text"))
    for seed in range(60):
        same_places(traced, scanned, drawn(scanned, seed))
    hit = traced.where("river", limit=1)["hits"][0]
    assert hit["context"][1] == "river" and hit["block"] is not None
