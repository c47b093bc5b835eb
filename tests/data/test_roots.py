"""Roots: over every token and text, recomputed without the manifests, and pinned."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pellucid.data import kinds, roots
from pellucid.data.shards import Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import DataDiffers
from pellucid.record import digests, merkle, rows

CONTEXT = 32


def root_over(kind, values):
    return merkle.root([merkle.leaf(digests.of_value(kind, value)) for value in values]).hex()


def parts_of(
    seed: int, ids: list[int], begins: list[tuple[int, int]], start: int, stop: int
) -> list[bytes]:
    """The leaves of the parts of a stream's tokens [start, stop), one token at a time."""
    owners = [
        max((pair for pair in begins if pair[1] <= at), key=lambda pair: pair[1])
        for at in range(start, stop)
    ]
    leaves = []
    for document, begin in dict.fromkeys(owners):
        mine = [
            at
            for at, owner in zip(range(start, stop), owners, strict=True)
            if owner == (document, begin)
        ]
        part = rows.Part(document, mine[0] - begin, np.array([ids[at] for at in mine], np.uint32))
        leaves.append(rows.part_leaf(digests.salt(seed, "document", document), part))
    return leaves


def test_stream_roots_are_over_every_token(run, streams_of, two_sources):
    manifest = json.loads((run / "data/manifest.json").read_text())
    expected = streams_of(run)
    first = 0
    for place, entry in enumerate(manifest["streams"]):
        ids, begins = expected[entry["source"], entry["split"]]
        count = (len(ids) - 1) // CONTEXT
        cuts = [(first + i, i * CONTEXT, i * CONTEXT + CONTEXT + 1) for i in range(count)]
        if len(ids) > count * CONTEXT + 1:
            cuts.append((2**63 + place, count * CONTEXT, len(ids)))
        leaves = [
            rows.block_leaf(
                number, stop - start, parts_of(two_sources.seed, ids, begins, start, stop)
            )
            for number, start, stop in cuts
        ]
        assert entry["root"] == merkle.root(leaves).hex()
        assert entry["unused_tokens"] == len(ids) - count * CONTEXT - 1
        first += count
    streams = [
        {key: entry[key] for key in ("source", "split", "tokens", "documents", "blocks", "root")}
        for entry in manifest["streams"]
    ]
    sources = json.loads((run / "data/documents/manifest.json").read_text())["sources"]
    value = {
        "pipeline": 2,
        "documents": manifest["documents_root"],
        "sources": root_over(
            "source",
            [
                {
                    "name": one["name"],
                    "documents": one["documents"],
                    "dropped": {
                        k: n
                        for k, n in one["dropped"].items()
                        if k in ("duplicate", "empty", "binary")
                    },
                }
                for one in sources
            ],
        ),
        "tokenizer": Tokenizer.load(run).digest.hex(),
        "streams": root_over("stream", streams),
    }
    assert manifest["root"] == digests.of_value("data", value).hex()


def test_the_root_recomputed_is_the_root_recorded(run, two_sources):
    manifest = json.loads((run / "data/manifest.json").read_text())
    assert roots.recompute_root(run, two_sources) == (manifest["root"], [])


@pytest.mark.parametrize(
    "name",
    [
        "data/shards/00000.train.bin",
        "data/shards/00003.validation.bin",
        "data/shards/00001.train.documents.bin",
        "data/documents/00002.parquet",
        "data/tokenizer/tokenizer.json",
        "data/shards/manifest.json",
        "data/documents/manifest.json",
        "data/manifest.json",
    ],
)
def test_one_changed_byte_is_found(run, two_sources, name):
    path = run / name
    content = bytearray(path.read_bytes())
    if name.endswith((".bin", ".parquet")):
        content[len(content) // 2] ^= 1
    else:
        spot = (
            content.rindex(b'root": "') + 10 if b'root": "' in content else content.rindex(b'": 2')
        )
        content[spot] = ord("1") if content[spot] == ord("0") else ord("0")
    path.write_bytes(content)
    root, problems = roots.recompute_root(run, two_sources)
    assert problems
    assert (
        name.endswith("manifest.json")
        or root != json.loads((run / "data/manifest.json").read_text())["root"]
        or ("documents.bin" in name)
    )


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("amount", [-1, 1])
def test_a_changed_document_table_is_found(run, two_sources, column, amount):
    path = Shards.open(run).train[0].shards[1].table_path
    table = np.fromfile(path, "<u8").reshape(-1, 4)
    table[2, column] = int(table[2, column]) + amount
    table.tofile(path)
    _, problems = roots.recompute_root(run, two_sources)
    assert any(path.name in where for where, _ in problems)


def test_missing_pieces_are_problems_and_not_errors(run, two_sources):
    (run / "data/shards/00000.train.bin").unlink()
    assert roots.recompute_root(run, two_sources)[0] == ""
    (run / "data/documents/manifest.json").unlink()
    root, problems = roots.recompute_root(run, two_sources)
    assert root == ""
    assert "missing" in problems[0][1]


def test_a_pinned_root(tmp_path, corpus, recipe_of, prepare):
    source = {"name": "all", "path": str(corpus)}
    run = prepare(recipe_of(source), tmp_path / "run")
    root = json.loads((run / "data/manifest.json").read_text())["root"]
    prepare(recipe_of(source, data={"root": root}), tmp_path / "other")
    with pytest.raises(DataDiffers, match=root):
        prepare(recipe_of(source, data={"root": "0" * 64}), tmp_path / "wrong")
    assert not (tmp_path / "wrong/data/manifest.json").exists()
    assert (tmp_path / "wrong/data/shards/manifest.json").exists()


def test_the_data_root_is_pinned(tmp_path, recipe_of, prepare):
    """Golden: a change of these digests is a change of the pipeline, and raises its version."""
    folder = tmp_path / "fixed"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(
            f"Document {number} says é 😀 and {number * number}.\n" * 5
        )
    recipe = recipe_of({"name": "fixed", "path": str(folder), "licence": "CC0-1.0"}, seed=7)
    run = prepare(recipe, tmp_path / "run")
    manifest = json.loads((run / "data/manifest.json").read_text())
    assert manifest["documents_root"] == GOLDEN["documents_root"]
    assert manifest["tokenizer"] == GOLDEN["tokenizer"]
    assert manifest["root"] == GOLDEN["root"]


GOLDEN = {
    "documents_root": "2b6c5f6c508aaeb12154dc1d3fb343a407de3d28f6d9a1ba5d81f4fcac39bda9",
    "tokenizer": "e1803a1e67e9282e2dc18f6a0343ef2cadaaf742a709b4f95686aeca95b8dad5",
    "root": "c3021ecd1953b7dcdda13737cba23dcf207f80a03279c461b3a30b0d67d44665",
}


def test_another_pipeline_than_the_recipe_says_is_found(run, two_sources):
    path = run / "data/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"pipeline": 1}))
    _, problems = roots.recompute_root(run, two_sources)
    assert [detail for _, detail in problems] == ["pipeline is 1, and should be 2"]


@pytest.mark.parametrize(
    "change", [lambda seen: seen & set("e ."), lambda seen: seen | {"\U0001f680"}]
)
def test_a_vocabulary_of_other_characters_than_the_documents_have(
    change, tmp_path, corpus, recipe_of, prepare, monkeypatch
):
    """Made so, and all else with it: the unknown token would hide what the
    texts hold, or what they do not."""
    recipe = recipe_of({"name": "all", "path": str(corpus)}, tokenizer={"kind": "characters"})
    honest = kinds._seen
    monkeypatch.setattr(kinds, "_seen", lambda documents, meter: change(honest(documents, meter)))
    _, problems = roots.recompute_root(prepare(recipe, tmp_path / "forged"), recipe)
    assert [where for where, _ in problems] == ["data/tokenizer/tokenizer.json"]
    assert "characters are not those of the documents" in problems[0][1]
    monkeypatch.setattr(kinds, "_seen", honest)
    assert roots.recompute_root(prepare(recipe, tmp_path / "run"), recipe)[1] == []
