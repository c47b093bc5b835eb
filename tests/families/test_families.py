"""Every family: its arithmetic against float64 and transformers, and a
small run of it from end to end."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from pydantic import TypeAdapter

from pellucid import huggingface, operations
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import FormatInvalid, RecipeInvalid, RecipeUnknownKey
from pellucid.families import Family, Llama
from pellucid.inputs import Inputs, anchored_state
from pellucid.model import Decoder
from pellucid.plan.calibrate import generated
from pellucid.recipe import Data, Recipe, Source, Train, load, parse
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay import blame
from pellucid.replay.audit import audit_step
from pellucid.store import files, tensors
from pellucid.train.state import initial, restored
from pellucid.train.step import forward_pass, objective_of_step, training_step
from tests.conftest import finish, make_run, prose
from tests.families import reference

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"window": 5},
    "olmo2": {},
    "olmo3": {"window": 5, "layers": 5},
    "qwen2": {},
    "qwen3": {},
}
VOCABULARY = 300
Arrays = dict[str, np.ndarray]
SMALL = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "mlp_width": 64, "context": 32}


def shape_of(family: str, **changes: Any) -> Family:
    return TypeAdapter(Family).validate_python(
        {"family": family, **SMALL, **FAMILIES[family], **changes}
    )


def recipe_of(shape: Family, arithmetic: str) -> Recipe:
    train = Train.model_validate(
        {"arithmetic": arithmetic, "batch": 2, "microbatch": 2, "steps": 50, "warmup": 0}
    )
    return Recipe(
        name="small", data=Data(sources=(Source(name="generated"),)), model=shape, train=train
    )


def scattered(model: Decoder) -> dict[str, torch.Tensor]:
    """Give every weight values that are not its first ones, which hide what
    multiplies by one or adds zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.4 * torch.rand(weight.shape, generator=generator) - 0.2
    return {
        name: weight.detach().double().requires_grad_() for name, weight in model.named_parameters()
    }


@pytest.mark.parametrize("attention", ["across", "within"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("arithmetic", ["portable", "native"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_float64(
    family: str, arithmetic: str, tied: bool, attention: str
) -> None:
    recipe = recipe_of(shape_of(family, tied=tied, attention=attention), arithmetic)
    operations.of(arithmetic, "cpu").configure("cpu", 1)
    model, batch = initial(recipe, VOCABULARY).model, next(generated(recipe, VOCABULARY, 1))
    documents_BS = np.cumsum(np.random.default_rng(3).random(batch.tokens_BS.shape) < 0.1, axis=1)
    wanted = scattered(model)
    phase = recipe.phases[0]
    part = objective_of_step(batch, phase)
    said, objective = forward_pass(model, batch.tokens_BS, documents_BS, recipe, phase, part)
    objective.backward()

    tokens = torch.from_numpy(batch.tokens_BS.astype(np.int64))
    within = torch.from_numpy(documents_BS[:, :-1]) if attention == "within" else None
    out = reference.logits(recipe.model, wanted, tokens[:, :-1], within)
    losses = F.cross_entropy(out.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    losses.mean().backward()
    np.testing.assert_allclose(said.losses_BT.ravel(), losses.detach().numpy(), rtol=2e-6)
    for name, weight in model.named_parameters():
        grad = wanted[name].grad
        assert weight.grad is not None and grad is not None, name
        error, size = float((weight.grad - grad).abs().max()), float(grad.abs().max())
        assert size > 0 and error < 1e-5 * size, name


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_that_the_family_names(family: str) -> None:
    shape = shape_of(family, tied=False)
    state = initial(recipe_of(shape, "portable"), VOCABULARY)
    assert {name: tuple(w.shape) for name, w in state.model.named_parameters()} == shape.tensors(
        VOCABULARY
    )
    reached = [name for one in blame.backward_order(shape) for name in one.names]
    assert sorted(reached) == sorted(shape.tensors(VOCABULARY))
    for name, weight in state.model.named_parameters():
        if weight.dim() == 1:
            assert (weight == (0 if name.endswith(".bias") else 1)).all(), name
        else:
            assert 0 < weight.std() < 0.03, name


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_wrong_from_one_weight_on_name_what_is_before_it(family: str) -> None:
    shape = shape_of(family)
    order = blame.backward_order(shape)
    for index, reached in enumerate(order[:-1]):
        wrong = [name for one in order[index:] for name in one.names]
        assert reached.between and reached.between in blame.makers(wrong, shape)
        assert blame.makers([reached.names[0]], shape) == blame.maker(reached.names[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_with_another_weight_or_one_less_is_refused_by_its_name(family: str) -> None:
    recipe = recipe_of(shape_of(family), "portable")
    groups = initial(recipe, VOCABULARY).groups()
    missing = {group: dict(arrays) for group, arrays in groups.items()}
    last = list(recipe.model.layer())[-1]
    del missing["weights"][f"model.layers.1.{last}"]
    with pytest.raises(
        FormatInvalid, match=rf"weights model\.layers\.1\.{re.escape(last)} is absent"
    ):
        restored(recipe, VOCABULARY, 0, missing)
    missing["weights"] = {
        **groups["weights"],
        "model.layers.1.self_attn.x_norm.weight": np.ones(8, np.float32),
    }
    with pytest.raises(
        FormatInvalid, match=r"self_attn\.x_norm\.weight is F32 \(8,\), and .* absent"
    ):
        restored(recipe, VOCABULARY, 0, missing)


def test_the_family_is_in_the_digest_and_unknown_ones_are_refused() -> None:
    digests = {recipe_of(shape_of(family), "portable").digest() for family in FAMILIES}
    assert len(digests) == len(FAMILIES)
    base = 'version = 4\nname = "a"\n[[data.sources]]\nname = "s"\n[model]\n'
    assert (
        parse(base.encode(), "r").model
        == Llama()
        == parse(f'{base}family = "llama"'.encode(), "r").model
    )
    with pytest.raises(
        RecipeInvalid, match="'llama', 'mistral', 'olmo2', 'olmo3', 'qwen2' or 'qwen3'"
    ):
        parse(f'{base}family = "gpt"'.encode(), "r")
    with pytest.raises(RecipeUnknownKey, match=r"model\.head.*did you mean model\.heads"):
        parse(f'{base}family = "qwen3"\nhead = 3'.encode(), "r")
    with pytest.raises(RecipeUnknownKey, match=r"model\.window"):
        parse(f"{base}window = 5".encode(), "r")
    with pytest.raises(RecipeInvalid, match=r"model\.heads"):
        parse(f'{base}family = "qwen3"\nheads = "3"'.encode(), "r")


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_has_the_same_bits_with_more_threads(family: str, threads: int) -> None:
    recipe = recipe_of(shape_of(family), "portable")
    roots = set()
    for count in (2, threads):
        operations.of("portable", "cpu").configure("cpu", count)
        state = initial(recipe, VOCABULARY)
        training_step(state, next(generated(recipe, VOCABULARY, 1)), recipe)
        roots.add(state.roots().state)
    operations.of("portable", "cpu").configure("cpu", 1)
    assert len(roots) == 1


@pytest.mark.parametrize("arithmetic", ["portable", "native"])
@pytest.mark.parametrize("within", [False, True])
def test_a_window_shows_so_many_positions_and_no_more(arithmetic: str, within: bool) -> None:
    """Of one layer, so that nothing comes round by another; with 5 of 32, and with
    documents of 3 inside of it."""
    operations.of(arithmetic, "cpu").configure("cpu", 1)
    model = initial(recipe_of(shape_of("mistral", layers=1), arithmetic), VOCABULARY).model
    scattered(model)
    tokens = torch.arange(32)[None]
    first = torch.from_numpy(np.arange(32, dtype=np.int32) // 3 * 3)[None] if within else None
    with torch.no_grad():
        before = model(tokens, first)
        for place in (0, 7, 20):
            changed = tokens.clone()
            changed[0, place] = 299
            moved = (model(changed, first) != before).any(-1)[0].nonzero().flatten().tolist()
            assert moved == list(range(place, place // 3 * 3 + 3 if within else place + 5))


def test_a_window_as_long_as_the_context_is_llama() -> None:
    roots = set()
    for shape in (
        shape_of("llama"),
        shape_of("mistral", window=32),
        shape_of("mistral", window=99),
    ):
        state = initial(recipe_of(shape, "portable"), VOCABULARY)
        training_step(
            state,
            next(generated(recipe_of(shape, "portable"), VOCABULARY, 1)),
            recipe_of(shape, "portable"),
        )
        roots.add(state.roots().state)
    assert len(roots) == 1


# A whole run


def quiet(*_: object) -> None:
    pass


@pytest.fixture(scope="module", params=[family for family in FAMILIES if family != "llama"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, corpus: Path
) -> Path:
    """A sealed run of a family. Only to be read."""
    own = {"family": f'"{request.param}"', **FAMILIES[request.param], "tied": "false"}
    settings = [f"model.{name}={value}" for name, value in own.items()]
    folder = make_run(
        tmp_path_factory.mktemp(request.param) / "run", corpus, [*settings, "train.steps=6"]
    )
    publish(finish(folder))
    return folder


def test_a_run_verifies_and_a_step_of_it_is_computed_again(run: Path) -> None:
    assert verify(run, quiet).ok
    inputs = Inputs.load(run, load(run))
    assert audit_step(inputs, 6, quiet).ok
    front = yaml.safe_load((run / "README.md").read_text().split("---\n")[1])
    assert front["tags"] == ["pellucid", inputs.recipe.model.family]


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: {one: array for one, array in arrays.items() if one != name}


@pytest.mark.parametrize(
    "file", ["checkpoints/step6/model.safetensors", "anchors/step5/model.safetensors"]
)
def test_a_weight_that_is_missing_or_another_family_s_is_named(
    run: Path, tmp_path: Path, file: str
) -> None:
    shape = load(run).model
    own = sorted(set(shape.layer()) - set(Llama().layer())) or ["self_attn.q_proj.weight"]
    first = f"model.layers.0.{own[0]}"
    other = "model.layers.0.self_attn.other.weight"
    changes: dict[str, Callable[[Arrays], Arrays]] = {
        first: without(first),
        other: lambda arrays: arrays | {other: np.ones(8, np.float32)},
    }
    for number, (name, change) in enumerate(changes.items()):
        folder = tmp_path / str(number)
        shutil.copytree(run, folder)
        read = tensors.Tensors(folder / file)
        arrays = change({one: array.copy() for one, array in read.arrays().items()})
        (folder / file).unlink()
        tensors.write(folder / file, arrays, read.metadata)
        problems = [str(problem) for problem in verify(folder, quiet).problems]
        assert any(
            name in problem and file.rpartition("/")[0] in problem for problem in problems
        ), problems


@pytest.mark.parametrize("place", ["checkpoints/step0", "."])
def test_transformers_gives_our_logits_and_tokens(run: Path, place: str) -> None:
    transformers = pytest.importorskip("transformers")
    inputs = Inputs.load(run, load(run))
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
        run / place, dtype=torch.float32, output_loading_info=True
    )
    assert not any(told.values()), told  # Nothing missing, nothing left over.
    assert type(theirs).__name__ == files.read_json(run / place / "config.json")["architectures"][0]
    state = anchored_state(inputs, 0 if place.endswith("0") else 6)
    tokens = torch.from_numpy(inputs.shards.validation[0].read(0, 128).astype("int64")).view(4, 32)
    with torch.no_grad():
        ours, other = state.model(tokens), theirs(tokens).logits
    assert (ours - other).abs().max() < 1e-5
    # Some of its classes bring a tokenizer of the family's own instead of the file's.
    theirs, ours = transformers.AutoTokenizer.from_pretrained(run / place), Tokenizer.load(run)
    spelled = (
        "",
        "naïve café 東京 ",
        "1234567",
        "'s  ",
        "x\n\n\ty",
        "<|document|>",
        "<|endoftext|>",
        "\u0301é\r\n",
    )
    for number in range(200):
        text = spelled[number % 8] + prose(number, 9) + spelled[number % 7] + spelled[number % 5]
        assert theirs(text)["input_ids"] == ours.encode(text), text


def test_the_shape_of_a_checkpoint_is_the_recipe_s(run: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape, config = load(run).model, transformers.AutoConfig.from_pretrained(run)
    assert config.model_type == shape.family
    assert (
        config.num_hidden_layers == shape.layers and config.max_position_embeddings == shape.context
    )
    assert config.pad_token_id is None  # Every token is one of texts.
    assert config.rms_norm_eps == shape.norm_epsilon and config.tie_word_embeddings == shape.tied
    assert (config.sliding_window if "window" in shape.model_fields_set else None) == getattr(
        shape, "window", None
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_gives_our_logits_whatever_the_weights_are(family: str) -> None:
    """Norms that are not one, biases that are not zero."""
    transformers = pytest.importorskip("transformers")
    shape = shape_of(family, tied=False)
    config = huggingface.config_of(huggingface.architecture(shape, VOCABULARY, 0))
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(**config)
    )
    model = initial(recipe_of(shape, "portable"), VOCABULARY).model
    scattered(model)
    theirs.load_state_dict(model.state_dict(), strict=True)
    tokens = torch.from_numpy(np.random.default_rng(5).integers(0, VOCABULARY, (2, 32)))
    with torch.no_grad():
        ours, other = model(tokens), theirs(tokens).logits
    assert (ours - other).abs().max() < 1e-5 * other.abs().max()
