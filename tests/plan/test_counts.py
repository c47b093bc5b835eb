"""Counted beside computed: parameters, FLOPs, saved activations, sets of gradients, memory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pellucid import counts, operations
from pellucid.families import Family, Llama, Mistral, Olmo2, Olmo3, Qwen2, Qwen3
from pellucid.model import Decoder
from pellucid.objectives import Said
from pellucid.operations import native
from pellucid.plan.calibrate import generated
from pellucid.plan.sizes import sizes
from pellucid.recipe import Data, Recipe, Source, Train
from pellucid.train.events import Batch
from pellucid.train.gradients import GradientTree
from pellucid.train.state import initial
from pellucid.train.step import forward_pass, objective_of_step

SHAPES = [
    Llama(layers=2, width=32, heads=4, kv_heads=2, mlp_width=64, context=32),
    Llama(layers=3, width=64, heads=4, kv_heads=4, mlp_width=160, context=48, tied=False),
    Mistral(layers=2, width=32, heads=4, kv_heads=2, mlp_width=64, context=32, window=5),
    Olmo2(layers=2, width=32, heads=4, kv_heads=2, mlp_width=64, context=32, tied=False),
    Olmo3(layers=5, width=32, heads=4, kv_heads=2, mlp_width=64, context=32, window=5),
    Qwen2(layers=2, width=32, heads=4, kv_heads=2, mlp_width=64, context=32),
    Qwen3(layers=2, width=32, heads=4, kv_heads=2, mlp_width=64, context=32, tied=False),
]
VOCABULARY = 300


def recipe_of(shape: Family, arithmetic: str, batch: int = 2, microbatch: int = 2) -> Recipe:
    train = Train.model_validate(
        {
            "arithmetic": arithmetic,
            "batch": batch,
            "microbatch": microbatch,
            "steps": 50,
            "warmup": 0,
        }
    )
    return Recipe(
        name="counted", data=Data(sources=(Source(name="generated"),)), model=shape, train=train
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_those_of_the_model(shape: Family) -> None:
    model = Decoder(shape, VOCABULARY, native)
    assert shape.tensors(VOCABULARY) == {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }
    found = counts.parameters(shape, VOCABULARY)
    assert found.total == sum(p.numel() for p in model.parameters())
    assert found.layer == sum(p.numel() for p in model.get_submodule("model.layers.0").parameters())


def said(model: Decoder, batch: Batch, recipe: Recipe) -> tuple[Said, torch.Tensor]:
    """What a step computes of a batch that is one microbatch."""
    phase = recipe.phases[0]
    part = objective_of_step(batch, phase)
    return forward_pass(model, batch.tokens_BS, batch.documents_BS, recipe, phase, part)


@pytest.mark.parametrize("shape", SHAPES)
def test_flops_are_those_of_the_products_that_pytorch_counts(shape: Family) -> None:
    """Its counter knows every product with a weight; attention it counts unmasked,
    so that is counted by hand."""
    recipe = recipe_of(shape, "native")
    model = initial(recipe, VOCABULARY).model
    batch = next(generated(recipe, VOCABULARY, 1))
    with FlopCounterMode(display=False) as counter:
        said(model, batch, recipe)[1].backward()
    by_operation = {
        str(name): number for name, number in counter.get_flop_counts()["Global"].items()
    }
    products = sum(number for name, number in by_operation.items() if "mm" in name)
    found = counts.flops(shape, VOCABULARY, 2)
    assert products == 3 * found.linear

    windows = [getattr(shape, "window", shape.context)] * shape.layers
    if shape.family == "olmo3":
        windows[3] = shape.context
    pairs = sum(
        1
        for window in windows
        for query in range(shape.context)
        for key in range(shape.context)
        if key <= query < key + window
    )
    attention = 2 * shape.heads * pairs * (shape.width // shape.heads) * 2
    assert found.attention == 2 * attention and found.step == 3 * found.linear + 7 * attention


def test_flops_are_those_of_the_benches() -> None:
    path = Path(__file__).parents[2] / "bench" / "shapes.py"
    spec = importlib.util.spec_from_file_location("bench_shapes", path)
    assert spec is not None and spec.loader is not None
    shapes: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shapes)
    for one in shapes.MODELS.values():
        names = ("layers", "width", "heads", "kv_heads", "mlp_width", "context", "tied")
        shape = Llama(**{name: getattr(one, name) for name in names})
        assert counts.flops(shape, one.vocabulary, one.batch).step == one.flops()
        assert counts.parameters(shape, one.vocabulary).total == one.parameters()


@pytest.mark.parametrize("one", [SHAPES[0], *SHAPES[2:]], ids=lambda shape: shape.family)
@pytest.mark.parametrize("attention", ["across", "within"])
@pytest.mark.parametrize("arithmetic", ["portable", "native"])
def test_saved_activations_are_those_that_autograd_keeps(
    arithmetic: str, attention: str, one: Family
) -> None:
    """What two layers keep more than one does, but for the first keys, which the
    portable operation holds by itself."""
    held = []
    for layers in (1, 2):
        shape = one.model_copy(update={"layers": layers, "attention": attention})
        recipe = recipe_of(shape, arithmetic)
        operations.of(arithmetic, "cpu").configure("cpu", 1)
        model, batch = initial(recipe, VOCABULARY).model, next(generated(recipe, VOCABULARY, 1))
        known = {
            tensor.untyped_storage().data_ptr()
            for tensor in [*model.parameters(), *model.buffers()]
        }
        kept: dict[int, torch.Tensor] = {}

        def pack(tensor, kept=kept):
            return kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)

        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, pack=pack: (pack(t), t)[1], lambda t: t
        ):
            said(model, batch, recipe)
        held.append(
            sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in known)
        )
    first_keys = 2 * one.context * 4 if arithmetic == "portable" else 0
    shape = one.model_copy(update={"attention": attention})
    assert held[1] - held[0] + first_keys == shape.saved(2, arithmetic, counts.FLOAT)


@pytest.mark.parametrize("microbatches", [1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32])
def test_sets_of_gradients_are_those_the_tree_holds(microbatches: int) -> None:
    tree, most = GradientTree(native), 0
    for _ in range(microbatches):
        most = max(most, len(tree.blocks) + 1)
        tree.add([torch.ones(1)])
    assert counts.gradient_sets(microbatches) == most <= int(np.ceil(np.log2(microbatches))) + 1


_STEPS = """
import sys
from pathlib import Path
from pellucid import machine
from pellucid.plan.calibrate import generated
from pellucid.recipe import parse
from pellucid import operations
from pellucid.train.state import initial
from pellucid.train.step import training_step
recipe = parse(Path(sys.argv[1]).read_bytes(), "recipe")
operations.of(recipe.train.arithmetic, "cpu").configure("cpu", 1)
libraries = machine.resident()
state = initial(recipe, 2048)
for batch in generated(recipe, 2048, 2):
    training_step(state, batch, recipe)
print(libraries, machine.peak())
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="shares of the allocator's gaps are measured on Linux"
)
@pytest.mark.parametrize("microbatch", [8, 2])
def test_memory_of_a_step_is_within_15_percent(microbatch: int, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        'version = 4\nname = "m"\n[[data.sources]]\nname = "s"\n'
        "[model]\nlayers = 4\nwidth = 256\nheads = 4\nkv_heads = 4\n"
        "mlp_width = 704\ncontext = 256\n"
        f"[train]\nbatch = 8\nmicrobatch = {microbatch}\n[tokenizer]\nvocabulary = 2048\n"
    )
    from pellucid.recipe import parse

    done = subprocess.run(
        [sys.executable, "-c", _STEPS, str(path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    libraries, peak = map(int, done.stdout.split())
    found = counts.memory(parse(path.read_bytes(), path), 2048, 1, libraries)
    predicted = found.peak - found.writing - found.rows  # Nothing is recorded here.
    assert abs(predicted / peak - 1) < 0.15
    assert peak - libraries > 50 << 20  # The step is more than the libraries' noise.


def test_rows_of_metrics_are_counted_and_bounded(tmp_path: Path) -> None:
    """However many steps lie between two anchors."""
    from pellucid.recipe import Recipe
    from pellucid.store import metrics

    def rows(steps: int, batch: int) -> int:
        values = {
            "name": "m",
            "data": {"sources": ({"name": "s"},)},
            "train": {"steps": steps, "batch": batch},
        }
        return counts.memory(Recipe.model_validate(values), 2048, 1).rows

    assert rows(200, 16) < rows(400, 16) < metrics.ROW_BYTES * metrics.HELD
    assert rows(10**5, 512) == rows(10**6, 512) < 1.1 * metrics.ROW_BYTES * metrics.HELD
    assert metrics.ROW_BYTES * metrics.HELD < 32 << 20


def test_open_models_have_the_parameters_they_are_named_for() -> None:
    told = {
        "TinyLlama 1.1B": 1.1,
        "Amber 7B": 6.74,
        "Llama 2 13B": 13.0,
        "K2 65B": 65.3,
        "Llama 2 70B": 69.0,
    }
    found = {size.name: size.parameters / 1e9 for size in sizes()}
    for name, billions in told.items():
        assert abs(found[name] / billions - 1) < 0.005, name
    ordered = list(found.values())
    assert ordered == sorted(ordered)
