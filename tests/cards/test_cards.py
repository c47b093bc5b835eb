"""The cards of a release: what they say is the record's or the publisher's, every one is made again
by `verify`, and each standard's own reader takes them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import mlcroissant
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt

from pellucid.cards import citation, licences, write
from pellucid.cards.yaml import dumped
from pellucid.look.status import status
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import layout
from tests.cards.saying import WHOLE, say
from tests.conftest import finish, make_run
from tests.release.test_fields import found, spelled

CARDS = (
    "CITATION.cff",
    *(f"cards/{name}" for name in next(r for r in layout.ROOMS[1] if r.folder == "cards").names),
)


@pytest.fixture
def told(release: Path) -> Path:
    """A release whose publisher said all there is to say."""
    say(release, WHOLE)
    publish(release)
    return release


def read(folder: Path, name: str) -> str:
    return (folder / name).read_text("utf-8")


def metadata(text: str) -> dict[str, Any]:
    """What stands between the first lines of dashes."""
    return yaml.safe_load(text.split("---\n")[1])


def test_sealing_twice_gives_the_same_cards(told: Path) -> None:
    before = [read(told, name) for name in CARDS]
    publish(told)
    assert [read(told, name) for name in CARDS] == before
    assert verify(told, lambda what: None).ok


def test_a_release_with_no_word_of_its_publisher_has_all_cards(finished: Path) -> None:
    report = verify(finished, lambda what: None)
    assert report.ok and "cards" in report.checked
    assert "*not said*" in read(finished, "cards/eu-summary.md")
    values = json.loads(read(finished, "cards/release.json"))
    assert values["publisher"] == {} and "publisher.name" in values["not_said"]
    assert "not named" in read(finished, "CITATION.cff")


@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_says_something_else_is_named(release: Path, name: str) -> None:
    spelled(release / name, read(release, name).replace("small", "large").encode() + b" ")
    assert found(release) == [f"FileDiffers {name}: is not what the record and publisher.toml give"]


@pytest.mark.parametrize("name", sorted({*CARDS} - {write.RELEASE}))
def test_a_card_that_is_missing_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    assert found(release) == [f"FileMissing {name}: is missing, but a release with cards has it"]


def test_the_version_of_the_cards_is_known(release: Path) -> None:
    values = json.loads(read(release, write.RELEASE))
    for version, error in ((2, "FormatTooNew"), (0, "FormatInvalid"), ("1", "FormatInvalid")):
        spelled(release / write.RELEASE, json.dumps(values | {"cards": version}).encode())
        assert [one.split(" ")[0] for one in found(release)] == [error]


def test_a_release_without_cards_verifies(release: Path) -> None:
    """As those that were sealed before there were any."""
    shutil.rmtree(release / "cards")
    (release / "CITATION.cff").unlink()
    (release / "publisher.toml").unlink()
    assert found(release) == []


def test_what_the_publisher_says_later_is_noticed(release: Path) -> None:
    say(release, WHOLE)
    assert any(one.startswith("FileDiffers cards/release.json") for one in found(release))
    say(release, "[release]\ntitel = ''")
    assert any(one.startswith("PublisherInvalid publisher.toml") for one in found(release))


def test_values_are_those_of_the_record(told: Path) -> None:
    values, about = json.loads(read(told, "cards/release.json")), status(told)
    assert values["training"]["head"] == {"value": about["head"], "basis": "record"}
    assert values["model"]["weights"]["value"] == about["weights"]
    assert values["data"]["root"]["value"] == about["data"]
    table = pq.read_table(told / "data/documents/00000.parquet")
    assert values["data"]["documents"]["value"] == table.num_rows
    assert values["data"]["bytes"]["value"] == sum(table["bytes"].to_pylist())
    for file in values["data"]["files"]["value"]:
        content = (told / file["path"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["size"] == len(content)
    assert values["training"]["ended"]["basis"] == "measured"
    assert values["model"]["licence"] == {"value": "Apache-2.0", "basis": "publisher"}
    assert values["not_said"] == [] and values["publisher"]["paper"]["licence"] == "CC-BY-4.0"
    assert {one["basis"] for part in ("model", "training", "data") for one in values[part].values()}
    assert {*values["bases"]} == {"record", "measured", "publisher"}


def test_croissant_gives_the_documents_bit_for_bit(told: Path) -> None:
    """By the reader of the standard's makers, which refuses files with another SHA-256."""
    dataset = mlcroissant.Dataset(jsonld=told / "cards/croissant.json")
    assert not dataset.metadata.ctx.issues.errors and not dataset.metadata.ctx.issues.warnings
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"
    rows = [
        {key.rpartition("/")[2]: plain(value) for key, value in record.items()}
        for record in dataset.records("documents-00000")
    ]
    assert rows == pq.read_table(told / "data/documents/00000.parquet").to_pylist()
    card = json.loads(read(told, "cards/croissant.json"))
    assert card["rai:personalSensitiveInformation"] == "none"
    assert card["citeAs"] == "https://doi.org/10.5281/zenodo.1234567"


def plain(value: Any) -> Any:
    return (
        value.decode("utf-8")
        if isinstance(value, bytes)
        else getattr(value, "item", lambda: value)()
    )


def test_croissant_notices_another_file(told: Path) -> None:
    path = told / "data/documents/00000.parquet"
    spelled(path, path.read_bytes() + b"x")
    dataset = mlcroissant.Dataset(jsonld=told / "cards/croissant.json")
    with pytest.raises(mlcroissant._src.core.issues.GenerationError) as raised:
        list(dataset.records("documents-00000"))
    assert "ash" in str(raised.value.__cause__)


def test_a_citation_fits_the_schema(told: Path, finished: Path) -> None:
    """The schema of the citation file format, as cffconvert ships it."""
    schema = citation_schema()
    for folder in (told, finished):
        cited = yaml.safe_load(read(folder, "CITATION.cff"))
        jsonschema.Draft7Validator(schema).validate(cited)
    cited = yaml.safe_load(read(told, "CITATION.cff"))
    assert cited["doi"] == "10.5281/zenodo.1234567" and cited["license"] == "Apache-2.0"
    assert [one["name"] for one in cited["authors"]] == ["A. Maker", "No. Body"]
    assert cited["identifiers"][0]["value"] == status(told)["head"]


def citation_schema() -> dict[str, Any]:
    """Of the package its file alone: it imports an older jsonschema."""
    package = importlib.metadata.distribution("cffconvert")
    path = Path(str(package.locate_file("cffconvert/schemas/1.2.0/schema.json")))
    return json.loads(path.read_text("utf-8"))


def test_every_open_licence_that_a_citation_names_is_on_the_list_of_the_format() -> None:
    known = {*citation_schema()["definitions"]["license-enum"]["enum"]}
    assert {*licences._OPEN.values()} - known == citation._YOUNGER


def test_the_hub_reads_both_cards(told: Path) -> None:
    from huggingface_hub import DatasetCard, ModelCard

    (told / "README.md").unlink()
    publish(told)
    model, texts = ModelCard(read(told, "README.md")), DatasetCard(read(told, "cards/dataset.md"))
    assert model.data.license == "apache-2.0" and model.data.language == ["en", "pt-BR"]
    assert model.data.library_name == "transformers" and "pellucid" in model.data.tags
    assert texts.data.license == "unknown" and texts.data.size_categories == ["n<1K"]
    assert read(told, "cards/dataset.md").startswith("---\n")


def test_the_model_card_says_what_its_publisher_says(told: Path, finished: Path) -> None:
    page = read(told, "README.md")
    for line in ("Intended use: research", "Out of scope: advice", "Limitations: small"):
        assert f"- {line}\n" in page
    assert "Said by the publisher" not in read(finished, "README.md")
    spelled(told / "README.md", page.replace("Limitations: small", "Limitations: none").encode())
    assert any(one.startswith("FileDiffers README.md") for one in found(told))


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("ODC-By-1.0", {"license": "odc-by"}),
        ("mine: yes", {"license": "other", "license_name": "mine: yes", "license_link": "LICENSE"}),
    ],
)
def test_licences_have_the_names_of_the_hub(
    tmp_path: Path, corpus: Path, licence: str, fields: dict[str, str]
) -> None:
    run = make_run(tmp_path / "run", corpus, [f'data.sources.stones.licence="{licence}"'])
    finish(run)
    publish(run)
    card = metadata(read(run, "cards/dataset.md"))
    assert {key: card[key] for key in card if key.startswith("license")} == fields


def test_the_summary_asks_what_the_template_asks(told: Path, finished: Path) -> None:
    text = read(told, "cards/eu-summary.md")
    numbers = re.findall(r"^#+ ([0-9.]+) ", text, re.MULTILINE)
    assert numbers == [
        *("1.", "1.1.", "1.2.", "1.3.", "2.", "2.1.", "2.2.", "2.2.1.", "2.2.2."),
        *("2.3.", "2.4.", "2.5.", "2.6.", "3.", "3.1.", "3.2.", "3.3."),
    ]
    assert "- Used: no *(said by the publisher)*" in text
    assert "examplebot" in text and "less than 1 billion tokens" in text
    assert "*not said*" not in text
    # Nobody has said what the texts are: no question is answered by a no.
    assert ": no *" not in read(finished, "cards/eu-summary.md")


HOSTILE = "</script><script>alert(1)</script> \" ' \\ : # - |\n---\n[x](javascript:y) \u202e{{7*7}}"


def test_strings_of_others_break_no_card(hostile: Path, tmp_path: Path) -> None:
    """Names, licences and what the publisher says, in YAML, JSON, Markdown and HTML."""
    run = Path(shutil.copytree(hostile, tmp_path / "run"))
    text = json.dumps(HOSTILE)  # Which is a string of TOML too.
    keys = ("title", "description", "version")
    lines = ["[release]", *(f"{key} = {text}" for key in keys), f"keywords = [{text}]"]
    lines += ["[publisher]", f"name = {text}", f"contact = {text}"]
    lines += ["[[authors]]", f"name = {text}", "[summary]", f"other = {text}"]
    lines += ["[data]", f"biases = {text}", '[sources."bold"]', 'kind = "crawled"']
    lines += [f"domains = [{text}]", f"description = {text}"]
    say(run, "\n".join(lines))
    (run / "README.md").unlink()
    publish(run)
    assert verify(run, lambda what: None).ok
    cited = yaml.safe_load(read(run, "CITATION.cff"))
    assert cited["title"] == cited["authors"][0]["name"] == HOSTILE
    assert yaml.safe_load(read(run, "cards/mof.yaml"))["release"]["producer"] == HOSTILE
    assert json.loads(read(run, "cards/release.json"))["publisher"]["data"]["biases"] == HOSTILE
    json.loads(read(run, "cards/croissant.json"))
    assert metadata(read(run, "README.md"))["tags"][-1] == HOSTILE
    assert metadata(read(run, "cards/dataset.md"))["pretty_name"] == f"Texts of {HOSTILE}"
    for name in ("cards/eu-summary.md", "cards/dataset.md"):
        page = (
            read(run, name).split("---\n", 2)[-1]
            if name.endswith("dataset.md")
            else read(run, name)
        )
        shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(page)
        assert not re.search(r"<(script|img|a|hr)\b|\u202e", shown), name
    assert all(read(run, name).isascii() for name in ("CITATION.cff", "cards/mof.yaml"))


@pytest.mark.parametrize(
    "text", ["no", "1.0", "", "~", "2026-01-01", "ü 😀\u2028\x85", "a\tb: #c", "\x00"]
)
def test_every_string_of_yaml_stays_what_it_is(text: str) -> None:
    assert yaml.safe_load(dumped({"a": text, "b": [text]})) == {"a": text, "b": [text]}
