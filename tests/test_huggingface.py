"""Our checkpoints in transformers: the same logits, the same tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pellucid import huggingface
from pellucid.data.tokenizer import Tokenizer
from pellucid.recipe import Model, load
from pellucid.replay import inputs as replay_inputs
from pellucid.replay.materialise import anchored_state
from pellucid.store import files

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("place", ["checkpoints/step0", "checkpoints/step6", "."])
def test_transformers_gives_our_logits(finished: Path, place: str) -> None:
    inputs = replay_inputs.load(finished, load(finished))
    step = {"checkpoints/step0": 0, "checkpoints/step6": 6, ".": 13}[place]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(finished / place, dtype=torch.float32)
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
    shape = Model(rope_theta=50000.0)
    described = huggingface.architecture(shape, 300, 0)
    config = huggingface.descriptions(described, "<|document|>", {})["config.json"]
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 50000.0
    files.write_json(tmp_path / "config.json", config)
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    assert theirs.rope_parameters == {"rope_theta": 50000.0, "rope_type": "default"}
    # What a checkpoint's root covers does not hold the repetition.
    assert "rope_parameters" not in described


def test_transformers_gives_our_tokens(finished: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(finished)
    ours = Tokenizer.load(finished)
    for text in ("light through clear water", "naïve café 東京  \n\tend", "", "x" * 100):
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text
    assert theirs.bos_token_id == theirs.eos_token_id == ours.document_token
