"""The README of a release shows its evaluations, and verify makes the table again."""

from __future__ import annotations

from pathlib import Path

from pellucid.record.verdict import Problem
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import layout
from tests.release.evaluating import evaluate, rewrite


def problems(release: Path) -> list[Problem]:
    return verify(release, lambda what: None).problems


def table(release: Path) -> list[str]:
    text = (release / "README.md").read_text()
    lines = text.partition("\n## Evaluations\n")[2].partition("\n## ")[0].splitlines()
    return [line for line in lines if line.startswith("|")][2:]


def test_the_last_evaluation_of_each_task_on_the_last_step_is_shown(release: Path) -> None:
    before = (release / "README.md").read_bytes()
    made = evaluate(release, [6, 12, 12, 12])
    made[2] |= {"task": "b|_<x>"}
    made[4] |= {"task": "a", "metric": "measured"}
    rewrite(release, made)
    publish(release)
    assert problems(release) == []
    assert table(release) == [
        "| a | measured | acc | 0.600 | 0.209-0.906 | 0.500 | 5 |",
        "| arc&#95;easy | accuracy | acc | 0.600 | 0.209-0.906 | 0.500 | 5 |",
        "| b&#124;&#95;&#60;x&#62; | accuracy | acc | 0.600 | 0.209-0.906 | 0.500 | 5 |",
    ]
    (release / layout.EVALUATIONS).unlink()
    publish(release)
    assert (release / "README.md").read_bytes() == before


def test_another_number_in_the_table_is_found(release: Path) -> None:
    evaluate(release, [12])
    publish(release)
    path = release / "README.md"
    path.write_text(path.read_text().replace("| 0.600 |", "| 0.900 |"))
    details = [one.detail for one in problems(release) if one.where == "README.md"]
    assert any("0.900" in detail and "0.600" in detail for detail in details)


def test_of_evaluations_that_cannot_be_read_the_readme_says_so(release: Path) -> None:
    evaluate(release, [12])
    (release / layout.examples(1)).unlink()
    publish(release)
    assert table(release) == [] and "cannot be read" in (release / "README.md").read_text()
    found = [(one.error, one.where) for one in problems(release)]
    assert found == [("FileMissing", layout.examples(1))]
