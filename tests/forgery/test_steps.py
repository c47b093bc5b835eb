"""Forgeries of what a step computed: only an audit of the very step can tell, and it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pellucid.record import digests, entries
from pellucid.record.entries import Segment
from pellucid.recorder import loss_of
from pellucid.replay import materialise
from pellucid.replay.request import Request
from pellucid.store import anchors, layout, tensors
from pellucid.train.state import initial
from tests.forgery import forge, tricks
from tests.forgery.conftest import Check, audited

STEP = tricks.STEP
TAKEN: list[tuple[Any, int, str]] = [
    (tricks.replaced_weights, STEP, "weight_norm is"),
    (tricks.skipped, STEP, "weight_norm is"),
    (tricks.shifted_labels, STEP, "microbatches is"),
    (tricks.fine_tuned, 13, "weight_norm is"),
    (tricks.zeroed_moments, STEP, f"step {STEP}: state is"),
    (tricks.other_learning_rate, STEP, "weight_norm is"),
    (tricks.no_clipping, STEP, "weight_norm is"),
    (tricks.no_weight_decay, STEP, "weight_norm is"),
    (tricks.between_states, STEP, "weight_norm is"),
    (tricks.other_arithmetic, STEP, "microbatches is"),
]


@pytest.mark.parametrize(("trick", "step", "cause"), TAKEN, ids=lambda one: getattr(one, "__name__", ""))
def test_a_step_taken_otherwise(
    trick: forge.Trick, step: int, cause: str, prepared: Path, tmp_path: Path, check: Check, record_property: Any
) -> None:
    record_property("forgery", trick.__doc__)
    folder = forge.train(prepared, tmp_path / "forged", trick)
    check.only_audit_finds(folder, step, cause, innocent=(5, 9) if step == STEP else (STEP, step - 1))


TOKENS = {
    "later": "a batch of other sequences under the right ones' name",
    "repeated": "the batch before it taken twice",
    "doubled rows": "one sequence in all rows of a batch",
    "validation": "training on validation data",
}


@pytest.mark.parametrize("how", TOKENS)
def test_a_step_taken_on_other_tokens(
    how: str, prepared: Path, tmp_path: Path, check: Check, record_property: Any
) -> None:
    record_property("forgery", TOKENS[how])
    folder = forge.train(prepared, tmp_path / "forged", tricks.other_tokens(prepared, how))
    check.only_audit_finds(folder, STEP, "microbatches is", innocent=(5, 9))


def test_two_steps_order_swapped(prepared: Path, tmp_path: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "two steps' batches swapped, each claiming its own")
    folder = forge.train(prepared, tmp_path / "forged", tricks.other_tokens(prepared, "swapped"))
    check.only_audit_finds(folder, STEP - 1, "microbatches is", innocent=(5, 9))


def test_a_spliced_branch(prepared: Path, stranger: Path, tmp_path: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", tricks.spliced.__doc__)
    folder = forge.train(prepared, tmp_path / "forged", tricks.spliced(stranger))
    check.only_audit_finds(folder, 9, "microbatches is", innocent=(8, 11, 13))


def test_a_stolen_model_with_invented_states(
    prepared: Path, stranger: Path, tmp_path: Path, check: Check, record_property: Any
) -> None:
    """The attack of Zhang et al. (2022) and Fang et al. (2023) in its simplest form: no state follows from the last."""
    record_property("forgery", tricks.stolen.__doc__)
    folder = forge.train(prepared, tmp_path / "forged", tricks.stolen(stranger))
    check.only_audit_finds(folder, 1, "weight_norm is", innocent=(0,))
    assert not any(audited(folder, step).ok for step in range(1, 14))


def test_training_before_the_genesis(
    prepared: Path, stranger: Path, tmp_path: Path, check: Check, record_property: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_property("forgery", "undeclared training before the genesis")

    def begun(recipe: Any, vocabulary: int) -> Any:
        state = initial(recipe, vocabulary)
        forge.put_anchor(state, stranger / "anchors/step13")
        for group in ("first", "second"):
            for moment in forge.arrays_of(state)[group]:
                moment.zero_()
        return state

    with monkeypatch.context() as patch:
        patch.setattr(materialise, "initial", begun)
        folder = forge.train(prepared, tmp_path / "forged", forge.honest)
    check.only_audit_finds(folder, 0, "the initial state", innocent=(2, STEP, 13))
    assert "the initial state" in audited(folder, 1).problems[0]
    chosen = Request.of(forge.opened(folder), [], 1, 5, None, False, "").run(lambda done, total: None)
    assert [one.step for one in chosen.failed] == [0]


# ---- numbers of a step, and all roots over them -------------------------------------------------


def test_a_segments_loss_with_its_roots(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a segment's loss changed, and every root and number over it")
    found, rows = forge.bodies(release), []

    def change(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
        mine = [row for row in table if row["step"] == STEP]
        mine[0]["loss_sum"] *= 0.5
        rows.extend(mine)
        return table

    forge.change_table(release, "segments", change)
    segments = [Segment(*(row[name] for name in ("row", "document", "start", "tokens", "loss_sum"))) for row in rows]
    loss = digests.float_bits(loss_of(segments))
    body = forge.body_of(found, "step", STEP)
    body.update(segments=entries.segments_root(segments, 4).hex(), loss=loss)
    forge.fit_sums(release, STEP, segments)
    forge.settle(release, found)
    check.only_audit_finds(release, STEP, "segments is", innocent=(5, 9))


@pytest.mark.parametrize("field", ["grad_norm", "weight_norm"])
def test_a_norm_under_a_recomputed_chain(field: str, release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", f"a {field} made smaller, and the chain recomputed to the end")
    found = forge.bodies(release)
    body = forge.body_of(found, "step", STEP)
    body[field] = digests.float_bits(digests.bits_float(body[field]) * 0.5)
    forge.settle(release, found)
    check.only_audit_finds(release, STEP, f"{field} is", innocent=(5, 9))


def test_a_validation_better_than_computed(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a validation better than computed")
    found = forge.bodies(release)
    one = forge.body_of(found, "validation", 10)["sources"][0]
    one["loss_sum"] = digests.float_bits(digests.bits_float(one["loss_sum"]) * 0.9)
    forge.settle(release, found)
    check.only_audit_finds(release, 10, "validation is", innocent=(9, 11, 13))


def test_an_old_anchor_under_a_new_name_with_its_entry(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "an old anchor under a new name, and the ledger made to name its state")
    place = layout.anchor(release, 8)
    for name in ("model.safetensors", "optimizer.safetensors"):
        (place / name).write_bytes((layout.anchor(release, 5) / name).read_bytes())
    found, roots = forge.bodies(release), tensors.state_roots(8, anchors.read(place))
    weight_norm = forge.body_of(found, "step", 5)["weight_norm"]
    forge.body_of(found, "step", 8).update(
        weights=roots.weights.hex(), state=roots.state.hex(), weight_norm=weight_norm
    )
    forge.settle(release, found)
    check.only_audit_finds(release, 8, "weight_norm is", innocent=(STEP, 5, 13))


def test_weights_with_one_bit_flipped_in_all_copies_and_the_ledger(
    release: Path, check: Check, record_property: Any
) -> None:
    record_property("forgery", "one bit flipped in all copies of the last weights, and the ledger made to name them")
    forge.flip_last(release)
    found, roots = forge.bodies(release), tensors.state_roots(13, anchors.read(layout.anchor(release, 13)))
    forge.body_of(found, "step", 13).update(weights=roots.weights.hex(), state=roots.state.hex())
    forge.settle(release, found)
    check.only_audit_finds(release, 13, "weights is", innocent=(STEP, 12))


def test_a_recipe_edited_after_the_fact_with_its_genesis(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a recipe edited after the fact, and the genesis made to name it")
    path = release / "recipe.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("beta2 = 0.95", "beta2 = 0.99"), encoding="utf-8")
    found = forge.bodies(release)
    found[0]["recipe"] = forge.load(release).digest().hex()
    forge.settle(release, found)
    check.only_audit_finds(release, 1, "weight_norm is", innocent=(0,))
    assert not any(audited(release, step).ok for step in range(1, 14))


# ---- texts that are not what was trained on -----------------------------------------------------


def test_a_text_changed_beside_its_tokens(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "a document's text changed beside its tokens, and all roots over it")
    sees, avoids, document = forge.steps_with_and_without(release)
    forge.change_documents(release, lambda row: forge.other_text(row) if row["index"] == document else row)
    forge.settle_all(release)
    check.only_audit_finds(release, sees, "are not the tokenizer's of its text", innocent=(avoids,))


def test_another_tokenizer(release: Path, check: Check, record_property: Any) -> None:
    record_property("forgery", "another tokenizer beside the tokens, and all digests of it")
    path = release / "data/tokenizer/tokenizer.json"
    content = forge.files.read_json(path)
    content["model"]["merges"] = content["model"]["merges"][:5]  # Most words fall apart into letters.
    path.unlink()
    forge.files.write_json(path, content)
    forge.settle_all(release)
    check.only_audit_finds(release, STEP, "are not the tokenizer's of its text", innocent=())
