"""Faults planted in runs, and what diff says of each: the step, the tensor, the operation, the cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.cli.audit import audit_run
from pellucid.errors import AuditFailed, FormatInvalid, RunsDiffer
from pellucid.kernels import calls, library
from pellucid.recipe import load
from pellucid.record import digests, merkle
from pellucid.recorder import row_leaves
from pellucid.replay import causes
from pellucid.replay import inputs as replay_inputs
from pellucid.replay.again import Again, copied
from pellucid.replay.diff import diff, diff_here, explain_audit
from pellucid.replay.explain import Difference, words
from pellucid.replay.materialise import materialise
from pellucid.replay.request import Request
from pellucid.schedule import Schedule
from pellucid.store import anchors, layout
from pellucid.train.events import Batch
from tests.conftest import finish, make_run, pellucid
from tests.replay.faults import (
    CLIPPED,
    DENSE,
    SPARSE,
    STEP,
    Plant,
    constant,
    denormals_flushed,
    flip,
    flipped_bit,
    in_step,
    other_exp,
    other_rows,
    patched,
    replaced,
    torch_flushes,
    trained,
    wrong_tile,
)
from tests.replay.test_audit import rewrite

Q_PROJ, UP_PROJ = "model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"
BOTH = pytest.mark.parametrize("kept", [DENSE, SPARSE], ids=["every step stored", "few steps stored"])


def quiet(done: int, total: int) -> None:
    pass


def inputs_of(folder: Path) -> replay_inputs.Inputs:
    return replay_inputs.load(folder, load(folder))


def named(found: Difference) -> tuple[str, str]:
    assert found.cause is not None
    return found.cause.name, found.cause.certainty


def explained(found: Difference) -> str:
    return "\n".join(words(found))


@pytest.fixture
def against(finished: Path, corpus: Path, tmp_path: Path) -> Callable[..., Difference]:
    """The diff of the finished run and one of which a step was taken under a fault."""

    def found(plant: Plant, kept: str, *settings: str, a: Path = finished, step: int = STEP) -> Difference:
        b = trained(tmp_path / "faulty", corpus, plant, [*settings, kept])
        result = diff(a, b, quiet)
        json.dumps(result.as_json())
        assert not result.equal and result.kind == "step" and result.step == step and result.agrees == "A"
        return result

    return found


# ---- faults in one step --------------------------------------------------------------------------


@BOTH
def test_a_flipped_bit_of_a_gradient(kept: str, against: Callable[..., Difference]) -> None:
    """Found by the norm alone where no tensor is stored, and proven by making the other run's bits."""
    found = against(in_step(flipped_bit(Q_PROJ, 40, 31, microbatch=1)), kept)
    assert found.phase == "backward" and named(found) == ("flipped bit", "proven") and found.microbatch == 1
    assert found.operation is not None and Q_PROJ.removesuffix(".weight") in found.operation["name"]
    (tensor,) = found.tensors
    assert (tensor.name, tensor.elements, tensor.rows, tensor.columns) == (Q_PROJ, 1, (1, 1), (8, 8))
    assert (tensor.group, tensor.bit) == (("exp_avg", None) if kept == DENSE else ("gradient", 31))


def test_flips_that_give_one_sum_are_all_named(against: Callable[..., Difference]) -> None:
    found = against(in_step(flipped_bit(Q_PROJ, 3, 20, microbatch=1)), SPARSE)
    assert named(found) == ("flipped bit", "proven") and "bit 20 of microbatch 1's gradient" in explained(found)
    assert found.microbatch is None and " or " in explained(found)


@BOTH
def test_a_tile_of_a_product_that_one_thread_made_wrong(kept: str, against: Callable[..., Difference]) -> None:
    found = against(in_step(wrong_tile(UP_PROJ, slice(16, 32), slice(8, 16))), kept)
    assert found.phase == "backward" and found.operation is not None
    if kept == SPARSE:  # The step is named, and that the rest cannot be.
        assert named(found) == ("unknown", "unknown") and found.tensors == []
        assert f"no tensor of step {STEP} (the next anchor is that of step 8)" in explained(found)
        return
    (tensor,) = found.tensors
    assert (tensor.name, tensor.rows, tensor.columns, tensor.tile) == (UP_PROJ, (16, 31), (8, 15), True)
    assert found.operation["name"] == f"product (gradient of the weight: dyᵀ x), {UP_PROJ.removesuffix('.weight')}"
    assert named(found) == ("wrong tile", "fits")


@BOTH
@pytest.mark.parametrize(
    ("constants", "cause", "input_", "step"),
    [({"beta2": 0.99}, "beta2", "how.beta2: 0.95 and 0.99", STEP), ({"clip": 1.0}, "clipping", "how.clip", CLIPPED)],
)
def test_an_optimizer_with_another_constant_than_the_recipe_says(
    constants: dict[str, float], cause: str, input_: str, step: int, kept: str, against: Callable[..., Difference]
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
def test_another_polynomial_for_exp(name: str, kept: str, against: Callable[..., Difference]) -> None:
    found = against(in_step(other_exp(name)), kept)
    assert found.phase == "forward" and named(found) == ("another arithmetic", "proven") and found.microbatch == 0
    assert found.operation is not None
    assert (found.operation["name"], found.operation["by"]) == (name, "outputs")
    assert found.operation["about"].startswith("model.layers.0" if name != "loss" else "model.embed_tokens")


@BOTH
def test_denormals_flushed_to_zero(kept: str, corpus: Path, tmp_path: Path, against: Callable[..., Difference]) -> None:
    """A model so small in its values that the embedding's are denormal."""
    settings = ["model.initial_std=1e-39", "model.norm_epsilon=1e-38", "train.lr=1e-30"]
    honest = finish(make_run(tmp_path / "honest", corpus, settings))
    found = against(in_step(denormals_flushed), kept, *settings, a=honest)
    assert named(found) == ("denormals", "proven") and found.operation is not None
    assert (found.operation["name"], found.operation["by"]) == ("embed", "outputs")


def test_denormals_flushed_by_torch(corpus: Path, tmp_path: Path, against: Callable[..., Difference]) -> None:
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
    assert named(found) == ("stale state", "proven") and f"the {part} before the step: step 4's" in explained(found)
    assert found.operation is not None and found.operation["by"] == "inputs"
    assert found.operation["name"] == ("adamw" if part == "optimizer's state" else "embed")


def test_moments_that_were_not_restored(finished: Path, against: Callable[..., Difference]) -> None:
    stored = {g: t for g, t in anchors.read(layout.anchor(finished, 4)).items() if g != "weights"}
    zero = {group: {name: np.zeros_like(array) for name, array in arrays.items()} for group, arrays in stored.items()}
    assert named(against(in_step(replaced(zero)), SPARSE)) == ("optimizer's state lost", "proven")


def test_weights_that_come_from_nowhere_are_said_to_be_unknown(
    finished: Path, against: Callable[..., Difference]
) -> None:
    """Weights replaced in mid-run by others that no known state holds."""
    weights = {
        name: array * np.float32(1.25) for name, array in anchors.read(layout.anchor(finished, 4))["weights"].items()
    }
    found = against(in_step(replaced({"weights": weights})), SPARSE)
    assert found.phase == "forward" and named(found) == ("unknown", "unknown")
    assert {"stale state", "another arithmetic"} <= set(found.tried)
    assert found.operation is not None and found.operation["name"].startswith("forward")


# ---- faults in the order and the data ------------------------------------------------------------


def searched(rows: int, seed: int, change: Callable[[list[bytes], list[bytes]], None]) -> list[str]:
    """What the search over batches finds, in words, where the recorded batch is the own one changed by that."""

    def batch(step: int) -> Any:
        tokens = np.random.default_rng((seed, step)).integers(0, 300, (rows, 5))
        numbers = np.arange(rows) + 1000 * step
        return Batch(step, numbers, numbers * 0, numbers * 0, ["x"] * rows, numbers * 0, tokens, tokens * 0)

    phase = SimpleNamespace(microbatch=1)
    schedule = SimpleNamespace(at=lambda step: phase)
    recipe: Any = SimpleNamespace(seed=seed, first=0, schedule=schedule, model=SimpleNamespace(attention="across"))
    again = SimpleNamespace(recipe=recipe, batch=batch(9), batch_of=batch, number=9, phase=phase)
    leaves = row_leaves(batch(9), recipe)
    change(leaves, row_leaves(batch(10), recipe))
    question: Any = SimpleNamespace(again=again, target={"batch": merkle.root(leaves).hex()})
    return [one.words for one in causes._batches(question)]


@pytest.mark.parametrize("seed", range(4))
def test_a_search_over_batches_hashes_no_batch_again_for_a_pair(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, whole = np.random.default_rng(seed), []
    real = causes.row_leaves
    monkeypatch.setattr(causes, "row_leaves", lambda *words: whole.append(1) or real(*words))
    one, other = sorted(drawn.choice(64, 2, replace=False).tolist())

    def swap(own: list[bytes], near: list[bytes]) -> None:
        own[one], own[other] = own[other], own[one]

    def take(own: list[bytes], near: list[bytes]) -> None:
        own[one] = near[other]

    (found,) = searched(64, seed, swap)
    assert found.startswith(f"rows {one} and {other} of the batch were swapped: ")
    assert searched(64, seed, take) == [f"row {one} held block {10_000 + other} from 0 on, row {other} of step 10"]
    assert searched(64, seed, lambda own, near: own.reverse()) == []
    assert len(whole) <= 3 * 5  # Of each near batch, and of the own one: not of every pair.
    monkeypatch.setattr(causes, "_TRIED", 70)  # However long a batch is: what is next to each other comes first.
    assert searched(64, seed, lambda own, near: own.__setitem__(2, near[3])) != []


@BOTH
def test_a_swapped_row(kept: str, against: Callable[..., Difference]) -> None:
    found = against(other_rows(lambda rows: [rows[3], rows[1], rows[2], rows[0]]), kept)
    assert found.phase == "order" and named(found) == ("swapped", "proven") and found.microbatch == 0
    assert [row["row"] for row in found.rows] == [0, 3] and found.rows[0]["block"]["b"] == found.rows[1]["block"]["a"]
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
    assert found.document is not None and found.document["id"] == name and "sha256" in found.document["fields"]
    assert found.step is not None and found.step <= step and found.phase == "order" and found.agrees == "both"
    assert named(found) == ("data", "proven") and found.rows
    assert found.rows[0]["token"]["b"] - found.rows[0]["token"]["a"] == ord("t") - ord("r")


# ---- recipes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "step", "words_", "operation"),
    [
        (
            ["optimizer.beta2=0.99"],
            1,
            "optimizer.beta2 is 0.95 in one recipe and 0.99 in the other, and that alone",
            "adamw",
        ),
        (["train.steps=12"], 3, "train.steps is 13 in one recipe and 12 in the other, and that alone", "adamw"),
        (["model.rope_theta=2e4"], 1, "model.rope_theta is 10000.0", "attention"),
        (["record.commitment=microbatches"], 1, "record.commitment is steps", "none: the record alone differs"),
        (["train.arithmetic=native"], 1, "train.arithmetic is portable", "every operation: another arithmetic"),
        (["train.clip=0.5", "optimizer.epsilon=1e-7"], 1, "no single one of these does it alone", "adamw"),
    ],
)
def test_a_field_of_the_recipe(
    settings: list[str], step: int, words_: str, operation: str, finished: Path, corpus: Path, tmp_path: Path
) -> None:
    found = diff(finished, finish(make_run(tmp_path / "b", corpus, settings)), quiet)
    assert (found.step, found.agrees) == (step, "both") and named(found) == ("recipe", "proven")
    assert found.cause is not None and words_ in found.cause.words
    assert found.operation is not None and found.operation["name"] == operation
    assert len(found.recipe) == len(settings)


def test_another_seed(finished: Path, corpus: Path, tmp_path: Path) -> None:
    found = diff(finished, finish(make_run(tmp_path / "b", corpus, ["seed=2"])), quiet)
    assert (found.step, found.kind, found.agrees) == (0, "genesis", "both") and named(found) == ("recipe", "proven")
    assert found.recipe == [{"field": "seed", "a": 1, "b": 2}]
    assert {one.group for one in found.tensors} == {"weights"}
    assert found.operation is not None and found.operation["name"] == "initial_values"


# ---- the record ----------------------------------------------------------------------------------


def edited(release: Path) -> Path:
    """Another loss, under a chain computed anew."""

    def change(body: dict[str, Any]) -> None:
        if body.get("step") == STEP and body["kind"] == "step":
            body["loss"] = digests.float_bits(digests.bits_float(body["loss"]) * 0.9)

    rewrite(release, change)
    return release


def test_an_edited_loss(finished: Path, release: Path) -> None:
    found = diff(finished, edited(release), quiet)
    assert (found.step, found.phase, found.agrees) == (STEP, "record", "A")
    assert [one["field"] for one in found.fields] == ["loss"] and named(found) == ("record", "proven")
    assert found.operation is not None and found.operation["name"].startswith("none")


def test_a_line_that_was_changed_under_the_old_chain(finished: Path, release: Path) -> None:
    """Both heads are equal; the files are not."""
    path = release / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b'"kind":"step","step":7,' in line)
    grad_norm = json.loads(lines[at])["grad_norm"].encode()
    lines[at] = lines[at].replace(grad_norm, b"3ff0000000000000")
    path.write_bytes(b"".join(lines))
    found = diff(finished, release, quiet)
    assert found.step == 7 and [one["field"] for one in found.fields] == ["grad_norm"]


def test_a_run_that_ends_earlier(finished: Path, release: Path) -> None:
    path = release / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: next(n for n, line in enumerate(lines) if b'"step":9,' in line)]))
    found = diff(finished, release, quiet)
    assert (found.step, found.equal) == (9, False) and "B ends before A" in explained(found)


def test_another_validation(finished: Path, release: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        if body["kind"] == "validation" and body["step"] == 10:
            body["sources"][0]["loss_sum"] = digests.float_bits(1.0)

    rewrite(release, change)
    assert (diff(finished, release, quiet).step, diff(finished, release, quiet).kind) == (10, "validation")
    alone = diff_here(release, quiet)
    assert (alone.step, alone.kind) == (10, "validation") and named(alone) == ("validation", "proven")


def test_equal_runs_are_equal(finished: Path, release: Path) -> None:
    assert diff(finished, release, quiet).equal and diff_here(finished, quiet).equal


def test_ledgers_alone_tell_what_they_can(finished: Path, release: Path) -> None:
    edited(release)
    shutil.rmtree(release / "data")
    found = diff(finished, release, quiet)
    assert found.step == STEP and found.agrees == "A" and "B cannot be computed here: StageNotReady" in explained(found)


# ---- this machine --------------------------------------------------------------------------------


def faulty_swiglu(patch: pytest.MonkeyPatch) -> None:
    """Kernels that err on every instruction set but plain C."""
    start, swiglu, taken = library.start, calls.swiglu, [""]

    def starting(kernels: Any, name: str, threads: int) -> int:
        taken[0] = name
        return start(kernels, name, threads)

    def erring(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        out = swiglu(gate, up)
        if taken[0] not in ("scalar", "software"):
            flip(out, 5, 10)
        return out

    patch.setattr(library, "start", starting)
    patch.setattr(calls, "swiglu", erring)


@pytest.mark.skipif(library.isa(library.kernels()) == "scalar", reason="there is no other instruction set here")
def test_this_machine_errs(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is right, and the operation is named by a second path through independent code."""
    inputs = inputs_of(finished)
    faulty_swiglu(monkeypatch)
    found = explain_audit(inputs, 9, quiet)
    assert found.step == 9 and named(found) == ("this machine", "proven") and "the record is right" in explained(found)
    assert found.operation is not None
    assert (found.operation["name"], found.operation["by"]) == ("swiglu", "outputs")
    assert found.operation["about"].startswith("model.layers.0.mlp")


def test_a_machine_that_gives_two_results(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norm, count = calls.norm, iter(range(10**9))

    def erring(*arguments: Any) -> Any:
        out = norm(*arguments)
        if next(count) % 7 == 3:
            flip(out[0], 1, 15)
        return out

    inputs = inputs_of(finished)
    monkeypatch.setattr(calls, "norm", erring)
    found = explain_audit(inputs, 3, quiet)
    assert named(found) == ("this machine", "proven") and "gave two results" in explained(found)


# ---- audits and anchors --------------------------------------------------------------------------


def test_a_failed_audit_ends_with_the_cause(corpus: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path / "b", corpus, in_step(constant(beta1=0.95)), [SPARSE])
    about = json.loads(pellucid("audit", folder, "--step", 8, "--json", check=5).stdout)
    assert about["ok"] is False and about["difference"]["step"] == STEP
    assert about["difference"]["cause"]["name"] == "beta1"
    out = pellucid("audit", folder, "--step", 8, check=5).stdout
    assert "Cause, proven: the optimizer took beta1 = 0.95, and the recipe says 0.9." in out


def test_a_stale_anchor(release: Path) -> None:
    shutil.rmtree(release / "anchors/step5")
    shutil.copytree(release / "anchors/step4", release / "anchors/step5")
    for step in (5, 6):
        found = explain_audit(inputs_of(release), step, quiet)
        assert (found.step, found.kind) == (5, "anchor") and named(found) == ("stale anchor", "proven")
        assert "holds the state of step 4" in explained(found)


def test_a_bit_of_a_stored_state(release: Path) -> None:
    path = release / "anchors/step5/optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-400] ^= 8
    path.unlink()
    path.write_bytes(content)
    for step in (5, 6):
        found = explain_audit(inputs_of(release), step, quiet)
        (tensor,) = found.tensors
        assert named(found) == ("damaged anchor", "proven") and (tensor.group, tensor.bit) == ("exp_avg_sq", 3)


# ---- microbatches, environments, the command line ------------------------------------------------


def test_the_microbatch_is_named_by_its_published_root(corpus: Path, tmp_path: Path) -> None:
    settings = ["record.commitment=microbatches", DENSE]
    honest = finish(make_run(tmp_path / "honest", corpus, settings))
    fault = wrong_tile(UP_PROJ, slice(16, 32), slice(8, 16), microbatch=1)
    faulty = trained(tmp_path / "faulty", corpus, in_step(fault), settings)
    assert diff(honest, faulty, quiet).microbatch == 1
    (faulty / layout.METRICS / "microbatches.parquet").unlink()
    assert diff(honest, faulty, quiet).microbatch is None


def test_the_environments_differences_are_listed(finished: Path, release: Path) -> None:
    edited(release)
    path = release / layout.ENVIRONMENT
    path.write_text(path.read_text().replace("torch==", "torch==1."))
    found = diff(finished, release, quiet)
    (torch_,) = [one for one in found.environments if one["what"] == "package torch"]
    assert torch_["b"] == "1." + torch_["a"] and "package torch" in explained(found)


@pytest.mark.parametrize("verb", [("diff",), ("audit", "--step", STEP)], ids=["diff", "audit"])
@pytest.mark.parametrize("name", [layout.CODE, layout.ENVIRONMENT, layout.JOURNAL, "metrics/segments.parquet"])
def test_what_only_explains_replaces_no_verdict(
    verb: tuple[Any, ...], name: str, finished: Path, release: Path
) -> None:
    """The loss that is not what the step gives is told, whatever the maker put beside the ledger."""
    edited(release)
    (release / name).unlink()
    (release / name).write_bytes(b"x" * (2 << 20))
    about = json.loads(pellucid(*verb, *([finished] * (verb[0] == "diff")), release, "--json", check=5).stdout)
    told = about if verb[0] == "diff" else about["difference"]
    assert (told["step"], told["equal"], about.get("ok")) == (STEP, False, False if verb[0] == "audit" else None)
    assert name == layout.JOURNAL or any(name.rpartition("/")[2].partition(".")[0] in one for one in told["notes"])


@pytest.mark.parametrize("raised", [FormatInvalid(path="x", detail="y"), RecursionError("deep"), MemoryError()])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_audit_is_told_whatever_explaining_it_does(
    raised: Exception, as_json: bool, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explain(*_: object) -> None:
        raise raised

    edited(release)
    monkeypatch.setattr("pellucid.replay.diff.explain_audit", explain)
    request = Request.of(inputs_of(release), [STEP], None, None, None, False, "")
    with pytest.raises(AuditFailed):
        audit_run(request, as_json)
    out = capsys.readouterr().out
    assert type(raised).__name__ in (json.loads(out)["unexplained"] if as_json else out)
    assert not json.loads(out)["ok"] if as_json else f"audit: step {STEP} bit-equal, but NOT as published" in out


@pytest.mark.parametrize("as_json", [False, True])
def test_an_audit_is_told_where_somebody_stops_the_explaining(
    as_json: bool, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explain(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pellucid.replay.diff.explain_audit", explain)
    with pytest.raises(KeyboardInterrupt):
        audit_run(Request.of(inputs_of(edited(release)), [STEP], None, None, None, False, ""), as_json)
    out = capsys.readouterr().out
    assert not json.loads(out)["ok"] if as_json else f"audit: step {STEP} bit-equal, but NOT as published" in out


def test_the_command_line(finished: Path, release: Path) -> None:
    assert "the same run" in pellucid("diff", finished, release).stdout
    edited(release)
    done = pellucid("diff", finished, release, check=RunsDiffer.exit_code)
    assert f"The first difference is at step {STEP}" in done.stdout and "RunsDiffer" in done.stderr
    about = json.loads(pellucid("diff", finished, release, "--json", check=5).stdout)
    keys = "a b equal step kind fields phase recipe document rows microbatch tensors operation cause agrees validation"
    assert set(about) == {*keys.split(), "tried", "environments", "notes", "explanation"}
    assert about["cause"] == {**about["cause"], "name": "record", "certainty": "proven"}


def test_what_a_release_says_of_itself_cannot_command_a_terminal(finished: Path, release: Path) -> None:
    edited(release)
    path = release / layout.ENVIRONMENT
    path.write_text(path.read_text() + "evil==\x1b[2J\n")
    assert "\x1b" not in pellucid("diff", finished, release, check=5).stdout
