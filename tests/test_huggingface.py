"""Our checkpoints in transformers: the same logits, the same tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid import huggingface
from pellucid.data import kinds
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import PatternReplaced, TokenizerInvalid
from pellucid.families import Llama, Qwen2, Qwen3
from pellucid.families.base import Model
from pellucid.inputs import Inputs, anchored_state
from pellucid.recipe import load
from pellucid.release.export import export
from pellucid.store import files
from tests.conftest import prose
from tests.data.shapes import SHAPES, added, bert, template

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("place", ["checkpoints/step0", "checkpoints/step6", "."])
def test_transformers_gives_our_logits(finished: Path, place: str) -> None:
    inputs = Inputs.load(finished, load(finished))
    step = {"checkpoints/step0": 0, "checkpoints/step6": 6, ".": 13}[place]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        finished / place, dtype=torch.float32
    )
    stored = max(anchor for anchor in (0, 5, 13) if anchor <= step)
    state = anchored_state(inputs, stored)
    if stored != step:
        from pellucid.replay.materialise import materialise

        state = materialise(inputs, step, lambda done, total: None)
    tokens = torch.from_numpy(inputs.shards.validation[0].read(0, 128).astype("int64")).view(4, 32)
    with torch.no_grad():
        ours, other = state.model(tokens), theirs(tokens).logits
    assert (ours - other).abs().max() < 1e-5


def test_theta_stands_where_old_and_new_readers_look(tmp_path: Path) -> None:
    shape = Llama(rope_theta=50000.0)
    described = huggingface.architecture(shape, 300, 0)
    config = huggingface.descriptions(described, "<|document|>", {})["config.json"]
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 50000.0
    files.write_json(tmp_path / "config.json", config)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.rope_parameters == {"rope_theta": 50000.0, "rope_type": "default"}
    # What a checkpoint's root covers does not hold the repetition.
    assert "rope_parameters" not in described


def texts_of(specials: set[str]) -> list[str]:
    """Five hundred texts, many with the spelling of a special token, spaces
    at their ends, other scripts."""
    spelled = sorted(specials | {"<|endoftext|>", "</s>", "<h1>"})
    between = ["", " ", "\n\n\t", "naïve café 東京", "1234567", "'s", "x" * 30, "\u0301é\r\n"]
    return [
        f"{between[n % 7]}{prose(n, 9)}{spelled[n % len(spelled)] * (n % 3)}"
        f"{between[n % 5]}{between[n % 8]}"
        for n in range(500)
    ]


def test_transformers_gives_our_tokens(finished: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(finished)
    ours = Tokenizer.load(finished)
    for text in ("", "x" * 100, *texts_of(ours.added)):
        assert theirs(text)["input_ids"] == theirs.encode(text) == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text
    assert theirs.bos_token_id == theirs.eos_token_id == ours.document_token


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_gives_the_ids_of_training(shape: str, tmp_path: Path) -> None:
    """By default, whatever the file would add, cut, fill up or take for a special token."""
    content = SHAPES[shape][0]()
    name = SHAPES[shape][1] or content["added_tokens"][0]["content"]
    ours = Tokenizer(json.dumps(content).encode(), tmp_path, name)
    (tmp_path / "weights").write_bytes(b"")
    described = huggingface.architecture(Llama(), ours.vocabulary, ours.document_token)
    huggingface.write_checkpoint(tmp_path / "step", tmp_path / "weights", ours, described, {})
    theirs, ids_of = (
        transformers.AutoTokenizer.from_pretrained(tmp_path / "step"),
        huggingface.reader(tmp_path / "step"),
    )
    for text in texts_of(ours.added):
        assert theirs(text)["input_ids"] == ids_of(text) == ours.encode(text), text
    theirs.save_pretrained(tmp_path / "again")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert all(again(text)["input_ids"] == ours.encode(text) for text in texts_of(ours.added)[:50])
    assert (theirs.bos_token, theirs.eos_token) == (name, name)


PATTERNS = ("llama3", "qwen2", "gpt2", "o200k", "pellucid")


def written(target: Path, pattern: str, model_type: str) -> tuple[Tokenizer, Path]:
    """A checkpoint of a model of this type, with a tokenizer of this pattern."""
    trained, trainer = kinds.untrained_bpe(500, pattern, 16)
    trained.train_from_iterator(
        [prose(number, 60) + "it's 1234 ABc\n\n  x" for number in range(20)], trainer
    )
    ours = Tokenizer(kinds.bpe_file(kinds.merges_of(trained), pattern, 16), target)
    (target / "weights").write_bytes(b"")
    described = huggingface.architecture(Llama(), ours.vocabulary, ours.document_token) | {
        "model_type": model_type
    }
    huggingface.write_checkpoint(target / "step", target / "weights", ours, described, {})
    return ours, target / "step"


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_transformers_keeps_the_pattern(pattern: str, model_type: str, tmp_path: Path) -> None:
    ours, folder = written(tmp_path, pattern, model_type)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    texts = texts_of(ours.added)
    assert [theirs(text)["input_ids"] for text in texts] == [ours.encode(text) for text in texts]


def gives_other_ids(folder: Path, ours: Tokenizer, texts: list[str]) -> bool:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    try:
        return any(theirs(text)["input_ids"] != ours.encode(text) for text in texts)
    except Exception as error:
        if "Unk token" not in str(error):  # Of the type siglip2 it wants one, which we do not have.
            raise
        return True


@pytest.mark.parametrize("model_type", sorted(huggingface.SPLIT_BY_TRANSFORMERS))
def test_transformers_replaces_the_pattern(model_type: str, tmp_path: Path) -> None:
    """Where it no longer does, the type leaves the list."""
    ours, folder = written(tmp_path, "llama3", model_type)
    assert gives_other_ids(folder, ours, texts_of(ours.added))


@pytest.mark.parametrize("family", [Llama(), Qwen2(), Qwen3()], ids=lambda family: family.family)
def test_the_loader_that_a_readme_names_gives_the_ids(family: Model, tmp_path: Path) -> None:
    ours, folder = written(tmp_path, "llama3", family.described()["model_type"])
    loader = getattr(transformers, huggingface.tokenizer_loader(family))
    theirs = loader.from_pretrained(folder)
    for text in texts_of(ours.added):
        assert theirs(text)["input_ids"] == ours.encode(text)


@pytest.mark.slow
def test_transformers_replaces_no_other_pattern(tmp_path: Path) -> None:
    """Every type of model that the installed release knows: a minute."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    ours, folder = written(tmp_path, "llama3", "llama")
    texts, replaced = texts_of(ours.added)[:100], set()
    for model_type in TOKENIZER_MAPPING_NAMES:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
        if gives_other_ids(folder, ours, texts):
            replaced.add(model_type)
    assert replaced == huggingface.SPLIT_BY_TRANSFORMERS


def test_export_refuses_a_model_whose_pattern_would_be_replaced(
    finished: Path, tmp_path: Path
) -> None:
    inputs = Inputs.load(finished, load(finished))
    inputs.identity.config["model_type"] = "qwen2"
    with pytest.raises(PatternReplaced, match="of type qwen2"):
        export(inputs, 0, "hf", tmp_path / "out", lambda done, total: None)
    assert not (tmp_path / "out").exists()


def changed(key: str, value: Any) -> Callable[[Tokenizer], bytes]:
    return lambda made: kinds.spelled(made.parsed | {key: value})


@pytest.mark.parametrize(
    "exported",
    [
        changed("post_processor", template("<|document|>", "A")),
        changed("truncation", bert()["truncation"]),
        changed("padding", bert()["padding"]),
        changed("normalizer", {"type": "Lowercase"}),
        changed("added_tokens", [added("<|document|>", 0, special=False)]),
    ],
)
def test_export_refuses_a_tokenizer_that_would_give_other_ids(
    exported: Callable[[Tokenizer], bytes],
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = Inputs.load(finished, load(finished))
    monkeypatch.setattr(Tokenizer, "exported", property(exported))
    with pytest.raises(TokenizerInvalid, match="nothing was exported"):
        export(inputs, 0, "hf", tmp_path / "out", lambda done, total: None)
    assert not (tmp_path / "out").exists()
