"""What the pages need first: what the run is, how far it is, its data, and where the other data
files lie."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pellucid import huggingface
from pellucid.data import stage, tokenizer
from pellucid.data.documents import Documents
from pellucid.data.licences import licences
from pellucid.data.reasons import REASONS
from pellucid.errors import FormatInvalid
from pellucid.measured import stored
from pellucid.recipe import FILE, MAX_BYTES, Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import digests
from pellucid.site import curves, documents, pages, steps, validation
from pellucid.store import files, layout
from pellucid.store.ledger import begun

SCHEMA = 2  # Of all data files together, as publish writes them.
_LICENCES = 100
_COUNTS = ("tokens", "documents", "bytes", "blocks", "unused_tokens")  # Of a stream.


def overview(folder: Path, status: dict[str, Any], schema: int) -> dict[str, Any]:
    """All but what `corpus` tells. status: that of the run. Raises FormatInvalid."""
    recipe, ledger = load_recipe(folder), begun(folder)
    left_out = ("folder", "sealed")  # A site is made before its release is sealed.
    about = {name: told for name, told in status.items() if name not in left_out}
    about["validation"] = validation.told(about["validation"])
    about["evaluations"] = stored.count(folder)
    taken = max(0, about["steps_done"] - recipe.first)  # Of a fork that has not begun: none.
    return {
        "schema": schema,
        **about,
        "first": recipe.first,
        "recipe": files.read_bytes(folder / FILE, MAX_BYTES).decode("utf-8"),
        "recipe_digest": recipe.digest().hex(),
        "model": _model(recipe),
        "arithmetic": recipe.train.arithmetic,
        "precision": recipe.train.precision,
        "phases": [
            {
                "name": phase.name,
                "steps": phase.steps,
                "batch": phase.batch,
                "context": phase.context,
            }
            for phase in recipe.schedule.phases
        ],
        "genesis": ledger.genesis if ledger else None,
        "loader": huggingface.tokenizer_loader(recipe.model),
        "rollbacks": [
            {name: incident[name] for name in ("branch", "step", "to")}
            for incident in (ledger.rollbacks if ledger else [])
        ],
        "curves": curves.top(taken),
        "steps_per_pack": steps.per_pack(recipe.first, recipe.first + taken, schema),
        **pages.told(folder),
    }


def _model(recipe: Recipe) -> dict[str, Any]:
    model = recipe.model
    names = ("family", "layers", "width", "heads", "kv_heads", "mlp_width", "context")
    return {name: getattr(model, name) for name in names}


def states(folder: Path, validations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each stored state is in the ledger: its step, its weights' and its state's root."""
    bits = {one["step"]: one["bits_per_byte"] for one in validations}
    if (ledger := begun(folder)) is None:
        return []
    roots = {entry["step"]: entry["root"] for entry in ledger.of_kind("checkpoint")}
    places = {"checkpoint": layout.CHECKPOINTS, "anchor": layout.ANCHORS}
    there = {kind: set(layout.steps_in(folder / place)) for kind, place in places.items()}
    stored = {
        step: [kind for kind, steps in there.items() if step in steps]
        for step in set.union(*there.values())
        if ledger.first <= step <= ledger.steps_done
    }
    return [
        {
            "step": step,
            "kinds": kinds,
            "root": roots.get(step),
            "weights": entry["weights"],
            "state": entry["state"],
            "loss": digests.bits_float(entry["loss"]) if "loss" in entry else None,
            "bits_per_byte": bits.get(step),
        }
        for step, kinds in sorted(stored.items())
        for entry in [ledger.step(step)]
    ]


def corpus(folder: Path, schema: int = SCHEMA) -> dict[str, Any]:
    """The run's data, once they are made. Raises FormatInvalid."""
    opened, recipe = Documents.open(folder), load_recipe(folder)
    if not opened.count:
        place = folder / stage.DOCUMENTS / stage.MANIFEST
        raise FormatInvalid(path=place, detail="names no documents")
    found = licences(folder)
    common, others = found.commonest(_LICENCES)
    return {
        "documents": opened.count,
        "documents_per_pack": documents.per_pack(opened.count, schema),
        "parameters": _parameters(folder, recipe),
        "sources": [_source(folder, recipe, source) for source in opened.manifest["sources"]],
        "streams": _streams(folder),
        "licences": [licence._asdict() for licence in common],
        "other_licences": others._asdict() if others else None,
        "unknown_licences": found.unknown,
        "lengths": _lengths(opened),
    }


def _parameters(folder: Path, recipe: Recipe) -> int:
    """How many numbers the model learns or keeps, from its shape."""
    shapes = recipe.model.tensors(tokenizer.recorded(folder).vocabulary)
    return sum(math.prod(dims) for dims in shapes.values())


def _streams(folder: Path) -> list[dict[str, Any]]:
    """Those of the data's manifest, field by field."""
    path = folder / layout.DATA_MANIFEST
    streams = stage.list_in(stage.read_manifest(path, "data"), "streams", path)
    for stream in streams:
        for name in ("source", "split"):
            stage.text_in(stream, name, path)
        for name in _COUNTS:
            stage.count_in(stream, name, path)
        stage.digest_in(stream, "root", path)
    return [
        {name: stream[name] for name in ("source", "split", *_COUNTS, "root")} for stream in streams
    ]


def _source(folder: Path, recipe: Recipe, source: dict[str, Any]) -> dict[str, Any]:
    """A source of the documents' manifest and of the recipe, with the reasons for what was left out
    in words."""
    path = folder / stage.DOCUMENTS / stage.MANIFEST
    stage.text_in(source, "format", path)
    stage.count_in(source, "validation_documents", path)
    own = next((one for one in recipe.data.sources if one.name == source["name"]), None)
    if own is None:
        detail = f"names the source {source['name'][:64]!r}, and the recipe does not"
        raise FormatInvalid(path=path, detail=detail)
    reasons = [
        {"words": REASONS[name].words, "count": count, "kept": REASONS[name].kept}
        for name, count in source["dropped"].items()
    ]
    names = (
        "name",
        "licence",
        "format",
        "documents",
        "validation_documents",
        "bytes",
        "characters",
    )
    return {name: source[name] for name in names} | {
        "licence_by_record": bool(own.licence_key),
        "weight": own.weight,
        "reasons": reasons,
    }


def _lengths(opened: Documents) -> dict[str, list[int]]:
    """By source, how many documents have 1, 2 to 3, 4 to 7, … characters."""
    counts: dict[str, np.ndarray] = {}
    for part in opened.parts:
        own = counts.setdefault(part.source, np.zeros(64, np.int64))
        for group in range(part.groups):
            sizes = part.read(group, ["characters"]).column(0).to_numpy()
            own += np.bincount(np.log2(np.maximum(sizes, 1)).astype(np.int64), minlength=64)[:64]
    return {source: np.trim_zeros(own, "b").tolist() for source, own in counts.items()}
