"""Muon against float64, and bit for bit over threads, instruction sets,
processes, replays and resumes."""

from __future__ import annotations

import itertools
import math
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid import counts
from pellucid import run as run_module
from pellucid.errors import FormatInvalid
from pellucid.inputs import Inputs
from pellucid.kernels import calls, library
from pellucid.look.status import status
from pellucid.operations import native, portable
from pellucid.optimizers.base import Update
from pellucid.optimizers.muon import A, B, C, Muon, orthogonalised
from pellucid.plan.facts import facts
from pellucid.plan.storage import Storage
from pellucid.recipe import Recipe, load
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay import tracing
from pellucid.replay.again import Again, with_constant
from pellucid.replay.audit import audit_step
from pellucid.replay.causes import hypotheses
from pellucid.replay.experiments import Question, proven
from pellucid.store import layout, tensors
from pellucid.train.events import Batch
from pellucid.train.processes import ALONE, Processes
from pellucid.train.state import initial, restored
from pellucid.train.step import training_step
from tests.conftest import finish, make_run
from tests.kernels import reference
from tests.kernels.machine import isas
from tests.kernels.test_axpby import axpby
from tests.test_run import Interrupt
from tests.train.test_processes import together
from tests.train.test_torchrun import torchrun

MUON = ["optimizer.kind=muon", "train.lr=1e-2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    folder = finish(make_run(tmp_path_factory.mktemp("muon") / "run", corpus, MUON))
    publish(folder)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    yield
    library.set_threads(1)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


# ---- what is computed --------------------------------------------------------------------------


def newton_schulz(x: np.ndarray) -> np.ndarray:
    """As its authors write it, in float64."""
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    for _ in range(5):
        s = x @ x.T
        x = A * x + (B * s + C * s @ s) @ x
    return x.T if turned else x


@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (40, 96), (96, 40), (300, 20)])
def test_newton_schulz_is_that_of_float64(shape: tuple[int, int]) -> None:
    x = random(3, *shape)
    x /= x.norm()
    wanted = newton_schulz(x.numpy().astype(np.float64))
    for ops in (portable, native):
        np.testing.assert_allclose(orthogonalised(ops, x.clone()).numpy(), wanted, atol=3e-5)


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (20, 80)])
def test_what_comes_out_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    x = random(4, *shape)
    values = np.linalg.svd(orthogonalised(portable, x / x.norm()).numpy(), compute_uv=False)
    assert values.min() > 0.3 and np.median(values) > 0.65 and values.max() < 1.25


def test_a_tall_matrix_has_the_bits_of_its_transpose() -> None:
    x = random(5, 70, 33)
    x /= x.norm()
    tall, wide = orthogonalised(portable, x.clone()), orthogonalised(portable, x.t().contiguous())
    assert torch.equal(tall, wide.t())


def test_to_the_rounding_as_docs_arithmetic_writes_it() -> None:
    """One matrix, two steps, by the reference of the kernels in NumPy."""
    muon, lr, clip = Muon(kind="muon", weight_decay=0.1), 0.02, 0.375
    w, m = random(6, 9, 5), torch.zeros(9, 5)
    own_w, own_m = w.numpy().copy(), m.numpy().copy()
    for step in (1, 2):
        g = random(6 + step, 9, 5)
        own_g = g.numpy().copy()
        name = "model.layers.0.x"
        kept = {"momentum_buffer": {name: m}}
        update = Update(step, lr, clip, {name: w}, {name: g}, kept, ALONE)
        norm = muon.update(portable, update)
        own_m = axpby(muon.momentum, own_m, clip, own_g)
        x = axpby(clip, own_g, muon.momentum, own_m)
        x = axpby(1.0 / (reference.norm([x]) + 1e-7), x)
        for _ in range(5):
            s = reference.matmul(x.T, x)
            p = axpby(C, reference.matmul(s, s), B, s)
            x = axpby(1.0, reference.matmul(x, p), A, x)
        own_w = axpby(1.0 - lr * 0.1, own_w, -(lr * (0.2 * math.sqrt(9))), x)
        assert w.numpy().tobytes() == own_w.tobytes() and m.numpy().tobytes() == own_m.tobytes()
        assert norm == reference.norm([own_w])


def test_matrices_of_layers_have_a_buffer_and_all_else_adamw_s_means(trained: Path) -> None:
    state = initial(load(trained), 300)
    groups = state.groups()
    assert set(groups) == {"weights", "momentum_buffer", "exp_avg", "exp_avg_sq"}
    matrices = {name for name in groups["weights"] if ".self_attn." in name or ".mlp." in name}
    assert set(groups["momentum_buffer"]) == matrices and len(matrices) == 14
    assert set(groups["exp_avg"]) == set(groups["exp_avg_sq"]) == set(groups["weights"]) - matrices
    stored = tensors.Tensors(trained / "anchors/step5/optimizer.safetensors")
    assert {name.partition("/")[0] for name in stored.entries} == {
        "exp_avg",
        "exp_avg_sq",
        "momentum_buffer",
    }


def test_a_step_of_native_arithmetic_is_the_same_within_float32(trained: Path) -> None:
    recipe, states = load(trained), {}
    batch = Inputs.load(trained, recipe).batch(1)
    for arithmetic in ("portable", "native"):
        own = recipe.model_copy(
            update={"train": recipe.train.model_copy(update={"arithmetic": arithmetic})}
        )
        states[arithmetic] = initial(own, 300)
        training_step(states[arithmetic], batch, own)
    ours, theirs = (states[name].groups() for name in ("portable", "native"))
    for name in ours["momentum_buffer"]:
        np.testing.assert_allclose(
            ours["momentum_buffer"][name], theirs["momentum_buffer"][name], atol=1e-6
        )
        np.testing.assert_allclose(ours["weights"][name], theirs["weights"][name], atol=2e-4)


def test_a_trace_names_the_matrix_that_an_operation_moves(trained: Path) -> None:
    inputs, trace = Inputs.load(trained, load(trained)), tracing.Trace()
    again = Again(inputs, 1, initial(inputs.recipe, 300).groups())
    again.take(ops=again.operations(trace), watch=trace.watch)
    made = [call for call in trace.calls if call.phase == "the optimizer"]
    assert [call.name for call in made[:16]] == ["axpby_into"] * 15 + ["norm_of"]  # 14 buffers.
    iteration = ["gram", "gram", "axpby_into", "product", "axpby_into"]
    assert [call.name for call in made[17:27]] == 2 * iteration
    assert made[0].about == "model.layers.0.mlp.down_proj" and [
        call.name for call in made[-2:]
    ] == ["adamw", "norm_of"]
    assert len({call.about for call in made if call.name == "product"}) == 14


def test_another_momentum_is_found_and_proven(trained: Path) -> None:
    inputs = Inputs.load(trained, load(trained))
    again = Again(inputs, 1, initial(inputs.recipe, 300).groups())
    found = again.take().entry
    target = again.take(recipe=with_constant(inputs.recipe, "momentum", 0.9)).entry
    question = Question(again, found, target, None, [], None, [])
    cause = proven(question, hypotheses(question), [])
    assert (
        cause is not None
        and cause.description == "the optimizer took momentum = 0.9, and the recipe says 0.95"
    )
    assert cause.operation is not None and cause.operation["name"] == "axpby_into"


# ---- the same bits -----------------------------------------------------------------------------


def steps(recipe: Recipe, batches: list[Batch], processes: Processes | None = None) -> str:
    state = initial(recipe, 300)
    for batch in batches:
        training_step(state, batch, recipe, *([processes] if processes else []))
    return state.roots().state.hex()


@pytest.fixture(scope="module")
def recipe(trained: Path) -> Recipe:
    return load(trained)


@pytest.fixture(scope="module")
def batches(trained: Path, recipe: Recipe) -> list[Batch]:
    inputs = Inputs.load(trained, recipe)
    return [inputs.batch(step) for step in (1, 2, 3)]


def recorded(trained: Path, step: int) -> str:
    return Inputs.load(trained, load(trained)).recorded().step(step)["state"]


@pytest.mark.usefixtures("one_thread")
def test_no_bit_depends_on_threads_or_instruction_sets(
    trained: Path, recipe: Recipe, batches: list[Batch]
) -> None:
    own = library.isa(library.kernels())
    for isa, threads in itertools.product([one for one in isas() if one != "software"], (1, 3)):
        library.start(library.kernels(), isa, threads)
        assert steps(recipe, batches) == recorded(trained, 3), (isa, threads)
    library.start(library.kernels(), own, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_no_bit_depends_on_the_number_of_processes(
    count: int, trained: Path, recipe: Recipe, batches: list[Batch]
) -> None:
    assert (
        together(count, lambda processes: steps(recipe, batches, processes))
        == [recorded(trained, 3)] * count
    )


def test_processes_that_share_the_matrices_come_to_the_same_head(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    """Over gloo, from every one of them."""
    folder = make_run(tmp_path / "run", corpus, MUON)
    done = torchrun(3, "-m", "pellucid", "run", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert status(folder)["head"] == status(trained)["head"]


@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_every_matrix_is_orthogonalised_by_one_process(
    count: int, recipe: Recipe, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, tuple[int, ...]]] = []
    gram = portable.gram

    def noted(a_MK: torch.Tensor) -> torch.Tensor:
        done.append((threading.get_ident(), tuple(a_MK.shape)))
        return gram(a_MK)

    monkeypatch.setattr(portable, "gram", noted)
    together(count, lambda processes: steps(recipe, batches[:1], processes))
    assert len(done) == 14 * 5 * 2  # Matrices, iterations, and two in each.
    work = Counter(thread for thread, _ in done)
    assert len(work) == min(count, 14) and max(work.values()) <= -(-14 // count) * 5 * 2


def test_every_step_is_audited_and_the_release_verified(trained: Path) -> None:
    assert verify(trained, lambda words: None).ok
    inputs = Inputs.load(trained, load(trained))
    for step in (1, 7, 13):
        assert audit_step(inputs, step, lambda done, total: None).ok


def test_a_run_that_was_stopped_goes_on_to_the_same_head(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", corpus, MUON)
    with pytest.raises(KeyError):
        run_module.run(folder, Interrupt(7, KeyError()))
    finish(folder)
    assert status(folder)["head"] == status(trained)["head"]


def test_a_state_without_its_buffers_is_refused(trained: Path) -> None:
    groups = initial(load(trained), 300).groups()
    del groups["momentum_buffer"]
    with pytest.raises(FormatInvalid, match=r"its momentum_buffer .*down_proj\.weight is absent"):
        restored(load(trained), 300, 0, groups)


def test_what_a_plan_counts_is_what_is_computed(
    recipe: Recipe, batches: list[Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def product(a_MK: torch.Tensor, b_KN: torch.Tensor) -> torch.Tensor:
        nonlocal made
        made += 2 * a_MK.shape[0] * a_MK.shape[1] * b_KN.shape[1]
        return calls.product(a_MK, b_KN)

    def gram(a_MK: torch.Tensor) -> torch.Tensor:
        nonlocal made
        M, K = a_MK.shape
        made += 2 * (M * (M + 1) // 2) * K
        return calls.gram(a_MK)

    monkeypatch.setattr(portable, "product", product)
    monkeypatch.setattr(portable, "gram", gram)
    for frozen in ((), ("*attn*",)):
        train = recipe.train.model_copy(update={"frozen": frozen})
        own, made = recipe.model_copy(update={"train": train}), 0
        training_step(initial(own, 300), batches[0], own)
        assert made == counts.step_flops(own, own.phases[0], 300).update > 0


def test_a_plan_knows_the_bytes_of_its_anchors(trained: Path) -> None:
    storage = Storage(load(trained), facts(trained, load(trained)))
    steps = layout.steps_in(trained / layout.ANCHORS)
    for step in steps:
        files = layout.anchor(trained, step).iterdir()
        assert storage.anchor(step) == sum(file.stat().st_size for file in files)
    assert len(steps) > 3 and storage.ledger() == (trained / layout.LEDGER).stat().st_size


def test_its_operations_are_counted() -> None:
    shapes = {
        "model.layers.0.x": (8, 3),
        "model.layers.1.x": (3, 8),
        "model.embed_tokens.weight": (50, 8),
    }
    half = 3 * 4 // 2  # Of what is symmetric.
    each = 5 * 2 * (half * 8 + half * 3 + 3 * 3 * 8)
    assert (
        Muon(kind="muon").flops(shapes) == 2 * each
        and Muon(kind="muon").scratch({"model.norm.weight": (8,)}) == 0
    )
