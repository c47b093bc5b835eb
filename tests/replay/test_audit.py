"""Every step of a run again, and forgeries that a replay finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.errors import LedgerDiffers, StateDiffers, StepUnknown
from pellucid.inputs import Inputs
from pellucid.recipe import load
from pellucid.record import digests
from pellucid.release.export import export
from pellucid.replay.audit import audit_step
from pellucid.replay.materialise import materialise
from pellucid.store import anchors, layout, tensors
from tests.forgery.forge import edit_ledger


def opened(folder: Path) -> Inputs:
    return Inputs.load(folder, load(folder))


def quiet(done: int, total: int) -> None:
    pass


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change entries and compute the chain again, as a forger would."""

    def changed(body: dict[str, Any]) -> dict[str, Any]:
        change(body)
        return body

    edit_ledger(folder, changed)


def test_every_step_is_bit_equal(finished: Path) -> None:
    inputs = opened(finished)
    for step in range(14):
        finding = audit_step(inputs, step, quiet)
        assert finding.ok and finding.actual == finding.expected, finding


def test_without_any_anchor_the_seed_is_enough(release: Path) -> None:
    shutil.rmtree(release / "anchors")
    finding = audit_step(opened(release), 9, quiet)
    assert finding.ok and finding.replayed == 9


@pytest.mark.parametrize(
    "field",
    [
        "loss",
        "grad_norm",
        "weight_norm",
        "lr",
        "segments",
        "microbatches",
        "batch",
        "weights",
        "tokens",
    ],
)
def test_one_changed_field_under_a_recomputed_chain_is_caught(field: str, release: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        if body.get("step") == 7 and body["kind"] == "step":
            old = body[field]
            if field == "tokens":
                body[field] = "1"
            else:
                body[field] = (
                    digests.float_bits(digests.bits_float(old) * 0.9)
                    if len(old) == 16
                    else "00" * 32
                )

    rewrite(release, change)
    finding = audit_step(opened(release), 7, quiet)
    assert not finding.ok and f"step 7: {field}" in finding.problems[0]
    assert not audit_step(opened(release), 8, quiet).ok  # Replayed on the way.
    assert audit_step(opened(release), 5, quiet).ok


def test_validation_is_computed_again(release: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        if body["kind"] == "validation" and body["step"] == 10:
            body["sources"][0]["loss_sum"] = digests.float_bits(1.0)

    rewrite(release, change)
    assert "validation" in audit_step(opened(release), 10, quiet).problems[0]
    assert audit_step(opened(release), 9, quiet).ok


def forge_anchor(release: Path, step: int, group: str) -> None:
    """Another number in a stored state."""
    groups = {
        g: {n: a.copy() for n, a in t.items()}
        for g, t in anchors.read(layout.anchor(release, step)).items()
    }
    name = sorted(groups[group])[0]
    groups[group][name].reshape(-1)[0] += np.float32(1e-3)
    about = json.loads((release / f"anchors/step{step}/anchor.json").read_bytes())
    shutil.rmtree(release / f"anchors/step{step}")
    anchors.write(release / f"anchors/step{step}", groups, about, None)


@pytest.mark.parametrize("group", ["weights", "exp_avg", "exp_avg_sq"])
def test_a_changed_anchor_is_named_with_its_tensor(group: str, release: Path) -> None:
    forge_anchor(release, 5, group)
    finding = audit_step(opened(release), 7, quiet)
    assert (
        not finding.ok
        and f"differing: {group} model.embed_tokens.weight, elements 0 to" in finding.problems[0]
    )
    with pytest.raises(StateDiffers, match="step5"):
        materialise(opened(release), 7, quiet)


def test_an_anchor_under_another_steps_name_is_caught(release: Path) -> None:
    shutil.rmtree(release / "anchors/step5")
    shutil.copytree(release / "anchors/step4", release / "anchors/step5")
    assert not audit_step(opened(release), 6, quiet).ok


def test_a_forged_state_with_its_ledger_is_caught_by_the_step_that_made_it(release: Path) -> None:
    """The forger fits the ledger to another state: the step before it gives it away."""
    forge_anchor(release, 5, "weights")
    roots = tensors.state_roots(5, anchors.read(layout.anchor(release, 5)))

    def change(body: dict[str, Any]) -> None:
        if body.get("step") == 5 and body["kind"] == "step":
            body.update(weights=roots.weights.hex(), state=roots.state.hex())

    rewrite(release, change)
    assert "step 5: weights" in audit_step(opened(release), 5, quiet).problems[0]
    assert not audit_step(opened(release), 6, quiet).ok


def test_materialise_refuses_what_the_ledger_does_not_record(release: Path) -> None:
    rewrite(
        release,
        lambda body: (
            body.update(loss="3ff0000000000000")
            if body.get("step") == 7 and body["kind"] == "step"
            else None
        ),
    )
    with pytest.raises(LedgerDiffers, match="step 7: recomputed loss"):
        materialise(opened(release), 7, quiet)


def test_steps_outside_are_unknown(finished: Path) -> None:
    for step in (14, -1):
        with pytest.raises(StepUnknown):
            audit_step(opened(finished), step, quiet)


@pytest.mark.parametrize("step", [0, 5, 7])
def test_export_gives_the_recorded_state(step: int, finished: Path, tmp_path: Path) -> None:
    inputs = opened(finished)
    export(inputs, step, "state", tmp_path / "state", quiet)
    export(inputs, step, "hf", tmp_path / "hf", quiet)
    recorded = inputs.recorded().step(step)
    read = json.loads((tmp_path / "state/anchor.json").read_bytes())
    assert (read["state"], read["weights"]) == (recorded["state"], recorded["weights"])
    weights = tensors.Tensors(tmp_path / "hf/model.safetensors").root("weights")
    assert weights.hex() == recorded["weights"]
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == sorted(
        [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "pellucid.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    )
