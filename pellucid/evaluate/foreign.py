"""A model that somebody else trained, in a folder as Hugging Face lays it out, asked what the steps
of a run are asked: its family is one of ours, and its weights are read into our arithmetic.

Weights in bfloat16 or float16 become float32, which holds them exactly. A folder whose config.json
says anything that our family does not compute is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import TypeAdapter, ValidationError

from pellucid import counts, huggingface, machine, operations
from pellucid.data.tokenizer import FILE, Tokenizer, existing
from pellucid.errors import ForeignUnfit, MemoryTooSmall
from pellucid.evaluate.asking import answers
from pellucid.evaluate.measure import Told
from pellucid.evaluate.scoring import Scorer
from pellucid.evaluate.task import Task
from pellucid.families import Family
from pellucid.families.base import FLOAT, Model
from pellucid.measured.summary import Summary, summary
from pellucid.model import Decoder
from pellucid.record.evaluations import Line
from pellucid.record.requests import Answer, Likelihoods
from pellucid.store import files
from pellucid.store.tensors import Tensors
from pellucid.train.state import tensor_of

CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_FIELDS = {  # Of a family: the key of config.json.
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "mlp_width": "intermediate_size",
    "context": "max_position_embeddings",
    "norm_epsilon": "rms_norm_eps",
    "initial_std": "initializer_range",
}
_ELSEWHERE = {"initializer_range": 0.02}  # Says nothing of what a trained model computes.
# Keys that change no log-likelihood: how a model was made, stored, or written with.
_NO_MATTER = {
    *("_name_or_path", "architectures", "attention_dropout", "dtype", "initializer_range"),
    *("max_window_layers", "pad_token_id", "pretraining_tp", "torch_dtype", "transformers_version"),
    *("use_cache", "bos_token_id", "eos_token_id", "tie_word_embeddings", "_attn_implementation"),
    *("rope_theta", "rope_parameters", "rope_scaling"),  # Read by _theta.
}
_TOKENS, _THETA = 1 << 32, 1e30  # What is more is no model.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors").fullmatch
_TYPES = {"F32", "F16", "BF16"}  # That float32 holds exactly.
_STALE = ".rotary_emb.inv_freq"  # Angles that older versions stored beside the weights.


def load(folder: Path) -> Scorer:
    """Raises ForeignUnfit, FormatInvalid, TokenizerInvalid, MemoryTooSmall."""
    path = folder / CONFIG
    config = files.read_json(_own(folder, CONFIG))
    document = _document_token(config, path)
    tokenizer = Tokenizer(existing(_own(folder, FILE)), folder / FILE, document)
    vocabulary = config.get("vocab_size")
    if type(vocabulary) is not int or not tokenizer.vocabulary <= vocabulary < _TOKENS:
        detail = (
            f"vocab_size is {_short(vocabulary)}, and {FILE} has {tokenizer.vocabulary:,} tokens"
        )
        raise ForeignUnfit(path=path, detail=detail)
    places = dict(_places(folder))
    shape = _shape(config, tied=_tied(config, places), path=path)
    _require_known(config, huggingface.architecture(shape, vocabulary, document), path)
    _require_memory(shape, vocabulary, folder)
    ops = operations.of("portable", "cpu")
    ops.configure("cpu", machine.cores())
    return Scorer(_filled(Decoder(shape, vocabulary, ops), places, folder), tokenizer)


def _own(folder: Path, name: str) -> Path:
    """Where a file of a model lies. In a cache of Hugging Face, snapshots/REVISION/ has links into
    blobs/ beside it; no other link is followed. Raises ForeignUnfit where there is no such file."""
    if not folder.is_dir():
        raise ForeignUnfit(path=folder, detail="there is no such folder on this machine")
    place, snapshot = folder / name, folder.resolve()
    target = place.resolve()
    if not target.exists():
        raise ForeignUnfit(path=folder, detail=f"it has no {name}")
    blobs = snapshot.parent.parent / "blobs"
    linked = place.is_symlink() and snapshot.parent.name == "snapshots"
    return target if linked and target.parent == blobs else place


def _name(folder: Path) -> str:
    """What a table calls a model: of a cache of Hugging Face its name and revision."""
    place = folder.resolve()
    if place.parent.name != "snapshots":
        return place.name
    return f"{place.parent.parent.name.rpartition('--')[2]}@{place.name[:7]}"


def beside(folder: Path, tasks: Sequence[Task], told: Told) -> list[Summary]:
    """What each task comes to for the model in a folder. Raises as load does, and RequestUnfit."""
    scorer, name, rows = load(folder), _name(folder), list[Summary]()
    for task in tasks:
        given = list[Answer]()
        for answer in answers(scorer, [example.request for example in task.examples]):
            if isinstance(answer, Likelihoods) and not all(map(math.isfinite, answer.nats)):
                detail = f"its answers to the task {task.name} are not finite"
                raise ForeignUnfit(path=folder, detail=detail)
            given.append(answer)
            told(f"{task.name} of {name}", len(given), len(task.examples))
        metric, numbers = task.rated(given)
        lines = [Line(*row) for row in zip(task.examples, given, map(dict, numbers), strict=True)]
        entry = {
            "step": 0,
            "task": task.name,
            "metric": metric,
            "numbers": numbers[0],
            "harness": task.harness[0],
            "version": task.harness[1],
            "settings": task.settings,
        }
        rows.append(summary(entry, lines)._replace(foreign=name))
    return rows


def _document_token(config: Mapping[str, Any], path: Path) -> int:
    """What stands for no text, as lm-eval takes it: the token that begins a text, else the one that
    ends it."""
    for key in ("bos_token_id", "eos_token_id"):
        told = config.get(key)
        told = told[0] if isinstance(told, list) and told else told
        if type(told) is int:
            return told
    raise ForeignUnfit(path=path, detail="it names no bos_token_id and no eos_token_id")


def _tied(config: Mapping[str, Any], places: Mapping[str, Tensors]) -> bool:
    """As the file says; older files do not, and then the weights do."""
    told = config.get("tie_word_embeddings")
    return told if isinstance(told, bool) else "lm_head.weight" not in places


def _shape(config: Mapping[str, Any], tied: bool, path: Path) -> Model:
    config = _ELSEWHERE | {"num_key_value_heads": config.get("num_attention_heads")} | dict(config)
    if missing := [key for key in _FIELDS.values() if config.get(key) is None]:
        raise ForeignUnfit(path=path, detail=f"it does not say {missing[0]}")
    families = {kind.model_fields["family"].default: kind for kind in get_args(get_args(Family)[0])}
    family = config.get("model_type")
    if not isinstance(family, str) or family not in families:
        detail = (
            f"model_type is {_short(family)}, and the families are {', '.join(sorted(families))}"
        )
        raise ForeignUnfit(path=path, detail=detail)
    fields = {name: config[key] for name, key in _FIELDS.items()}
    fields |= {"family": family, "tied": tied, "rope_theta": _theta(config, path)}
    if "window" in families[family].model_fields:
        fields["window"] = config.get("sliding_window") or config["max_position_embeddings"]
    try:
        return TypeAdapter(Family).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1]) if first["loc"] else ""
        detail = f"{_FIELDS.get(name, name)}: {first['msg']}"
        raise ForeignUnfit(path=path, detail=detail) from error


def _theta(config: Mapping[str, Any], path: Path) -> float:
    """The base of the rotary embedding, which has been stored in three ways. Angles that are scaled
    are no arithmetic of ours."""
    told: list[Mapping[str, Any]] = []
    for own in (config.get("rope_parameters"), config.get("rope_scaling")):
        if isinstance(own, dict):  # One for all layers, or one for each type of layer.
            of_layers = [part for part in own.values() if isinstance(part, dict)]
            told += of_layers or [own]
    for part in told:
        if (kind := part.get("rope_type", part.get("type", "default"))) != "default":
            raise ForeignUnfit(
                path=path, detail=f"its rotary embedding is of the type {_short(kind)}"
            )
    thetas = [part["rope_theta"] for part in (config, *told) if "rope_theta" in part]
    for theta in thetas:
        if type(theta) not in (int, float) or theta != thetas[0] or not 0 < theta < _THETA:
            raise ForeignUnfit(path=path, detail=f"its rope_theta are {_short(thetas)}")
    return float(thetas[0]) if thetas else 10000.0


def _require_known(config: Mapping[str, Any], ours: Mapping[str, Any], path: Path) -> None:
    """Raises ForeignUnfit for the first key that says something other than what is computed."""
    windowed = "sliding_window" in ours
    for key, told in config.items():
        if key in _NO_MATTER or told is None or (key == "sliding_window" and not windowed):
            continue
        if key == "layer_types" and key not in ours and _are_full(told):
            continue
        if key not in ours and told is not False:
            raise ForeignUnfit(path=path, detail=f"its {key} ({_short(told)}) is not known here")
        if key in ours and told != ours[key]:
            detail = f"its {key} is {_short(told)}, and here the family has {_short(ours[key])}"
            raise ForeignUnfit(path=path, detail=detail)


def _are_full(layers: object) -> bool:
    return isinstance(layers, list) and all(layer == "full_attention" for layer in layers)


def _places(folder: Path) -> Iterator[tuple[str, Tensors]]:
    """Every tensor's name, and the file that holds it."""
    index = folder / _INDEX
    if not index.is_file():
        whole = Tensors(_own(folder, huggingface.WEIGHTS))
        yield from ((name, whole) for name in whole.entries)
        return
    told = files.read_json(_own(folder, _INDEX)).get("weight_map")
    listed = told if isinstance(told, dict) else {}
    if not listed or not all(map(_is_plain, listed.values())):
        raise ForeignUnfit(path=index, detail="its weight_map does not name files beside it")
    opened = {name: Tensors(_own(folder, name)) for name in sorted({*listed.values()})}
    for tensor, name in listed.items():
        if tensor not in opened[name].entries:
            raise ForeignUnfit(path=index, detail=f"{name} has no tensor {tensor!r}")
        yield tensor, opened[name]


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and _PLAIN(name) is not None


def _short(told: object) -> str:
    """A value of others in a message. One of thousands of digits cannot even be written."""
    try:
        written = repr(told)
    except ValueError:
        return "a number without end"
    return written if len(written) <= 60 else f"{written[:60]}…"


def _filled(model: Decoder, places: Mapping[str, Tensors], folder: Path) -> Decoder:
    own, left = dict(model.named_parameters()), set(places)
    left -= {name for name in left if name.endswith(_STALE)}
    if model.shape.tied:
        left.discard("lm_head.weight")  # Stored again by some writers; the table is what counts.
    for name, parameter in own.items():
        stored = places.get(name)
        shape = stored.entries[name][1] if stored else None
        if stored is None or tuple(shape or ()) != tuple(parameter.shape):
            detail = f"its weight {name} has the shape {shape}, and here {tuple(parameter.shape)}"
            raise ForeignUnfit(path=folder, detail=detail if stored else f"it has no {name}")
        if stored.entries[name][0] not in _TYPES:
            detail = f"its weight {name} is of the type {stored.entries[name][0]}"
            raise ForeignUnfit(path=folder, detail=detail)
        with torch.no_grad():
            parameter.copy_(tensor_of(stored.array(name)))
        if not torch.isfinite(parameter).all():
            raise ForeignUnfit(path=folder, detail=f"its weight {name} has numbers that are none")
        left.discard(name)
    if left:
        detail = f"its weight {min(left)!r} is not one that this family has"
        raise ForeignUnfit(path=folder, detail=detail)
    return model


def _require_memory(shape: Model, vocabulary: int, folder: Path) -> None:
    needed, found = FLOAT * counts.parameters(shape, vocabulary).total, machine.available()
    if needed > found:
        what = f"The model in {folder}"
        raise MemoryTooSmall(what=what, needed=f"{needed / 1e9:,.1f}", found=f"{found / 1e9:,.1f}")
