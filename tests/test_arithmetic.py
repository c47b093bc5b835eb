"""A whole training step in portable arithmetic: torch computes nothing of it, and no
bit depends on the machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid import operations
from pellucid.look.status import status
from pellucid.new import new
from pellucid.recipe import Recipe, load
from pellucid.train.events import Batch
from pellucid.train.state import State, initial
from pellucid.train.step import forward_pass, training_step
from tests.conftest import SETTINGS, make_run, pellucid
from tests.kernels.machine import isas

# What torch may do: give memory, look at it otherwise, copy it, read one number; and make the
# gradient backward begins with, which is 1.
MOVES = {
    "aten._local_scalar_dense",
    "aten.clone",
    "aten.copy_",
    "aten.detach",
    "aten.empty",
    "aten.lift_fresh",
    "aten.new_empty_strided",
    "aten.ones",
    "aten.ones_like",
    "aten.slice",
    "aten.t",
    "aten.view",
    "aten.zeros",
    "aten.zeros_like",
}
VOCABULARY = 300


class Recorded(TorchDispatchMode):
    """Every operation that torch is asked for, from Python or by its own engine."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.conversions: set[str] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.add(str(operation.overloadpacket))
        if operation is torch.ops.aten.copy_.default and args[0].dtype != args[1].dtype:
            self.conversions.add(f"{args[1].dtype} to {args[0].dtype}")
        return operation(*args, **(kwargs or {}))


def recipe_of(folder: Path, *settings: str) -> Recipe:
    folder.mkdir()
    (folder / "text.txt").write_text("Only to be named.\n")
    new(folder / "run", [str(folder / "text.txt")], "1M", [*SETTINGS, *settings])
    recipe = load(folder / "run")
    operations.of(recipe.train.arithmetic, "cpu").configure("cpu", 1)
    return recipe


def batch(recipe: Recipe) -> Batch:
    generator = np.random.default_rng(1)
    B, S = recipe.train.batch, recipe.model.context + 1
    return Batch(
        step=1,
        blocks_B=np.arange(B),
        starts_B=np.zeros(B, np.int64),
        firsts_B=np.zeros(B, np.int64),
        epochs_B=np.zeros(B, np.int64),
        sources_B=["text"] * B,
        tokens_BS=generator.integers(0, VOCABULARY, (B, S)).astype(np.uint32),
        documents_BS=np.cumsum(generator.random((B, S)) < 0.1, axis=1),
    )


def everything(recipe: Recipe) -> Recorded:
    """Initial values, a step, and a validation's losses."""
    with Recorded() as recorded:
        state, one = initial(recipe, VOCABULARY), batch(recipe)
        training_step(state, one, recipe)
        with torch.no_grad():
            forward_pass(state.model, one.tokens_BS, one.documents_BS, recipe, recipe.phases[0])
    return recorded


SHAPES = {
    "small": (),
    "within documents": ('model.attention="within"',),
    "untied, clipped": ("model.tied=false", "train.clip=0.01"),
    "microbatches committed": ("train.microbatch=1", 'record.commitment="microbatches"'),
    "mistral": ("model.family=mistral", "model.window=5"),
    "olmo3": ("model.family=olmo3", "model.window=5"),
    "olmo2": ("model.family=olmo2",),
    "qwen2": ("model.family=qwen2",),
    "qwen3": ("model.family=qwen3",),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_torch_only_moves_what_our_kernels_compute(tmp_path: Path, shape: str) -> None:
    recorded = everything(
        recipe_of(tmp_path / "run", 'train.arithmetic="portable"', *SHAPES[shape])
    )
    assert recorded.names <= MOVES
    assert not recorded.conversions


def test_in_native_arithmetic_torch_computes(tmp_path: Path) -> None:
    """So that the list would notice."""
    computes = everything(recipe_of(tmp_path / "run", 'train.arithmetic="native"')).names - MOVES
    assert {"aten.mm", "aten.add", "aten.mul", "aten.sum"} <= computes


# Both arithmetics


def gradients(state: State) -> dict[str, np.ndarray]:
    return {
        name: p.grad.numpy() for name, p in state.model.named_parameters() if p.grad is not None
    }


def assert_close(ours: Iterable[np.ndarray], theirs: Iterable[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("shape", ["small", "within documents", "untied, clipped"])
def test_both_arithmetics_agree_within_float32(tmp_path: Path, shape: str) -> None:
    steps = {}
    for arithmetic in ("portable", "native"):
        recipe = recipe_of(
            tmp_path / arithmetic, f'train.arithmetic="{arithmetic}"', *SHAPES[shape]
        )
        state = initial(recipe, VOCABULARY)
        steps[arithmetic] = state, training_step(state, batch(recipe), recipe)
    (ours, our_step), (theirs, their_step) = steps["portable"], steps["native"]
    np.testing.assert_allclose(our_step.losses_BT, their_step.losses_BT, rtol=1e-5)
    assert our_step.grad_norm == pytest.approx(their_step.grad_norm, rel=1e-5)
    assert our_step.weight_norm == pytest.approx(their_step.weight_norm, rel=1e-5)
    assert our_step.lr == their_step.lr
    assert ours.groups().keys() == theirs.groups().keys()
    for group in (
        "exp_avg",
        "exp_avg_sq",
    ):  # Of a first step they are the gradients, clipped, and their squares.
        assert_close(ours.groups()[group].values(), theirs.groups()[group].values())
    if shape != "untied, clipped":  # Native clipping is in place.
        assert_close(gradients(ours).values(), gradients(theirs).values())


# A whole run


@pytest.mark.parametrize("aten", ["default", "avx2"])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_a_run_ends_with_the_same_head_on_every_machine(
    finished: Path, corpus: Path, tmp_path: Path, threads: int, aten: str
) -> None:
    """Every instruction set here with PELLUCID_TEST_ALL=1; otherwise one, so that
    each meets both of torch's."""
    wanted = status(finished)
    here = isas()
    every = os.environ.get("PELLUCID_TEST_ALL") == "1"
    for isa in here if every else [here[(threads + (aten == "avx2")) % len(here)]]:
        folder = make_run(tmp_path / isa, corpus, [f"placement.threads={threads}"])
        env = {"PELLUCID_ISA": isa, "ATEN_CPU_CAPABILITY": aten, "OMP_NUM_THREADS": str(threads)}
        pellucid("run", folder, env=env)
        found = status(folder)
        assert (found["head"], found["weights"]) == (wanted["head"], wanted["weights"]), isa
