"""What only a publisher can say: a closed list of keys, each with its form."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from pellucid.cards import publisher
from pellucid.errors import PublisherInvalid
from pellucid.release.publish import publish
from tests.cards.saying import WHOLE, say

ROOT = Path(__file__).parents[2]


def test_all_of_it_is_read_and_nothing_is_left_unsaid() -> None:
    said = publisher.parse(WHOLE.encode(), "publisher.toml", ("stones",))
    assert said.unsaid() == []
    assert said.release.languages == ("en", "pt-BR") and said.authors[1].orcid is None
    assert said.source("stones").kind == "crawled" and said.source("other").kind is None


def test_the_template_says_nothing_and_lists_every_key() -> None:
    text = publisher.template(("stones", 'ünï \\ "code"'))
    empty = publisher.parse(text.encode(), "publisher.toml", ("stones", 'ünï \\ "code"'))
    assert empty.unsaid() == publisher.Said(sources={}).unsaid() != []
    # Whoever takes away every # says all there is, empty or not.
    head, _, keys = text.partition("\n[release]")
    assert all(line.startswith("#") for line in head.splitlines() if line)
    spoken = tomllib.loads("[release]" + re.sub(r"^# ", "", keys, flags=re.MULTILINE))
    asked = publisher.Said.model_fields
    assert set(spoken) == set(asked)
    for section in ("release", "publisher", "report", "paper", "model", "data", "summary"):
        assert set(spoken[section]) == set(type(asked[section].default).model_fields)
    assert set(spoken["sources"]["stones"]) == set(publisher.Source.model_fields)


def test_the_page_lists_every_key() -> None:
    page = (ROOT / "docs/publish.md").read_text("utf-8")
    for name, field in publisher.Said.model_fields.items():
        kind = {"authors": publisher.Author, "sources": publisher.Source}.get(name)
        for key in (kind or type(field.default)).model_fields:
            assert f"`{key}`" in page, f"{name}.{key}"
    assert all(f"`{kind}`" in page for kind in publisher.KINDS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[release", "the file: no TOML"),
        ("\xff", "the file: no TOML"),
        ("[releases]", "releases: there is no such key"),
        ("[release]\ntitel = 'x'", "release.titel: there is no such key"),
        ("[release]\ntitle = 1", "release.title: should be a text in quotes"),
        ("[release]\ndate = 2026-11-30", "release.date: should be a text in quotes"),
        ("[release]\ndate = '30.11.2026'", "release.date: should be a date"),
        ("[release]\nurl = 'javascript:alert(1)'", "release.url: should be an address"),
        ("[release]\nurl = 'https://a b'", "release.url: should be an address"),
        ("[release]\ndoi = 'https://doi.org/10.1/x'", "release.doi: should be a DOI"),
        ("[release]\nlicence = '<b>'", "release.licence: should be an SPDX licence"),
        ("[release]\nlanguages = ['English']", "release.languages.0: should be a code of BCP 47"),
        ("[release]\nlanguages = []", "release.languages: has 0 entries"),
        ("[release]\ntitle = '" + "x" * 501 + "'", "release.title: has more than 500 characters"),
        ("[[authors]]\nname = ''", "authors.0.name: is empty"),
        ("[[authors]]\norcid = '1'", "authors.0.name: is missing"),
        ("[sources.plane]\nurl = 'https://a'", "sources.plane: the recipe has no such source"),
        ("[sources.stones]\nkind = 'web'", "sources.stones.kind: should be "),
        ("[summary]\ncontinuous = 'no'", "summary.continuous: should be true or false"),
        ("a" + ".a" * 5000 + " = 1", "the file: no TOML"),
    ],
)
def test_what_does_not_fit_is_named(text: str, told: str) -> None:
    content = text.encode("latin-1")
    with pytest.raises(PublisherInvalid, match=r"docs/publish\.md") as raised:
        publisher.parse(content, "publisher.toml", ("stones",))
    assert f"publisher.toml: {told}" in str(raised.value)


def test_a_wrong_file_stops_publish_before_anything_is_written(release: Path) -> None:
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}
    say(release, "[release]\nnmae = 'x'")
    with pytest.raises(PublisherInvalid):
        publish(release)
    before[release / "publisher.toml"] = b"[release]\nnmae = 'x'"
    assert {path: path.read_bytes() for path in release.rglob("*") if path.is_file()} == before


def test_a_file_that_is_there_stays(release: Path) -> None:
    say(release, WHOLE)
    publish(release)
    assert (release / "publisher.toml").read_text("utf-8") == WHOLE
