"""cards/eu-summary.md: the public summary of training content that Article 53(1)(d) of Regulation
(EU) 2024/1689 asks of whoever offers a general-purpose model in the Union.

Its sections and fields are those of the Commission's template (C(2025) 8311). What the record knows
is filled in; what only the publisher knows is shown as not said, with the key to say it by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pellucid.cards.facts import MEASURED, PUBLISHER, RECORD, Facts, Value
from pellucid.cards.markdown import escape, unsaid
from pellucid.recipe import Source

_MARKS = {RECORD: "proved by the record", MEASURED: "noted while training"}
_MARKS[PUBLISHER] = "said by the publisher"
_SIZES = ((10**9, "less than 1 billion tokens"), (10**13, "1 billion to 10 trillion tokens"))
_MOST = "more than 10 trillion tokens"
_SHOWN = 100  # Entries of a list; the files of a release have all.
Field = tuple[str, str]  # What the template asks, and the answer.


def card(facts: Facts) -> str:
    sections = [_HEAD, *_general(facts), *_sources(facts), *_processing(facts)]
    return "\n".join(sections) + "\n"


_HEAD = """# Public summary of training content

In the form of the template of the European Commission for general-purpose AI models, required by \
Article 53(1)(d) of Regulation (EU) 2024/1689. Behind each answer stands what it rests on: the \
record, which `pellucid verify` checks, or the publisher, whom nobody checks.
"""


def _general(facts: Facts) -> list[str]:
    said, summary = facts.said, facts.said.summary
    url = f", {said.release.url}" if said.release.url else ""
    version = facts.version()
    return [
        *_fields(
            ("Version of the summary", _told("summary.version", summary.version)),
            ("Last update", _told("summary.updated", summary.updated)),
        ),
        "## 1. General information\n",
        "### 1.1. Provider identification\n",
        *_fields(
            ("Provider name", _told("publisher.name", said.publisher.name)),
            ("Contact details", _told("publisher.contact", said.publisher.contact)),
            (
                "Authorised representative",
                _told("publisher.representative", said.publisher.representative),
            ),
        ),
        "### 1.2. Model identification\n",
        *_fields(
            (
                "Versioned model name",
                _answer(Value(f"{facts.title()} {version.value}{url}", version.basis)),
            ),
            ("Model dependencies", _answer(Value(_dependencies(facts), RECORD))),
            (
                "Date of placement on the Union market",
                _told("summary.placed", summary.placed),
            ),
        ),
        "### 1.3. Modalities, overall training data size and other characteristics\n",
        "| modality | training data size | types of content |\n|---|---|---|",
        f"| text | {_size(facts)} | {_told('summary.types_of_content', summary.types_of_content)} "
        "|\n",
        *_fields(
            (
                "Latest date of data acquisition",
                _answer(facts.latest)
                if facts.latest.value
                else unsaid("sources.NAME.collected_until"),
            ),
            (
                "Trained on new data after that date",
                _told("summary.continuous", summary.continuous),
            ),
            ("Linguistic characteristics", _linguistic(facts)),
            ("Other relevant characteristics", _told("summary.other", summary.other)),
            ("Comments", _told("summary.comments", summary.comments)),
        ),
    ]


def _dependencies(facts: Facts) -> str:
    fork = facts.recipe.fork
    if fork.parent:
        return f"trained on from step {fork.step:,} of the run with the head {fork.parent}"
    return "none, trained from initial values that follow from the recipe"


def _size(facts: Facts) -> str:
    """Of the training split, each token once, however often it was read."""
    tokens = sum(one.tokens for one in _all_licences(facts))
    size = next((words for limit, words in _SIZES if tokens < limit), _MOST)
    read = int(facts.status["tokens"])
    words = f"{size} ({tokens:,} tokens in the texts, {read:,} tokens read in training)"
    return _answer(Value(words, RECORD))


def _all_licences(facts: Facts) -> list[Any]:
    named, others = facts.licences
    return [*named, *([others] if others else [])]


def _linguistic(facts: Facts) -> str:
    said = facts.said
    if said.summary.linguistic:
        return _told("summary.linguistic", said.summary.linguistic)
    languages = ", ".join(said.release.languages or ())
    return _told("release.languages", languages or None)


def _sources(facts: Facts) -> list[str]:
    lines = ["## 2. List of data sources\n"]
    for kind, title, asked, more in _SECTIONS:
        lines.append(title)
        if not kind:
            continue
        own = [one for one in facts.recipe.data.sources if facts.said.source(one.name).kind == kind]
        open_ = [one for one in facts.recipe.data.sources if not facts.said.source(one.name).kind]
        if own:
            answer = _answer(Value("yes", PUBLISHER))
        elif open_:
            keys = ", ".join(f"sources.{one.name}.kind" for one in open_[:_SHOWN])
            answer = unsaid(keys)
        else:
            answer = _answer(Value("no", PUBLISHER))
        lines += _fields((asked, answer))
        for source in own:
            lines += [f"Source {escape(source.name)}:\n", *_fields(*_of_source(facts, source))]
            lines += _fields(*more(facts, source)) if more else []
    return lines


def _of_source(facts: Facts, source: Source) -> list[Field]:
    """What the record knows of a source, and what every section asks."""
    said, key = facts.said.source(source.name), f"sources.{source.name}"
    manifest = next(
        one for one in facts.documents.manifest["sources"] if one["name"] == source.name
    )
    words = f"{manifest['documents']:,} documents, {int(manifest['bytes']):,} bytes of text"
    period = None
    if said.collected_from or said.collected_until:
        period = f"{said.collected_from or 'unknown'} to {said.collected_until or 'unknown'}"
    fields = [
        ("Modality", _answer(Value("text", RECORD))),
        ("Size", _answer(Value(words, RECORD))),
        ("Licence", _answer(Value(_licence(source), RECORD))),
        ("Link", _told(f"{key}.url", said.url)),
        ("Description", _told(f"{key}.description", said.description)),
        ("Period of collection", _told(f"{key}.collected_until", period)),
    ]
    origins = facts.origins(source)
    return [*fields, *([("Packages", _answer(Value(_listed(origins), RECORD)))] if origins else [])]


def _licence(source: Source) -> str:
    return "by document, in data/documents" if source.licence_key else source.licence


def _crawled(facts: Facts, source: Source) -> list[Field]:
    said, key = facts.said.source(source.name), f"sources.{source.name}"
    return [
        ("Crawlers", _told(f"{key}.crawlers", _listed(said.crawlers))),
        ("Purposes of the crawlers", _told(f"{key}.purposes", said.purposes)),
        ("Behaviour of the crawlers", _told(f"{key}.behaviour", said.behaviour)),
        ("Most relevant domains", _told(f"{key}.domains", _listed(said.domains))),
    ]


def _users(facts: Facts, source: Source) -> list[Field]:
    said = facts.said.source(source.name)
    return [("Services", _told(f"sources.{source.name}.services", said.services))]


def _synthetic(facts: Facts, source: Source) -> list[Field]:
    said = facts.said.source(source.name)
    return [
        ("Models that made the texts", _told(f"sources.{source.name}.models", _listed(said.models)))
    ]


# The kind of sources that a section is of, its heading, its question, and what more it asks.
_SECTIONS: tuple[tuple[str, str, str, Callable[[Facts, Source], list[Field]] | None], ...] = (
    ("public", "### 2.1. Publicly available datasets\n", "Used", None),
    ("", "### 2.2. Private non-publicly available datasets from third parties\n", "", None),
    (
        "licensed",
        "#### 2.2.1. Datasets commercially licensed by rightsholders\n",
        "Licensing agreements concluded",
        None,
    ),
    (
        "private",
        "#### 2.2.2. Private datasets obtained from other third parties\n",
        "Obtained",
        None,
    ),
    (
        "crawled",
        "### 2.3. Data crawled and scraped from online sources\n",
        "Crawlers used by the provider or on their behalf",
        _crawled,
    ),
    ("users", "### 2.4. User data\n", "Used", _users),
    (
        "synthetic",
        "### 2.5. Synthetic data\n",
        "Created by the provider or on their behalf",
        _synthetic,
    ),
    ("other", "### 2.6. Other sources of data\n", "Used", None),
)


def _processing(facts: Facts) -> list[str]:
    summary = facts.said.summary
    return [
        "## 3. Data processing aspects\n",
        "### 3.1. Respect of reservation of rights from the text and data mining exception\n",
        *_fields(
            (
                "Signatory to the code of practice for general-purpose AI models",
                _told("summary.code_of_practice", summary.code_of_practice),
            ),
            ("Measures", _told("summary.reservations", summary.reservations)),
        ),
        "### 3.2. Removal of illegal content\n",
        *_fields(("Measures", _told("summary.illegal_content", summary.illegal_content))),
        "### 3.3. Other information\n",
        *_fields(
            ("Data processing", _told("summary.processing", summary.processing)),
            ("Which text was trained on when", _answer(Value(_TRACED, RECORD))),
        ),
    ]


_TRACED = "data/documents holds all texts, and the record every step that read each of them"


def _fields(*fields: Field) -> list[str]:
    return [*(f"- {name}: {answer}" for name, answer in fields), ""]


def _told(key: str, value: Any) -> str:
    """What the publisher says under a key, or that nothing is said."""
    if value is None or value == "":
        return unsaid(key)
    return _answer(Value(("no", "yes")[value] if isinstance(value, bool) else value, PUBLISHER))


def _answer(value: Value) -> str:
    return f"{escape(value.value)} *({_MARKS[value.basis]})*"


def _listed(values: Iterable[str] | None) -> str:
    return ", ".join([*(values or ())][:_SHOWN])
