"""Checkpoints as Hugging Face lays them out: what `from_pretrained` needs, and nothing of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from pellucid.data.tokenizer import FILE, Tokenizer, existing
from pellucid.families.base import Model
from pellucid.store import files

WEIGHTS = "model.safetensors"
# Types of models whose tokenizer AutoTokenizer takes for another class than tokenizer_config.json
# names, with a split of its own: of all that transformers 5.23 knows (docs/adr/0029;
# tests/test_huggingface.py asks the installed release).
SPLIT_BY_TRANSFORMERS = frozenset(
    {
        "hyperclovax_vision_v2",
        "qwen2",
        "qwen3_5",
        "qwen3_5_moe",
        "qwen3_5_moe_text",
        "qwen4_exp",
        "siglip2",
    }
)


def tokenizer_loader(shape: Model) -> str:
    """The class of transformers whose from_pretrained gives a run's ids in a checkpoint's
    folder."""
    split = shape.described()["model_type"] in SPLIT_BY_TRANSFORMERS
    return "PreTrainedTokenizerFast" if split else "AutoTokenizer"


def architecture(shape: Model, vocabulary: int, document_token: int) -> dict[str, Any]:
    """What Hugging Face's class of this family needs to know of this model: what
    a checkpoint's root covers."""
    return {
        **shape.described(),
        "vocab_size": vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": shape.mlp_width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": shape.tied,
        "attention_dropout": 0.0,
        "initializer_range": shape.initial_std,
        "bos_token_id": document_token,
        "eos_token_id": document_token,
        "torch_dtype": "float32",
    }


def with_theta(described: Mapping[str, Any], theta: float) -> dict[str, Any]:
    """The architecture of a model whose rotary embedding has another base, as in phases;
    another trainer's as it is."""
    return {**described, "rope_theta": theta} if "rope_theta" in described else dict(described)


def config_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json of an architecture. It says theta twice: MLX and older readers know only
    rope_theta, and take 10000 without a word where it is missing; newer ones write only
    rope_parameters. The architecture of another trainer may have none."""
    if "rope_theta" not in described:
        return dict(described)
    rope: dict[str, Any] = {"rope_theta": described["rope_theta"], "rope_type": "default"}
    if "layer_types" in described:  # Its class asks for the base of every type of layer.
        rope = dict.fromkeys(sorted({*described["layer_types"]}), rope)
    return {**described, "rope_parameters": rope}


def descriptions(
    config: Mapping[str, Any], document: str, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON files of a checkpoint, by name; config is its architecture, and identity (step,
    tokens, ledger entry, digest) is pellucid.json."""
    return {
        "config.json": config_of(config),
        "generation_config.json": {
            "bos_token_id": config["bos_token_id"],
            "eos_token_id": config["eos_token_id"],
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": document,
            "eos_token": document,
            "model_max_length": config["max_position_embeddings"],
            "clean_up_tokenization_spaces": False,
            # As in training, a text that spells a special token stays text.
            "split_special_tokens": True,
        },
        "pellucid.json": identity,
    }


def reader(folder: Path) -> Callable[[str], list[int]]:
    """Text to ids as AutoTokenizer with default arguments does it in a checkpoint's folder: with
    whatever its file adds, cuts or fills up, and with special tokens split as
    tokenizer_config.json says."""
    encoder = tokenizers.Tokenizer.from_str(existing(folder / FILE).decode("utf-8"))
    encoder.encode_special_tokens = bool(
        files.read_json(folder / "tokenizer_config.json").get("split_special_tokens")
    )
    return lambda text: encoder.encode(text, add_special_tokens=True).ids


def write_checkpoint(
    target: Path,
    weights: Path,
    tokenizer: Tokenizer,
    config: Mapping[str, Any],
    identity: Mapping[str, Any],
) -> None:
    """Fill a folder with a complete checkpoint; the weights are linked
    from where they lie already."""
    target.mkdir(parents=True, exist_ok=True)
    for name, value in descriptions(config, tokenizer.document, identity).items():
        files.write_json(target / name, value)
    files.write_bytes(target / FILE, tokenizer.exported)
    if weights != target / WEIGHTS:
        files.link_or_copy(weights, target / WEIGHTS)
