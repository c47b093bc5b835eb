"""The verb evaluate: what it prints, keeps and refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.analysis.contamination import found
from pellucid.measured import stored
from pellucid.release.publish import publish
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


def test_each_row_of_a_sealed_release_says_whether_it_is_kept(trained: Path) -> None:
    few = ["--tasks", "agreement", "--limit", "8"]
    pellucid("evaluate", trained, *few, "--steps", "4")
    publish(trained)
    answer = pellucid("evaluate", trained, *few, "--steps", "0,4").stdout
    head, first, second = answer.splitlines()[:3]
    assert head.split()[-2:] == ["kept", "clean"]
    place = head.index("kept")
    assert [row[place:].split()[0] for row in (first, second)] == ["no", "yes"]
    assert "not kept: 1 of 2 rows, because the run is sealed" in answer
    about = json.loads(pellucid("evaluate", trained, *few, "--steps", "0,4", "--json").stdout)
    assert about["kept"] is False and [row["kept"] for row in about["evaluations"]] == [False, True]
    same = json.loads(pellucid("evaluate", trained, *few, "--steps", "4", "--json").stdout)
    assert same["kept"] is True


@pytest.mark.parametrize(
    ("sealed", "keeping", "told"),
    [
        (False, 0, "no evaluation was finished, so nothing new is kept"),
        (False, 1, "1 new evaluation is kept, and the same command continues"),
        (True, 1, "nothing is kept, because the run is sealed"),
    ],
)
def test_an_interruption_says_what_is_kept(
    trained: Path, sealed: bool, keeping: int, told: str
) -> None:
    if sealed:
        publish(trained)
    code = (
        "import sys\nfrom pellucid.cli import main\nfrom pellucid.evaluate import measure\n"
        "whole, keeping = measure.measure, int(sys.argv.pop())\n"
        "def interrupted(*given):\n"
        "    for number, one in enumerate(whole(*given)):\n"
        "        if number == keeping:\n"
        "            raise KeyboardInterrupt\n"
        "        yield one\n"
        "measure.measure = interrupted\nmain()\n"
    )
    few = ["--tasks", "agreement", "--limit", "2", "--steps", "0,4"]
    command = [sys.executable, "-c", code, "evaluate", str(trained), *few, str(keeping)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == f"pellucid: interrupted; {told}"
    assert len(stored.entries(trained)) == (0 if sealed else keeping)


def test_the_built_in_tasks_are_listed() -> None:
    answer = pellucid("evaluate", "--list")
    assert answer.returncode == 0 and "agreement" in answer.stdout
    about = json.loads(pellucid("evaluate", "--list", "--json").stdout)
    assert {task["name"] for task in about} >= {"agreement", "completion", "validation"}


def test_the_list_has_the_chance_that_the_documentation_has() -> None:
    text = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
    documented = dict(rows)
    listed = [line.split() for line in pellucid("evaluate", "--list").stdout.splitlines()[1:-1]]
    names = [row[0] for row in listed]
    assert {name: documented[name].split() for name in names} == {
        row[0]: row[2:4] if row[3] == "bits" else [row[2]] for row in listed
    }
    about = json.loads(pellucid("evaluate", "--list", "--json").stdout)
    assert {task["name"]: task["chance"] for task in about}["validation"] == 8.0


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
