"""The README of a release shows its evaluations, and verify makes the table again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid.record.verdict import Problem
from pellucid.release import readme
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import layout
from tests.release.evaluating import evaluate, evaluated, rewrite, seal_as_it_is


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
        f"| {one} &#40;lm-eval 0.4.9&#41; | {metric} | acc | 0.600 | 0.209-0.906 | 0.500 | 5 | 0 |"
        for one, metric in [
            ("a", "measured"),
            ("arc&#95;easy", "accuracy"),
            ("b&#124;&#95;&#60;x&#62;", "accuracy"),
        ]
    ]
    shutil.rmtree((release / layout.EVALUATIONS).parent)
    publish(release)
    assert (release / "README.md").read_bytes() == before


def test_of_variants_the_whole_task_is_shown_and_of_equal_ones_the_first(release: Path) -> None:
    """Neither a part of a task nor another try takes the place of the whole, in any order."""
    genesis = evaluate(release, [])[0]
    few: dict[str, Any] = {"settings": {"limit": 3}, "count": 3}
    whole = {"settings": {"num_fewshot": 0}}
    later = {"settings": {"num_fewshot": 5}, "word": "no"}
    for order in ([few, whole], [whole, few], [few, whole, later], [whole, later, few]):
        made = [evaluated(release, 12, number, **how) for number, how in enumerate(order, 1)]
        rewrite(release, [genesis, *made])
        publish(release)
        (row,) = table(release)
        assert "&#40;0 shots, lm-eval" in row and row.endswith(f"| 5 | {len(order) - 1} |"), row
        assert problems(release) == []


def test_a_readme_of_the_first_template_is_refused_if_it_has_evaluations(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows the variant that was asked last, and counts equal questions apart: a maker could
    choose it for that."""
    genesis = evaluate(release, [])[0]
    last = evaluated(release, 12, 2, {"limit": 3}, count=3)
    rewrite(release, [genesis, evaluated(release, 12, 1), last])
    monkeypatch.setattr(readme, "VERSION", 1)
    publish(release, site=False)
    assert table(release)[0].startswith("| arc&#95;easy | accuracy | acc | 0.667 | ")
    monkeypatch.undo()
    (problem,) = problems(release)
    assert problem.where == "README.md" and "template 1" in problem.detail
    publish(release, site=False)
    assert problems(release) == []


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
    seal_as_it_is(release)
    assert table(release) == [] and "cannot be read" in (release / "README.md").read_text()
    found = [(one.error, one.where) for one in problems(release)]
    assert found == [("FileMissing", layout.examples(1))]
