"""The recorder around a trainer that is not ours, and a run that is taken again."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from pellucid.data.salts import Public
from pellucid.errors import DiskFull, LedgerBroken, LedgerDiffers
from pellucid.recipe import Recipe, parse
from pellucid.record.entries import Microbatch
from pellucid.recorder import Identity, Recorder, loss_of, segments_of
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile
from pellucid.train.events import Batch, Groups, Stepped, Validated
from tests.conftest import SETTINGS

B, T = 4, 32
IDENTITY = Identity(
    "aa" * 32,
    "bb" * 32,
    "foreign 1",
    None,
    {
        "architectures": ["Other"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "max_position_embeddings": T,
    },
    Public(1),
)


@pytest.fixture
def recipe(finished: Path) -> Recipe:
    return parse((finished / "recipe.toml").read_bytes(), "recipe.toml")


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "data", tmp_path / "run" / "data")
    return tmp_path / "run"


class Foreign:
    """A trainer of somebody else: one weight, moved by a rule of its own."""

    def __init__(self, steps: int = 0) -> None:
        self.weight, self.done = np.zeros((3,), np.float32), 0
        for _ in range(steps):
            self.step()

    def step(self) -> Stepped:
        self.done += 1
        self.weight += np.float32(self.done)
        documents = np.repeat(np.arange(B)[:, None], T + 1, axis=1) + (np.arange(T + 1) > self.done)
        batch = Batch(
            self.done,
            np.arange(B),
            np.zeros(B, np.int64),
            np.zeros(B, np.int64),
            ["a", "b"] * (B // 2),
            np.zeros(B, np.int64),
            np.full((B, T + 1), self.done, np.uint32),
            documents,
        )
        losses = np.full((B, T), 1.0 / self.done, np.float32)
        total = float(losses.sum())
        microbatches = [Microbatch(losses.size, losses.size, total, total)]
        return Stepped(batch, losses, microbatches, 0.1, 1.0, 2.0, 0.01)

    def groups(self) -> Groups:
        return {"weights": {"w": self.weight}}


def train(
    folder: Path, recipe: Recipe, after: int | None = None, trainer: Foreign | None = None
) -> LedgerFile:
    trainer = trainer or Foreign(after or 0)
    with Recorder(folder, recipe, IDENTITY, after) as record:
        if after is None:
            record.begin(trainer.groups())
            record.keep(trainer.groups())
        while trainer.done < recipe.train.steps:
            record.step(trainer.step(), trainer.groups())
            if trainer.done == 5:
                record.validation(
                    Validated(5, [{"source": "a", "loss_sum": 3.0, "tokens": 2, "bytes": 7}])
                )
            record.keep(trainer.groups())
        record.end()
    return LedgerFile(folder)


def test_a_foreign_trainer_is_recorded(folder: Path, recipe: Recipe) -> None:
    ledger = train(folder, recipe)
    assert ledger.ended and ledger.steps_done == 13
    assert layout.steps_in(folder / "anchors") == [0, 1, 2, 4, 5, 8, 10, 13]
    assert layout.steps_in(folder / "checkpoints") == [0, 6, 12, 13]
    rows = metrics.of_step(folder, "steps", 4)
    assert rows[0]["loss"] == 0.25 and rows[0]["tokens"] == 4 * B * T
    assert [row["source"] for row in metrics.of_step(folder, "sources", 4)] == ["a", "b"]
    assert metrics.of_step(folder, "validation", 5)[0]["bits_per_byte"] == 3.0 / math.log(2) / 7
    assert not (folder / "metrics" / "steps").exists()


@pytest.mark.parametrize("after", [None, 0, 1, 5, 10, 13])
def test_taken_again_from_any_anchor_it_ends_with_the_same_bytes(
    folder: Path, recipe: Recipe, after: int | None
) -> None:
    head = train(folder, recipe).head
    before = (folder / layout.LEDGER).read_bytes()
    assert train(folder, recipe, after).head == head
    assert (folder / layout.LEDGER).read_bytes() == before


@pytest.mark.parametrize("after", [None, 0, 5, 13])
def test_the_metrics_are_whole_when_a_finished_run_is_taken_again(
    after: int | None, folder: Path, recipe: Recipe
) -> None:
    def read() -> dict[str, list[dict]]:
        tables = {
            name: [row for b in metrics.rows(folder, name) for row in b.to_pylist()]
            for name in metrics.TABLES
        }
        return {name: [{**row, "memory_bytes": 0} for row in rows] for name, rows in tables.items()}

    train(folder, recipe)
    before = read()
    train(folder, recipe, after)
    assert read() == before and len(before["steps"]) == 13


def test_rows_do_not_wait_for_an_anchor(
    folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds so many and a step's; what is taken again from an anchor
    within a part is there once."""
    monkeypatch.setattr(metrics, "HELD", 60)
    monkeypatch.setattr(Recipe, "anchored", lambda self, step: step in (0, 13))
    held: list[int] = []
    real = metrics.Metrics.add

    def add(self: metrics.Metrics, table: str, *rows: tuple) -> None:
        real(self, table, *rows)
        held.append(sum(map(len, self._rows.values())))

    monkeypatch.setattr(metrics.Metrics, "add", add)

    class Killed(Foreign):
        def step(self) -> Stepped:
            if self.done == 11:
                raise KeyError("killed")
            return super().step()

    with pytest.raises(KeyError):
        train(folder, recipe, trainer=Killed())
    assert max(held) < 60 + 20
    parts = sorted(int(path.stem) for path in (folder / "metrics" / "segments").iterdir())
    assert [step for step in parts if step % 6], parts  # Of steps without anchor or checkpoint.
    train(folder, recipe, 0)
    for table in ("steps", "segments", "sequences", "sources", "microbatches", "validation"):
        found = [
            tuple(row.values())
            for batch in metrics.rows(folder, table)
            for row in batch.to_pylist()
        ]
        keys = [row[:3] for row in found] if table != "steps" else [row[0] for row in found]
        assert len(set(keys)) == len(keys) and keys == sorted(keys), table
    assert [
        row["step"] for batch in metrics.rows(folder, "steps") for row in batch.to_pylist()
    ] == list(range(1, 14))


@pytest.mark.parametrize("after", [None, 5])
def test_a_step_that_comes_out_otherwise_is_named(
    folder: Path, recipe: Recipe, after: int | None
) -> None:
    train(folder, recipe)
    trainer = Foreign(after or 0)
    trainer.weight = trainer.weight.copy() if after is None else trainer.weight + np.float32(0.5)
    if after is None:
        trainer.weight[0] = 1
    with pytest.raises(
        LedgerDiffers,
        match="genesis: recomputed weights" if after is None else "step 6: recomputed weights",
    ):
        train(folder, recipe, after, trainer)


def test_an_entry_that_is_gone_from_the_middle_is_named(folder: Path, recipe: Recipe) -> None:
    train(folder, recipe)
    lines = (folder / layout.LEDGER).read_bytes().splitlines(keepends=True)
    (folder / layout.LEDGER).write_bytes(b"".join(lines[:6] + lines[7:]))
    with pytest.raises(LedgerBroken, match="entry 6"):
        train(folder, recipe, 5)


def test_a_full_disk_ends_the_run_with_everything_before_it(
    folder: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pellucid.store import tensors

    whole = train(folder, recipe).head
    shutil.rmtree(folder / "anchors")
    shutil.rmtree(folder / "checkpoints")
    (folder / layout.LEDGER).unlink()
    real = tensors.write

    def full(path: Path, *arguments: object) -> None:
        if "step8" in str(path):
            raise OSError(28, "No space left on device")
        real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tensors, "write", full)
    with pytest.raises(DiskFull, match="step8"):
        train(folder, recipe)
    assert layout.steps_in(folder / "anchors") == [0, 1, 2, 4, 5]
    assert not list((folder / "anchors").glob(".partial-*"))
    monkeypatch.undo()
    assert train(folder, recipe, 5).head == whole


def test_segments_are_counted_by_targets_and_sum_exactly() -> None:
    documents = np.array([[7, 7, 8, 8, 9], [9, 9, 9, 9, 9]])
    losses = np.array([[1e8, 1, 1, -1e8], [0.1, 0.2, 0.3, 0.4]], np.float32)
    none = np.zeros(2, np.int64)
    batch = Batch(
        1, np.arange(2), none, none, ["a", "a"], none, np.zeros((2, 5), np.uint32), documents
    )
    found = [(s.row, s.document, s.start, s.tokens, s.loss_sum) for s in segments_of(batch, losses)]
    last = math.fsum(losses[1].tolist())
    assert found == [(0, 7, 0, 1, 1e8), (0, 8, 1, 2, 2.0), (0, 9, 3, 1, -1e8), (1, 9, 0, 4, last)]
    assert loss_of(segments_of(batch, losses)) == math.fsum([2.0, last]) / 8


def test_the_identity_of_a_state_is_one_everywhere(folder: Path, recipe: Recipe) -> None:
    """Step, tokens, ledger entry and digest: the same in the anchor, the
    checkpoint and the weights file."""
    from pellucid.store.tensors import Tensors

    ledger = train(folder, recipe)
    anchor = json.loads((folder / "anchors/step13/anchor.json").read_bytes())
    checkpoint = json.loads((folder / "checkpoints/step13/pellucid.json").read_bytes())
    metadata = Tensors(folder / "checkpoints/step13/model.safetensors").metadata
    for name in ("step", "tokens", "ledger_entry", "ledger_digest", "weights"):
        assert str(anchor[name]) == str(checkpoint[name]) == metadata[name]
    assert (
        ledger.step(13)["n"] == anchor["ledger_entry"]
        and ledger.step(13)["state"] == anchor["state"]
    )
    assert (folder / "anchors/step13/model.safetensors").samefile(
        folder / "checkpoints/step13/model.safetensors"
    )


def test_settings_of_the_fixture_are_what_these_tests_count_on() -> None:
    assert {"train.steps=13", "checkpoints.every=6", "train.batch=4", "model.context=32"} <= set(
        SETTINGS
    )
