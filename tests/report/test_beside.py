"""Runs beside each other: what differs, and what came of it."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from pellucid.fork import fork
from pellucid.inputs import Inputs
from pellucid.look.status import status
from pellucid.measured import stored
from pellucid.measured.intervals import of_runs
from pellucid.measured.paired import paired
from pellucid.recipe import load
from pellucid.report import losses
from pellucid.report.blocks import Report
from pellucid.report.losses import over, read
from pellucid.report.markdown import markdown
from pellucid.report.page import page
from pellucid.report.reported import Reported
from pellucid.report.write import of_runs as reported
from pellucid.report.write import report
from pellucid.store import metrics
from tests.conftest import finish, make_run
from tests.report.conftest import NATS, RIGHT, Family
from tests.report.made import choices, keep, texts


def beside(*runs: Path) -> Report:
    first, *others = [Reported(str(run)) for run in runs]
    return reported(first, others)


def numbers(made: Report, title: str) -> dict:
    return next(one.numbers for one in made.sections if one.title == title)


def alike(a: Path, b: Path, steps: range) -> dict:
    """The losses of the rows that read the same block in both runs."""
    rows = [
        {
            (row["step"], *(row[name] for name in ("source", "epoch", "block", "start"))): row
            for step in steps
            for row in metrics.of_step(run, "sequences", step)
        }
        for run in (a, b)
    ]
    same = rows[0].keys() & rows[1].keys()
    tokens = sum(rows[0][key]["tokens"] for key in same)
    own, others = (math.fsum(of[key]["loss_sum"] for key in same) / tokens for of in rows)
    told = {"a": own, "b": others, "difference": others - own}
    return pytest.approx(told | {"same": len(same), "rows": len(rows[0])}, rel=1e-12)


def test_a_fork_beside_its_parent(family: Family) -> None:
    parent, fork = family.parent, family.forks[0]
    about = numbers(beside(parent, fork), "without-0 beside small")
    assert about["relation"] == "a fork of the first run after step 7"
    assert [(one["field"], list(one["b"])) for one in about["recipe"]] == [
        ("fork.without", [family.without[0]])
    ]
    told = about["losses"]
    assert (told["step"], told["over"]) == (13, 6)
    assert told["last"] == alike(parent, fork, range(13, 14))
    assert told["mean"] == alike(parent, fork, range(8, 14))
    assert 0 < told["mean"]["same"] < told["mean"]["rows"], "the fork reads some other texts"
    last = [status(run)["validation"][-1]["bits_per_byte"] for run in (parent, fork)]
    (row,) = about["validation"]
    assert (row["step"], row["a"], row["b"]) == (13, *last) and row["source"] is None


def test_evaluations_are_paired_by_example(family: Family) -> None:
    parent, fork = family.parent, family.forks[0]
    about = numbers(beside(parent, fork), "without-0 beside small")
    shown = {one["task"]: one for one in about["evaluations"]}
    assert set(shown) == {"halves", "facts"}, "not the task that only one was asked"
    halves = shown["halves"]
    assert (halves["step"], halves["a"], halves["b"], halves["changed"]) == (13, 0.5, 0.375, 1)
    entries = [
        next(one for one in stored.of_run(run) if (one["task"], one["step"]) == ("facts", 13))
        for run in (parent, fork)
    ]
    lines = [stored.lines(run, one) for run, one in zip((parent, fork), entries, strict=True)]
    expected = paired(entries[0], lines[0], entries[1], lines[1]).as_json()
    assert shown["facts"] == expected
    bits = [(1 + n / 9) / math.log(2) / 5 for n in range(8)]
    assert expected["difference"] == pytest.approx(math.fsum(bits) / 8)
    assert expected["interval"]["low"] > 0.2, "the effect is found"


def test_tasks_with_other_examples_are_named(family: Family, tmp_path: Path) -> None:
    copies = [
        Path(shutil.copytree(run, tmp_path / run.name)) for run in (family.parent, family.forks[0])
    ]
    for run, make, values in zip(copies, (choices, texts), (RIGHT, NATS), strict=True):
        keep(run, make("other"), {13: values})
    made = beside(*copies)
    about = numbers(made, "without-0 beside small")
    assert about["other_examples"] == ["other"], "not alone, which one run was asked"
    assert "Other examples in the two runs, not compared: other." in markdown(made)
    assert "not compared" not in markdown(beside(family.parent, family.forks[0]))


def test_forks_of_one_kind_have_an_interval_over_them(family: Family) -> None:
    made = beside(family.parent, *family.forks)
    over = numbers(made, "Over the runs without-0, without-1")
    known = {one["what"]: one for one in over["differences"]}
    assert known["facts (made 1)"]["values"] == pytest.approx(
        [math.fsum(1 + k / 10 + n / 9 for n in range(8)) / 8 / math.log(2) / 5 for k in (0, 1)]
    )
    interval = of_runs(known["facts (made 1)"]["values"])
    assert interval and known["facts (made 1)"]["interval"] == interval._asdict()
    assert {"training loss", "validation", "halves (made 1)", "facts (made 1)"} == set(known)
    text = markdown(made)
    assert "Student's t over the differences" in text and "fork.without" in text


def test_forks_of_different_kinds_have_none(family: Family, rolled_back: Path) -> None:
    titles = [one.title for one in beside(family.parent, family.forks[0], rolled_back).sections]
    assert titles == ["The runs", "without-0 beside small", "back beside small"]


def test_a_parent_beside_its_fork_and_two_forks(family: Family) -> None:
    made = beside(family.forks[0], family.parent, family.forks[1])
    assert "goes on from" in numbers(made, "small beside without-0")["relation"]
    assert "a fork of the same run" in numbers(made, "without-1 beside without-0")["relation"]


def test_a_run_that_changed_nothing(finished: Path, tmp_path: Path, family: Family) -> None:
    """A copy of a run has its name, its losses and no difference; its name gets a number."""
    made = beside(finished, family.parent)
    about = numbers(made, "small (2) beside small")
    assert about["recipe"] == [] and about["losses"]["mean"]["difference"] == 0
    assert "The recipes have the same values" in markdown(made)


def test_runs_that_read_other_texts_have_no_difference_of_losses(
    family: Family, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no row of a step reads the same block, the losses are of different texts."""
    rows = read(Reported(str(finished)), 7, 13)
    others = {(*row[:3], row[3] + 1000, *row[4:]): loss + 1 for row, loss in rows.items()}
    told = over(rows, others, True)
    assert told and told.difference is None and (told.same, told.rows) == (0, len(rows))
    assert told.b == pytest.approx(told.a + len(rows) / sum(row[-1] for row in rows))
    assert over(rows, rows, False) == told._replace(b=told.a), "blocks of other data"
    monkeypatch.setattr(
        losses, "read", lambda run, *_: others if run.label.startswith("without") else rows
    )
    made = beside(family.parent, *family.forks)
    about = numbers(made, "without-0 beside small")["losses"]["mean"]
    assert about["difference"] is None and about["same"] == 0
    assert re.search(r"\| step 13 \| \S+ \| \S+ \| - \| 0 of ", markdown(made))
    assert "training loss" not in {
        one["what"] for one in numbers(made, "Over the runs without-0, without-1")["differences"]
    }


def test_losses_that_are_no_numbers_are_not_compared(finished: Path) -> None:
    rows = read(Reported(str(finished)), 12, 13)
    assert over(rows, dict.fromkeys(rows, math.nan), True) is None
    assert over(rows, {}, True) is None


def test_other_tokenizers_are_said_in_words(finished: Path, corpus: Path, tmp_path: Path) -> None:
    other = finish(make_run(tmp_path / "bytes", corpus, ["tokenizer.kind=bytes"]))
    made = beside(finished, other)
    about = numbers(made, "bytes beside small")
    assert about["losses"] is None
    text = markdown(made)
    assert "losses per token are not comparable" in text and "pictures/loss.svg" not in text
    assert "No task was asked of both runs" in text


def test_both_files_show_the_differences(family: Family, tmp_path: Path) -> None:
    target, told = report([str(family.parent), *map(str, family.forks)], tmp_path / "out")
    text, content = (target / "report.md").read_text(), (target / "report.html").read_text()
    rows = [line for line in text.splitlines() if "halves" in line]
    assert re.search(r"0\.500 \| 0\.375 \| -0\.1250 \| -0\.\d{4} to", "".join(rows)), rows
    assert "-0.1250" in content and "two examples added" in content
    assert "pellucid diff small without-0" in text
    json.dumps(told, allow_nan=False)
    assert len(RIGHT) == len(NATS) == 8
    assert page(beside(family.parent, *family.forks)) == content


def test_the_default_folder_has_the_names_of_the_runs(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    target, _ = report([str(family.parent), str(family.forks[1])], None)
    assert re.fullmatch("small-without-1-[0-9a-f]{8}-report", str(target))
    swapped, _ = report([str(family.parent), str(family.forks[0])], None)
    again, _ = report([str(family.parent), str(family.forks[1])], None)
    assert again == target != swapped


def test_runs_of_one_name_get_reports_of_their_own(
    finished: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = make_run(tmp_path / "other" / finished.name, corpus, ["train.lr=0.004"])
    shutil.copytree(finished, tmp_path / "copy")
    own, others, copied = (report([str(run)], None)[0] for run in (finished, other, "copy"))
    assert own == copied != others


def test_copies_of_a_run_are_not_several_runs(
    finished: Path, tmp_path: Path, family: Family
) -> None:
    copies = [Path(shutil.copytree(family.forks[0], tmp_path / name)) for name in "ab"]
    made = beside(family.parent, *copies, finished)
    assert not [one for one in made.sections if str(one.title).startswith("Over the runs")]
    assert "a copy of the first run" in numbers(made, "small (2) beside small")["relation"]
    made = beside(family.parent, *copies, *family.forks)
    (over,) = [one for one in made.sections if str(one.title).startswith("Over the runs")]
    assert len(over.numbers["runs"]) == 2


def test_runs_without_a_step_have_nothing_to_compare(
    family: Family, corpus: Path, tmp_path: Path
) -> None:
    inputs = Inputs.load(family.parent, load(family.parent))
    fork(inputs, 7, tmp_path / "waiting", ["train.lr=1e-4"], [], lambda *_: None)
    new = make_run(tmp_path / "new", corpus)
    made = beside(family.parent, tmp_path / "waiting", new)
    about = numbers(made, "waiting beside small")
    assert about["relation"] == "a fork of the first run after step 7"
    assert about["losses"] is None and about["evaluations"] == [] == about["validation"]
    assert numbers(made, "new beside small")["relation"] == "a run of its own"
    for content in (markdown(made), page(made)):
        assert "The runs have no losses of one step" in content
