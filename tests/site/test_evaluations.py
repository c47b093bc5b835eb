"""The evaluations of a run on its pages: the numbers that `pellucid evaluate` shows, over steps."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid.measured import stored
from pellucid.measured.summary import summary
from pellucid.record import evaluations as record
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.site import evaluations
from pellucid.site.curves import short
from pellucid.site.data import Site
from pellucid.site.overview import SCHEMA
from pellucid.store import layout
from tests.release.evaluating import evaluate, rewrite, seal_as_it_is
from tests.release.evaluating import evaluated as evaluation
from tests.site.conftest import passes_axe, watched
from tests.site.reading import value

STEPS = [0, 4, 12]
HOSTILE = "</script><b onclick=alert(1)>{{7*7}}\"'&amp;"


def asked(folder: Path, steps: list[int] = STEPS, **changes: Any) -> list[dict[str, Any]]:
    """Evaluations that differ in their steps alone."""
    genesis, *made = evaluate(folder, steps)
    bodies = [body | {"settings": {"num_fewshot": 5}} | changes for body in made]
    rewrite(folder, [genesis, *bodies])
    return stored.entries(folder)


@pytest.fixture(scope="module")
def evaluated(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with evaluations of three steps, under a name that would break a careless page."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("site") / "release"))
    (folder / layout.MANIFEST).unlink()
    asked(folder, task=HOSTILE)
    publish(folder)
    assert verify(folder, lambda _: None).ok
    return folder


def test_the_course_has_the_numbers_of_the_verb(evaluated: Path) -> None:
    known = value(Site(evaluated), "evaluations")
    assert known["left_out"] == 0
    (task,) = known["tasks"]
    entries = stored.entries(evaluated)
    rows = [summary(entry, stored.lines(evaluated, entry)) for entry in entries]
    assert task["task"] == HOSTILE and task["settings"] == {"num_fewshot": 5}
    assert task["step"] == STEPS
    assert task["value"] == [short(row.value) for row in rows]
    ends = [(row.interval.low, row.interval.high) for row in rows if row.interval]
    assert [*zip(task["low"], task["high"], strict=True)] == [
        (short(low), short(high)) for low, high in ends
    ]
    assert (task["chance"], task["examples"]) == (0.5, 5)


def test_the_last_evaluation_of_a_step_counts_and_variants_stay_apart(
    evaluated: Path, tmp_path: Path
) -> None:
    """A variant asks other examples. The same ones, asked by another version, are the same."""
    folder = Path(shutil.copytree(evaluated, tmp_path / "run"))
    first, *made = asked(folder, [12, 4, 12])
    other = evaluation(folder, 12, 4, {"limit": 3}, count=3) | {"task": HOSTILE}
    rewrite(folder, [genesis(first), *map(bare, [first | {"version": "0.4.8"}, *made]), other])
    tasks = evaluations.told(folder, SCHEMA)["tasks"]
    assert sorted((task["variant"], task["step"]) for task in tasks) == [
        ("5 shots, lm-eval 0.4.9", [4, 12]),
        ("limit 3, lm-eval 0.4.9", [12]),
    ]


def test_a_site_of_the_first_schema_tells_what_it_told(evaluated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "run"))
    first, *made = asked(folder, [12, 4, 12])
    twice = [bare(one) for one in (first | {"version": "0.4.8"}, *made)]
    rewrite(folder, [genesis(first), *twice])
    tasks = evaluations.told(folder, 1)["tasks"]
    assert [(task["version"], task["step"]) for task in tasks] == [
        ("0.4.8", [12]),
        ("0.4.9", [4, 12]),
    ]
    assert not any("variant" in task for task in tasks)


def genesis(entry: dict[str, Any]) -> dict[str, Any]:
    return record.genesis(entry["head"])


def bare(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: told for key, told in entry.items() if key not in ("prev", "n")}


@pytest.mark.parametrize("count", [1, 256, 257, 1000])
def test_a_long_course_is_thinned_and_keeps_its_end(count: int) -> None:
    kept = evaluations._thinned(range(count))
    assert len(kept) <= evaluations.STEPS and kept[-1] == count - 1
    assert len({b - a for a, b in itertools.pairwise(kept)}) <= 1


def test_the_page_shows_each_task_and_its_course(browser: Any, evaluated: Path) -> None:
    for way in ("file", "http"):
        with watched(browser, evaluated, way) as at:
            page = at.open("checkpoints.html")
            table = page.locator("table", has_text="The last answers to each task")
            assert "step 12" in table.inner_text() and "0.6000" in table.inner_text()
            assert (
                "5 of" not in table.inner_text() and "5 shots, lm-eval 0.4.9" in table.inner_text()
            )
            assert page.locator("svg.chart polygon.band").count() == 1
            assert "chance" in page.locator("svg.chart").text_content()
            assert page.locator("b[onclick]").count() == 0 and at.wrong == []


def test_an_interval_stands_on_one_line(browser: Any, evaluated: Path) -> None:
    viewport = {"width": 1100, "height": 800}
    with watched(browser, evaluated, "file", viewport=viewport) as at:
        table = at.open("checkpoints.html").locator("table", has_text="The last answers")
        table.locator("td").first.evaluate(
            "cell => { cell.textContent = 'many words '.repeat(40) }"
        )
        cell = table.locator("tbody td:nth-child(5)")
        assert " to " in cell.inner_text()
        lines = """cell => {
            const range = document.createRange();
            range.selectNodeContents(cell);
            return new Set([...range.getClientRects()].map((box) => box.top)).size;
        }"""
        assert cell.evaluate(lines) == 1


def test_the_course_draws_a_point_for_each_step_that_was_asked(
    browser: Any, evaluated: Path
) -> None:
    with watched(browser, evaluated, "file") as at:
        curve = at.open("checkpoints.html").locator("svg.chart .curve")
        assert curve.locator("path.line").count() == 1
        assert curve.locator("circle.dot").count() == len(STEPS)


def test_the_page_passes_axe(browser: Any, evaluated: Path) -> None:
    passes_axe(browser, evaluated, "checkpoints.html")


def test_edited_numbers_of_a_page_are_named(evaluated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "run"))
    shown, own = (
        folder / layout.SITE / "data" / f"{name}.js" for name in ("evaluations", "states")
    )
    shown.write_bytes(own.read_bytes().replace(b'"states"', b'"evaluations"'))
    problems = [one for one in verify(folder, lambda _: None).problems if "site" in one.where]
    assert any(one.where == "site/data/evaluations.js" for one in problems)
    shown.unlink()
    problems = verify(folder, lambda _: None).problems
    assert ("FileMissing", "site/data/evaluations.js") in {
        (one.error, one.where) for one in problems
    }


def test_what_cannot_be_read_is_said(browser: Any, evaluated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(evaluated, tmp_path / "run"))
    (folder / layout.MANIFEST).unlink()
    (folder / layout.examples(1)).unlink()
    seal_as_it_is(folder, site=True)
    assert evaluations.told(folder, SCHEMA) == {"unreadable": True, "left_out": 0, "tasks": []}
    with watched(browser, folder, "file") as at:
        shown = at.open("checkpoints.html").locator("[role=alert]").inner_text()
        assert "cannot be read" in shown and at.wrong == []
    assert "FileMissing" in {one.error for one in verify(folder, lambda _: None).problems}
