"""The class of the Model Openness Framework follows from what a release holds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pellucid.cards.facts import Facts
from pellucid.cards.openness import openness
from pellucid.release.publish import publish
from tests.cards.saying import WHOLE, say
from tests.conftest import finish, make_run

# Of each class the components that it asks for beyond those of the class below, as in the table of
# the framework's paper (arXiv:2403.13784) and the settings of its tool.
ASKED = {
    3: {
        "Model architecture",
        "Model parameters (Final)",
        "Model card",
        "Data card",
        "Technical report",
        "Evaluation results",
    },
    2: {"Training code", "Inference code", "Evaluation code", "Evaluation data"},
    1: {
        "Datasets",
        "Data preprocessing code",
        "Model parameters (Intermediate)",
        "Research paper",
    },
}


@pytest.fixture(scope="module")
def licensed(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A sealed run whose texts have an open licence."""
    folder = tmp_path_factory.mktemp("runs") / "licensed"
    finish(make_run(folder, corpus, ["data.sources.stones.licence=CC-BY-4.0"]))
    publish(folder)
    return folder


@pytest.fixture
def run(licensed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(licensed, tmp_path / "run"))


def without(*keys: str) -> str:
    """All that a publisher may say, without some sections."""
    parts = WHOLE.split("\n\n")
    return "\n\n".join(part for part in parts if not any(f"[{key}]" in part for key in keys))


def lacking(folder: Path) -> tuple[int, set[str]]:
    found = openness(Facts(folder))
    return found.number, {re.split(",| under", one)[0] for one in found.lacks}


def test_the_components_are_those_of_the_framework(run: Path) -> None:
    components = openness(Facts(run)).components
    assert len(components) == 17
    required = {
        asked: {c.name for c in components if c.required and c.of == asked} for asked in ASKED
    }
    assert required == ASKED


def test_with_all_of_it_a_release_is_open_science(run: Path) -> None:
    say(run, WHOLE)
    told = publish(run)["cards"]
    assert (told["class"], told["next_class_needs"], told["licence_conflicts"]) == (1, [], [])
    card = yaml.safe_load((run / "cards/mof.yaml").read_text("utf-8"))
    assert len(card["release"]["components"]) == 16  # No samples in the pages.
    assert all(one["license"] for one in card["release"]["components"])


def test_without_a_report_there_is_no_class_and_a_paper_counts_as_one(run: Path) -> None:
    say(run, without("report", "paper"))
    assert lacking(run) == (0, {"Technical report"})
    say(run, without("paper"))
    assert lacking(run) == (2, {"Research paper"})
    say(run, without("report"))
    assert lacking(run) == (1, set())


def test_a_page_of_the_release_may_be_the_report(run: Path) -> None:
    page = 'url = "pages/report.md"'
    say(run, without("paper").replace('url = "https://example.org/report.html"', page))
    assert lacking(run) == (0, {"Technical report"})
    (run / "pages").mkdir()
    (run / "pages/report.md").write_text("---\ntitle: How it was made\n---\nBy a recipe.\n")
    assert publish(run)["cards"]["class"] == 2


def say_of(before: str, after: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        assert WHOLE.count(before)
        say(folder, WHOLE.replace(before, after))

    return change


def removed(*paths: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in paths:
            place = folder / path
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    return change


CODE = {"Training code", "Inference code", "Evaluation code", "Data preprocessing code"}


@pytest.mark.parametrize(
    ("change", "number", "lacks"),
    [
        (removed("record/code.tar"), 0, {"Model architecture"}),
        (removed("README.md"), 0, {"Model card"}),
        (removed("metrics/validation.parquet"), 0, {"Evaluation results"}),
        (removed("anchors"), 2, {"Model parameters (Intermediate)"}),
        (say_of('licence = "CC-BY-4.0"', 'licence = "CC-BY-NC-4.0"'), 0, {"Technical report"}),
        (
            say_of('"Apache-2.0"', '"LicenseRef-mine"'),
            0,
            ASKED[3] - {"Technical report", "Model architecture"},
        ),
    ],
)
def test_each_component_that_is_missing_or_closed_is_named(
    run: Path, change: Callable[[Path], None], number: int, lacks: set[str]
) -> None:
    say(run, WHOLE)
    assert lacking(run) == (1, set())
    change(run)
    if "anchors" not in {path.name for path in run.iterdir()}:
        shutil.rmtree(run / "checkpoints")
    assert lacking(run) == (number, lacks)


def test_texts_without_an_open_licence_are_no_open_data(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    say(run, WHOLE)
    assert lacking(run) == (3, {"Evaluation data"})
    assert "unknown" in Facts(run).conflicts[0]


def test_another_licence_than_the_text_of_it_is_told(run: Path) -> None:
    say(run, WHOLE.replace('"Apache-2.0"', '"MIT"'))
    assert any("LICENSE is the Apache-2.0" in one for one in Facts(run).conflicts)
    (run / "LICENSE").write_text("As you like.\n")
    say(run, without("release"))
    assert Facts(run).licence.value is None
    assert lacking(run)[0] == 0
