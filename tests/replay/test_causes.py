"""Faults planted in runs, and what diff says of each: the tensor, the operation, the cause."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pellucid.data.salts import Public
from pellucid.data.stage import silent
from pellucid.record import merkle
from pellucid.recorder import row_leaves
from pellucid.replay import batches
from pellucid.replay.again import Again, copied
from pellucid.replay.diff import diff
from pellucid.replay.explain import Difference
from pellucid.replay.materialise import materialise
from pellucid.schedule import Schedule
from pellucid.store import anchors, layout
from pellucid.train.events import Batch
from tests.conftest import finish, make_run
from tests.replay.differences import BOTH, Q_PROJ, UP_PROJ, explained, inputs_of, named, quiet
from tests.replay.faults import (
    CLIPPED,
    DENSE,
    SPARSE,
    STEP,
    constant,
    denormals_flushed,
    flipped_bit,
    in_step,
    other_exp,
    other_rows,
    patched,
    replaced,
    torch_flushes,
    wrong_tile,
)

# ---- faults in one step -------------------------------------------------------------------------


@BOTH
def test_a_flipped_bit_of_a_gradient(kept: str, against: Callable[..., Difference]) -> None:
    """Found by the norm alone where no tensor is stored, and proven by
    making the other run's bits."""
    found = against(in_step(flipped_bit(Q_PROJ, 40, 31, microbatch=1)), kept)
    assert (
        found.phase == "backward"
        and named(found) == ("flipped bit", "proven")
        and found.microbatch == 1
    )
    assert found.operation is not None and Q_PROJ.removesuffix(".weight") in found.operation["name"]
    (tensor,) = found.tensors
    assert (tensor.name, tensor.elements, tensor.rows, tensor.columns) == (
        Q_PROJ,
        1,
        (1, 1),
        (8, 8),
    )
    assert (tensor.group, tensor.bit) == (("exp_avg", None) if kept == DENSE else ("gradient", 31))


def test_flips_that_give_one_sum_are_all_named(against: Callable[..., Difference]) -> None:
    found = against(in_step(flipped_bit(Q_PROJ, 3, 20, microbatch=1)), SPARSE)
    assert named(found) == (
        "flipped bit",
        "proven",
    ) and "bit 20 of microbatch 1's gradient" in explained(found)
    assert found.microbatch is None and " or " in explained(found)


@BOTH
def test_a_tile_of_a_product_that_one_thread_made_wrong(
    kept: str, against: Callable[..., Difference]
) -> None:
    found = against(in_step(wrong_tile(UP_PROJ, slice(16, 32), slice(8, 16))), kept)
    assert found.phase == "backward" and found.operation is not None
    if kept == SPARSE:  # The step is named, and that the rest cannot be.
        assert named(found) == ("unknown", "unknown") and found.tensors == []
        assert f"no tensor of step {STEP} (the next anchor is that of step 8)" in explained(found)
        return
    (tensor,) = found.tensors
    assert (tensor.name, tensor.rows, tensor.columns, tensor.tile) == (
        UP_PROJ,
        (16, 31),
        (8, 15),
        True,
    )
    assert (
        found.operation["name"]
        == f"product (gradient of the weight: dyᵀ x), {UP_PROJ.removesuffix('.weight')}"
    )
    assert named(found) == ("wrong tile", "fits")


@BOTH
@pytest.mark.parametrize(
    ("constants", "cause", "input_", "step"),
    [
        ({"beta2": 0.99}, "beta2", "how.beta2: 0.95 and 0.99", STEP),
        ({"clip": 1.0}, "clipping", "how.clip", CLIPPED),
    ],
)
def test_an_optimizer_with_another_constant_than_the_recipe_says(
    constants: dict[str, float],
    cause: str,
    input_: str,
    step: int,
    kept: str,
    against: Callable[..., Difference],
) -> None:
    found = against(in_step(constant(**constants), step), kept, step=step)
    assert found.phase == "optimizer" and named(found) == (cause, "proven")
    assert found.operation is not None and found.operation["name"] == "adamw"
    assert found.operation["by"] == "inputs" and found.operation["differing"][0].startswith(input_)
    if kept == DENSE and cause == "beta2":
        assert {one.group for one in found.tensors} == {"weights", "exp_avg_sq"}


@BOTH
def test_a_schedule_that_is_off_by_one(kept: str, against: Callable[..., Difference]) -> None:
    real = Schedule.learning_rate
    fault = patched(Schedule, "learning_rate", lambda self, step: real(self, step - 1))
    found = against(in_step(fault), kept)
    assert found.phase == "schedule" and named(found) == ("learning rate", "proven")
    assert f"it is that of step {STEP - 1}" in explained(found)
    assert found.operation is not None and found.operation["differing"][0].startswith("how.lr")


@BOTH
@pytest.mark.parametrize("name", ["swiglu", "attention", "loss"])
def test_another_polynomial_for_exp(
    name: str, kept: str, against: Callable[..., Difference]
) -> None:
    found = against(in_step(other_exp(name)), kept)
    assert (
        found.phase == "forward"
        and named(found) == ("another arithmetic", "proven")
        and found.microbatch == 0
    )
    assert found.operation is not None
    assert (found.operation["name"], found.operation["by"]) == (name, "outputs")
    assert found.operation["about"].startswith(
        "model.layers.0" if name != "loss" else "model.embed_tokens"
    )


@BOTH
def test_denormals_flushed_to_zero(
    kept: str, corpus: Path, tmp_path: Path, against: Callable[..., Difference]
) -> None:
    """A model so small in its values that the embedding's are denormal."""
    settings = ["model.initial_std=1e-39", "model.norm_epsilon=1e-38", "train.lr=1e-30"]
    honest = finish(make_run(tmp_path / "honest", corpus, settings))
    found = against(in_step(denormals_flushed), kept, *settings, a=honest)
    assert named(found) == ("denormals", "proven") and found.operation is not None
    assert (found.operation["name"], found.operation["by"]) == ("embed", "outputs")


def test_denormals_flushed_by_torch(
    corpus: Path, tmp_path: Path, against: Callable[..., Difference]
) -> None:
    settings = ["train.arithmetic=native", "train.clip=1e-18"]
    honest = finish(make_run(tmp_path / "honest", corpus, settings))
    found = against(in_step(torch_flushes), SPARSE, *settings, a=honest)
    assert named(found) == ("denormals", "proven") and found.operation is not None
    assert found.operation["name"] == "adamw" and "exp_avg_sq" in found.operation["differing"][0]


@BOTH
@pytest.mark.parametrize("part", ["state", "weights", "optimizer's state"])
def test_a_state_before_the_step_that_is_stale(
    part: str, kept: str, finished: Path, against: Callable[..., Difference]
) -> None:
    stored = anchors.read(layout.anchor(finished, 4))
    kept_by = {group: arrays for group, arrays in stored.items() if group != "weights"}
    old = {"state": stored, "weights": {"weights": stored["weights"]}}.get(part, kept_by)
    found = against(in_step(replaced(old)), kept)
    assert named(found) == (
        "stale state",
        "proven",
    ) and f"the {part} before the step: step 4's" in explained(found)
    assert found.operation is not None and found.operation["by"] == "inputs"
    assert found.operation["name"] == ("adamw" if part == "optimizer's state" else "embed")


def test_moments_that_were_not_restored(finished: Path, against: Callable[..., Difference]) -> None:
    stored = {g: t for g, t in anchors.read(layout.anchor(finished, 4)).items() if g != "weights"}
    zero = {
        group: {name: np.zeros_like(array) for name, array in arrays.items()}
        for group, arrays in stored.items()
    }
    assert named(against(in_step(replaced(zero)), SPARSE)) == ("optimizer's state lost", "proven")


def test_weights_that_come_from_nowhere_are_said_to_be_unknown(
    finished: Path, against: Callable[..., Difference]
) -> None:
    """Weights replaced in mid-run by others that no known state holds."""
    weights = {
        name: array * np.float32(1.25)
        for name, array in anchors.read(layout.anchor(finished, 4))["weights"].items()
    }
    found = against(in_step(replaced({"weights": weights})), SPARSE)
    assert found.phase == "forward" and named(found) == ("unknown", "unknown")
    assert {"stale state", "another arithmetic"} <= set(found.tried)
    assert found.operation is not None and found.operation["name"].startswith("forward")


# ---- faults in the order and the data ----------------------------------------------------------


def searched(rows: int, seed: int, change: Callable[[list[bytes], list[bytes]], None]) -> list[str]:
    """What the search over batches finds, in words, where the recorded batch is
    the own one changed by that."""

    def batch(step: int) -> Any:
        tokens = np.random.default_rng((seed, step)).integers(0, 300, (rows, 5))
        numbers = np.arange(rows) + 1000 * step
        return Batch(
            step, numbers, numbers * 0, numbers * 0, ["x"] * rows, numbers * 0, tokens, tokens * 0
        )

    phase = SimpleNamespace(microbatch=1)
    schedule = SimpleNamespace(at=lambda step: phase)
    recipe: Any = SimpleNamespace(
        seed=seed, first=0, schedule=schedule, model=SimpleNamespace(attention="across")
    )
    salts = Public(seed)
    inputs = SimpleNamespace(identity=SimpleNamespace(salts=salts))
    again = SimpleNamespace(
        recipe=recipe, inputs=inputs, batch=batch(9), batch_of=batch, number=9, phase=phase
    )
    leaves = row_leaves(batch(9), recipe, salts)
    change(leaves, row_leaves(batch(10), recipe, salts))
    target = {"batch": merkle.root(leaves).hex()}
    question: Any = SimpleNamespace(again=again, target=target, search=silent)
    return [one.description for one in batches.batches(question)]


@pytest.mark.parametrize("seed", range(4))
def test_a_search_over_batches_hashes_no_batch_again_for_a_pair(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, whole = np.random.default_rng(seed), []
    real = batches.row_leaves
    monkeypatch.setattr(batches, "row_leaves", lambda *words: whole.append(1) or real(*words))
    one, other = sorted(drawn.choice(64, 2, replace=False).tolist())

    def swap(own: list[bytes], near: list[bytes]) -> None:
        own[one], own[other] = own[other], own[one]

    def take(own: list[bytes], near: list[bytes]) -> None:
        own[one] = near[other]

    (found,) = searched(64, seed, swap)
    assert found.startswith(f"rows {one} and {other} of the batch were swapped: ")
    assert searched(64, seed, take) == [
        f"row {one} held block {10_000 + other} from 0 on, row {other} of step 10"
    ]
    assert searched(64, seed, lambda own, near: own.reverse()) == []
    assert len(whole) <= 3 * 5  # Of each near batch, and of the own one: not of every pair.
    # However long a batch is: what is next to each other comes first.
    monkeypatch.setattr(batches, "_TRIED", 70)
    assert searched(64, seed, lambda own, near: own.__setitem__(2, near[3])) != []


@BOTH
def test_a_swapped_row(kept: str, against: Callable[..., Difference]) -> None:
    found = against(other_rows(lambda rows: [rows[3], rows[1], rows[2], rows[0]]), kept)
    assert (
        found.phase == "order" and named(found) == ("swapped", "proven") and found.microbatch == 0
    )
    assert [row["row"] for row in found.rows] == [0, 3] and found.rows[0]["block"][
        "b"
    ] == found.rows[1]["block"]["a"]
    assert found.operation is not None
    assert (found.operation["name"], found.operation["differing"]) == ("embed", ["tokens_M"])


def test_a_row_in_anothers_place(finished: Path, against: Callable[..., Difference]) -> None:
    inputs = inputs_of(finished)
    before = copied(materialise(inputs, STEP - 1, quiet).groups())
    other = Again(inputs, STEP, before).batch_of(STEP + 1).blocks_B[2]
    found = against(other_rows(lambda rows: [*rows[:3], int(other)]), SPARSE)
    assert named(found) == ("another row", "proven") and [row["row"] for row in found.rows] == [3]
    assert found.microbatch == 1


def test_a_document_whose_text_was_changed(corpus: Path, tmp_path: Path) -> None:
    """The document, the first step that sees it, its row, its first other token."""
    from pellucid.look.show import Shown

    settings = ["tokenizer.kind=bytes", SPARSE]
    a = finish(make_run(tmp_path / "a", corpus, settings))
    shown = Shown(a)
    step, row, name = next(
        (step, row["row"], piece["document"])
        for step in (5, 6, 7)
        for row in shown.step(step)["rows"]
        for piece in row["segments"]
        if "river" in piece["text"] and shown.document(piece["document"])["split"] == "train"
    )
    text = shown.step(step)["rows"][row]["segments"]
    other = tmp_path / "other" / corpus.name
    shutil.copytree(corpus, other)
    path = other / name.partition("/")[2]
    piece = next(one for one in text if one["document"] == name)["text"]
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(piece, piece.replace("river", "rivet"), 1), encoding="utf-8")
    found = diff(a, finish(make_run(tmp_path / "b", other, settings)), quiet)
    assert (
        found.document is not None
        and found.document["id"] == name
        and "sha256" in found.document["fields"]
    )
    assert (
        found.step is not None
        and found.step <= step
        and found.phase == "order"
        and found.agrees == "both"
    )
    assert named(found) == ("data", "proven") and found.rows
    assert found.rows[0]["token"]["b"] - found.rows[0]["token"]["a"] == ord("t") - ord("r")
