"""What fuzzing and reading the readers found: each is refused by name, at no cost."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.data.covered import Covered
from pellucid.data.order import Order
from pellucid.data.streams import ROW, Shard, Shards, Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import (
    FileMissing,
    FormatInvalid,
    MemoryTooSmall,
    PathUnsafe,
    PellucidError,
    RecipeUnreadable,
    TokenizerInvalid,
)
from pellucid.inputs import Inputs
from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.recipe import load, parse
from pellucid.release.verify import verify
from pellucid.store import anchors, files, layout, tensors
from pellucid.train import state
from tests.conftest import pellucid
from tests.forgery.forge import edit_table, rewritten

# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "recipe.toml",
        layout.LEDGER,
        "data/manifest.json",
        "model.safetensors",
        "metrics/steps.parquet",
    ],
)
def test_a_pipe_keeps_nobody_waiting(path: str, release: Path) -> None:
    (release / path).unlink()
    os.mkfifo(release / path)
    started = time.monotonic()
    assert not verify(release, lambda what: None).ok
    for read in (status, Shown):
        try:
            read(release)
        except PellucidError:
            continue
    assert time.monotonic() - started < 30


def test_a_missing_file_has_its_name(release: Path) -> None:
    (release / "data/tokenizer/manifest.json").unlink()
    with pytest.raises(FileMissing, match=r"data/tokenizer/manifest\.json"):
        Inputs.load(release, load(release))


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_json_too_deep_or_with_a_number_too_long(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(FormatInvalid):
        files.read_json(tmp_path / "x.json")


def test_json_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(1 << 40)  # A hole: it takes no disk.
    with pytest.raises(FormatInvalid, match=r"larger|claims"):
        files.read_json(tmp_path / "x.json")


def test_a_name_longer_than_any_file_has(tmp_path: Path) -> None:
    with pytest.raises(PathUnsafe, match="not a name on this machine"):
        files.inside(tmp_path, "x" * 5000, "manifest")


# ---- the recipe --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    ["a" + ".a" * 4000 + " = 1", "x = " + "[" * 5000, "x = " + "9" * 5000, "x = 1\n" * 100_000],
    ids=["parts", "depth", "digits", "size"],
)
def test_a_recipe_that_would_take_long(content: str, release: Path) -> None:
    (release / "recipe.toml").write_text(content)
    started = time.process_time()
    with pytest.raises((RecipeUnreadable, FormatInvalid)):
        load(release)
    assert time.process_time() - started < 2.0


def test_points_in_a_text_are_no_key(release: Path) -> None:
    content = (release / "recipe.toml").read_text() + f"# {'.' * 400}\n"
    assert parse(content.encode(), "x").digest() == load(release).digest()


# ---- shards and order --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 0, 4000])
def test_a_document_table_that_does_not_ascend(value: int, release: Path) -> None:
    path = release / "data/shards/00000.train.documents.bin"
    for column in (0, 1):
        table = np.fromfile(path, ROW).reshape(-1, 4)
        table[5, column] = value
        path.unlink()
        table.tofile(path)
        opened = Shards.open(release)
        for block in range(opened.blocks):
            try:
                documents, _ = opened.documents_of(np.array([block]), np.array([0]), opened.block)
            except FormatInvalid as error:
                assert "documents.bin" in str(error)
                continue
            assert documents.min() >= 0


def test_a_validation_table_with_other_rows(release: Path) -> None:
    """Rows anywhere: named, or positions that lie where they are asked for."""
    path, choices = release / "data/shards/00000.validation.documents.bin", random.Random(1)
    table = np.fromfile(path, ROW).reshape(-1, 4)
    tokens, refused = Shards.open(release).validation[0].tokens, 0
    for _ in range(300):
        changed = table.copy()
        for _ in range(1 + choices.randrange(3)):
            near = [choices.randrange(tokens), tokens, tokens + 1, 2**40, 2**62, 2**63, 2**64 - 1]
            changed[choices.randrange(len(changed)), 1] = choices.choice(near)
        path.unlink()
        changed.tofile(path)
        stream = Shards.open(release).validation[0]
        start, end = sorted((choices.randrange(tokens), choices.randrange(1, tokens + 1)))
        for read in (_covered, _of_tokens, _of_documents):
            try:
                read(stream, start, end)
            except FormatInvalid as error:
                assert "documents.bin" in str(error)
                refused += 1
    assert 100 < refused < 900


def _covered(stream: Stream, start: int, end: int) -> None:
    covered = Covered(stream, end)
    assert 0 < covered.tokens <= stream.tokens
    assert covered.read(0, covered.tokens).size == covered.tokens


def _of_tokens(stream: Stream, start: int, end: int) -> None:
    assert stream.documents_at(start, end).size == end - start


def _of_documents(stream: Stream, start: int, end: int) -> None:
    for document in stream.shards[0].table[:, 0].tolist():
        assert 0 <= stream.token_of(document) < stream.tokens
        assert abs(stream.length_of(document)) <= stream.tokens


def test_a_block_over_thousands_of_shards(tmp_path: Path) -> None:
    np.array([7], "<u2").tofile(tmp_path / "ids")
    np.array([0, 0, 1, 0], ROW).tofile(tmp_path / "table")
    shard = Shard(tmp_path / "ids", tmp_path / "table", np.dtype("<u2"), 1, 1)
    stream = Stream("x", "train", 2000, 0, [shard] * 3000)
    assert stream.read(0, 2001).tolist() == [7] * 2001
    assert len(stream.documents_between(0, 2001)[0]) == 2001


def test_an_order_of_other_shards(release: Path) -> None:
    shards, recipe = Shards.open(release), load(release)
    source = recipe.data.sources[0].model_copy(update={"name": "other"})
    other = recipe.data.model_copy(update={"sources": (source,)})
    for changed in ({"data": other}, {"data": recipe.data.model_copy(update={"block": 64})}):
        with pytest.raises(FormatInvalid):
            Order.of(release, recipe.model_copy(update=changed), shards)


# ---- tensors, states, tokenizers ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [[9] * 50_000, [0, 2**61], [0, 2**40, 2**40], [True]])
def test_a_shape_that_no_tensor_has(shape: list[int], tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(FormatInvalid, match="shape"):
        tensors.Tensors(tmp_path / "x")


def test_an_anchor_of_another_model(release: Path) -> None:
    recipe = load(release)
    groups = anchors.read(layout.anchor(release, 5))
    groups["weights"].pop("model.norm.weight")
    with pytest.raises(FormatInvalid, match=r"model\.norm\.weight is absent"):
        state.restored(recipe, 300, 5, groups)


@pytest.mark.parametrize("changed", [{"layers": 2**12, "mlp_width": 2**40}, {"mlp_width": 2**50}])
def test_a_model_larger_than_the_machine(changed: dict[str, int], release: Path) -> None:
    recipe = load(release)
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update=changed)})
    with pytest.raises(MemoryTooSmall, match="parameters"):
        state.initial(other, 300)


@pytest.mark.parametrize(
    "changed", [{"vocabulary": 2**62}, {"digest": "x"}, {"document_token": 300}, {"vocabulary": {}}]
)
def test_a_tokenizers_manifest_of_another_kind(changed: dict[str, Any], release: Path) -> None:
    path = release / "data/tokenizer/manifest.json"
    files.write_json(path, files.read_json(path) | changed)
    with pytest.raises(FormatInvalid, match="tokenizer"):
        Inputs.load(release, load(release))
    assert any(
        "tokenizer" in problem.where for problem in verify(release, lambda what: None).problems
    )


def test_a_vocabulary_that_the_tokenizer_does_not_have(release: Path) -> None:
    path = release / "data/tokenizer/manifest.json"
    files.write_json(path, files.read_json(path) | {"vocabulary": 301})
    found = [
        problem
        for problem in verify(release, lambda what: None).problems
        if problem.error == "DataDiffers"
    ]
    assert any("data/tokenizer/manifest.json" in problem.where for problem in found)


def test_a_tokenizer_that_is_deep_or_none(release: Path) -> None:
    path = release / "data/tokenizer/tokenizer.json"
    for content in (
        b"[" * 900 + b"]" * 900,
        b'{"added_tokens":[3]}',
        b'{"model":{"type":"BPE","vocab":{},"merges":[[]]}}',
    ):
        path.unlink()
        path.write_bytes(content)
        with pytest.raises(TokenizerInvalid):
            Tokenizer.load(release)


# ---- what is shown -----------------------------------------------------------------------------


def test_nothing_shown_holds_control_characters(release: Path) -> None:
    (release / "\x1b[2Jx").write_text("x")
    rewritten(release, "step", lr="\x1b[2J")
    out = pellucid("verify", release, check=5).stdout
    assert "FileAdded" in out and "\x1b" not in out
    edit_table(release / "data/documents/00000.parquet", "licence", lambda row: "\x1b[2J[bold]")
    for words in (("documents",), ("document", "stones/003.txt")):
        out = pellucid("show", release, *words).stdout
        assert "[bold]" in out and "\x1b" not in out
