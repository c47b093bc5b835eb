"""The stage "shards", streams and blocks, positions and characters, and the data root."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pellucid.data import documents, shards, tokenizer
from pellucid.data.documents import Documents
from pellucid.data.order import Order
from pellucid.data.shards import Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import (
    CorpusTooSmall,
    DocumentUnknown,
    FormatInvalid,
    PathUnsafe,
    ShardDamaged,
    StepUnknown,
    VocabularyTooLarge,
)

CONTEXT = 32


def test_streams_hold_every_document_in_order(run, streams_of):
    opened, expected = Shards.open(run), streams_of(run)
    assert [(stream.source, stream.split) for stream in [*opened.train, *opened.validation]] == [
        ("a", "train"),
        ("rest", "train"),
        ("a", "validation"),
        ("rest", "validation"),
    ]
    first = 0
    for stream in [*opened.train, *opened.validation]:
        ids, begins = expected[stream.source, stream.split]
        assert len(stream.shards) > 1
        assert stream.read(0, stream.tokens).tolist() == ids
        assert (stream.tokens, stream.documents) == (len(ids), len(begins))
        assert stream.bytes == len(ids) - len(begins)
        assert stream.blocks == (len(ids) - 1) // CONTEXT
        assert stream.first_block == first
        first += stream.blocks
        for position in range(stream.tokens):
            document, begin = max(
                (pair for pair in begins if pair[1] <= position), key=lambda pair: pair[1]
            )
            assert stream.document_of(position) == (document, position - begin)
        for (document, begin), end in zip(
            begins, [*(pair[1] for pair in begins[1:]), len(ids)], strict=True
        ):
            assert stream.token_of(document) == begin
            assert stream.length_of(document) == end - begin
    assert opened.blocks == sum(stream.blocks for stream in opened.train)


def test_blocks_and_their_pieces(run, streams_of):
    opened, expected = Shards.open(run), streams_of(run)
    numbers = np.arange(opened.blocks)
    tokens = opened.rows(numbers, np.zeros_like(numbers), CONTEXT)
    owners, firsts = opened.documents_of(numbers, np.zeros_like(numbers), CONTEXT)
    assert tokens.dtype == np.uint32
    assert tokens.shape == owners.shape == (len(numbers), CONTEXT + 1)
    for stream in opened.train:
        flat, begins = expected[stream.source, "train"]
        owner = np.repeat(
            [pair[0] for pair in begins], np.diff([*(pair[1] for pair in begins), len(flat)])
        )
        for number in range(stream.blocks):
            block, start = stream.first_block + number, number * CONTEXT
            assert tokens[block].tolist() == flat[start : start + CONTEXT + 1]
            assert owners[block].tolist() == owner[start : start + CONTEXT + 1].tolist()
            assert firsts[block] == stream.document_of(start)[1]
            assert opened.source_of(block) == stream.source
            pieces = opened.pieces(block)
            assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
            assert pieces[-1].stop == CONTEXT + 1
            for piece in pieces:
                assert set(owners[block, piece.start : piece.stop]) == {piece.document}
                assert piece.document_start + start == stream.token_of(piece.document)
    assert np.array_equal(opened.ids(3), tokens[3])


def test_rows_are_parts_of_blocks(run):
    opened, T = Shards.open(run), 8
    numbers = np.repeat(np.arange(opened.blocks), CONTEXT // T)
    starts = np.tile(np.arange(0, CONTEXT, T), opened.blocks)
    tokens, (owners, firsts) = (
        opened.rows(numbers, starts, T),
        opened.documents_of(numbers, starts, T),
    )
    for row, (block, start) in enumerate(zip(numbers.tolist(), starts.tolist(), strict=True)):
        stream, begin = opened.place(block)
        here = begin + start
        assert np.array_equal(tokens[row], opened.ids(block)[start : start + T + 1])
        assert np.array_equal(tokens[row], opened.ids(block, start, T))
        assert np.array_equal(owners[row], stream.documents_at(here, here + T + 1))
        assert (owners[row, 0], firsts[row]) == stream.document_of(here)
        pieces = opened.pieces(block, start, T)
        assert pieces[-1].stop == T + 1 and pieces[0].document_start == -firsts[row]


def test_every_token_but_the_first_is_a_target_once(run):
    stream = Shards.open(run).train[0]
    opened = Shards.open(run)
    targets = np.concatenate([opened.ids(i)[1:] for i in range(stream.blocks)])
    unused = opened.manifest["streams"][0]["unused_tokens"]
    assert np.array_equal(targets, stream.read(1, stream.tokens - unused))
    assert 0 <= unused < CONTEXT


def test_places_that_are_not(run):
    opened = Shards.open(run)
    for block in (-1, opened.blocks):
        with pytest.raises(StepUnknown):
            opened.ids(block)
    stream = opened.train[0]
    with pytest.raises(StepUnknown):
        stream.document_of(stream.tokens)
    for document in (-1, 10**6, opened.train[1].document_of(0)[0]):
        with pytest.raises(DocumentUnknown):
            stream.token_of(document)


@pytest.mark.parametrize("kind", ["bpe", "bytes", "characters"])
def test_characters_and_positions_both_ways(
    tmp_path, corpus, recipe_of, prepare, small_parts, kind
):
    (corpus / "a" / "x.txt").write_text("aé 😀<|document|>\u0301\n" * 9)
    recipe = recipe_of(
        {"name": "all", "path": str(corpus)}, tokenizer={"kind": kind, "vocabulary": 300}
    )
    run = prepare(recipe, tmp_path / "run")
    parts = Shards.open(run), Documents.open(run), Tokenizer.load(run)
    opened, found, made = parts
    for stream in [*opened.train, *opened.validation]:
        for position in range(0, stream.tokens, 61):
            document, start, end = shards.characters(*parts, stream, position)
            if (document, position) == (stream.document_of(position)[0], stream.token_of(document)):
                assert (start, end) == (0, 0)
                continue
            text = found.get(document)["text"]
            token = int(stream.read(position, position + 1)[0])
            assert made.decode([token]) == text[start:end] or len(text[start:end].encode()) > 1
            back, first = shards.position_of(*parts, document, start)
            assert (back.source, back.split) == (stream.source, stream.split)
            assert first <= position
            # Bytes of one character may stand in two tokens, and so with those of its neighbour.
            begin, stop = shards.characters(*parts, stream, first)[1:]
            assert begin <= start < stop
    for index in range(found.count):
        for character in range(0, found.get(index)["characters"], 89):
            stream, position = shards.position_of(*parts, index, character)
            document, start, end = shards.characters(*parts, stream, position)
            assert document == index
            assert start <= character < end
    with pytest.raises(IndexError):
        shards.position_of(*parts, 0, 10**6)


def test_shards_that_do_not_hold_the_text_are_noticed(run):
    parts = Shards.open(run), Documents.open(run), Tokenizer.load(run)
    path = parts[0].train[0].shards[0].tokens_path
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    opened = Shards.open(run)
    with pytest.raises(FormatInvalid, match="do not match its text"):
        shards.characters(opened, *parts[1:], opened.train[0], 7)


@pytest.mark.parametrize("kind", ["uint16", "uint32"])
def test_files_are_flat_and_little_endian(tmp_path, corpus, recipe_of, prepare, kind):
    run = prepare(
        recipe_of({"name": "all", "path": str(corpus)}, data={"token_type": kind}), tmp_path / "run"
    )
    stream = Shards.open(run).train[0]
    flat = np.fromfile(
        run / "data/shards/00000.train.bin", {"uint16": "<u2", "uint32": "<u4"}[kind]
    )
    assert np.array_equal(flat, stream.read(0, stream.tokens))
    table = np.fromfile(run / "data/shards/00000.train.documents.bin", "<u8").reshape(-1, 4)
    assert table[:, 1].tolist() == [stream.token_of(document) for document in table[:, 0].tolist()]
    assert table[:, 2].tolist() == [
        Documents.open(run).get(document)["bytes"] for document in table[:, 0].tolist()
    ]


# ---- errors ------------------------------------------------------------------------------------


def test_too_few_sequences(tmp_path, corpus, recipe_of, prepare):
    source = {"name": "all", "path": str(corpus)}
    merging = {"kind": "bpe", "vocabulary": 600}
    for sections, message in (
        (
            {"model": {"context": 10_000}, "train": {"batch": 1, "microbatch": 1}},
            "The validation split has [0-9]+ of its documents",
        ),
        ({"train": {"batch": 500, "microbatch": 500}}, "batch is larger"),
    ):
        with pytest.raises(CorpusTooSmall, match=message):
            prepare(recipe_of(source, tokenizer=merging, **sections), tmp_path / "run")
        assert not (tmp_path / "run/data/shards/manifest.json").exists()


def test_a_batch_that_grew_is_noticed_without_redoing_anything(run, two_sources, prepare):
    larger = two_sources.model_copy(
        update={"train": two_sources.train.model_copy(update={"batch": 10**6})}
    )
    with pytest.raises(CorpusTooSmall):
        prepare(larger, run)
    assert Shards.open(run)


def test_a_vocabulary_too_large_for_the_shards(run, two_sources, monkeypatch):
    monkeypatch.setattr(Tokenizer, "load", classmethod(lambda cls, folder: _Huge()))
    with pytest.raises(VocabularyTooLarge):
        shards.prepare(two_sources, run)


class _Huge:
    vocabulary, document_token, digest = 65537, 0, b"\0" * 32


@pytest.mark.parametrize("change", ["cut", "emptied", "longer", "gone"])
@pytest.mark.parametrize("name", ["00000.train.bin", "00000.train.documents.bin"])
def test_a_damaged_shard_is_named(run, change, name):
    path = run / "data/shards" / name
    content = path.read_bytes()
    path.unlink()
    if change != "gone":
        path.write_bytes({"cut": content[:-1], "emptied": b"", "longer": content + b"\0\0"}[change])
    with pytest.raises(ShardDamaged, match=name):
        Shards.open(run)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"file": "../../../x"}, PathUnsafe),
        ({"documents_file": "/etc/passwd"}, PathUnsafe),
        ({"tokens": 2**61}, ShardDamaged),
        ({"tokens": -5}, FormatInvalid),
        ({"tokens": 0}, ShardDamaged),
        ({"documents": 10**40}, FormatInvalid),
        ({"source": "other"}, FormatInvalid),
        ({"split": None}, FormatInvalid),
    ],
)
def test_hostile_manifests(run, changes, error):
    path = run / "data/shards/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parts"][0].update(changes)
    path.write_text(json.dumps(manifest))
    with pytest.raises(error):
        Shards.open(run)


@pytest.mark.parametrize(
    "changes", [{"block": 0}, {"token_type": "int8"}, {"streams": None}, {"parts": [3]}]
)
def test_hostile_manifests_as_a_whole(run, changes):
    path = run / "data/shards/manifest.json"
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(manifest))
    with pytest.raises(FormatInvalid):
        Shards.open(run)


# ---- together ----------------------------------------------------------------------------------


def test_the_order_of_a_run(run, two_sources):
    opened = Shards.open(run)
    order = Order.of(run, two_sources, opened)
    counts = [stream.blocks for stream in opened.train]
    rows = counts[0] + 2 * counts[1]
    seen = np.concatenate([order.rows(step).blocks for step in range(1, rows // 4 + 2)])[:rows]
    assert np.bincount(seen, minlength=opened.blocks).tolist() == [1] * counts[0] + [2] * counts[1]


def test_a_source_of_weight_zero_is_for_validation_only(tmp_path, corpus, recipe_of, prepare):
    recipe = recipe_of(
        {"name": "a", "path": str(corpus / "a")}, {"name": "b", "path": str(corpus), "weight": 0}
    )
    run = prepare(recipe, tmp_path / "run")
    opened = Shards.open(run)
    assert opened.train[1].blocks > 0
    rows = Order.of(run, recipe, opened).rows(1)
    assert (rows.sources == 0).all() and (rows.blocks < opened.train[0].blocks).all()


def test_stages_follow_what_they_depend_on(run, two_sources):
    upstream = [run / "data/tokenizer/tokenizer.json", run / "data/documents/manifest.json"]
    before = [path.stat().st_mtime_ns for path in upstream]
    longer = two_sources.model_copy(
        update={"model": two_sources.model.model_copy(update={"context": 40})}
    )
    for room in (documents, tokenizer, shards):
        room.prepare(longer, run)
    assert Shards.open(run).block == 40
    assert [path.stat().st_mtime_ns for path in upstream] == before
