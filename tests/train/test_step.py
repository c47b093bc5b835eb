from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pellucid.errors import NotFinite
from pellucid.inputs import Inputs
from pellucid.operations import native, portable
from pellucid.recipe import Recipe, load
from pellucid.record import digests
from pellucid.train.events import Batch
from pellucid.train.gradients import GradientTree
from pellucid.train.processes import ALONE
from pellucid.train.state import State, initial, initial_values, restored
from pellucid.train.step import training_step


@pytest.fixture
def recipe(finished: Path) -> Recipe:
    return load(finished)


@pytest.fixture
def batch(finished: Path, recipe: Recipe) -> Batch:
    inputs = Inputs.load(finished, recipe)
    return inputs.batch(1)


def on(recipe: Recipe, arithmetic: str) -> Recipe:
    return recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"arithmetic": arithmetic})}
    )


def test_initial_values_are_golden_and_have_the_deviation_asked_for(recipe: Recipe) -> None:
    values = initial_values(portable, recipe, "model.embed_tokens.weight", (300, 32)).numpy()
    again = initial_values(native, recipe, "model.embed_tokens.weight", (300, 32)).numpy()
    assert values.tobytes() == again.tobytes()
    assert abs(values.std() - 0.02) < 0.0005 and abs(values.mean()) < 0.0005
    projection = initial_values(portable, recipe, "model.layers.0.mlp.down_proj.weight", (32, 64))
    assert abs(projection.std() - 0.01) < 0.0005  # 0.02 / sqrt(2 * 2 layers)
    assert (initial_values(portable, recipe, "model.norm.weight", (32,)) == 1).all()
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == "7bf9e4501d709bae"


@pytest.mark.parametrize("arithmetic", ["portable", "native"])
def test_a_step_is_that_of_a_plain_loop(recipe: Recipe, batch: Batch, arithmetic: str) -> None:
    """The same update, within float32, as the loop anybody would write."""
    recipe = on(recipe, arithmetic)
    ours, plain = initial(recipe, 300), initial(on(recipe, "native"), 300)
    stepped = training_step(ours, batch, recipe)
    tokens = torch.from_numpy(batch.tokens_BS.astype(np.int64))
    loss = F.cross_entropy(plain.model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.model.parameters(), recipe.train.clip)
    groups = [
        {
            "params": [p for p in plain.model.parameters() if p.dim() > 1],
            "weight_decay": recipe.optimizer.weight_decay,
        },
        {"params": [p for p in plain.model.parameters() if p.dim() == 1], "weight_decay": 0.0},
    ]
    adamw = recipe.optimizer
    torch.optim.AdamW(groups, stepped.lr, (adamw.beta1, adamw.beta2), adamw.epsilon).step()
    assert math.isclose(stepped.losses_BT.mean(), loss.item(), rel_tol=1e-5)
    assert math.isclose(stepped.grad_norm, norm.item(), rel_tol=1e-5)
    for mine, theirs in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        # AdamW's first update is lr * sign(gradient): where that is noise, the sign may differ.
        assert (mine - theirs).abs().median() < 1e-6


def test_a_step_again_gives_the_same_bits(recipe: Recipe, batch: Batch) -> None:
    roots = []
    for _ in range(2):
        state = initial(recipe, 300)
        training_step(state, batch, recipe)
        roots.append(state.roots().state)
    assert roots[0] == roots[1] != initial(recipe, 300).roots().state


def test_a_restored_state_goes_on_with_the_same_bits(recipe: Recipe, batch: Batch) -> None:
    state = initial(recipe, 300)
    training_step(state, batch, recipe)
    copies = {
        group: {name: a.copy() for name, a in arrays.items()}
        for group, arrays in state.groups().items()
    }
    again = restored(recipe, 300, 1, copies)
    assert again.roots() == state.roots()
    for one in (state, again):
        training_step(one, batch, recipe)
    assert again.roots() == state.roots()


def test_every_number_of_a_state_is_in_its_root(recipe: Recipe) -> None:
    state = initial(recipe, 300)
    before = state.roots()
    for group, arrays in state.groups().items():
        for name, array in arrays.items():
            flat = array.reshape(-1).view(np.uint32)
            flat[-1] ^= 1
            after = state.roots()
            changed = [
                (g, n)
                for g in after.tensors
                for n in after.tensors[g]
                if after.tensors[g][n] != before.tensors[g][n]
            ]
            assert changed == [(group, name)] and after.state != before.state
            flat[-1] ^= 1
    state.step = 1
    assert state.roots().state != before.state


def poison(state: State) -> None:
    with torch.no_grad():
        state.model.model.norm.weight[3] = float("nan")


def test_a_value_that_is_not_finite_stops_before_the_state_changes(
    recipe: Recipe, batch: Batch
) -> None:
    state = initial(recipe, 300)
    poison(state)
    before = state.roots()
    with pytest.raises(NotFinite, match="Step 1"):
        training_step(state, batch, recipe)
    assert state.roots() == before and state.step == 0


def test_the_tree_over_microbatches_is_fixed() -> None:
    """((0+1)+(2+3))+4, in float32, where adding from left to right gives 1.5."""
    tree = GradientTree(portable)
    for value in (1e8, 1.0, -1e8, 1.0, 0.5):
        tree.add([torch.tensor([value])])
    assert ALONE.total(tree, 5, [])[0].item() == 0.5


def test_microbatches_change_the_sums_order_and_nothing_else(recipe: Recipe, batch: Batch) -> None:
    whole = recipe.model_copy(update={"train": recipe.train.model_copy(update={"microbatch": 4})})
    one, two = initial(recipe, 300), initial(recipe, 300)
    halves, full = training_step(one, batch, recipe), training_step(two, batch, whole)
    assert len(halves.microbatches) == 2 and len(full.microbatches) == 1
    assert math.isclose(halves.grad_norm, full.grad_norm, rel_tol=1e-5)


def test_gradients_are_committed_where_the_recipe_asks(recipe: Recipe, batch: Batch) -> None:
    asked = recipe.model_copy(
        update={"record": recipe.record.model_copy(update={"commitment": "microbatches"})}
    )
    plain, committed = (training_step(initial(r, 300), batch, r) for r in (recipe, asked))
    assert all(one.gradient_root == b"" for one in plain.microbatches)
    assert len({one.gradient_root for one in committed.microbatches}) == 2
    assert [one.loss_sum for one in plain.microbatches] == [
        one.loss_sum for one in committed.microbatches
    ]


def test_attention_within_documents_does_not_see_the_others(recipe: Recipe, batch: Batch) -> None:
    shape = recipe.model.model_copy(update={"attention": "within"})
    within = recipe.model_copy(update={"model": shape})
    state = initial(within, 300)
    tokens = torch.from_numpy(batch.tokens_BS[:1, :-1].astype(np.int64))
    first = torch.zeros_like(tokens, dtype=torch.int32)
    first[:, 10:] = 10
    changed = tokens.clone()
    changed[:, :10] = (changed[:, :10] + 1) % 300
    with torch.no_grad():
        before, after = state.model(tokens, first), state.model(changed, first)
    assert torch.equal(before[:, 10:], after[:, 10:]) and not torch.equal(
        before[:, :10], after[:, :10]
    )
    alone = state.model(tokens[:, 10:])
    assert (alone - before[:, 10:]).abs().max() < 1e-5  # Rotary positions are relative.


def test_learning_rates_recorded_are_those_of_the_schedule(finished: Path) -> None:

    from pellucid.store.ledger import LedgerFile

    recipe = load(finished)
    entry = LedgerFile(finished).step(7)
    assert entry["lr"] == digests.float_bits(recipe.schedule.learning_rate(7))
