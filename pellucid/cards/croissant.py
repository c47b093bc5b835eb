"""cards/croissant.json: the training texts as Croissant 1.1 describes datasets, with its
vocabulary for responsible AI 1.0 (docs.mlcommons.org/croissant). Every file has its SHA-256, so
whoever loads the texts by this card loads those that were trained on."""

from __future__ import annotations

import json
from typing import Any

from pellucid.cards.facts import Facts
from pellucid.data.parquet import SCHEMA
from pellucid.data.reasons import REASONS

VERSION = "http://mlcommons.org/croissant/1.1"
RAI = "http://mlcommons.org/croissant/RAI/1.0"
_TYPES = {"string": "sc:Text", "int64": "sc:Integer"}
_WORDS = {
    "index": "its number, by which the ledger and the metrics name it",
    "id": "its name in its source",
    "source": "the source of the recipe that it is from",
    "licence": "its licence, as its source says it",
    "origin": "where it is from, as its source says it",
    "date": "its date, as its source says it",
    "split": "train or validation",
    "characters": "code points of the text",
    "bytes": "of the text in UTF-8",
    "sha256": "of the text in UTF-8, in hex",
    "text": "the text",
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def card(facts: Facts) -> str:
    """A record set for each file of documents, whose rows are in the documents' order."""
    said = facts.said
    card: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [VERSION, RAI],
        "name": f"{facts.recipe.name}-texts",
        "description": said.release.description or _described(facts),
        "version": "1.0.0",
        "datePublished": facts.date().value,
        "license": [_address(name) for name in _named(facts)],
        "creator": _creators(facts),
        "inLanguage": list(said.release.languages or ()) or None,
        "keywords": list(said.release.keywords or ()) or None,
        "url": said.release.url,
        "citeAs": said.release.doi and f"https://doi.org/{said.release.doi}",
        "isLiveDataset": False,
        **_responsible(facts),
        "distribution": [_file(part) for part in facts.parts],
        "recordSet": [_records(part) for part in facts.parts],
    }
    kept = {name: value for name, value in card.items() if value is not None and value != []}
    return json.dumps(kept, indent=2, ensure_ascii=True) + "\n"


def _described(facts: Facts) -> str:
    manifest = facts.documents.manifest
    return (
        f"The {manifest['documents']:,} texts that the language model {facts.recipe.name} was "
        f"trained and validated on. Their root in the ledger is {facts.status['data']}."
    )


def _named(facts: Facts) -> list[str]:
    named, _ = facts.licences
    return [one.name for one in named]


def _address(licence: str) -> str:
    """The page of an SPDX licence; what is none stays as it is."""
    plain = licence.replace("-", "").replace(".", "").replace("+", "")
    known = plain.isascii() and plain.isalnum() and "-" in licence
    return f"https://spdx.org/licenses/{licence}.html" if known else licence


def _creators(facts: Facts) -> list[dict[str, str]]:
    people = [{"@type": "sc:Person", "name": one.name} for one in facts.said.authors]
    name = facts.said.publisher.name
    return people or [{"@type": "sc:Organization", "name": name or "not named"}]


def _responsible(facts: Facts) -> dict[str, Any]:
    """What was done to the texts is in the record; the rest is the publisher's to say."""
    said = facts.said.data
    told = {
        "rai:dataCollection": said.collection,
        "rai:dataLimitations": said.limitations,
        "rai:dataBiases": said.biases,
        "rai:personalSensitiveInformation": said.personal_information,
        "rai:dataUseCases": said.uses,
        "rai:dataSocialImpact": said.social_impact,
        "rai:dataPreprocessingProtocol": _dropped(facts) or None,
    }
    return {name: value for name, value in told.items() if value}


def _dropped(facts: Facts) -> list[str]:
    return [
        f"{source['name']}: {count:,} {'kept, with changes' if reason.kept else 'left out'}: "
        f"{reason.words}"
        for source in facts.documents.manifest["sources"]
        for name, count in source["dropped"].items()
        for reason in (REASONS[name],)
    ]


def _file(part: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": part["path"],
        "name": part["path"].rsplit("/", 1)[-1],
        "description": f"Texts of the source {part['source']}.",
        "contentUrl": f"../{part['path']}",  # As seen from this card.
        "contentSize": f"{part['size']} B",
        "encodingFormat": "application/x-parquet",
        "sha256": part["sha256"],
    }


def _records(part: dict[str, Any]) -> dict[str, Any]:
    name = part["path"].rsplit("/", 1)[-1].removesuffix(".parquet")
    own = f"documents-{name}"
    return {
        "@type": "cr:RecordSet",
        "@id": own,
        "name": own,
        "description": f"The documents in {part['path']}.",
        "key": {"@id": f"{own}/index"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{own}/{column.name}",
                "name": column.name,
                "description": _WORDS[column.name],
                "dataType": _TYPES[str(column.type)],
                "source": {
                    "fileObject": {"@id": part["path"]},
                    "extract": {"column": column.name},
                },
            }
            for column in SCHEMA
        ],
    }
