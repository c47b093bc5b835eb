"""The cards of a release, written and checked: all follow from the record and publisher.toml, so a
check makes them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pellucid.cards import citation, croissant, dataset, european, openness, publisher, release
from pellucid.cards.facts import Facts
from pellucid.errors import FormatInvalid, FormatTooNew
from pellucid.record.verdict import Problem
from pellucid.store import files, layout

VERSION = 1
RELEASE = f"{layout.CARDS}/release.json"  # Names the version that all cards were made by.
_LARGEST = 64 << 20  # Bytes of a card.


def _first(facts: Facts) -> dict[str, bytes]:
    """The cards of version 1, by their names. Another one is a line more, in another version."""
    return {
        "CITATION.cff": citation.card(facts).encode(),
        f"{layout.CARDS}/croissant.json": croissant.card(facts).encode(),
        f"{layout.CARDS}/dataset.md": dataset.card(facts).encode(),
        f"{layout.CARDS}/eu-summary.md": european.card(facts).encode(),
        f"{layout.CARDS}/mof.yaml": openness.card(facts).encode(),
        RELEASE: release.card(facts, 1),
    }


_VERSIONS: dict[int, Callable[[Facts], dict[str, bytes]]] = {1: _first}


def require(folder: Path) -> None:
    """Raises PublisherInvalid if publisher.toml cannot be read."""
    _ = Facts(folder).said


def write(folder: Path) -> dict[str, Any]:
    """Write all cards of a finished run, and a publisher.toml to fill in where there is none.
    Returns the class of openness, what the next one lacks, and what the publisher has not said.
    Raises PublisherInvalid, and what its readers raise."""
    facts = Facts(folder)
    if not (folder / publisher.FILE).exists():
        names = tuple(source.name for source in facts.recipe.data.sources)
        files.write_bytes(folder / publisher.FILE, publisher.template(names).encode())
    for name, content in _VERSIONS[VERSION](facts).items():
        files.write_bytes(folder / name, content)
    found = openness.openness(facts)
    return {
        "class": found.number or None,
        "name": openness.CLASSES[found.number],
        "next_class": openness.NEXT[found.number],
        "next_class_needs": found.lacks,
        "not_said": facts.said.unsaid(),
        "licence_conflicts": facts.conflicts,
    }


def check(folder: Path) -> Iterator[Problem]:
    """Every card that is not what the record and publisher.toml give. Raises FormatInvalid,
    FormatTooNew, PublisherInvalid, and what its readers raise."""
    path = folder / RELEASE
    version = files.read_json(path, _LARGEST).get("cards")
    if type(version) is not int or version < 1:
        raise FormatInvalid(path=path, detail="does not name the version of the cards")
    if version not in _VERSIONS:
        raise FormatTooNew(path=path, found=version, known=VERSION)
    for name, expected in _VERSIONS[version](Facts(folder)).items():
        if not (folder / name).exists():
            yield Problem("FileMissing", name, "is missing, but a release with cards has it")
        elif not files.holds(folder / name, expected):
            yield Problem("FileDiffers", name, "is not what the record and publisher.toml give")
