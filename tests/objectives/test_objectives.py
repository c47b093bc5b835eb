"""What is minimised: four objectives against float64 by PyTorch's own engine, and what of them is
recorded. Masks and pairs stand in batches made here: no source gives them yet."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pellucid import operations
from pellucid.data.salts import Public
from pellucid.errors import GroupCut, RecipeInvalid, WeightsMissing
from pellucid.inputs import Inputs
from pellucid.objectives import CrossEntropy, Minimised, Objective, Said, Use
from pellucid.operations import portable
from pellucid.plan.calibrate import generated
from pellucid.recipe import Data, Recipe, Source, Train, load, parse
from pellucid.record import digests
from pellucid.record.rows import NO_GROUP
from pellucid.recorder import loss_of, objective_of, row_leaves, segments_of, use_of
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.store import metrics, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.train.events import Batch, Stepped
from pellucid.train.state import State, initial
from pellucid.train.step import training_step
from tests.conftest import finish, make_run
from tests.objectives.dpo import DPO

VOCABULARY = 60
B, T = 4, 16
GROUPS = np.array([3, 3, 9, 9], np.uint64)
REFERENCES = np.array([-50.0, -48.0, -61.0, -44.0])


def recipe_of(objective: Objective, arithmetic: str = "portable", microbatch: int = 2) -> Recipe:
    from pellucid.families import Llama

    shape = Llama(layers=1, width=16, heads=2, kv_heads=1, mlp_width=24, context=T)
    train = Train(arithmetic=arithmetic, batch=B, microbatch=microbatch)  # type: ignore[arg-type]
    data = Data(sources=(Source(name="a"),))
    recipe = Recipe(name="x", data=data, model=shape, train=train)
    return recipe.model_copy(update={"objective": objective})


def weights_of(seed: int = 1) -> np.ndarray:
    """Questions of weight 0, answers of weight 1 and a few words of 3."""
    found_BT = np.ones((B, T), np.uint32)
    found_BT[:, : T // 3] = 0
    found_BT[np.random.default_rng(seed).random((B, T)) < 0.1] = 3
    return found_BT


def batch_of(recipe: Recipe, **use: Any) -> Batch:
    return replace(next(generated(recipe, VOCABULARY, 1)), **use)


def minimum(kind: str, logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """The objective as papers write it, for the engine to differentiate."""
    losses_BT = F.cross_entropy(
        logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none"
    ).view_as(targets_BT)
    weights_BT = torch.from_numpy(weights_of().astype(np.float64))
    if kind == "pre-training":
        return losses_BT.mean()
    if kind == "masked":
        return (losses_BT * weights_BT).sum() / weights_BT.sum()
    if kind == "z-loss":
        return (losses_BT + 0.01 * logits_BTV.logsumexp(-1) ** 2).mean()
    gained_B = (-losses_BT * weights_BT).sum(1) - torch.from_numpy(REFERENCES)
    return -F.logsigmoid(0.3 * (gained_B[0::2] - gained_B[1::2])).mean()


KINDS: dict[str, tuple[Objective, dict[str, Any]]] = {
    "pre-training": (CrossEntropy(), {}),
    "masked": (CrossEntropy(), {"weights_BT": weights_of()}),
    "z-loss": (CrossEntropy(z_loss=0.01), {}),
    "dpo": (
        DPO(beta=0.3),
        {"weights_BT": weights_of(), "groups_B": GROUPS, "references_B": REFERENCES},
    ),
}


def taken(kind: str, arithmetic: str = "portable", microbatch: int = 2) -> tuple[State, Stepped]:
    """A step with an objective, and the state it left."""
    objective, use = KINDS[kind]
    recipe = recipe_of(objective, arithmetic, microbatch)
    operations.of(arithmetic, "cpu").configure("cpu", 1)
    state = initial(recipe, VOCABULARY)
    return state, training_step(state, batch_of(recipe, **use), recipe)


@pytest.mark.parametrize("arithmetic", ["portable", "native"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_and_value_are_those_of_float64(kind: str, arithmetic: str) -> None:
    recipe = recipe_of(KINDS[kind][0], "native")
    batch = batch_of(recipe, **KINDS[kind][1])
    model = initial(recipe, VOCABULARY).model.double()
    tokens = torch.from_numpy(batch.tokens_BS.astype(np.int64))
    value = minimum(kind, model(tokens[:, :-1]), tokens[:, 1:])
    value.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    norm = math.sqrt(sum(float((one * one).sum()) for one in gradients))

    _, stepped = taken(kind, arithmetic)
    found = objective_of(stepped.batch, stepped.microbatches, recipe.schedule.at(1))
    assert math.isclose(found, value.item(), rel_tol=1e-5)
    assert math.isclose(stepped.grad_norm, norm, rel_tol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_gradient_is_that_of_float64(kind: str) -> None:
    """Element by element, before clipping, of a microbatch that is the whole step."""
    from pellucid.train.step import microbatch_step, objective_of_step

    objective, use = KINDS[kind]
    recipe = recipe_of(objective, microbatch=B)
    batch, ours = batch_of(recipe, **use), initial(recipe, VOCABULARY).model
    phase = recipe.schedule.at(1)
    microbatch_step(ours, batch, 0, recipe, phase, objective_of_step(batch, phase))
    theirs = initial(recipe_of(objective, "native"), VOCABULARY).model.double()
    tokens = torch.from_numpy(batch.tokens_BS.astype(np.int64))
    minimum(kind, theirs(tokens[:, :-1]), tokens[:, 1:]).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=1e-3, atol=2e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_has_the_bits_of_one_with_other_microbatches_where_their_sum_is_exact(
    kind: str,
) -> None:
    """The divisor is the step's, so a microbatch's part does not depend on how many there are."""
    halves, whole = (taken(kind, microbatch=size)[1] for size in (2, 4))
    assert halves.losses_BT.tobytes() == whole.losses_BT.tobytes()
    parts = [
        math.fsum(one.objective for one in stepped.microbatches) for stepped in (halves, whole)
    ]
    assert math.isclose(*parts, rel_tol=1e-15)
    assert math.isclose(halves.grad_norm, whole.grad_norm, rel_tol=1e-6)


# ---- what of it is recorded --------------------------------------------------------------------


def test_losses_of_masked_targets_are_recorded_and_train_nothing() -> None:
    plain, masked = taken("pre-training")[1], taken("masked")[1]
    assert plain.losses_BT.tobytes() == masked.losses_BT.tobytes()
    segments = segments_of(masked.batch, masked.losses_BT)
    weights_BT = weights_of()
    assert sum(one.tokens for one in segments) == B * T
    assert sum(one.tokens for one in segments if not one.weight) == (weights_BT == 0).sum()
    for one in segments:
        own = weights_BT[one.row, one.start : one.start + one.tokens]
        assert set(own.tolist()) == {one.weight}
    mean = (masked.losses_BT.astype(np.float64) * weights_BT).sum() / weights_BT.sum()
    assert math.isclose(loss_of(segments), mean, rel_tol=1e-12)
    assert [one.weight for one in masked.microbatches] == [
        int(weights_BT[rows].sum()) for rows in (slice(0, 2), slice(2, 4))
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40))
def test_weights_are_committed_as_the_longest_runs(weights: list[int]) -> None:
    tokens = np.zeros((1, len(weights) + 1), np.uint32)
    none = np.zeros(1, np.int64)
    weights_BT = np.array([weights], np.uint32)
    batch = Batch(1, none, none, none, ["a"], none, tokens, tokens.astype(np.int64), weights_BT)
    use = use_of(batch, 0, recipe_of(CrossEntropy()))
    assert [weight for count, weight in use.weights for _ in range(count)] == weights
    assert all(a[1] != b[1] for a, b in zip(use.weights, use.weights[1:], strict=False))
    assert use.group == NO_GROUP and use.attention == (len(weights),)


def test_a_forged_mask_or_pair_changes_what_is_committed_before_the_loss() -> None:
    recipe = recipe_of(CrossEntropy())
    plain = batch_of(recipe)
    masks, salts = weights_of(), Public(recipe.seed)
    masks[2, 5] += 1
    batches = [
        plain,
        replace(plain, weights_BT=weights_of()),
        replace(plain, weights_BT=masks),
        replace(plain, groups_B=GROUPS),
        replace(plain, groups_B=GROUPS[::-1].copy()),
    ]
    leaves = [row_leaves(batch, recipe, salts) for batch in batches]
    assert len({tuple(one) for one in leaves}) == len(batches)
    assert [a == b for a, b in zip(leaves[1], leaves[2], strict=True)] == [True, True, False, True]
    ones = replace(plain, weights_BT=np.ones((B, T), np.uint32))
    assert row_leaves(ones, recipe, salts) == leaves[0]


def test_a_step_without_weights_and_a_pair_that_is_cut_are_refused() -> None:
    recipe = recipe_of(CrossEntropy())
    state = initial(recipe, VOCABULARY)
    nothing = batch_of(recipe, weights_BT=np.zeros((B, T), np.uint32))
    with pytest.raises(WeightsMissing, match="Step 1: none of its targets has a weight"):
        training_step(state, nothing, recipe)
    objective, use = KINDS["dpo"]
    recipe = recipe_of(objective)
    crossed = batch_of(recipe, **use | {"groups_B": np.array([3, 9, 3, 9], np.uint64)})
    with pytest.raises(GroupCut, match="spans two microbatches"):
        training_step(state, crossed, recipe)
    whole = recipe_of(objective, microbatch=B)
    assert training_step(initial(whole, VOCABULARY), crossed, whole).microbatches


def test_a_recorded_reference_moves_the_pair_that_it_belongs_to() -> None:
    """One more nat for a chosen answer's reference makes its margin smaller by beta."""
    objective = DPO(beta=0.3)
    said = Said(np.full((2, 3), 2.0, np.float32), None)
    use = Use(np.ones((2, 3), np.uint32), np.array([1, 1], np.uint64), np.array([-6.0, -6.0]))
    even, moved = (
        objective.value(portable.FUNCTIONS, said, one)
        for one in (use, use._replace(references_B=np.array([-5.0, -6.0])))
    )
    assert math.isclose(even, math.log(2), rel_tol=1e-15)
    assert math.isclose(moved, math.log1p(math.exp(0.3)), rel_tol=1e-15)


def test_coefficients_are_rounded_once_from_their_quotients() -> None:
    use = Use(weights_of(), np.full(B, NO_GROUP, np.uint64), None)
    part = Minimised(CrossEntropy(), use, 7)
    for one in part.coefficients(portable.FUNCTIONS, None):
        assert one.dtype == np.float32
        assert one.tolist() == [
            [float(np.float32(weight / 7)) for weight in row] for row in weights_of().tolist()
        ]


# ---- in a run ----------------------------------------------------------------------------------


def test_a_run_with_z_loss_is_verified_and_audited(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "run", corpus, ["objective.z_loss=0.001"]))
    publish(folder)
    assert verify(folder, lambda words: None).ok
    assert audit_step(Inputs.load(folder, load(folder)), 7, lambda done, total: None).ok
    found = [metrics.of_step(folder, "steps", step)[0] for step in (1, 7)]
    assert all(one["objective"] > one["loss"] + 0.001 for one in found)


def test_what_is_said_of_the_objective_is_what_was_minimised(corpus: Path, tmp_path: Path) -> None:
    """A number of metrics/ that nobody minimised is found."""
    from tests.forgery.edits import edit_numbers

    folder = finish(make_run(tmp_path / "run", corpus, []))
    publish(folder)
    assert verify(folder, lambda words: None).ok
    edit_numbers(folder, "steps", "objective", 4, 0.5)
    problems = verify(folder, lambda words: None).problems
    assert [one.error for one in problems] == ["FileDiffers", "NumbersDiffer"]
    assert "objective is 0.5" in problems[1].detail


PHASES = """[
  {name = "all", steps = 4},
  {name = "head", steps = 6, frozen = ["model.layers.*"], objective = {z_loss = 0.01}},
]"""


def test_a_phase_has_its_own_objective_and_frozen_weights(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "run", corpus, [f"phase={PHASES}", "train.steps=10"]))
    publish(folder)
    assert verify(folder, lambda words: None).ok
    inputs = Inputs.load(folder, load(folder))
    for step in (3, 5, 8):
        assert audit_step(inputs, step, lambda done, total: None).ok
    before, after = (
        tensors.Tensors(folder / f"anchors/step{step}/model.safetensors") for step in (4, 10)
    )
    for name in before.entries:
        same = before.array(name).tobytes() == after.array(name).tobytes()
        assert same == name.startswith("model.layers."), name
    rows = [metrics.of_step(folder, "steps", step)[0] for step in (4, 5)]
    assert math.isclose(rows[0]["objective"], rows[0]["loss"], rel_tol=1e-9)
    assert rows[1]["objective"] > 1.01 * rows[1]["loss"]
    entries = [LedgerFile(folder).step(step) for step in (4, 5)]
    assert [digests.bits_float(one["loss"]) for one in entries] == [one["loss"] for one in rows]


@pytest.mark.parametrize(
    ("section", "error"),
    [
        ('[objective]\nkind = "dpo"', r"x: objective\.kind"),
        ("[objective]\nz_loss = -1.0", r"x: objective\.z_loss.*--set objective\.z_loss=VALUE"),
        ('[objective]\ndivisor = "rows"', r"x: objective\.divisor"),
        ("[objective]\nzloss = 0.1", r"objective\.zloss.*did you mean objective\.z_loss\?"),
    ],
)
def test_a_wrong_objective_is_refused_by_its_name(section: str, error: str) -> None:
    base = 'version = 4\nname = "x"\n[[data.sources]]\nname = "a"\n'
    with pytest.raises(Exception, match=error):
        parse((base + section).encode(), "x")
    assert (
        parse((base + "[objective]").encode(), "x").digest() == parse(base.encode(), "x").digest()
    )


def test_frozen_weights_of_a_phase_have_names_of_the_model(corpus: Path, tmp_path: Path) -> None:
    phases = json.dumps([{"name": "a", "steps": 10, "frozen": ["lm_tail"]}])
    toml = phases.replace(":", " =").replace('"name"', "name").replace('"steps"', "steps")
    toml = toml.replace('"frozen"', "frozen")
    folder = make_run(tmp_path / "run", corpus, [f"phase={toml}", "train.steps=10"])
    with pytest.raises(RecipeInvalid, match=r"phase\.a\.frozen: no weight .* 'lm_tail'"):
        finish(folder)
