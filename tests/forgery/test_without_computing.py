"""Forgeries that verify finds, without torch and without taking a step."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.record import chain, digests
from pellucid.release.publish import publish
from pellucid.store import layout
from pellucid.train import loop
from pellucid.train.loop import batch_of
from tests.conftest import finish, make_run
from tests.forgery import forge, tricks
from tests.forgery.conftest import Check

STEP = tricks.STEP


def test_a_fine_tuned_final_checkpoint(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a fine-tuned final checkpoint, described as the last step's")
    for place in (release, layout.checkpoint(release, 13)):
        forge.change_weights(place / "model.safetensors", lambda arrays: arrays["model.norm.weight"].__imul__(1.01))
    publish(release)
    check.verify_finds(
        release, ("StateDiffers", "model.safetensors"), ("StateDiffers", "checkpoints/step13/model.safetensors")
    )


def test_one_bit_flipped_in_all_copies(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "one bit flipped in all copies of the last weights")
    forge.flip_last(release)
    forge.settle(release, forge.bodies(release))
    check.verify_finds(
        release,
        ("StateDiffers", "anchors/step13"),
        ("StateDiffers", "checkpoints/step13/model.safetensors"),
        ("StateDiffers", "model.safetensors"),
    )


def test_a_checkpoint_under_another_steps_name(release: Path, check: Check, record_property: Any) -> None:
    """Pythia's mistake (EleutherAI/pythia, issue on step 0 and step 1 checkpoints), with every description fitted."""
    record_property("forgery", "the checkpoint of step 12 published as that of step 6")
    shutil.copy(release / "checkpoints/step12/model.safetensors", release / "checkpoints/step6/model.safetensors")
    forge.settle(release, forge.bodies(release))
    check.verify_finds(release, ("StateDiffers", "checkpoints/step6/model.safetensors"))


def test_an_old_anchor_under_a_new_name(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "an old anchor under a new name, described as the new one's")
    for name in ("model.safetensors", "optimizer.safetensors"):
        (release / "anchors/step8" / name).write_bytes((release / "anchors/step5" / name).read_bytes())
    forge.settle(release, forge.bodies(release))
    check.verify_finds(release, ("StateDiffers", "anchors/step8"))


def test_moments_zeroed_in_an_anchor(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a wrong optimizer state in an anchor: the weights right, the moments zero")

    def zero(groups: dict[str, dict[str, Any]]) -> None:
        for group in ("first_moment", "second_moment"):
            for array in groups[group].values():
                array[...] = 0

    forge.change_state(release / "anchors/step8", zero)
    publish(release)
    check.verify_finds(release, ("StateDiffers", "first_moment model.embed_tokens.weight"))


# ---- the ledger ---------------------------------------------------------------------------------


def test_an_edited_loss(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "an edited loss, and the chain recomputed to the end")
    found = forge.bodies(release)
    body = forge.body_of(found, "step", STEP)
    body["loss"] = digests.float_bits(digests.bits_float(body["loss"]) * 0.9)
    forge.settle(release, found)
    check.verify_finds(release, ("LossDiffers", f"step {STEP}"))


def test_a_segments_loss_without_its_roots(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a segment's loss changed in the table alone")

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        next(row for row in rows if row["step"] == STEP)["loss_sum"] *= 0.5
        return rows

    forge.change_table(release, "segments", change)
    publish(release)
    check.verify_finds(release, ("NumbersDiffer", f"step {STEP}"))


def test_an_edited_learning_rate(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "an edited learning rate, and the chain recomputed to the end")
    found = forge.bodies(release)
    forge.body_of(found, "step", STEP)["lr"] = digests.float_bits(0.001)
    forge.settle(release, found)
    check.verify_finds(release, ("LedgerBroken", f"step {STEP}"))


def test_a_truncated_tail(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a truncated tail: the run said to end at step 10")
    check_tail(release, check, steps=13, expected=("LedgerIncomplete", "step 10"))


def test_a_truncated_tail_with_its_recipe(release: Path, check: Check, record_property: Any) -> None:
    """The learning rates of all steps follow from how many there are."""
    record_property("forgery", "a truncated tail, and the recipe and genesis made to ask for no more")
    check_tail(release, check, steps=10, expected=("LedgerBroken", "lr is"))


def check_tail(release: Path, check: Check, steps: int, expected: tuple[str, str]) -> None:
    path = release / "recipe.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("steps = 13", f"steps = {steps}"), encoding="utf-8")
    found = [body for body in forge.bodies(release) if body.get("step", 0) <= 10]
    found[0]["recipe"] = forge.load(release).digest().hex()
    found += [{"kind": "checkpoint", "step": 10}, {"kind": "end", "step": 10}]
    shutil.rmtree(layout.anchor(release, 13))
    for step in (12, 13):
        shutil.rmtree(layout.checkpoint(release, step))
    shutil.copytree(layout.checkpoint(release, 6), layout.checkpoint(release, 10))
    for place in (layout.checkpoint(release, 10), release):
        shutil.copy(layout.anchor(release, 10) / "model.safetensors", place / "model.safetensors")
    (release / "pellucid.json").write_text(json.dumps({"step": 10}))
    for table in ("steps", "sequences", "segments", "sources", "validation", "microbatches"):
        forge.change_table(release, table, lambda rows: [row for row in rows if row["step"] <= 10])
    forge.settle(release, found)
    check.verify_finds(release, expected)


def test_steps_left_out(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a step left out of the ledger, the later ones numbered on")
    found = [body for body in forge.bodies(release) if (body["kind"], body.get("step")) != ("step", STEP)]
    forge.settle(release, found)
    check.verify_finds(release, ("LedgerIncomplete", f"step {STEP}"))


def test_more_steps_than_the_recipe_asks_for(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a step more than the recipe asks for")
    found = forge.bodies(release)
    more = forge.body_of(found, "step", 13) | {"step": 14, "tokens": str(14 * 128)}
    forge.settle(release, [*found[:-1], more, {"kind": "end", "step": 14}])
    check.verify_finds(release, ("LedgerIncomplete", "step 14"))


def test_a_recipe_edited_after_the_fact(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a recipe edited after the fact")
    path = release / "recipe.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("beta2 = 0.95", "beta2 = 0.99"), encoding="utf-8")
    publish(release)
    check.verify_finds(release, ("LedgerBroken", "recipe is"))


def test_a_hidden_incident(corpus: Path, tmp_path: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a loss spike's incident taken out of the ledger")
    settings = ["guards.window=8", "guards.back=2", "train.steps=13"]
    folder = make_run(tmp_path / "guarded", corpus, settings)

    def spiking(state: Any, batch: Any, recipe: Any) -> Any:
        stepped = forge.honest(state, batch, recipe)
        if state.step == 11:
            stepped.losses_BT[:] *= 100
        return stepped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "training_step", lambda state, batch, recipe, *_: spiking(state, batch, recipe))
        finish(folder)
    publish(folder)
    found = forge.bodies(folder)
    assert [body["step"] for body in found if body["kind"] == "incident"] == [11]
    forge.settle(folder, [body for body in found if body["kind"] != "incident"])
    check.verify_finds(folder, ("LedgerIncomplete", "incident of step 11"))


# ---- data ---------------------------------------------------------------------------------------


def test_a_batch_of_other_sequences(prepared: Path, tmp_path: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a batch of other sequences, recorded as what it is")
    other = own_order(prepared, lambda number: number + 20 * (number == STEP))
    folder = forge.train(prepared, tmp_path / "forged", other)
    check.verify_finds(folder, ("BatchDiffers", f"step {STEP}"))


def test_two_steps_swapped(prepared: Path, tmp_path: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "two steps' batches swapped, recorded as what they are")
    swapped = {STEP - 1: STEP, STEP: STEP - 1}
    folder = forge.train(prepared, tmp_path / "forged", own_order(prepared, lambda number: swapped.get(number, number)))
    check.verify_finds(folder, ("BatchDiffers", f"step {STEP}"), ("BatchDiffers", f"step {STEP - 1}"))


def own_order(folder: Path, number_of: Callable[[int], int]) -> forge.Trick:
    recipe, shards = forge.load(folder), Shards.open(folder)
    order = Order.of(folder, recipe, shards)

    def trick(state: Any, batch: Any, recipe: Any) -> Any:
        taken = batch_of(order, shards, batch.step, number_of(batch.number))
        return forge.honest(state, dataclasses.replace(taken, number=batch.number), recipe)

    return trick


def test_another_corpus_under_the_same_root(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "another corpus of the same shape under the same root")
    forge.change_documents(release, lambda row: forge.other_text(row))
    publish(release)
    check.verify_finds(release, ("DataDiffers", "the documents and tokens give the root"))


@pytest.mark.parametrize("field", ["licence", "origin", "text"])
def test_a_document_changed(field: str, release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", f"a document's {field} changed")

    def change(row: dict[str, Any]) -> dict[str, Any]:
        if row["index"] != 3:
            return row
        return forge.other_text(row) if field == "text" else {**row, field: "CC0-1.0"}

    forge.change_documents(release, change)
    publish(release)
    check.verify_finds(release, ("DataDiffers", "data/documents/00000.parquet"), ("DataDiffers", "give the root"))


def test_tokens_changed_under_the_same_root(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a sequence of the shards replaced by another")
    path = release / "data/shards/00000.train.bin"
    content = bytearray(path.read_bytes())
    content[-64:] = content[-128:-64]
    path.write_bytes(content)
    publish(release)
    check.verify_finds(release, ("DataDiffers", "data/shards"), ("DataDiffers", "give the root"))


def test_another_tokenizer_in_the_checkpoints(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "another tokenizer in a checkpoint")
    path = release / "checkpoints/step6/tokenizer.json"
    content = json.loads(path.read_bytes())
    content["model"]["merges"].pop()
    path.unlink()
    path.write_text(json.dumps(content))
    publish(release)
    check.verify_finds(release, ("CheckpointDiffers", "checkpoints/step6/tokenizer.json"))


def test_a_tokenizer_beside_the_tokens(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "another tokenizer for the whole run")
    path = release / "data/tokenizer/tokenizer.json"
    content = json.loads(path.read_bytes())
    content["model"]["merges"].pop()
    path.unlink()
    path.write_text(json.dumps(content))
    forge.settle(release, forge.bodies(release))
    check.verify_finds(release, ("DataDiffers", "data/tokenizer"), ("DataDiffers", "give the root"))


# ---- the journal --------------------------------------------------------------------------------


def test_a_journal_rewritten(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a line of the journal rewritten")
    path = release / layout.JOURNAL
    path.write_bytes(re.sub(rb'"time":"[^"]*"', b'"time":"2020-01-01T00:00:00Z"', path.read_bytes(), count=1))
    publish(release)
    check.verify_finds(release, ("JournalBroken", "entry 1"))


# ---- what nobody can tell -----------------------------------------------------------------------


def test_a_journal_rewritten_to_its_end(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "the whole journal rewritten: times, machine, crashes")
    path, prev, lines = release / layout.JOURNAL, chain.START, []
    for n, line in enumerate(path.read_bytes().splitlines()):
        body = {key: value for key, value in json.loads(line).items() if key not in ("prev", "n")}
        lines.append(chain.line_of(prev, n, body | {"time": "2020-01-01T00:00:00Z"}))
        prev = chain.digest_of(lines[-1])
    path.write_bytes(b"".join(lines))
    publish(release)
    check.nobody_finds(release)


def test_speeds_that_were_not_measured(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "speeds and memory that were not measured")
    forge.change_table(release, "steps", lambda rows: [row | {"seconds": 1e-3, "memory_bytes": 1} for row in rows])
    publish(release)
    check.nobody_finds(release)


def test_a_licence_with_all_its_roots(release: Path, check: Check, record_property: Any) -> None:
    """A licence is what the maker says; only that it was said before can be shown, by the head."""
    record_property("forgery", "a document's licence changed, and every root over it: another release, another head")
    before = forge.opened(release).recorded().head
    forge.change_documents(release, lambda row: row | {"licence": "CC0-1.0"} if row["index"] == 3 else row)
    forge.settle_all(release)
    check.nobody_finds(release, names="another head")
    assert forge.opened(release).recorded().head != before
