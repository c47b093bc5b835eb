"""New runs: a commented recipe from a preset and the sources named."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import tomlkit

from pellucid.data.sources import guess
from pellucid.errors import CommandInvalid
from pellucid.recipe import FILE, parse, with_settings
from pellucid.store import files


class Preset(NamedTuple):
    """A model's shape and a schedule that suits it; the name is its size at the preset's vocabulary."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocabulary: int
    context: int
    batch: int
    microbatch: int
    steps: int
    lr: float


PRESETS = {
    "1M": Preset(4, 128, 4, 4, 352, 2048, 256, 16, 16, 600, 4e-3),
    "3M": Preset(6, 192, 6, 6, 512, 4096, 256, 16, 16, 600, 3e-3),
    "10M": Preset(8, 256, 4, 4, 704, 8192, 512, 16, 8, 2000, 2e-3),
    "30M": Preset(8, 512, 8, 8, 1408, 8192, 512, 32, 8, 5000, 1e-3),
    "100M": Preset(12, 768, 12, 12, 2048, 32768, 1024, 128, 8, 20000, 6e-4),
    "300M": Preset(24, 1024, 16, 8, 2816, 32768, 2048, 256, 8, 40000, 4e-4),
    "1B": Preset(20, 2048, 16, 8, 5632, 50304, 2048, 512, 8, 100000, 3e-4),
}


def new(folder: Path, data: list[str], preset: str, settings: list[str]) -> None:
    """Make a run folder with a recipe. Raises FolderTaken, CommandInvalid, and what a recipe raises."""
    if preset not in PRESETS:
        raise CommandInvalid(verb="new", word=preset, detail=f"the presets are {', '.join(PRESETS)}")
    if (folder / FILE).exists():
        files.require_free(folder, "a run", f", or continue that run with: pellucid run {folder}")
    files.require_free(folder, "something else")
    content = with_settings(recipe_text(folder, data, PRESETS[preset]).encode(), settings, folder / FILE, "new")
    parse(content, folder / FILE)
    with files.named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files.write_bytes(folder / FILE, content)


def recipe_text(folder: Path, data: list[str], preset: Preset) -> str:
    sources = [guess(word) for word in data]
    names: set[str] = set()
    for one in sources:
        base, number = one["name"], 1
        while one["name"] in names:
            number += 1
            one["name"] = f"{base}-{number}"
        names.add(one["name"])
    name = guess(str(folder.resolve()))["name"]
    fasta = any(one["format"] == "fasta" for one in sources)
    return _TEMPLATE.format(
        name=name,
        sources="\n".join(_source(one) for one in sources),
        # Records of DNA and protein: a token a letter, and documents small enough to be split.
        tokenizer_kind="characters" if fasta else "bpe",
        max_document_characters=8192 if fasta else 1_000_000,
        validation_every=max(1, preset.steps // 4),
        anchors_every=max(1, preset.steps // 8),
        warmup=preset.steps // 10,
        **preset._asdict(),
    )


def _source(one: dict[str, str]) -> str:
    path = one["path"] if one["format"] == "package" else str(Path(one["path"]).resolve())
    lines = [
        "[[data.sources]]",
        f"name = {tomlkit.string(one['name']).as_string()}",
        f"format = {tomlkit.string(one['format']).as_string()}             # text, jsonl, lines, fasta or package",
        f"path = {tomlkit.string(path).as_string()}",
        'licence = "unknown"          # What the texts may be used under; a package names its own.',
        "weight = 1                   # How often its sequences stand in one epoch.",
        "",
    ]
    return "\n".join(lines)


_TEMPLATE = """\
# Everything that can change the bits of this run. Paths and [placement] are not part of its digest.
# Change a field here, or with: pellucid run --set train.lr=1e-3
version = 3
name = "{name}"
seed = 1                     # Initial weights, order and salts follow from it.

[data]
pipeline = 2                 # How sources become documents; 1 is that of recipes without this field.
validation_per_10000 = 100   # Documents kept for validation, chosen by their hash.
max_document_characters = {max_document_characters}
invalid_utf8 = "replace"     # or "drop": the whole document. Both are counted.
token_type = "uint16"        # "uint32" for a vocabulary over 65536.
# root = "…"                 # Pins the data: other texts are refused before training.

{sources}
[tokenizer]
kind = "{tokenizer_kind}"    # bpe (trained on the data), bytes, characters, or file (with path = "tokenizer.json").
vocabulary = {vocabulary}
max_pretoken = 24            # Characters: longer words and runs are cut.

[model]                      # A Llama-family decoder.
layers = {layers}
width = {width}
heads = {heads}
kv_heads = {kv_heads}
mlp_width = {mlp_width}
context = {context}          # Tokens a sequence holds.
tied = true                  # Input and output embeddings are one matrix.
attention = "across"         # "within": a token attends only to its own document.

[train]
arithmetic = "portable"      # The same bits on every CPU; "native": PyTorch's own, for GPUs and bf16.
precision = "fp32"           # "bf16" on CUDA, with native arithmetic.
steps = {steps}
batch = {batch}              # Sequences a step.
microbatch = {microbatch}    # Sequences a forward and backward pass.
lr = {lr}
schedule = "cosine"          # cosine, linear, or wsd (warmup, stable, decay = steps of decay).
warmup = {warmup}
final_lr = 0.1               # As a fraction of lr.
beta1 = 0.9
beta2 = 0.95
weight_decay = 0.1
clip = 1.0

[validation]
every = {validation_every}
tokens = 32768               # Of each source: whole documents until at least so many.

[checkpoints]
every = {validation_every}

[record]
commitment = "steps"         # "microbatches": every microbatch's gradient is hashed too.

[guards]                     # Spikes are told from the recorded losses; what follows is in the ledger.
loss = {{ action = "note" }}   # note, stop, or rollback: go `back` steps and pass their batches over.
not_finite = "stop"          # or "rollback"
back = 50

[placement]
threads = 0                  # 0: one a core.
device = "cpu"
anchors = {{ every = {anchors_every}, powers_of_two = true }}   # Which full states are stored.
trace = true                 # The index for `where` and `trace`: four bytes a token.
"""
