"""The README of a release, from its record alone: the same run gives the same page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pellucid import __version__
from pellucid.look.status import LOSSY, status
from pellucid.recipe import Recipe
from pellucid.recipe import load as load_recipe
from pellucid.store import files, layout, tensors


def readme(folder: Path) -> str:
    recipe, about = load_recipe(folder), status(folder)
    documents = files.read_json(folder / "data/documents/manifest.json")
    sections = [
        _card(recipe, documents),
        _head(recipe, about, folder),
        _use(recipe),
        _check(about),
        _sources(documents),
        _streams(folder),
        _results(about),
        _contents(),
    ]
    return "\n".join(section.rstrip("\n") + "\n" for section in sections)


def escape(text: object) -> str:
    """Text that cannot become Markdown or HTML: a source's name or licence is somebody else's string."""
    plain = re.sub(r"[\x00-\x1f\x7f]", " ", str(text))
    return re.sub(r"([\\`*_{}\[\]<>()#!|&~$])", lambda match: f"&#{ord(match.group())};", plain)


def _card(recipe: Recipe, documents: dict[str, Any]) -> str:
    """The front matter that a model hub reads."""
    return "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [pellucid, llama]\n---\n"


def _head(recipe: Recipe, about: dict[str, Any], folder: Path) -> str:
    weights = tensors.Tensors(folder / "model.safetensors")
    parameters = sum(weights.array(name).size for name in weights.entries)
    last = about["validation"][-1]
    return f"""# {escape(recipe.name)}

A language model of {parameters:,} parameters, trained in the open with Pellucid {__version__}. This folder holds
everything: the texts, the tokens and their order, every step's record, the full training states, the checkpoints
and the numbers. Any of it can be checked, and any step can be computed again.

| | |
|---|---|
| steps | {about["steps"]:,} |
| tokens trained on | {int(about["tokens"]):,} |
| validation | {last["loss"]:.4f} nats per token, {last["bits_per_byte"]:.4f} bits per byte |
| head of the ledger | `{about["head"]}` |
| digest of the weights | `{about["weights"]}` |
| data root | `{about["data"]}` |
| arithmetic | {recipe.train.arithmetic}, {recipe.train.precision} |
"""


def _use(recipe: Recipe) -> str:
    within = (
        "\nThis model was trained with attention kept within documents; transformers attends across all it is given.\n"
        if recipe.model.attention == "within"
        else ""
    )
    return f"""## Load it

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")  # or "checkpoints/step0", …
tokenizer = AutoTokenizer.from_pretrained(".")
```
{within}"""


def _check(about: dict[str, Any]) -> str:
    step = max(1, about["steps"] // 2)
    traced = 'pellucid where . "some text"         # is it in the training texts, and which steps saw it?\n'
    traced = traced if about["stages"]["index"] else ""
    return f"""## Check it

```
pip install pellucid
pellucid verify .                   # every file, the chain, the data, every batch, every number: no torch needed
pellucid audit . --step {step}        # computes step {step} again from the nearest anchor and compares its bits
pellucid show . step {step}           # the texts that step {step} trained on, and their losses
pellucid export . --step {step} --as hf --to DIR
{traced}```

`record/ledger.jsonl` is what the run computed, each entry naming the hash of the one before it; `record/journal.jsonl`
is what happened. `record/code.tar` is the code that ran and `record/environment.lock` the packages under it. Native
arithmetic gives equal bits on an equal stack: the ledger's first entry names it.
"""


def _sources(documents: dict[str, Any]) -> str:
    lines = [
        "## Data",
        "",
        "| source | licence | documents | bytes | characters | left out |",
        "|---|---|---|---|---|---|",
    ]
    for one in documents["sources"]:
        dropped = ", ".join(f"{escape(reason)} {count:,}" for reason, count in one["dropped"].items()) or "nothing"
        counts = f"{one['documents']:,} | {int(one['bytes']):,} | {int(one['characters']):,}"
        lines.append(f"| {escape(one['name'])} | {escape(one['licence'])} | {counts} | {dropped} |")
    lines += [
        "",
        f"{documents['documents']:,} documents in all, with text, origin and licence of each in `data/documents`.",
    ]
    return "\n".join(lines) + "\n"


def _streams(folder: Path) -> str:
    lines = ["| source | split | tokens | sequences | unused tokens at the end |", "|---|---|---|---|---|"]
    for one in files.read_json(folder / layout.DATA_MANIFEST)["streams"]:
        counts = f"{int(one['tokens']):,} | {one['sequences']:,} | {one['unused_tokens']:,}"
        lines.append(f"| {escape(one['source'])} | {one['split']} | {counts} |")
    return "\n".join(lines) + "\n"


def _results(about: dict[str, Any]) -> str:
    lines = [
        "## Results",
        "",
        "Validation, from the ledger:",
        "",
        "| step | nats per token | bits per byte |",
        "|---|---|---|",
    ]
    lines += [f"| {one['step']:,} | {one['loss']:.4f} | {one['bits_per_byte']:.4f} |" for one in about["validation"]]
    if not about["lossless"]:
        lines += ["", LOSSY]
    return "\n".join(lines) + "\n"


def _contents() -> str:
    return """## What lies where

| path | what |
|---|---|
| `config.json`, `model.safetensors`, `tokenizer.json` … | the final checkpoint |
| `LICENSE` | of the model and its records; each text keeps its own, named beside it |
| `recipe.toml` | everything that can change the bits of this run |
| `record/` | ledger, journal, the code that ran, its lock file |
| `checkpoints/stepK/` | complete Hugging Face folders |
| `anchors/stepK/` | full training states: weights and optimizer |
| `data/documents/` | the texts, as Parquet |
| `data/shards/` | the tokens, little-endian, with document tables |
| `metrics/` | steps, sequences, segments, sources, microbatches, validation, as Parquet |
| `trace/` | the index of the texts, where there is one |
| `manifest.jsonl` | path, size and SHA-256 of every file |
"""
