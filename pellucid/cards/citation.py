"""CITATION.cff: how to cite a release (citation-file-format.github.io, version 1.2.0)."""

from __future__ import annotations

from typing import Any

from pellucid.cards.facts import Facts
from pellucid.cards.licences import spelled
from pellucid.cards.publisher import Author
from pellucid.cards.yaml import dumped

VERSION = "1.2.0"
_YOUNGER = {"OpenMDW-1.0", "Unicode-3.0", "CDLA-Permissive-2.0"}  # Than the format's own list.


def card(facts: Facts) -> str:
    """Who made it is the publisher's to say: where nobody is named, the card says so."""
    said = facts.said
    authors = [_author(one) for one in said.authors]
    if not authors:
        authors = [{"name": said.publisher.name or f"The makers of {facts.title()}, not named"}]
    licence = spelled(facts.licence.value or "")
    fields: dict[str, Any] = {
        "cff-version": VERSION,
        "message": "If you use this model, please cite it as below.",
        "title": facts.title(),
        "type": "software",
        "authors": authors,
        "version": str(facts.version().value),
        "date-released": facts.date().value,
        "license": None if licence in _YOUNGER else licence,
        "abstract": said.release.description,
        "doi": said.release.doi,
        "url": said.release.url,
        "repository-code": said.release.repository,
        "keywords": list(dict.fromkeys(said.release.keywords or ())) or None,
        "identifiers": [
            {
                "type": "other",
                "value": facts.status["head"],
                "description": "The head of the ledger: whoever makes the run again gets the same.",
            }
        ],
    }
    return dumped({name: value for name, value in fields.items() if value})


def _author(author: Author) -> dict[str, str]:
    """As an entity: names of people are not parted into given and family names."""
    return {"name": author.name} | ({"orcid": author.orcid} if author.orcid else {})
