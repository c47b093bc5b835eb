"""The class of the Model Openness Framework, computed from what a release holds.

White and others, "The Model Openness Framework: Promoting Completeness and Openness for
Reproducibility, Transparency, and Usability in Artificial Intelligence", 2024 (arXiv:2403.13784):
a class needs all components of its own and of the classes below, each under an open licence. A
research paper counts as a technical report. The file has the form of the framework's own tool
(github.com/lfai/model_openness_tool), version 1.0."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pellucid.cards.facts import PUBLISHER, RECORD, Facts
from pellucid.cards.licences import is_open
from pellucid.cards.yaml import dumped
from pellucid.store import layout

VERSION, DATED = "1.0", "2024-12-15"  # Of the framework.
CLASSES = {1: "Class I: Open Science Model", 2: "Class II: Open Tooling Model"}
CLASSES |= {3: "Class III: Open Model", 0: "no class"}
NEXT = {0: "Class III", 3: "Class II", 2: "Class I", 1: ""}
_CODE, _LOCK = layout.CODE, layout.ENVIRONMENT
REPORT, PAPER = "Technical report", "Research paper"


class Component(NamedTuple):
    """A component of the framework: the class that asks for it, and where it is in this release.
    place: "" where it is not there; licence: None where nobody knows it, or where there are
    several, which are open or not."""

    name: str
    of: int
    required: bool
    place: str
    licence: str | None
    open: bool
    words: str
    basis: str

    @property
    def counts(self) -> bool:
        return bool(self.place) and self.open


class Openness(NamedTuple):
    """Which class a release has, and what it lacks for the next one, in words."""

    number: int  # 0: none.
    lacks: list[str]
    components: list[Component]


def openness(facts: Facts) -> Openness:
    """Of a trained run. Raises what its readers raise."""
    components = _components(facts)
    number, lacks = 0, list[str]()
    for asked in (3, 2, 1):
        lacks = [_lack(one) for one in _missing(components, asked)]
        if lacks:
            break
        number = asked
    return Openness(number, lacks, components)


def _missing(components: list[Component], asked: int) -> list[Component]:
    """What a class asks for and the release lacks."""
    there = {one.name for one in components if one.counts}
    lacks = [one for one in components if one.required and one.of >= asked and not one.counts]
    return [one for one in lacks if one.name != REPORT or PAPER not in there]


def _lack(component: Component) -> str:
    if not component.place:
        return f"{component.name}, which is not here"
    licence = component.licence or "licences that are not all known and open"
    return f"{component.name} under an open licence, and has {licence}"


def _components(facts: Facts) -> list[Component]:
    own, basis = facts.licence.value, facts.licence.basis
    folder, said = facts.folder, facts.said
    stored = len([*facts.stored()])

    def ours(name: str, of: int, place: str, words: str, required: bool = True) -> Component:
        here = place if _is_there(folder, place) else ""
        return Component(name, of, required, here, own, is_open(own or ""), words, basis)

    def code(name: str, of: int, words: str) -> Component:
        here = _CODE if _is_there(folder, _CODE) else ""
        return Component(name, of, True, here, "Apache-2.0", True, words, RECORD)

    def told(name: str, of: int, paper: Any, words: str) -> Component:
        licence, place = paper.licence, paper.url or ""
        here = place if "://" in place or _is_there(folder, place) else ""
        return Component(name, of, True, here, licence, is_open(licence or ""), words, PUBLISHER)

    named, _ = facts.licences
    licence = named[0].name if len(named) == 1 else None
    validated = bool(facts.status["validation"])
    held = "data/documents/" if _is_there(folder, "data/documents/manifest.json") else ""
    checkpoints = f"{layout.ANCHORS}/" if stored else ""

    def texts(name: str, of: int, place: str, words: str) -> Component:
        return Component(name, of, True, place, licence, facts.texts_are_open, words, RECORD)

    return [
        code("Model architecture", 3, "pellucid/families in the archive of the code that ran"),
        ours("Model parameters (Final)", 3, "model.safetensors", "weights after the last step"),
        ours("Model card", 3, "README.md", "from the record"),
        ours("Data card", 3, "cards/dataset.md", "from the record"),
        told(REPORT, 3, said.report, "about the model"),
        ours(
            "Evaluation results",
            3,
            "metrics/validation.parquet" if validated else "",
            "validations, and what evaluations/ holds",
        ),
        ours("Sample model outputs", 3, "site/data/samples.js", "over the steps", False),
        code("Training code", 2, "pellucid/train in the archive of the code that ran"),
        code("Inference code", 2, "pellucid/look in the archive of the code that ran"),
        code("Evaluation code", 2, "pellucid/evaluate in the archive of the code that ran"),
        texts("Evaluation data", 2, held if validated else "", "the split validation"),
        ours("Supporting libraries and tools", 2, _LOCK, "by name and version", False),
        texts("Datasets", 1, held, "all texts that the model was trained on"),
        code("Data preprocessing code", 1, "pellucid/data in the archive of the code that ran"),
        ours("Model metadata", 1, layout.LEDGER, "recipe.toml and the record of all steps", False),
        ours(
            "Model parameters (Intermediate)",
            1,
            checkpoints,
            f"full states of {stored:,} steps before the last; replay gives all others",
        ),
        told(PAPER, 1, said.paper, "about the model"),
    ]


def _is_there(folder: Path, place: str) -> bool:
    # The data card is a card like this one: it is written with it.
    return place == "cards/dataset.md" or (bool(place) and (folder / place).exists())


def card(facts: Facts) -> str:
    """cards/mof.yaml. The class stands in comments: the form has no field for it."""
    found, said = openness(facts), facts.said
    release = {
        "name": facts.title(),
        "version": str(facts.version().value),
        "date": facts.date().value,
        "type": "language",
        "architecture": "transformer decoder",
        "treatment": "pre-trained",
        "origin": facts.recipe.name,
        "producer": said.publisher.name or "",
        "contact": said.publisher.contact or "",
        "repository": said.release.repository or "",
        "huggingface": "",
        "license": _distribution(facts),
        "components": [_described(one) for one in found.components if one.place],
    }
    framework = {"name": "Model Openness Framework", "version": VERSION, "date": DATED}
    lines = [f"# {CLASSES[found.number]}, computed by pellucid from what this release holds."]
    lines += [f"# {NEXT[found.number]} needs {one}." for one in map(_comment, found.lacks)]
    return "\n".join([*lines, dumped({"framework": framework, "release": release})])


def _comment(text: str) -> str:
    """A string of others on a line of comments."""
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text)


def _distribution(facts: Facts) -> dict[str, Any]:
    if not facts.licence.value:
        return {}
    return {"distribution": {"name": facts.licence.value, "path": "LICENSE"}}


def _described(component: Component) -> dict[str, str]:
    return {
        "name": component.name,
        "description": component.words,
        "component_path": component.place,
        "license": component.licence or "",
        "license_path": "LICENSE" if component.licence and component.basis != PUBLISHER else "",
    }
