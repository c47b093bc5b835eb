"""Proofs made of a run: of every kind, checked from the head alone, over a fork
too, and on the command line."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from pellucid import prove
from pellucid.data.documents import Documents
from pellucid.data.streams import Shards
from pellucid.errors import (
    ChunkDiffers,
    DocumentUnknown,
    FormatInvalid,
    ProofInvalid,
    RowsUnknown,
    StateNotKept,
    StepUnknown,
    TensorUnknown,
)
from pellucid.opened import open as pellucid_open
from pellucid.record import proofs
from pellucid.record.entries import CHUNK
from pellucid.release.publish import publish
from pellucid.store import anchors, files, layout, tensors
from pellucid.store.home import home
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run, pellucid
from tests.serving import Answer, Fault, Request, serving
from tests.test_fork import forked


def test_every_step_is_proven(finished: Path) -> None:
    ledger = LedgerFile(finished)
    for number in range(ledger.first, ledger.steps_done + 1):
        proven = proofs.check(prove.step(finished, number), ledger.head)
        assert proven.entry == ledger.step(number) and proven.step == number
    with pytest.raises(StepUnknown):
        prove.step(finished, ledger.steps_done + 1)


def test_every_document_is_proven_by_what_it_is(finished: Path) -> None:
    documents, head = Documents.open(finished), LedgerFile(finished).head
    for index in range(documents.count):
        row = documents.get(index)
        content = prove.document(finished, row["id"])
        proven = proofs.check(content, head)
        assert {
            key: proven.thing[key] for key in ("id", "licence", "origin", "date")
        }.items() <= row.items()
        assert proven.thing["sha256"] == hashlib.sha256(row["text"].encode()).hexdigest()
        assert row["text"][:20].encode() not in content, "no text leaves the run by a proof"
    with pytest.raises(DocumentUnknown):
        prove.document(finished, "stones/none.txt")


def test_blocks_are_proven(finished: Path) -> None:
    shards, head = Shards.open(finished), LedgerFile(finished).head
    drawn = random.Random(1).sample(range(shards.blocks), min(shards.blocks, 20))
    for number in {0, shards.blocks - 1, *drawn}:
        proven = proofs.check(prove.block(finished, number), head)
        assert proven.thing["number"] == number and proven.thing["ids"] == len(shards.ids(number))
        assert (proven.thing["source"], proven.thing["split"]) == (
            shards.source_of(number),
            "train",
        )
    with pytest.raises(StepUnknown):
        prove.block(finished, shards.blocks)


def test_tensors_of_every_group_are_proven_where_the_state_is_stored(finished: Path) -> None:
    ledger = LedgerFile(finished)
    for step in layout.steps_in(finished / layout.ANCHORS)[-2:]:
        for group, arrays in anchors.read(layout.anchor(finished, step)).items():
            for name, array in arrays.items():
                asked = name if group == "weights" else f"{group}/{name}"
                proven = proofs.check(prove.tensor(finished, asked, step), ledger.head)
                assert (proven.thing["group"], proven.thing["name"], proven.step) == (
                    group,
                    name,
                    step,
                )
                assert proven.thing["shape"] == list(array.shape)
    with pytest.raises(TensorUnknown, match=r"no\.such .* model\.embed_tokens"):
        prove.tensor(finished, "no.such", ledger.steps_done)


def test_a_tensor_of_any_step_is_proven_by_replay(finished: Path) -> None:
    step = next(n for n in range(1, 13) if n not in layout.steps_in(finished / layout.ANCHORS))
    proven = proofs.check(
        prove.tensor(finished, "model.norm.weight", step), LedgerFile(finished).head
    )
    assert proven.step == step


def test_every_changed_byte_of_a_real_proof_is_refused(finished: Path) -> None:
    head, draw = LedgerFile(finished).head, random.Random(1)
    names = next(Documents.open(finished).rows(["id"])).column(0).to_pylist()
    for content in (
        prove.step(finished, 3),
        prove.document(finished, names[0]),
        prove.block(finished, 1),
        prove.tensor(finished, "model.norm.weight"),
    ):
        assert len(content) < 8192
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            with pytest.raises(ProofInvalid):
                proofs.check(bytes(changed), head)


def test_a_proof_goes_on_into_a_forks_parent(finished: Path, tmp_path: Path) -> None:
    """From the fork's head alone: its genesis names the parent's,
    which proves the parent's steps."""
    folder = finish(forked(finished, tmp_path / "fork"))
    begun = proofs.check(prove.step(folder, 7), LedgerFile(folder).head)
    assert begun.entry["kind"] == "genesis" and begun.parent == LedgerFile(finished).head
    assert f"fork of the run with the head {begun.parent} after its step 7" in str(begun)
    before = proofs.check(prove.step(finished, 3), begun.parent)
    assert before.step == 3 and not before.parent
    with pytest.raises(StepUnknown):
        prove.step(folder, 3)
    with pytest.raises(ProofInvalid, match="not that of the head"):
        proofs.check(prove.step(finished, 3), LedgerFile(folder).head)


def test_a_run_that_goes_on_proves_what_it_has(finished: Path, tmp_path: Path) -> None:
    """Cut behind each entry: the last one proves itself, and all before it."""
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    lines = (finished / layout.LEDGER).read_bytes().splitlines(keepends=True)
    for count in (2, 3, 5, 9):
        (folder / layout.LEDGER).write_bytes(b"".join(lines[:count]))
        ledger = LedgerFile(folder)
        for number in range(ledger.steps_done + 1):
            assert proofs.check(prove.step(folder, number), ledger.head).step == number


def test_a_release_behind_a_url_gives_the_same_proofs(finished: Path) -> None:
    names = next(Documents.open(finished).rows(["id"])).column(0).to_pylist()
    with serving(finished) as server:
        far = home(server.url)
        assert prove.step(far, 5) == prove.step(finished, 5)
        assert prove.document(far, names[1]) == prove.document(finished, names[1])
        assert prove.block(far, 2) == prove.block(finished, 2)
        assert prove.tensor(far, "model.norm.weight") == prove.tensor(finished, "model.norm.weight")


def test_no_proof_comes_of_a_run_that_is_damaged_there(release: Path) -> None:
    names = next(Documents.open(release).rows(["id"])).column(0).to_pylist()
    path = release / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    changed = lines[4].replace(b'"loss":"', b'"loss":"0', 1).replace(b'","lr"', b'"lr"', 1)
    path.write_bytes(b"".join([*lines[:4], changed, *lines[5:]]))
    with pytest.raises(ProofInvalid):
        prove.step(release, 1)
    path.write_bytes(b"".join(lines))
    about = release / layout.DATA_MANIFEST
    files.write_json(about, files.read_json(about) | {"tokenizer": "0" * 64})
    with pytest.raises(ProofInvalid, match="not those of the genesis"):
        prove.document(release, names[0])


WIDE = "model.layers.0.mlp.gate_proj.weight"  # 4096 rows of 64: four chunks.
SHORT = ["model.width=64", "model.mlp_width=4096", "train.steps=2", "checkpoints.every=2"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A sealed run with tensors of several chunks. Only to be read."""
    folder = finish(make_run(tmp_path_factory.mktemp("wide") / "wide", corpus, SHORT))
    publish(folder)
    return folder


@pytest.mark.parametrize("rows", [(0, 1), (1000, 1050), (1023, 1025), (4095, 4096), (0, 4096)])
def test_rows_are_read_and_held_against_their_proof(wide: Path, rows: tuple[int, int]) -> None:
    head = LedgerFile(wide).head
    for step, group in ((2, "weights"), (0, "weights"), (1, "exp_avg")):
        name = WIDE if group == "weights" else f"{group}/{WIDE}"
        proof = prove.tensor(wide, name, step, rows)
        expected = anchors.read(layout.anchor(wide, step))[group][WIDE]
        found = pellucid_open(wide).rows(proof, head, *rows)
        assert found.dtype == np.float32 and found.tobytes() == expected[slice(*rows)].tobytes()
        assert found.shape == (rows[1] - rows[0], 64) and proofs.check(proof, head).step == step
        if rows[1] - rows[0] == 1:
            assert len(proof) < 8192


def test_of_a_remote_tensor_the_chunks_of_its_rows_alone_are_read(wide: Path) -> None:
    proof, head = prove.tensor(wide, WIDE, 2, (1100, 1200)), LedgerFile(wide).head
    file = "anchors/step2/model.safetensors"
    with serving(wide) as server:
        run = pellucid_open(server.url)
        server.forget()
        found = run.rows(proof, head, 1100, 1120)
        read = {request.path for request in server.requests}
        chunk, size = 4 * CHUNK, (wide / file).stat().st_size
        assert read == {file} and all(request.ranged for request in server.requests)
        assert chunk <= server.sent < chunk + 20_000 < size / 10
    expected = anchors.read(layout.anchor(wide, 2))["weights"][WIDE]
    assert found.tobytes() == expected[1100:1120].tobytes()


def test_a_byte_that_the_server_flips_is_named(wide: Path) -> None:
    proof, head = prove.tensor(wide, WIDE, 2, (1100, 1120)), LedgerFile(wide).head
    path = "anchors/step2/model.safetensors"
    read = tensors.Tensors(wide / path)
    first = read._start + read.entries[WIDE][2] + 4 * CHUNK  # Of the second chunk, in the file.

    def flipped(at: int) -> Fault:
        def fault(request: Request, answer: Answer) -> Answer:
            if request.path != path or not request.start <= at < request.stop:
                return answer
            body = bytearray(answer.body)
            body[at - request.start] ^= 1
            return answer._replace(body=bytes(body))

        return fault

    for at in (first, first + 4 * CHUNK - 1):
        with serving(wide) as server:
            server.fault = flipped(at)
            with pytest.raises(ChunkDiffers, match=f"{WIDE} at element {CHUNK} has"):
                pellucid_open(server.url).rows(proof, head, 1100, 1120)


def test_rows_that_no_proof_shows_are_refused(wide: Path, tmp_path: Path) -> None:
    run, head = pellucid_open(wide), LedgerFile(wide).head
    proof = prove.tensor(wide, WIDE, 2, (1100, 1120))
    for rows in ((1023, 1025), (0, 1), (2047, 2049), (5, 5), (9, 8), (0, 4097)):
        with pytest.raises(RowsUnknown):
            run.rows(proof, head, *rows)
    for rows in ((5, 5), (9, 8), (4096, 4097), (0, 1 << 50)):
        with pytest.raises(RowsUnknown, match="the tensor has 4096"):
            prove.tensor(wide, WIDE, 2, rows)
    with pytest.raises(ProofInvalid, match="not that of the head"):
        run.rows(proof, "0" * 64, 1100, 1120)
    with pytest.raises(ProofInvalid, match="proves a tensor"):
        run.rows(prove.tensor(wide, WIDE, 2), head, 1100, 1120)
    folder = Path(shutil.copytree(wide, tmp_path / "run"))
    tensors.write(folder / "anchors/step2/model.safetensors", {WIDE: np.zeros(3, "<f4")}, {})
    with pytest.raises(FormatInvalid, match="does not have the tensor"):
        pellucid_open(folder).rows(proof, head, 1100, 1120)
    for name in ("anchors", "checkpoints"):
        shutil.rmtree(folder / name)
    with pytest.raises(StateNotKept, match="keeps no weights after step 2"):
        pellucid_open(folder).rows(proof, head, 1100, 1120)


def test_on_the_command_line(finished: Path, tmp_path: Path) -> None:
    head, file = LedgerFile(finished).head, tmp_path / "proof.json"
    pellucid("prove", finished, "step", "step5", "--output", file)
    said = pellucid("check-proof", file, "--head", head).stdout
    assert said.startswith("proven: step 5 ") and head in said and said.count("\n") == 1
    assert json.loads(pellucid("check-proof", file, "--head", head, "--json").stdout)["step"] == 5
    assert pellucid("prove", finished, "step", "5").stdout.encode() == file.read_bytes()
    refused = pellucid("check-proof", file, "--head", "0" * 64, check=5)
    assert "ProofInvalid" in refused.stderr
    assert (
        "none.json"
        in pellucid("check-proof", tmp_path / "none.json", "--head", head, check=2).stderr
    )
    other, third = tmp_path / "other.json", tmp_path / "third.json"
    pellucid("prove", finished, "tensor", "model.norm.weight", "--step", "12", "--output", other)
    assert "after step 12" in pellucid("check-proof", other, "--head", head).stdout
    words = ["tensor", "model.norm.weight", "--rows", "3:7", "--output", third]
    pellucid("prove", finished, *words)
    said = pellucid("check-proof", third, "--head", head).stdout
    assert "chunks of elements 0 to 31 are shown" in said and "after step 13" in said
    for words in (
        ["step"],
        ["step", "5", "--rows", "0:1"],
        ["tensor", "model.norm.weight", "--rows", "3"],
        ["thing", "5"],
        ["step", "5", "6"],
        ["step", "5", "--step", "3"],
        ["step", "x"],
    ):
        assert "CommandInvalid" in pellucid("prove", finished, *words, check=2).stderr
