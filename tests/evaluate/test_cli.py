"""The verb evaluate: what it prints, keeps and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.analysis.contamination import found
from pellucid.measured import stored
from pellucid.store import layout
from tests.conftest import pellucid

FEW = ["--tasks", "agreement,copying,validation", "--limit", "8"]


def test_answers_are_printed_and_kept(trained: Path) -> None:
    answer = pellucid("evaluate", str(trained), *FEW, "--steps", "0,last")
    assert answer.returncode == 0, answer.stderr
    rows = [line.replace(" (limit 8)", "").split() for line in answer.stdout.splitlines()]
    assert answer.stdout.count(" (limit 8) ") == 6
    assert rows[0][:3] == ["task", "step", "number"]
    assert [row[:3] for row in rows[1:7]] == [
        [task, step, number]
        for task, number in (
            ("agreement", "acc"),
            ("copying", "exact_match"),
            ("validation", "bits_per_byte"),
        )
        for step in ("0", "13")
    ]
    assert "--evaluations 20" in answer.stdout
    assert rows[0][-1] == "clean" and rows[6][-2] == "of"
    assert len(stored.entries(trained)) == 6
    journal = (trained / layout.JOURNAL).read_text().splitlines()[-1]
    assert json.loads(journal)["tasks"] == "agreement, copying, validation"
    # The same again asks nothing, says so, and prints the same numbers.
    again = pellucid("evaluate", str(trained), *FEW, "--steps", "0,last").stdout
    told = "6 of 6 rows are the run's own record: no model was asked now.\n"
    assert told in again and again.replace(told, "") == answer.stdout
    assert len(stored.entries(trained)) == 6


def test_the_json_has_every_number(trained: Path) -> None:
    answer = pellucid("evaluate", str(trained), *FEW, "--json")
    about = json.loads(answer.stdout)
    assert about["kept"] and len(about["evaluations"]) == 3
    for row in about["evaluations"]:
        assert row["interval"] is None or row["interval"]["low"] <= row["value"]
    (entry, *_) = stored.entries(trained)
    assert entry["numbers"]["acc"] and about["evaluations"][0]["chance"] == 0.5
    kept = {one["task"]: found(trained, one).as_json() for one in stored.entries(trained)}
    assert {row["task"]: row["contamination"] for row in about["evaluations"]} == kept
    assert sum(kept["validation"]["examples"].values()) == about["evaluations"][2]["examples"]


def test_without_an_index_the_column_clean_is_empty_and_says_why(trained: Path) -> None:
    (trained / "trace" / "manifest.json").unlink()
    few = ["--tasks", "agreement", "--limit", "2"]
    answer = pellucid("evaluate", str(trained), *few).stdout
    assert answer.splitlines()[1].endswith("  -")
    assert "no index" in answer and f"pellucid run {trained} --only index" in answer
    about = json.loads(pellucid("evaluate", str(trained), *few, "--json").stdout)
    assert about["evaluations"][0]["contamination"] is None


def test_a_sealed_release_stays_as_it_is(release: Path) -> None:
    answer = pellucid("evaluate", str(release), *FEW)
    assert answer.returncode == 0 and "not kept" in answer.stdout
    assert not (release / layout.EVALUATIONS).exists()
    assert pellucid("verify", str(release)).returncode == 0


def test_the_built_in_tasks_are_listed() -> None:
    answer = pellucid("evaluate", "--list")
    assert answer.returncode == 0 and "agreement" in answer.stdout
    about = json.loads(pellucid("evaluate", "--list", "--json").stdout)
    assert {task["name"] for task in about} >= {"agreement", "completion", "validation"}


def test_a_step_that_there_is_not_is_named(trained: Path) -> None:
    answer = pellucid("evaluate", trained, *FEW, "--steps", "0,99", check=None)
    assert answer.returncode != 0 and "99" in answer.stderr
    assert not (trained / layout.EVALUATIONS).exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tasks", ""], "--tasks: it names no task"),
        (["--tasks", " , "], "--tasks: it names no task"),
        (["--shots", "3"], "no solved examples, such as agreement"),
        (["--tasks", "x.yaml,copying", "--shots", "0"], "no solved examples, such as copying"),
        (["--tasks", "llm360", "--shots", "3"], "llm360 sets the shots"),
        (["--tasks", "missing.yaml"], "no such file or folder"),
        (["--tasks", "agreement", "--limit", "1", "--foreign", "missing"], "no such folder"),
    ],
)
def test_what_cannot_be_asked_is_named(trained: Path, arguments: list[str], told: str) -> None:
    answer = pellucid("evaluate", trained, *arguments, check=None)
    assert answer.returncode == 2 and told in " ".join(answer.stderr.split()), answer.stderr
    assert not (trained / layout.EVALUATIONS).exists()


def test_an_audit_of_no_evaluations_says_how_to_make_some(release: Path) -> None:
    answer = pellucid("audit", release, "--evaluations", "3", check=None)
    assert answer.returncode == 2 and f"pellucid evaluate {release}" in answer.stderr
