"""States of any groups, names, shapes and types: as bytes on disk, as roots, and in
training with frozen weights."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from blake3 import blake3

from pellucid import counts
from pellucid.errors import FormatInvalid, RecipeInvalid, StateDiffers
from pellucid.inputs import Inputs
from pellucid.kernels import calls
from pellucid.operations import portable
from pellucid.recipe import Recipe, load, parse
from pellucid.record import elements
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.store import anchors, tensors
from pellucid.train.events import Batch
from pellucid.train.state import array_of, initial, restored, tensor_of
from pellucid.train.step import training_step
from tests.conftest import finish, make_run

FROZEN = ("model.embed_tokens.weight", "model.layers.0.*", "*norm.weight")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def root(hashes: list[bytes]) -> bytes:
    """RFC 9162, by its recursive definition."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha(b"")
    half = 1 << ((len(hashes) - 1).bit_length() - 1)
    return sha(b"\1" + root(hashes[:half]) + root(hashes[half:]))


def state_root(step: int, groups: dict[str, dict[str, np.ndarray]]) -> bytes:
    """docs/format.md, section 11, with nothing of ours."""
    found = []
    for group in sorted(groups):
        leaves = []
        for name in sorted(groups[group], key=str.encode):
            array = groups[group][name]
            known = {"<f4": "F32", "<i8": "I64"}
            dtype = known.get(array.dtype.str) or array.dtype.names[0]  # type: ignore[index]
            content, chunk = array.tobytes(), 65536 * array.itemsize
            chunks = [
                sha(b"\0" + blake3(content[at : at + chunk]).digest())
                for at in range(0, len(content), chunk)
            ]
            head = f"pellucid tensor 1\0{group}\0{name}\0{dtype}\0".encode()
            dims = struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape)
            leaves.append(sha(b"\0" + head + dims + root(chunks)))
        found.append(
            sha(
                b"\0pellucid state 1\0"
                + struct.pack("<Q", step)
                + group.encode()
                + b"\0"
                + root(leaves)
            )
        )
    return root(found)


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).random(shape, np.float32)


def lora() -> dict[str, dict[str, np.ndarray]]:
    """Two matrices that learn beside four that are frozen."""
    base = {f"model.layers.0.self_attn.{one}_proj.weight": numbers(300, 400) for one in "qkvo"}
    adapter = {"lora_A": numbers(8, 400), "lora_B": np.zeros((300, 8), np.float32)}
    kept = {name: np.ones_like(array) for name, array in adapter.items()}
    return {
        "weights": {**base, **adapter},
        "exp_avg": kept,
        "exp_avg_sq": {n: 2 * a for n, a in kept.items()},
    }


def soap() -> dict[str, dict[str, np.ndarray]]:
    """Matrices of other shapes and names than the weight's, of 16 bits, and a count of steps."""
    bits = np.arange(36, dtype=np.uint16).reshape(6, 6).view(elements.DTYPES["BF16"])
    basis = {"w/left": bits, "w/right": bits[:4, :4].copy()}
    return {
        "weights": {"w": numbers(6, 4)},
        "exp_avg": {"w": numbers(6, 4)},
        "Q": basis,
        "step": {"w": np.array(7)},
    }


@pytest.fixture(params=[lora, soap], ids=["lora", "soap"])
def groups(request: pytest.FixtureRequest) -> dict[str, dict[str, np.ndarray]]:
    return request.param()


def written(place: Path, groups: dict[str, dict[str, np.ndarray]]) -> str:
    roots = tensors.state_roots(3, groups)
    entry = {"step": 3, "n": 7, "weights": roots.weights.hex(), "state": roots.state.hex()}
    anchors.write(place, groups, anchors.about(entry, roots), None)
    return roots.state.hex()


def test_any_groups_come_back_and_have_the_root_of_the_format(
    groups: dict[str, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    recorded = written(tmp_path / "step3", groups)
    assert recorded == state_root(3, groups).hex()
    read, _ = anchors.check(tmp_path / "step3", 3, recorded)
    assert {
        g: {n: (a.dtype, a.shape, a.tobytes()) for n, a in of.items()} for g, of in read.items()
    } == {
        g: {n: (a.dtype, a.shape, a.tobytes()) for n, a in of.items()} for g, of in groups.items()
    }
    said = json.loads((tmp_path / "step3/anchor.json").read_bytes())["tensors"]
    assert {g: set(of) for g, of in said.items()} == {g: set(of) for g, of in groups.items()}


@pytest.mark.parametrize(
    "change", ["another group", "another name", "gone", "added", "another type", "moved"]
)
def test_every_part_of_a_group_is_in_the_root(change: str, tmp_path: Path) -> None:
    groups = lora()
    recorded = written(tmp_path / "step3", groups)
    kept = groups["exp_avg"]
    if change == "another group":
        groups["exp_avg_other"] = groups.pop("exp_avg")
    elif change == "another name":
        kept["lora_C"] = kept.pop("lora_B")
    elif change == "gone":
        del kept["lora_B"]
    elif change == "added":
        kept["q_proj"] = np.zeros(1, np.float32)
    elif change == "another type":
        kept["lora_B"] = kept["lora_B"].view(np.uint32)
    else:
        groups["exp_avg"], groups["exp_avg_sq"] = groups["exp_avg_sq"], groups["exp_avg"]
    written(tmp_path / "other/step3", groups)
    with pytest.raises(StateDiffers):
        anchors.check(tmp_path / "other/step3", 3, recorded)


@pytest.mark.parametrize("name", ["weights/w", "w", "exp_avg/"])
def test_a_name_that_is_of_no_group_is_refused(name: str, tmp_path: Path) -> None:
    written(tmp_path / "step3", soap())
    tensors.write(tmp_path / "step3" / anchors.OPTIMIZER, {name: numbers(2)}, {"step": "3"})
    with pytest.raises(FormatInvalid, match="is not a tensor of an optimizer"):
        anchors.read(tmp_path / "step3")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int64]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_torch_s_tensors_and_arrays_are_the_same_bits(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    tensor = (torch.rand(shape) * 100).to(dtype)
    again = tensor_of(array_of(tensor))
    assert (again.dtype, again.shape) == (dtype, shape)
    assert torch.equal(again.reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))


# ---- frozen weights ----------------------------------------------------------------------------


@pytest.fixture
def recipe(finished: Path) -> Recipe:
    return load(finished)


@pytest.fixture
def batch(finished: Path, recipe: Recipe) -> Batch:
    return Inputs.load(finished, recipe).batch(1)


def frozen(recipe: Recipe, *patterns: str) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"frozen": patterns})})


@pytest.mark.parametrize("arithmetic", ["portable", "native"])
def test_a_frozen_weight_has_no_gradient_and_no_state_and_stays(
    recipe: Recipe, batch: Batch, arithmetic: str
) -> None:
    recipe = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"arithmetic": arithmetic})}
    )
    recipe = frozen(recipe, *FROZEN)
    state = initial(recipe, 300)
    before = {name: array.copy() for name, array in state.groups()["weights"].items()}
    stepped = training_step(state, batch, recipe)
    moved = {
        name for name, array in state.groups()["weights"].items() if (array != before[name]).any()
    }
    learning = {
        name for name in before if name.startswith("model.layers.1.") and "norm" not in name
    }
    assert moved == set(state.groups()["exp_avg"]) == set(state.groups()["exp_avg_sq"]) == learning
    assert {
        name for name, weight in state.model.named_parameters() if weight.grad is not None
    } == learning
    assert stepped.weight_norm == state.model.ops.norm_of(
        [w.detach() for w in state.weights().values()]
    )


def test_what_learns_has_the_gradients_it_has_without_frozen_weights(
    recipe: Recipe, batch: Batch
) -> None:
    free, some = initial(recipe, 300), initial(frozen(recipe, *FROZEN), 300)
    training_step(free, batch, recipe)
    training_step(some, batch, frozen(recipe, *FROZEN).model_copy())
    for name, weight in some.learning().items():
        own = free.learning()[name].grad
        assert own is not None and weight.grad is not None and torch.equal(own, weight.grad)


@pytest.mark.parametrize(
    ("patterns", "backward"),
    [
        ((), 2 * 2 * 7),  # Of each weight of both layers: its own gradient, and that of its input.
        (("*norm.weight",), 2 * 2 * 7),
        (FROZEN, 2 * 7 - 3),  # Nothing that learns lies behind q, k and v of layer 1.
        ((*FROZEN, "*attn*", "*gate*"), 3),  # up and down, and down's input.
        ((*FROZEN, "*attn*", "*gate*", "*up*"), 1),
    ],
)
def test_no_product_is_made_that_nobody_asks_for(
    recipe: Recipe,
    batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
    patterns: tuple[str, ...],
    backward: int,
) -> None:
    made: list[None] = []
    product = calls.product
    monkeypatch.setattr(calls, "product", lambda *given: made.append(None) or product(*given))
    recipe = frozen(recipe, *patterns)
    training_step(initial(recipe, 300), batch, recipe)
    microbatches = recipe.train.batch // recipe.train.microbatch
    assert len(made) == microbatches * (2 * 7 + backward)


@pytest.mark.parametrize(("pattern", "wanted"), [("model.embed*", (1, 0)), ("model.l*", (1, 1))])
def test_the_loss_makes_the_gradients_that_are_asked_for(
    recipe: Recipe,
    batch: Batch,
    monkeypatch: pytest.MonkeyPatch,
    pattern: str,
    wanted: tuple[bool, bool],
) -> None:
    asked = []
    loss = calls.loss

    def noted(*given):  # type: ignore[no-untyped-def]
        asked.append(given[4])
        return loss(*given)

    monkeypatch.setattr(calls, "loss", noted)
    recipe = frozen(recipe, pattern)
    training_step(initial(recipe, 300), batch, recipe)
    assert asked and set(asked) == {wanted}


def test_biases_learn_beside_frozen_weights() -> None:
    x, w, b = (torch.from_numpy(np.ones(shape, np.float32)) for shape in ((1, 2, 3), (4, 3), 4))
    (y,) = portable.biased_linears(x, (w, b.requires_grad_()))
    y.backward(torch.ones_like(y))
    assert b.grad is not None and b.grad.tolist() == [2.0] * 4 and w.grad is None


def test_patterns_that_fit_no_weight_or_all_are_refused(recipe: Recipe) -> None:
    with pytest.raises(
        RecipeInvalid, match=r"train.frozen: no weight of the model has a name like 'lm_head\.\*'"
    ):
        initial(frozen(recipe, "lm_head.*"), 300)
    with pytest.raises(RecipeInvalid, match=r"train\.frozen: no weight is left to learn"):
        counts.state(frozen(recipe, "*"), 300)


@pytest.mark.parametrize(
    ("group", "name", "detail"),
    [
        (
            "exp_avg",
            "model.norm.weight",
            "its exp_avg model.norm.weight is absent, and the recipe's state has it F32",
        ),
        ("weights", "model.norm.weight", "its weights model.norm.weight is absent"),
    ],
)
def test_a_missing_or_an_unknown_tensor_is_named(
    recipe: Recipe, group: str, name: str, detail: str
) -> None:
    groups = initial(recipe, 300).groups()
    taken = groups[group].pop(name)
    with pytest.raises(FormatInvalid, match=detail):
        restored(recipe, 300, 0, groups)
    groups[group][name] = taken
    restored(recipe, 300, 0, groups)
    for wrong in (taken.astype(np.float64), taken[:-1]):
        with pytest.raises(FormatInvalid, match=f"its {group} {name} is F"):
            restored(recipe, 300, 0, groups | {group: groups[group] | {name: wrong}})
    with pytest.raises(FormatInvalid, match=r"its momentum_buffer x is F32 .*has it absent"):
        restored(recipe, 300, 0, groups | {"momentum_buffer": {"x": taken}})


def test_a_run_with_frozen_weights_is_verified_and_audited(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "run", corpus, [f"train.frozen={json.dumps(FROZEN)}"]))
    publish(folder)
    assert verify(folder, lambda words: None).ok
    assert audit_step(Inputs.load(folder, load(folder)), 7, lambda done, total: None).ok
    held = tensors.Tensors(folder / "anchors/step5/optimizer.safetensors").entries
    assert held and not [name for name in held if "layers.0" in name or "norm" in name]


# ---- the recipe --------------------------------------------------------------------------------

BASE = 'version = 4\nname = "x"\n[[data.sources]]\nname = "a"\n'


@pytest.mark.parametrize(
    "section", ["", "[optimizer]", '[optimizer]\nkind = "adamw"', "[optimizer]\nbeta1 = 0.9"]
)
def test_adamw_is_the_optimizer_where_none_is_named(section: str) -> None:
    assert parse((BASE + section).encode(), "x").digest() == parse(BASE.encode(), "x").digest()


@pytest.mark.parametrize(
    ("section", "error"),
    [
        ('[optimizer]\nkind = "sgd"', r"x: optimizer\.kind: should be .*'adamw'"),
        ("[optimizer]\nbeta1 = 1.0", r"x: optimizer\.beta1: .*--set optimizer\.beta1=VALUE"),
        ("[optimizer]\nbeta3 = 0.5", r"optimizer\.beta3.*did you mean optimizer\.beta[12]\?"),
        (
            "[train]\nweight_decay = 0.5",
            r"train\.weight_decay.*did you mean optimizer\.weight_decay\?",
        ),
    ],
)
def test_what_is_wrong_in_the_section_is_named_by_its_key(section: str, error: str) -> None:
    with pytest.raises(Exception, match=error):
        parse((BASE + section).encode(), "x")
