"""What fuzzing and reading the readers found: each is refused by name, at no cost."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.data.order import Order
from pellucid.data.parquet import Documents
from pellucid.data.streams import ROW, Shard, Shards, Stream
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import (
    FileMissing,
    FormatInvalid,
    MemoryTooSmall,
    PathUnsafe,
    PellucidError,
    RecipeChanged,
    RecipeUnreadable,
    TokenizerInvalid,
)
from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.recipe import load, parse
from pellucid.record import chain, digests, verdict
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay import inputs as replay_inputs
from pellucid.replay import ledgers
from pellucid.store import anchors, files, layout, metrics, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.train import state
from tests.conftest import pellucid
from tests.forgery.forge import bodies, chain_anew, edit_ledger, edit_table


def rewritten(folder: Path, kind: str, **changed: object) -> Path:
    """The ledger with some fields of all entries of a kind changed, its chain whole."""
    edit_ledger(folder, lambda body: body | changed if body["kind"] == kind else body)
    return folder


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["recipe.toml", layout.LEDGER, "data/manifest.json", "model.safetensors", "metrics/steps.parquet"]
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
        replay_inputs.load(release, load(release))


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900, b'{"a":' + b"9" * 5000 + b"}"])
def test_json_too_deep_or_with_a_number_too_long(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(FormatInvalid):
        files.read_json(tmp_path / "x.json")


def test_json_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(1 << 40)  # A hole: it takes no disk.
    with pytest.raises(FormatInvalid, match="larger"):
        files.read_json(tmp_path / "x.json")


def test_a_name_longer_than_any_file_has(tmp_path: Path) -> None:
    with pytest.raises(PathUnsafe, match="no name here"):
        files.inside(tmp_path, "x" * 5000, "manifest")


# ---- the recipe ---------------------------------------------------------------------------------


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


# ---- the ledger ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("step", {"loss": "1"}),
        ("step", {"tokens": "-4"}),
        ("step", {"state": 7}),
        ("genesis", {"stack": {"threads": 5}}),
        ("validation", {"sources": 3}),
        ("validation", {"sources": [{}]}),
        ("validation", {"sources": [{"source": "x", "loss_sum": "0" * 16, "tokens": "0", "bytes": "0"}]}),
    ],
)
def test_a_malformed_entry_has_a_name_for_every_reader(kind: str, changed: dict[str, Any], release: Path) -> None:
    rewritten(release, kind, **changed)
    assert any(problem.error == "LedgerBroken" for problem in verify(release, lambda what: None).problems)
    with pytest.raises(FormatInvalid, match="malformed"):
        ledger = LedgerFile(release)
        list(ledger.between(0, 13))


def test_an_incident_with_other_values(release: Path) -> None:
    found = bodies(release)
    found.insert(-1, {"kind": "incident", "step": 13, "rule": "loss", "value": 5, "limit": [], "action": "note"})
    chain_anew(release, found)
    with pytest.raises(FormatInvalid, match="value is not the bits"):
        status(release)


ROLLBACK = {"rule": "loss", "value": "40" + "0" * 14, "limit": "3f" + "f" * 14, "width": 1, "action": "rollback"}


def rolled_back(release: Path, end: bool, **changed: object) -> Path:
    """The ledger with a rollback at its end, or followed by an end on the branch that it begins; None takes a field."""
    found = [body for body in bodies(release) if body["kind"] not in ("incident", "end")]
    fields = {"kind": "incident", "step": 13, **ROLLBACK, "to": 11, "passed_over": 2, "branch": 1} | changed
    found.append({name: value for name, value in fields.items() if value is not None})
    chain_anew(release, [*found, {"kind": "end", "step": 11, "branch": 1}] if end else found)
    return release


@pytest.mark.parametrize("end", [False, True], ids=["last", "followed"])
@pytest.mark.parametrize("field", ["to", "passed_over", "branch"])
def test_a_rollback_without_its_fields_has_a_name_for_every_reader(field: str, end: bool, release: Path) -> None:
    assert len(LedgerFile(rolled_back(release, end)).rollbacks) == 1
    for value in (None, True, -1, "1", 10**17, 10**30):
        rolled_back(release, end, **{field: value})
        for read in (LedgerFile, status, lambda folder: Shown(folder).step(12)):
            with pytest.raises(FormatInvalid, match=r"after step 13|n \d+, that|begins branch"):
                read(release)
        assert not verify(release, lambda what: None).ok


def test_a_rollback_to_before_the_run_and_to_after_itself(release: Path) -> None:
    for to in (14, 10**6):
        with pytest.raises(FormatInvalid, match=f"to step {to}"):
            LedgerFile(rolled_back(release, True, to=to))


def test_true_is_no_branch_one(release: Path) -> None:
    rolled_back(release, True)
    edit_ledger(release, lambda body: body | {"branch": True} if body["kind"] == "end" else body)
    with pytest.raises(FormatInvalid, match="branch that is no number"):
        LedgerFile(release)
    assert "branch is not an integer" in str(verdict.malformed({"kind": "end", "n": 1, "step": 1, "branch": True}))


@pytest.mark.parametrize("text", ['"x":1.5', '"x":NaN', '"x":"\\u0041"', '"x": 1', '"step":7'])
def test_an_entry_of_another_spelling_is_no_readers(text: str, release: Path) -> None:
    """What a reader of one step takes is what `verify` would take."""
    path = release / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"step":7,' in line)
    lines[at] = lines[at].replace(b"}", f",{text}}}".encode())
    path.write_bytes(b"".join(lines))
    with pytest.raises(FormatInvalid, match="cannot be read"):
        LedgerFile(release).step(7)


@pytest.mark.parametrize("n", [None, "7", -1])
def test_an_entry_without_its_number(n: object, release: Path) -> None:
    path = release / layout.LEDGER
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    changed = [line | {"n": n} if line.get("step") == 7 else line for line in lines]
    path.write_bytes(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in changed))
    with pytest.raises(FormatInvalid, match="n is not an integer"):
        Shown(release).step(7)


def test_a_kind_within_another_entry_is_not_of_that_kind(release: Path) -> None:
    edit_ledger(release, lambda body: body | {"x": {"kind": "checkpoint"}} if body["kind"] == "end" else body)
    assert {body["kind"] for body in LedgerFile(release).of_kind("checkpoint")} == {"checkpoint"}


@pytest.mark.parametrize("threads", ["x", "-1", "0", "99999", ""])
def test_threads_that_no_machine_has(threads: str, release: Path) -> None:
    rewritten(release, "genesis", stack={"threads": threads})
    with pytest.raises(FormatInvalid, match="threads"):
        replay_inputs.load(release, load(release))


def test_another_recipe_and_a_genesis_that_does_not_say_its_version(release: Path) -> None:
    edit_ledger(release, lambda body: {k: v for k, v in body.items() if k != "recipe_version"} | {"recipe": "0" * 64})
    with pytest.raises(RecipeChanged):
        replay_inputs.load(release, load(release))


def test_losses_that_no_float_can_hold_together(release: Path) -> None:
    one = {"source": "x", "loss_sum": digests.float_bits(1.7e308), "tokens": "5", "bytes": "5"}
    rewritten(release, "validation", sources=[one, one | {"source": "y"}])
    with pytest.raises(FormatInvalid, match="nats"):
        status(release)


def test_true_is_no_step_one(release: Path) -> None:
    """To Python they are equal; to another reader they are not."""
    edit_ledger(release, lambda body: body | {"step": True} if body.get("step") == 1 else body)
    problems = verify(release, lambda what: None).problems
    assert any("step is not an integer" in problem.detail for problem in problems)


def test_a_ledger_that_claims_more_steps_than_it_can_hold(release: Path) -> None:
    rewritten(release, "end", step=2**50)
    with pytest.raises(FormatInvalid, match="too short for that"):
        LedgerFile(release)


def test_a_validation_without_sources_is_no_division_by_zero(release: Path) -> None:
    rewritten(release, "validation", sources=[])
    assert status(release)["validation"] == []
    assert ledgers.validations(LedgerFile(release), LedgerFile(release)) == []


def test_a_line_nested_to_the_readers_limit() -> None:
    for depth in range(900, 1000, 7):
        line = b'{"prev":"%b","n":0,"kind":%b%b}\n' % (chain.START.encode(), b"[" * depth, b"]" * depth)
        assert len(list(chain.read([line]))) == 1


# ---- shards and order ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, 0, 4000])
def test_a_document_table_that_does_not_ascend(value: int, release: Path) -> None:
    path = release / "data/shards/00000.train.documents.bin"
    for column in (0, 1):
        table = np.fromfile(path, ROW).reshape(-1, 3)
        table[5, column] = value
        path.unlink()
        table.tofile(path)
        opened = Shards.open(release)
        for sequence in range(opened.sequences):
            try:
                documents = opened.documents_at(np.array([sequence]))
            except FormatInvalid as error:
                assert "documents.bin" in str(error)
                continue
            assert documents.min() >= 0


def test_a_validation_table_with_other_rows(release: Path) -> None:
    """Rows anywhere: named, or positions that lie where they are asked for."""
    path, choices = release / "data/shards/00000.validation.documents.bin", random.Random(1)
    table = np.fromfile(path, ROW).reshape(-1, 3)
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
    covered, _ = stream.until(end)
    assert 0 < covered <= stream.tokens
    assert stream.documents_at(0, covered).size == covered


def _of_tokens(stream: Stream, start: int, end: int) -> None:
    assert stream.documents_at(start, end).size == end - start


def _of_documents(stream: Stream, start: int, end: int) -> None:
    for document in stream.shards[0].table[:, 0].tolist():
        assert 0 <= stream.token_of(document) < stream.tokens
        assert abs(stream.length_of(document)) <= stream.tokens


def test_a_sequence_over_thousands_of_shards(tmp_path: Path) -> None:
    np.array([7], "<u2").tofile(tmp_path / "ids")
    np.array([0, 0, 1], ROW).tofile(tmp_path / "table")
    shard = Shard(tmp_path / "ids", tmp_path / "table", np.dtype("<u2"), 1, 1)
    stream = Stream("x", "train", 2000, 0, [shard] * 3000)
    assert stream.read(0, 2001).tolist() == [7] * 2001
    assert len(stream.documents_between(0, 2001)[0]) == 2001


def test_an_order_of_other_shards(release: Path) -> None:
    shards, recipe = Shards.open(release), load(release)
    for section, changed in (("train", {"batch": 10**6}), ("data", {"weight": 2**62}), ("data", {"name": "other"})):
        if section == "train":
            other = recipe.model_copy(update={"train": recipe.train.model_copy(update=changed)})
        else:
            source = recipe.data.sources[0].model_copy(update=changed)
            other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": (source,)})})
        with pytest.raises(FormatInvalid):
            Order.of(release, other, shards)


def test_more_copies_of_a_sequence_than_places() -> None:
    few, many = Order(1, [5, 3], [2, 1], 4), Order(1, [5, 3], [2**40, 1], 4)
    assert many.steps_of(2, 6) == [
        (step, row, int(many.epochs(step)[row]))
        for step in range(1, 7)
        for row in np.flatnonzero(many.batch(step) == 2).tolist()
    ]
    assert len(few.steps_of(2, 6)) == sum(int((few.batch(step) == 2).sum()) for step in range(1, 7))


# ---- tensors, states, tokenizers ----------------------------------------------------------------


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
    with pytest.raises(FormatInvalid, match="not those of the recipe's model"):
        state.restored(recipe, 300, 5, groups)


@pytest.mark.parametrize("changed", [{"layers": 2**60}, {"mlp_width": 2**50}])
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
        replay_inputs.load(release, load(release))
    assert any("tokenizer" in problem.where for problem in verify(release, lambda what: None).problems)


def test_a_vocabulary_that_the_tokenizer_does_not_have(release: Path) -> None:
    path = release / "data/tokenizer/manifest.json"
    files.write_json(path, files.read_json(path) | {"vocabulary": 301})
    found = [problem for problem in verify(release, lambda what: None).problems if problem.error == "DataDiffers"]
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
            Tokenizer.load(release / "data/tokenizer")


# ---- Parquet ------------------------------------------------------------------------------------


def not_unicode(table: pa.Table, name: str) -> pa.Table:
    raw = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary())
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), pa.Array.from_buffers(pa.string(), len(raw), raw.buffers()))


def change(path: Path, how: Callable[[pa.Table], pa.Table], **options: Any) -> None:
    pq.write_table(how(pq.read_table(path)), path, **options)


def without_a_value(table: pa.Table) -> pa.Table:
    return table.set_column(2, "tokens", pa.array([None] * table.num_rows, pa.int64()))


def test_a_text_that_is_not_unicode(release: Path) -> None:
    change(release / "data/documents/00000.parquet", lambda table: not_unicode(table, "text"))
    change(release / "metrics/sources.parquet", lambda table: not_unicode(table, "source"))
    with pytest.raises(FormatInvalid, match="00000"):
        Documents.open(release).get(0)
    with pytest.raises(FormatInvalid, match="sources"):
        metrics.of_step(release, "sources", 7)


def test_a_table_without_values_or_without_bounds(release: Path) -> None:
    change(release / "metrics/sources.parquet", without_a_value)
    with pytest.raises(FormatInvalid, match="without one of its values"):
        metrics.of_step(release, "sources", 7)
    change(release / "metrics/steps.parquet", lambda table: table, write_statistics=False)
    assert len(metrics.of_step(release, "steps", 7)) == 1


@pytest.mark.parametrize("width", [7, 0])
def test_statistics_that_end_a_process(width: int, release: Path) -> None:
    """pyarrow does not catch what its library throws at them, so that nothing may ask for them."""
    path = release / "metrics/steps.parquet"
    pq.write_table(pq.read_table(path), path, compression="none", use_dictionary=False)
    content = path.read_bytes()
    place = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    least = pq.read_table(path).column("step")[0].as_py().to_bytes(8, "little")
    footer = content[place:-8].replace(b"\x08" + least, bytes([width]) + least[:width])
    assert len(footer) < len(content[place:-8])
    path.write_bytes(content[:place] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(FormatInvalid, match="steps"):
        metrics.of_step(release, "steps", 7)


def test_a_step_is_found_in_many_row_groups(release: Path) -> None:
    path = release / "metrics/segments.parquet"
    table = pq.read_table(path)
    wanted = {step: [row for row in table.to_pylist() if row["step"] == step] for step in range(15)}
    for size in (1, 3, 7, 1000):
        pq.write_table(table, path, row_group_size=size)
        for step, rows in wanted.items():
            assert metrics.of_step(release, "segments", step) == rows
    pq.write_table(table.slice(0, 0), path)
    assert metrics.of_step(release, "segments", 7) == []


@pytest.mark.parametrize("changed", [{"row": 2**60}, {"row": -1}, {"start": -1}, {"tokens": 2**40}, {"document": -1}])
def test_segments_that_none_can_be(changed: dict[str, int], release: Path) -> None:
    column, value = changed.popitem()
    edit_table(release / "metrics/segments.parquet", column, lambda row: value)
    with pytest.raises(FormatInvalid, match="no segments"):
        ledgers.published_segments(release, LedgerFile(release).step(7))


def test_more_rows_than_a_step_can_have(release: Path) -> None:
    change(release / "metrics/sequences.parquet", lambda table: pa.concat_tables([table.slice(24, 1)] * 5000))
    with pytest.raises(FormatInvalid, match="more than the 4 rows"):
        Shown(release).step(7)
    assert any(problem.error == "NumbersDiffer" for problem in verify(release, lambda what: None).problems)


def test_a_row_group_of_no_size(release: Path) -> None:
    path = release / "data/documents/00000.parquet"
    table = pq.read_table(path)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table)
    with pytest.raises(FormatInvalid, match="row group"):
        Documents.open(release).get(0)


def test_a_segment_of_no_tokens_is_no_division_by_zero(release: Path) -> None:
    def change_row(table: pa.Table) -> pa.Table:
        return table.set_column(4, "tokens", pa.array([0] * table.num_rows, pa.int64()))

    change(release / "metrics/segments.parquet", change_row)
    rows = Shown(release).step(7)["sequences"]
    assert {piece["loss"] for row in rows for piece in row["segments"]} == {None}


def bomb(release: Path, rows: int, length: int) -> None:
    """A few thousand bytes that unpack to rows · length."""
    path = release / "metrics/validation.parquet"
    first = pq.read_table(path).slice(0, 1)
    columns = [
        pa.array([first.column(name)[0].as_py()] * rows, kind)
        for name, kind in zip(first.column_names, first.schema.types, strict=True)
    ]
    columns[1] = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * length]))
    pq.write_table(pa.table(columns, names=first.column_names), path, store_schema=False)


LIMITED = """
import sys
from pellucid.cli import common
common.MEMORY = 768 << 20
sys.argv = ["pellucid", "verify", sys.argv[1], "--json"]
common.main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux obeys RLIMIT_DATA")
def test_parquet_that_unpacks_to_more_than_verify_may_have(release: Path) -> None:
    bomb(release, 60_000, 1 << 18)
    publish(release)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(release)], capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    problems = json.loads(done.stdout)["problems"]
    assert any(one["error"] == "FormatInvalid" and "metrics/validation" in one["where"] for one in problems), problems


# ---- what is shown ------------------------------------------------------------------------------


def test_nothing_shown_holds_control_characters(release: Path) -> None:
    (release / "\x1b[2Jx").write_text("x")
    rewritten(release, "step", lr="\x1b[2J")
    out = pellucid("verify", release, check=5).stdout
    assert "FileAdded" in out and "\x1b" not in out
    edit_table(release / "data/documents/00000.parquet", "licence", lambda row: "\x1b[2J[bold]")
    for words in (("documents",), ("document", "stones/003.txt")):
        out = pellucid("show", release, *words).stdout
        assert "[bold]" in out and "\x1b" not in out
