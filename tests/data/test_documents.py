"""The stage "documents": numbering, duplicates, split, manifest, errors, and reading back."""

from __future__ import annotations

import hashlib
import json

import pyarrow as pa
import pytest

from pellucid.data import documents
from pellucid.data.documents import Documents
from pellucid.errors import (
    CorpusTooSmall,
    DocumentInParts,
    DocumentUnknown,
    FileMissing,
    FormatInvalid,
    FormatTooNew,
    NoValidation,
    PathUnsafe,
    SourceRepeated,
)
from pellucid.record import digests, merkle


def test_documents_are_numbered_without_duplicates(tmp_path, corpus, recipe_of, small_parts):
    recipe = recipe_of(
        {"name": "a", "path": str(corpus / "a")}, {"name": "all", "path": str(corpus)}
    )
    documents.prepare(recipe, tmp_path)
    found = Documents.open(tmp_path)
    rows = [found.get(index) for index in range(found.count)]
    assert [row["index"] for row in rows] == list(range(61))
    assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == 61
    assert [row["source"] for row in rows] == ["a"] * 40 + ["all"] * 21
    manifest = found.manifest
    assert [source["dropped"] for source in manifest["sources"]] == [
        {"duplicate": 1, "empty": 1},
        {"duplicate": 41, "empty": 1},
    ]
    assert len(found.parts) > 5
    for row in rows:
        content = row["text"].encode()
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert (row["characters"], row["bytes"]) == (len(row["text"]), len(content))
        share = int.from_bytes(hashlib.sha256(content).digest()[:8], "big") % 10000
        assert row["split"] == ("validation" if share < 1500 else "train")
    assert manifest["bytes"] == str(sum(row["bytes"] for row in rows))
    assert manifest["characters"] == str(sum(row["characters"] for row in rows))
    assert sum(source["validation_documents"] for source in manifest["sources"]) == sum(
        row["split"] == "validation" for row in rows
    )


def test_roots_are_over_salted_leaves(tmp_path, corpus, recipe_of, small_parts):
    recipe = recipe_of({"name": "all", "path": str(corpus)}, seed=5)
    documents.prepare(recipe, tmp_path)
    found = Documents.open(tmp_path)
    roots = []
    for part, entry in zip(found.parts, found.manifest["parts"], strict=True):
        span = range(part.first_index, part.first_index + part.documents)
        rows = [found.get(index) for index in span]
        assert {row["source"] for row in rows} == {part.source}
        roots.append(
            merkle.root(
                digests.document_leaf(
                    digests.salt(5, "document", row["index"]),
                    *(row[name] for name in ("id", "licence", "origin", "date", "text")),
                )
                for row in rows
            )
        )
        assert entry["root"] == roots[-1].hex()
    assert found.manifest["root"] == merkle.root(map(merkle.leaf, roots)).hex()


def test_one_part_holds_one_source(tmp_path, recipe_of):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(20):
            (tmp_path / name / f"{number}.txt").write_text(f"{name} {number} " * 20)
    recipe = recipe_of({"name": "a", "path": "a"}, {"name": "b", "path": "b"})
    documents.prepare(recipe, tmp_path)
    assert [entry["source"] for entry in Documents.open(tmp_path).manifest["parts"]] == ["a", "b"]


def test_a_finished_stage_is_not_redone_and_a_changed_one_is(tmp_path, corpus, recipe_of):
    source = {"name": "all", "path": str(corpus)}
    documents.prepare(recipe_of(source), tmp_path)
    (corpus / "new.txt").write_text("a new text")
    documents.prepare(recipe_of(source | {"weight": 3}), tmp_path)
    before = Documents.open(tmp_path)
    (tmp_path / "data/shards").mkdir()
    (tmp_path / "data/shards/00000.train.bin").write_text("x")
    documents.prepare(recipe_of(source, data={"max_document_characters": 200}), tmp_path)
    after = Documents.open(tmp_path)
    assert after.count > before.count + 1
    assert not (tmp_path / "data/shards").exists()


def test_find_and_rows(tmp_path, corpus, recipe_of, small_parts):
    documents.prepare(recipe_of({"name": "all", "path": str(corpus)}), tmp_path)
    found = Documents.open(tmp_path)
    for index in range(found.count):
        assert found.find(found.get(index)["id"]) == index
    for unknown in ("all/nothing.txt", "other/a/1.txt", ""):
        with pytest.raises(DocumentUnknown):
            found.find(unknown)
    for index in (-1, found.count):
        with pytest.raises(DocumentUnknown):
            found.get(index)
    every = [
        i for batch in found.rows(["index", "bytes"]) for i in batch.column("index").to_pylist()
    ]
    assert every == list(range(found.count))
    train, validation = (
        [i for batch in found.rows(["index"], split) for i in batch.column(0).to_pylist()]
        for split in ("train", "validation")
    )
    assert sorted(train + validation) == every
    assert all(found.get(index)["split"] == "validation" for index in validation)


def test_a_source_of_nothing_but_duplicates_is_refused(tmp_path, corpus, recipe_of):
    recipe = recipe_of(
        {"name": "all", "path": str(corpus)}, {"name": "again", "path": str(corpus / "a")}
    )
    with pytest.raises(SourceRepeated, match=r"again: every text of .*\(all\)"):
        documents.prepare(recipe, tmp_path)
    assert not (tmp_path / "data/documents/manifest.json").exists()


def test_no_validation(tmp_path, recipe_of):
    (tmp_path / "a.txt").write_text("only one document, in the train split " * 9)
    with pytest.raises(NoValidation, match="1 documents"):
        documents.prepare(recipe_of({"name": "a", "path": "a.txt"}), tmp_path)
    assert not (tmp_path / "data/documents/manifest.json").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"context": 65536}}, "block is longer"),
        ({"train": {"batch": 9999, "microbatch": 9999}}, "batch is larger"),
    ],
)
def test_a_corpus_too_small_for_any_tokenizer_is_known_early(
    tmp_path, corpus, recipe_of, sections, message
):
    with pytest.raises(CorpusTooSmall, match=message):
        documents.prepare(recipe_of({"name": "all", "path": str(corpus)}, **sections), tmp_path)
    assert not (tmp_path / "data/documents/manifest.json").exists()


def test_drops_of_every_reason_are_counted(tmp_path, recipe_of):
    lines = [json.dumps({"text": f"text number {i} " * 9}) for i in range(60)]
    lines += [lines[0], "{", "{}", '{"text": ""}', '{"text": "\\ud800"}']
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text("\n".join(lines))
    (tmp_path / "in/b.jsonl").write_bytes(b"\0" * 10)
    (tmp_path / "in/c.png").write_bytes(b"")
    (tmp_path / "in/.d.jsonl").write_bytes(b"")
    recipe = recipe_of(
        {"name": "in", "path": "in", "format": "jsonl"}, data={"invalid_utf8": "drop"}
    )
    documents.prepare(recipe, tmp_path)
    source = Documents.open(tmp_path).manifest["sources"][0]
    assert source["documents"] == 60
    assert source["dropped"] == {
        "binary": 1,
        "duplicate": 1,
        "empty": 1,
        "hidden": 1,
        "invalid_utf8": 1,
        "malformed": 1,
        "no_text": 1,
        "not_included": 1,
    }


# ---- manifests that somebody else wrote --------------------------------------------------------


@pytest.fixture
def tampered(tmp_path, corpus, recipe_of):
    """Make documents, change the manifest by a function, and open them."""
    documents.prepare(recipe_of({"name": "all", "path": str(corpus)}), tmp_path)
    path = tmp_path / "data/documents/manifest.json"

    def change(edit):
        manifest = json.loads(path.read_text())
        edit(manifest)
        path.write_text(json.dumps(manifest))
        return Documents.open(tmp_path)

    return change


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "a/../b", "", "a\\b", "C:/x"]
)
def test_paths_out_of_the_folder_are_refused(tampered, name):
    with pytest.raises(PathUnsafe):
        tampered(lambda manifest: manifest["parts"][0].update(file=name))


def test_links_are_refused(tampered, tmp_path):
    part = tmp_path / "data/documents/00000.parquet"
    part.rename(tmp_path / "elsewhere")
    part.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PathUnsafe, match="link"):
        tampered(lambda manifest: None)


@pytest.mark.parametrize(
    "changes",
    [
        {"documents": -1},
        {"documents": 10**30},
        {"documents": 1.5},
        {"documents": True},
        {"documents": 0},
        {"first_index": 3},
    ],
)
def test_absurd_counts_are_refused(tampered, changes):
    with pytest.raises(FormatInvalid):
        tampered(lambda manifest: manifest["parts"][0].update(changes))


def test_other_manifests_are_refused(tampered):
    with pytest.raises(FormatTooNew):
        tampered(lambda manifest: manifest.update(format=2))
    with pytest.raises(FormatInvalid):
        tampered(lambda manifest: manifest.update(format=1, kind="shards"))
    with pytest.raises(FormatInvalid):
        tampered(lambda manifest: manifest.update(kind="documents", parts={}))


def test_a_part_that_does_not_fit_its_manifest(tampered, tmp_path):
    found = tampered(lambda manifest: manifest["parts"][0].update(documents=4))
    with pytest.raises(FormatInvalid, match="rows"):
        found.get(0)
    (tmp_path / "data/documents/00000.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(FormatInvalid, match="00000"):
        tampered(lambda manifest: None).get(0)
    (tmp_path / "data/documents/00000.parquet").unlink()
    with pytest.raises(FileMissing, match="00000"):
        tampered(lambda manifest: None).get(0)


def test_the_name_of_a_text_in_parts_is_answered_with_its_parts(tmp_path, recipe_of):
    (tmp_path / "text.txt").write_text("".join(f"line {n} of a long text\n" for n in range(500)))
    source = {"name": "book", "path": str(tmp_path / "text.txt")}
    data = {"max_document_characters": 200, "split": "parts"}
    documents.prepare(recipe_of(source, data=data), tmp_path)
    found = Documents.open(tmp_path)
    with pytest.raises(DocumentInParts) as caught:
        found.find("book/text.txt")
    said = f"was cut into {found.count} documents, and book/text.txt#1 is the first"
    assert said in str(caught.value) and found.count > 20
    assert found.find("book/text.txt#1") == 0
    assert found.found(["book/text.txt"])["book/text.txt"] == list(range(found.count))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("argparse.py", "did you mean mixed/argparse.py?"),  # Not its parts.
        ("mixed/argprse.py", "did you mean mixed/argparse.py?"),
        ("argparse.py#2", "did you mean mixed/argparse.py#2?"),
        ("mixed/argparse.py#12", "did you mean mixed/argparse.py#"),
        ("seq3", "did you mean genome/genome.fa:seq3?"),
    ],
)
def test_the_last_part_of_a_name_is_near(name, near, monkeypatch):
    ids = [f"mixed/argparse.py#{part}" for part in range(1, 10)] + [
        f"genome/genome.fa:seq{n}" for n in range(5)
    ]
    made = Documents({}, [])
    monkeypatch.setattr(made, "rows", lambda columns: [pa.record_batch({"id": ids})])
    with pytest.raises(DocumentUnknown) as caught:
        made.found([name])
    assert near in str(caught.value)
