"""cards/release.json: what a machine may want to know of a release, each value with what it rests
on."""

from __future__ import annotations

from typing import Any

from pellucid.cards.facts import BASES, MEASURED, RECORD, Facts, Value
from pellucid.cards.openness import CLASSES, NEXT, openness
from pellucid.data import tokenizer
from pellucid.store import files


def card(facts: Facts, version: int) -> bytes:
    """version: of the cards, by which they are checked."""
    values = {
        "cards": version,
        "bases": BASES,
        "model": _model(facts),
        "training": _training(facts),
        "data": _data(facts),
        "evaluations": facts.evaluations,
        "licence_conflicts": facts.conflicts,
        "openness": _openness(facts),
        "publisher": _spoken(facts.said.model_dump(exclude_none=True)),
        "not_said": facts.said.unsaid(),
    }
    return files.json_bytes(values)


def _on(basis: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: Value(value, basis).as_json() for name, value in values.items()}


def _model(facts: Facts) -> dict[str, Any]:
    model = facts.recipe.model
    proved = {
        "name": facts.recipe.name,
        "family": model.family,
        "parameters": facts.parameters,
        "layers": model.layers,
        "width": model.width,
        "context": model.context,
        "vocabulary": tokenizer.recorded(facts.folder).vocabulary,
        "weights": facts.status["weights"],
    }
    return _on(RECORD, proved) | {"licence": facts.licence.as_json()}


def _training(facts: Facts) -> dict[str, Any]:
    about, (began, ended) = facts.status, facts.noted
    proved = {
        "head": about["head"],
        "recipe": facts.recipe.digest().hex(),
        "steps": about["steps_done"],
        "tokens": int(about["tokens"]),
        "arithmetic": facts.recipe.train.arithmetic,
        "precision": facts.recipe.train.precision,
        "parent": facts.recipe.fork.parent or None,
        "checkpoints": about["checkpoints"],
        "validation": about["validation"],
        "incidents": len(about["incidents"]),
    }
    return _on(RECORD, proved) | _on(MEASURED, {"began": began, "ended": ended})


def _data(facts: Facts) -> dict[str, Any]:
    manifest, (named, others) = facts.documents.manifest, facts.licences
    proved = {
        "root": facts.status["data"],
        "documents": manifest["documents"],
        "bytes": int(manifest["bytes"]),
        "licences": [one._asdict() for one in named],
        "other_licences": others.documents if others else 0,
        "unknown_licences": facts.unknown,
        "sources": [
            {
                "name": source["name"],
                "licence": source["licence"],
                "documents": source["documents"],
                "bytes": int(source["bytes"]),
                "left_out": source["dropped"],
            }
            for source in manifest["sources"]
        ],
        "files": facts.parts,
    }
    return _on(RECORD, proved)


def _openness(facts: Facts) -> dict[str, Any]:
    found = openness(facts)
    return {
        "framework": "Model Openness Framework 1.0",
        "class": found.number or None,
        "name": CLASSES[found.number],
        "next_class": NEXT[found.number],
        "next_class_needs": found.lacks,
        "components": [one._asdict() for one in found.components],
    }


def _spoken(values: dict[str, Any]) -> dict[str, Any]:
    """What is said, without sections in which nothing is."""
    kept = {
        name: _spoken(value) if isinstance(value, dict) else value for name, value in values.items()
    }
    return {name: value for name, value in kept.items() if value not in ({}, ())}
