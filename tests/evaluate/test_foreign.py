"""Models of other makers: the log-likelihoods of transformers, and what is not known is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pellucid import machine
from pellucid.data.tokenizer import FILE, Tokenizer
from pellucid.errors import ForeignUnfit, FormatInvalid, MemoryTooSmall, TokenizerInvalid
from pellucid.evaluate import foreign
from pellucid.evaluate.scoring import Asked
from pellucid.evaluate.task import Task
from pellucid.record.requests import Choices, Example
from pellucid.store import layout
from tests.conftest import pellucid

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 5},
    "olmo2": {"tie_word_embeddings": True},
    "olmo3": {"sliding_window": 5, "rope_parameters": None},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
}


def folder_of(place: Path, run: Path, kind: str, **changes: Any) -> Path:
    """A model of transformers with weights that are not all alike, and a run's tokenizer."""
    content = (run / FILE).read_bytes()
    own = Tokenizer(content, run / FILE)
    fields = {**SMALL, **KINDS[kind], **changes, "vocab_size": own.vocabulary}
    fields |= {"bos_token_id": own.document_token, "eos_token_id": own.document_token}
    config = transformers.AutoConfig.for_model(kind, **fields)
    torch.manual_seed(1)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(place)
    (place / FILE).write_bytes(content)
    return place


@pytest.fixture(scope="module")
def llama(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("foreign") / "llama", finished, "llama")


@pytest.mark.parametrize("kind", KINDS)
def test_its_log_likelihoods_are_those_of_transformers(
    finished: Path, tmp_path: Path, kind: str
) -> None:
    place = folder_of(tmp_path / kind, finished, kind)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    tokens = np.random.default_rng(2).integers(0, model.config.vocab_size, 50).tolist()
    with torch.no_grad():
        logs = model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    expected = [logs[at - 1, tokens[at]].item() for at in range(20, 50)]
    scorer = foreign.load(place)
    asked = [Asked(tokens[:at], [tokens[at : at + 1]]) for at in range(20, 50)]
    found = [score.nats for (score,) in scorer.likelihoods(asked)]
    assert found == pytest.approx(expected, abs=1e-4)


def test_weights_in_bfloat16_and_in_several_files(finished: Path, tmp_path: Path) -> None:
    place = folder_of(tmp_path / "a", finished, "llama")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "b", max_shard_size="20KB")
    shutil.copy(place / FILE, tmp_path / "b" / FILE)
    assert (tmp_path / "b" / "model.safetensors.index.json").is_file()
    own = dict(foreign.load(tmp_path / "b")._model.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.equal(own[name], weight.float())


def test_rows_stand_beside_those_of_the_run(llama: Path, trained: Path) -> None:
    done = pellucid("evaluate", trained, "--tasks", "agreement", "--limit", "4", "--foreign", llama)
    assert "llama (foreign)" in done.stdout
    assert "foreign, not of the run and not kept: llama" in done.stdout
    words = ("evaluate", trained, "--tasks", "agreement", "--limit", "4", "--foreign", llama)
    told = json.loads(pellucid(*words, "--json").stdout)
    assert [row["foreign"] for row in told["evaluations"]] == [None, "llama"]
    assert not list((trained / layout.EVALUATIONS).parent.glob("00002*"))


def test_a_task_is_rated(llama: Path) -> None:
    task = Task(
        "t",
        "accuracy",
        [Example("a", Choices("the", (" cat", " dog")), 0, "a")],
        harness=("made", "1"),
    )
    (row,) = foreign.beside(llama, [task], lambda *_: None)
    assert (row.foreign, row.task, row.number) == ("llama", "t", "acc")


@pytest.mark.parametrize(
    ("key", "told", "named"),
    [
        ("model_type", "gpt2", "model_type"),
        ("hidden_size", None, "hidden_size"),
        ("hidden_size", 33, "hidden_size|width"),
        ("num_hidden_layers", "many", "num_hidden_layers"),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}, "rotary"),
        ("rope_theta", 77.0, "rope_theta"),
        ("rope_parameters", {"rope_theta": [1]}, "rope_theta"),
        ("hidden_act", "gelu", "hidden_act"),
        ("head_dim", 16, "head_dim"),
        ("attention_bias", True, "attention_bias"),
        ("logits_scaling", 2.0, "logits_scaling"),
        ("num_attention_heads", 8, "shape|head_dim"),
        ("vocab_size", 3, "vocab_size"),
        ("vocab_size", "all", "vocab_size"),
        ("bos_token_id", None, "bos_token_id"),
        ("model_type", [], "model_type"),
        ("layer_types", 5, "layer_types"),
        ("layer_types", [[1]], "layer_types"),
        ("vocab_size", 10**400, "vocab_size"),
        ("rope_theta", 10**400, "rope_theta"),
        ("rope_theta", -1.0, "rope_theta"),
    ],
)
def test_what_is_not_known_is_refused(
    llama: Path, tmp_path: Path, key: str, told: Any, named: str
) -> None:
    place = Path(shutil.copytree(llama, tmp_path / "copy"))
    config = json.loads((place / "config.json").read_bytes()) | {key: told}
    if key == "bos_token_id":
        config |= {"eos_token_id": None}
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(ForeignUnfit, match=named):
        foreign.load(place)


def test_weights_that_do_not_fit_are_refused(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = Path(shutil.copytree(llama, tmp_path / "copy"))
    weights = load_file(place / "model.safetensors")
    for changed, named in (
        (weights | {"model.norm.weight": torch.ones(31)}, "model.norm.weight"),
        ({name: w for name, w in weights.items() if name != "model.norm.weight"}, "it has no"),
        (weights | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}, "q_proj.bias"),
    ):
        save_file(changed, place / "model.safetensors")
        with pytest.raises(ForeignUnfit, match=named):
            foreign.load(place)
    stale = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    save_file(weights | stale, place / "model.safetensors")
    foreign.load(place)
    (place / "model.safetensors").unlink()
    with pytest.raises(ForeignUnfit, match="it has no "):
        foreign.load(place)


@pytest.mark.parametrize(
    "listed",
    [
        {},
        {"a": "../other/model.safetensors"},
        {"a": 3},
        {"a": ["model.safetensors"]},
        {"a": "a\0.safetensors"},
        {"a": "a" * 5000 + ".safetensors"},
        {"a": "\ud800.safetensors"},
        {"model.norm.weight": "model.safetensors", "b": "model.safetensors"},
        [],
    ],
)
def test_an_index_names_files_beside_it(llama: Path, tmp_path: Path, listed: Any) -> None:
    place = Path(shutil.copytree(llama, tmp_path / "copy"))
    index = place / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(ForeignUnfit):
        foreign.load(place)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(
    llama: Path, tmp_path: Path, number: float
) -> None:
    from safetensors.torch import load_file, save_file

    place = Path(shutil.copytree(llama, tmp_path / "copy"))
    weights = load_file(place / "model.safetensors")
    weights["model.norm.weight"][3] = number
    save_file(weights, place / "model.safetensors")
    with pytest.raises(ForeignUnfit, match=r"model\.norm\.weight"):
        foreign.load(place)
    weights["model.norm.weight"] = torch.ones(32, dtype=torch.float64)
    save_file(weights, place / "model.safetensors")
    with pytest.raises(ForeignUnfit, match="F64"):
        foreign.load(place)
    weights["model.norm.weight"] = torch.ones(32)
    weights["lm_head.weight"] = torch.full_like(weights["lm_head.weight"], 3e38)
    save_file(weights, place / "model.safetensors")
    task = Task(
        "t",
        "accuracy",
        [Example("a", Choices("the", (" cat", " dog")), 0, "a")],
        harness=("made", "1"),
    )
    with pytest.raises(ForeignUnfit, match="not finite"):
        foreign.beside(place, [task], lambda *_: None)


def test_too_little_memory_is_named(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available", lambda: 1000)
    with pytest.raises(MemoryTooSmall):
        foreign.load(llama)


def test_a_folder_that_is_not_there_is_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ForeignUnfit, match="there is no such folder"):
        foreign.load(tmp_path / "gpt2")
    with pytest.raises(ForeignUnfit, match="it has no config"):
        foreign.load(tmp_path)


def cache_of(place: Path, model: Path, revision: str = "0123456789abcdef") -> Path:
    """A model as huggingface_hub keeps it: files by their digest, and links to them."""
    blobs = place / "models--some--small" / "blobs"
    snapshot = place / "models--some--small" / "snapshots" / revision
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        shutil.copy(file, blobs / f"{number:064}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:064}")
    return snapshot


def test_a_cache_of_hugging_face_is_read(finished: Path, tmp_path: Path) -> None:
    plain = folder_of(tmp_path / "plain", finished, "llama")
    snapshot = cache_of(tmp_path / "hub", plain)
    examples = [Example("a", Choices("the", (" cat", " dog")), 0, "a")]
    asked = Task("some", "accuracy", examples, harness=("made", "1"))
    (known,) = foreign.beside(plain, [asked], lambda *_: None)
    (row,) = foreign.beside(snapshot, [asked], lambda *_: None)
    assert row._replace(foreign=known.foreign) == known
    assert row.foreign == "small@0123456"


@pytest.mark.parametrize("name", ["config.json", FILE, "model.safetensors"])
def test_a_link_that_leaves_the_cache_is_not_followed(
    finished: Path, tmp_path: Path, name: str
) -> None:
    plain = folder_of(tmp_path / "plain", finished, "llama")
    snapshot = cache_of(tmp_path / "hub", plain)
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(plain / name)
    with pytest.raises((FormatInvalid, TokenizerInvalid), match="link"):
        foreign.load(snapshot)
    (plain / name).rename(plain / "elsewhere")
    (plain / name).symlink_to(plain / "elsewhere")
    with pytest.raises((FormatInvalid, TokenizerInvalid), match="link"):
        foreign.load(plain)
