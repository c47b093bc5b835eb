"""publisher.toml: what only the publisher of a release can say. Nobody checks it, and each card
says so; what is not said stays open.

Every field may be missing. Strings are somebody else's: whoever shows one escapes it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from pellucid import wording
from pellucid.errors import PublisherInvalid
from pellucid.sections import Section, tuples
from pellucid.store import files

FILE = "publisher.toml"
MAX_BYTES = 256 << 10
_DATE = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"
_URL = r"^https?://[!-~]{1,2000}$"
_PLACE = rf"{_URL}|^pages/([a-z0-9][a-z0-9_-]{{0,63}}/)?[a-z0-9][a-z0-9_-]{{0,63}}\.md$"
_DOI = r"^10\.[0-9]{4,9}/[!-~]{1,200}$"
_LICENCE = r"^[A-Za-z0-9][A-Za-z0-9.+ ()-]{0,127}$"
_LANGUAGE = r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"
_ORCID = r"^https://orcid\.org/[0-9]{4}-[0-9]{4}-[0-9]{4}-[0-9]{3}[0-9X]$"
PATTERNS = {  # What a string that does not match is told.
    _DATE: "should be a date, as 2026-11-29",
    _URL: "should be an address that begins with https:// or http://",
    _PLACE: "should be an address as https://example.org/paper.pdf, or a page as pages/report.md",
    _DOI: "should be a DOI without an address before it, as 10.5281/zenodo.1",
    _LICENCE: 'should be an SPDX licence, as "Apache-2.0" or "MIT OR Apache-2.0"',
    _LANGUAGE: 'should be a code of BCP 47, as "en" or "pt-BR"',
    _ORCID: "should be as https://orcid.org/0000-0002-1825-0097",
}

Line = Annotated[str, Field(max_length=500)]
Text = Annotated[str, Field(max_length=20_000)]
Lines = Annotated[tuple[Line, ...], Field(max_length=1000)]
Date = Annotated[str, Field(pattern=_DATE)]
Url = Annotated[str, Field(pattern=_URL)]
Doi = Annotated[str, Field(pattern=_DOI)]
Licence = Annotated[str, Field(pattern=_LICENCE)]
Language = Annotated[str, Field(pattern=_LANGUAGE)]
Languages = Annotated[tuple[Language, ...], Field(min_length=1, max_length=200)]


class Author(Section):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    orcid: Annotated[str, Field(pattern=_ORCID)] | None = None
    affiliation: Line | None = None


class Release(Section):
    title: Line | None = None
    description: Text | None = None
    version: Line | None = None
    date: Date | None = None
    url: Url | None = None
    repository: Url | None = None
    doi: Doi | None = None
    # Of the weights, the record and the cards; LICENSE is the text of it.
    licence: Licence | None = None
    keywords: Annotated[tuple[Line, ...], Field(max_length=50)] | None = None
    languages: Languages | None = None


class Publisher(Section):
    name: Line | None = None
    contact: Line | None = None
    representative: Line | None = None  # Authorised in the Union, of a publisher outside it.


class Paper(Section):
    """A technical report or a research paper: elsewhere, or a page of the release."""

    title: Line | None = None
    url: Annotated[str, Field(pattern=_PLACE)] | None = None
    licence: Licence | None = None


class Model(Section):
    intended_use: Text | None = None
    out_of_scope: Text | None = None
    limitations: Text | None = None
    biases: Text | None = None


class Data(Section):
    collection: Text | None = None
    limitations: Text | None = None
    biases: Text | None = None
    personal_information: Text | None = None
    uses: Text | None = None
    social_impact: Text | None = None


Kind = Literal["public", "licensed", "private", "crawled", "users", "synthetic", "other"]
KINDS = get_args(Kind)


class Source(Section):
    """A source of the recipe, by its name: where its texts are from."""

    kind: Kind | None = None
    description: Text | None = None
    url: Url | None = None
    collected_from: Date | None = None
    collected_until: Date | None = None
    # Of crawled texts: what crawled, what for, how it behaved, and which domains.
    crawlers: Lines | None = None
    purposes: Text | None = None
    behaviour: Text | None = None
    domains: Lines | None = None
    models: Lines | None = None  # That made synthetic texts.
    services: Text | None = None  # That users' texts are from.


class Summary(Section):
    """Of the European summary of training content, what no other section holds."""

    version: Line | None = None
    updated: Date | None = None
    placed: Date | None = None  # On the Union's market.
    types_of_content: Text | None = None
    continuous: bool | None = None  # Trained on new data after the last collection.
    linguistic: Text | None = None
    other: Text | None = None
    code_of_practice: bool | None = None  # Whether the publisher signed it.
    reservations: Text | None = None  # Measures that respect reservations of rights.
    illegal_content: Text | None = None
    processing: Text | None = None
    comments: Text | None = None


class Said(Section):
    """The whole file."""

    release: Release = Release()
    publisher: Publisher = Publisher()
    authors: Annotated[tuple[Author, ...], Field(max_length=500)] = ()
    report: Paper = Paper()
    paper: Paper = Paper()
    model: Model = Model()
    data: Data = Data()
    sources: Annotated[dict[str, Source], Field(max_length=1000, default_factory=dict)]
    summary: Summary = Summary()

    def source(self, name: str) -> Source:
        return self.sources.get(name, Source())

    def unsaid(self) -> list[str]:
        """The keys that have no value, sources aside: whoever says all of them fills every card."""
        return [*_unsaid(self, ""), *([] if self.authors else ["authors"])]


def load(folder: Path, sources: tuple[str, ...]) -> Said:
    """What a run's publisher said; nothing where there is no file. sources: those of the recipe.
    Raises PublisherInvalid."""
    path = folder / FILE
    if not files.is_file(path):
        return Said(sources={})
    return parse(files.read_bytes(path, MAX_BYTES), path, sources)


def parse(content: bytes, path: Path | str, sources: tuple[str, ...]) -> Said:
    """Raises PublisherInvalid."""
    try:
        values = tomllib.loads(content.decode("utf-8"))
        said = Said.model_validate(tuples(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise PublisherInvalid(path=path, key=_key(first), detail=_detail(first)) from error
    except (ValueError, RecursionError) as error:
        raise PublisherInvalid(path=path, key="the file", detail=f"no TOML: {error}") from error
    for name in said.sources:
        if name not in sources:
            detail = f"the recipe has no such source, but {', '.join(sources)}"
            raise PublisherInvalid(path=path, key=f"sources.{name}", detail=detail)
    return said


def template(sources: tuple[str, ...]) -> str:
    """A file with every key, as comments: whoever says something takes a # away."""
    lines = [_HEAD]
    for name, field in Said.model_fields.items():
        if name == "sources":
            continue
        if name == "authors":
            lines += ["# [[authors]]", *_keys(Author), ""]
            continue
        lines += [f"[{name}]", *_keys(type(field.default)), ""]
    for name in sources:
        lines += [f"[sources.{json.dumps(name)}]", *_keys(Source), ""]
    return "\n".join(lines)


_HEAD = """# What only you can say of this release. Nobody checks it, and every card says so.
# Remove the # before a key and fill it in; a key that stays a comment is shown as not said.
# docs/publish.md says where each key is shown. Then: pellucid publish RUN
"""


def _keys(section: type[Section]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        shown = str(field.annotation)
        if "bool" in shown:
            value = "false"
        elif "tuple" in shown:
            value = "[]"
        else:
            value = '""'
        kinds = f"   # {', '.join(KINDS)}" if name == "kind" else ""
        yield f"# {name} = {value}{kinds}"


def _unsaid(section: Section, prefix: str) -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _unsaid(value, f"{name}.")
        elif value is None:
            yield f"{prefix}{name}"


def _key(error: Any) -> str:
    return ".".join(map(str, error["loc"])) or "the file"


def _detail(error: Any) -> str:
    kind, told = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return "there is no such key"
    if kind == "string_pattern_mismatch":
        return PATTERNS[told["pattern"]]
    if kind == "string_too_long":
        return f"has more than {told['max_length']:,} characters"
    if kind == "string_too_short":
        return "is empty"
    return wording.words(error)
