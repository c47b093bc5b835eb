"""Where a run stands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pellucid.data import stage, tokenizer
from pellucid.errors import RunMissing
from pellucid.forked import fork_of
from pellucid.measured import stored
from pellucid.recipe import FILE
from pellucid.recipe import load as load_recipe
from pellucid.record import digests
from pellucid.record.guards import in_words
from pellucid.recorder import LN2
from pellucid.store import files, layout
from pellucid.store.ledger import begun

_STAGES = {
    "documents": "data/documents/manifest.json",
    "tokenizer": "data/tokenizer/manifest.json",
    "shards": layout.DATA_MANIFEST,
    "index": f"{layout.TRACE}/{stage.MANIFEST}",
}


def status(folder: Path) -> dict[str, Any]:
    """What the record says of it. Raises RunMissing and what the readers raise."""
    if not (folder / FILE).is_file():
        raise RunMissing(path=folder)
    recipe = load_recipe(folder)
    about: dict[str, Any] = {
        "run": recipe.name,
        "folder": str(folder),
        "sealed": (folder / layout.MANIFEST).is_file(),
        "stages": {name: (folder / path).is_file() for name, path in _STAGES.items()},
        "fork": fork_of(recipe, None),
        "steps": recipe.train.steps,
        "steps_done": 0,
        "finished": False,
        "tokens": "0",
        "head": None,
        "weights": None,
        "loss": None,
        "validation": [],
        "incidents": [],
        "lossless": tokenizer.is_lossless(folder, recipe),
        "anchors": layout.steps_in(folder / layout.ANCHORS),
        "checkpoints": layout.steps_in(folder / layout.CHECKPOINTS),
    }
    if about["stages"]["shards"]:
        about["data"] = stage.digest_in(
            files.read_json(path := folder / layout.DATA_MANIFEST), "root", path
        )
    if (ledger := begun(folder)) is None:
        return about
    entry = ledger.step(ledger.steps_done)
    rare: dict[str, list[dict[str, Any]]] = {"validation": [], "incident": []}
    for body in ledger.every(*rare):  # One pass: it may come over the network.
        rare[body["kind"]].append(body)
    return about | {
        "fork": fork_of(recipe, entry),
        "steps_done": ledger.steps_done,
        "finished": ledger.ended,
        "tokens": entry.get("tokens", "0"),
        "head": ledger.head,
        "weights": entry["weights"],
        "loss": digests.bits_float(entry["loss"]) if "loss" in entry else None,
        "validation": [
            validation(body) for body in rare["validation"] if body["sources"] and ledger.kept(body)
        ],
        "incidents": [
            {
                "step": body["step"],
                "rule": body["rule"],
                "action": body["action"],
                "why": in_words(body),
            }
            for body in rare["incident"]
        ],
    }


def printed(folder: Path) -> dict[str, Any]:
    """What `pellucid status --json` prints: the same, and how many evaluations the run keeps.
    Raises as status."""
    return status(folder) | {"evaluations": stored.count(folder)}


def validation(body: dict[str, Any]) -> dict[str, Any]:
    """A validation entry in numbers: over all sources, and for each."""
    sources = [_source(source) for source in body["sources"]]
    nats = math.fsum(source["loss_sum"] for source in sources)
    tokens, size = (
        sum(source["tokens"] for source in sources),
        sum(source["bytes"] for source in sources),
    )
    return {
        "step": body["step"],
        "loss": nats / tokens,
        "bits_per_byte": nats / LN2 / size,
        "sources": [
            {key: value for key, value in source.items() if key != "loss_sum"} for source in sources
        ],
    }


def _source(source: dict[str, Any]) -> dict[str, Any]:
    nats, tokens, size = (
        digests.bits_float(source["loss_sum"]),
        int(source["tokens"]),
        int(source["bytes"]),
    )
    return {
        "source": source["source"],
        "tokens": tokens,
        "bytes": size,
        "loss_sum": nats,
        "loss": nats / tokens,
        "bits_per_byte": nats / LN2 / size,
    }
