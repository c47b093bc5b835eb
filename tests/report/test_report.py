"""The report of one run: every section from the record, and what is said where it is missing."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from pellucid.analysis import contamination
from pellucid.analysis import memorization as memory
from pellucid.analysis.forgetting import forgetting
from pellucid.cli.report import report as verb
from pellucid.demo import compare
from pellucid.errors import (
    EvaluationBroken,
    FolderTaken,
    FolderUnfit,
    ReportInside,
    RunMissing,
    RunTwice,
)
from pellucid.evaluate import kept
from pellucid.evaluate.measure import measure
from pellucid.evaluate.suite import calibration
from pellucid.evaluate.tasks import chosen
from pellucid.inputs import Inputs
from pellucid.look.status import status
from pellucid.measured import stored
from pellucid.recipe import load
from pellucid.record.requests import Likelihoods
from pellucid.release.verify import verify
from pellucid.report import analysed
from pellucid.report.blocks import Section, Table
from pellucid.report.markdown import MARK, markdown
from pellucid.report.page import page
from pellucid.report.reported import Reported
from pellucid.report.write import SECTIONS, of_run, report
from pellucid.site.overview import corpus
from pellucid.store import files, layout, metrics
from tests.conftest import finish, make_run, pellucid
from tests.report.conftest import Family
from tests.serving import serving
from tests.test_docs import check, commands_in


def sections(run: Path) -> dict[str, Section]:
    return {str(one.title): one for one in of_run(Reported(str(run))).sections}


def words(section: Section) -> str:
    """Everything that a section shows, but its pictures."""
    tables = [block for block in section.blocks if isinstance(block, Table)]
    cells = [cell for table in tables for row in table.rows for cell in row]
    return " ".join(cells)


def test_a_report_is_two_files_and_pictures(family: Family, tmp_path: Path) -> None:
    target, numbers = report([str(family.parent)], tmp_path / "out")
    assert (target / "report.md").read_text().startswith(MARK)
    pictures = re.findall(r"\]\((pictures/[a-z0-9-]+\.svg)\)", (target / "report.md").read_text())
    assert sorted([*pictures, "report.html", "report.md"]) == files.walk(target)
    assert len(pictures) == len(set(pictures)) > 6
    assert len(numbers) == len(SECTIONS)
    json.dumps(numbers, allow_nan=False)
    assert (target / "report.html").read_text().count("<svg") == len(pictures)


def test_the_same_record_gives_the_same_bytes(family: Family, tmp_path: Path) -> None:
    folders = [report([str(family.parent)], tmp_path / name)[0] for name in "ab"]
    content = [[(one / name).read_bytes() for name in files.walk(one)] for one in folders]
    assert content[0] == content[1]


def test_every_number_is_that_of_the_record(family: Family) -> None:
    about, made = status(family.parent), sections(family.parent)
    run = made["The run"]
    assert run.numbers["head"] == about["head"] and about["head"] in words(run)
    assert run.numbers["parameters"] == corpus(family.parent)["parameters"]
    assert made["The texts"].numbers == corpus(family.parent)
    losses = [
        loss
        for batch in metrics.rows(family.parent, "steps")
        for loss in batch.column("loss").to_pylist()
    ]
    training = made["Training"].numbers
    assert training["last_loss"] == losses[-1] == about["loss"]
    assert training["mean_loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert training["tokens"] == int(about["tokens"]) and training["flops"] > 0
    assert made["Validation"].numbers["validation"] == about["validation"]
    packed, levels = made["Validation"].numbers["baselines"], compare(family.parent)
    assert 8 * packed["xz"] / packed["bytes"] == levels.xz
    rows = stored.summaries(family.parent, stored.of_run(family.parent))
    told = made["Evaluations"].numbers["evaluations"]
    assert sorted(map(json.dumps, told)) == sorted(json.dumps(row.as_json()) for row in rows)


def test_evaluations_show_the_last_step_with_interval_and_chance(family: Family) -> None:
    text = words(sections(family.parent)["Evaluations"])
    assert re.search(r"halves \(made 1\) accuracy acc 13 0\.500 0\.\d+-0\.\d+ 0\.500 8", text)
    content = page(of_run(Reported(str(family.parent))))
    assert "modified Jeffreys" in content and "chance: 0.5." in content


def test_incidents_and_branches(rolled_back: Path) -> None:
    made = sections(rolled_back)["Incidents and branches"]
    assert made.numbers["branches"] == [{"branch": 1, "step": 11, "to": 8, "abandoned": 3}]
    assert "rollback" in words(made) and "loss" in words(made)
    assert 'class="mark"' in page(of_run(Reported(str(rolled_back))))


def test_the_sessions_of_the_journal(family: Family) -> None:
    made = sections(family.parent)["Environment"]
    assert len(made.numbers["sessions"]) == made.numbers["entries"]["start"] >= 1
    assert made.numbers["packages"]["numpy"] == np.__version__


def test_a_fork_says_what_it_goes_on_from(family: Family) -> None:
    content = markdown(of_run(Reported(str(family.forks[0]))))
    assert "goes on after step 7" in content and status(family.parent)["head"] in content
    assert "without" in content and family.without[0].rpartition("/")[2] in content


def test_every_command_can_be_called(family: Family) -> None:
    content = markdown(of_run(Reported(str(family.parent))))
    found = commands_in(content)
    assert {one[0] for one in found} >= {"verify", "audit", "sql", "status"}
    for one in found:
        check(one)
    lines = [check for one in sections(family.parent).values() for check in one.checks]
    assert all(shlex.split(one.line)[2] == family.parent.name for one in lines)


def test_no_folder_of_this_machine_is_told(family: Family) -> None:
    made = of_run(Reported(str(family.parent)))
    for content in (markdown(made), page(made)):
        assert str(family.parent.parent) not in content


def test_what_is_missing_is_said_with_the_command_that_makes_it(
    corpus: Path, tmp_path: Path
) -> None:
    made = sections(make_run(tmp_path / "new", corpus))
    commands = {title: [one.line for one in section.checks] for title, section in made.items()}
    for title in ("The texts", "Training", "Validation", "Incidents", "Environment"):
        assert commands[title] == ["pellucid run new"]
    assert commands["Evaluations"] == ["pellucid evaluate new --steps log"]
    for stage in ("documents", "tokenizer", "shards"):
        finish(tmp_path / "new", stage)
    prepared = sections(tmp_path / "new")
    assert "The texts are not" not in str(prepared["The texts"].blocks)
    assert prepared["The run"].numbers["parameters"] > 0


def test_a_sealed_release_is_read_and_left_as_it_is(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    target, _ = report([str(release)], None)
    assert (
        re.fullmatch("small-[0-9a-f]{8}-report", str(target)) and (target / "report.html").is_file()
    )
    assert verify(release, lambda _: None).problems == []


def test_no_report_lies_in_a_run(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(release)
    with pytest.raises(ReportInside, match=r"--to \.\./small-[0-9a-f]{8}-report"):
        report(["."], None)
    with pytest.raises(ReportInside, match="lies in the run"):
        report(["."], release / "data" / "new")
    report(["."], Path("../beside"))


def test_only_a_report_is_written_over(family: Family, tmp_path: Path) -> None:
    target = tmp_path / "out"
    report([str(family.parent)], target)
    (target / "pictures/loss.svg").unlink()
    report([str(family.parent)], target)
    assert (target / "pictures/loss.svg").is_file()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(FolderTaken, match="Or choose the folder of an earlier report"):
        report([str(family.parent)], target)
    assert (target / "notes.txt").read_text() == "mine"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "report.md").write_text("# mine")
    with pytest.raises(FolderTaken):
        report([str(family.parent)], foreign)


def test_what_is_no_run_or_is_there_twice(family: Family, tmp_path: Path) -> None:
    with pytest.raises(RunMissing):
        report([str(tmp_path)], tmp_path / "out")
    with pytest.raises(RunTwice, match="pellucid report A B"):
        report([str(family.parent), f"{family.parent}/."], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_broken_evaluations_are_an_error(family: Family, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(family.parent, tmp_path / "broken"))
    path = broken / layout.examples(1)
    path.write_bytes(path.read_bytes().replace(b'"target":0', b'"target":1', 1))
    with pytest.raises(EvaluationBroken):
        report([str(broken)], tmp_path / "out")


def test_a_release_behind_an_address(finished: Path, tmp_path: Path) -> None:
    with serving(finished.parent) as served:
        url = f"{served.url}/{finished.name}"
        near, far = (
            report([run], tmp_path / name) for run, name in ((str(finished), "a"), (url, "b"))
        )
    assert near[1]["Memorization"].pop("forgetting"), "not read over the network"
    assert near[1] == far[1]
    assert f"pellucid verify {url}" in (far[0] / "report.md").read_text()


def test_the_verb_prints_where_it_is_and_the_numbers(
    family: Family, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb([str(family.parent)], tmp_path / "out")
    assert f"{tmp_path}/out/report.html" in capsys.readouterr().out
    done = pellucid("report", family.parent, family.forks[0], "--to", tmp_path / "two", "--json")
    told = json.loads(done.stdout)
    assert told["to"] == str(tmp_path / "two") and len(told["sections"]) == 2


def test_what_a_run_memorised_and_had_read(family: Family, tmp_path: Path) -> None:
    run = Path(shutil.copytree(family.parent, tmp_path / "run"))
    inputs = Inputs.load(run, load(run))
    (task,) = chosen("memorization", inputs)
    with kept.writing(run, [task], [13]) as chain:
        for result in measure(inputs, [task], [13], lambda *_: None, lambda *_: None):
            chain.keep(kept.evaluation(inputs.recorded(), 13, task, result.answers))
    made, before = sections(run), sections(family.parent)
    found = made["Memorization"]
    matrix = memory.matrix(run)
    assert matrix and found.numbers["matrix"] == memory.as_json(matrix)
    assert found.numbers["forgetting"] == memory.as_json(forgetting(run))
    assert re.search(r"drawn from steps validation \d+ 0\.\d+ ", words(found))
    assert before["Memorization"].checks[0].line.endswith("--tasks memorization --steps log")
    told = made["Contamination"].numbers["tasks"]
    assert [one["task"] for one in told] == ["alone", "facts", "halves"], "not memorization"
    last = [one for one in stored.of_run(run) if (one["task"], one["step"]) == ("halves", 13)]
    expected = contamination.found(run, last[0]).as_json()
    assert told[2] == {"task": "halves", "variant": "made 1", "step": 13, **expected}


def test_without_an_index_no_example_is_looked_up(family: Family, tmp_path: Path) -> None:
    run = Path(shutil.copytree(family.parent, tmp_path / "run"))
    shutil.rmtree(run / layout.TRACE)
    (only,) = sections(run)["Contamination"].checks
    assert only.line == "pellucid run run --only index"


def test_tasks_that_are_not_looked_up_are_counted(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysed, "MOST_DRAWN", 2)
    found = sections(family.parent)["Contamination"]
    assert [one["task"] for one in found.numbers["tasks"]] == ["alone", "facts"]
    assert found.numbers["left_out"] == 1
    assert "Not looked up: 1 more task of the run" in str(found.blocks)


def test_of_a_fork_its_own_steps_are_looked_at_and_it_says_so(family: Family) -> None:
    found = sections(family.forks[0])["Contamination"]
    assert {one["after_step"] for one in found.numbers["tasks"]} == {7}
    assert str(found.blocks).count("only steps after 7 are looked at") == 1, "not for each task"
    assert "are looked at" not in str(sections(family.parent)["Contamination"].blocks)


def test_evaluate_says_of_a_fork_once_which_steps_it_looks_at(
    family: Family, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(family.forks[0], tmp_path / "run"))
    done = pellucid("evaluate", run, "--tasks", "agreement,brackets", "--limit", "4")
    told = "clean: only steps after 7 are looked at, not those of its parent"
    assert [line for line in done.stdout.splitlines() if "only steps after" in line] == [told]


def test_the_command_of_contamination_asks_the_tasks_and_steps_of_the_table(
    family: Family, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(family.parent, tmp_path / "run"))
    inputs = Inputs.load(run, load(run))
    tasks = chosen("agreement,brackets", inputs, limit=12)
    with kept.writing(run, tasks, [7]) as chain:
        for one in measure(inputs, tasks, [7], lambda *_: None, lambda *_: None):
            chain.keep(kept.evaluation(inputs.recorded(), 7, one.task, one.answers))
    found = sections(run)["Contamination"]
    assert sorted(one.line for one in found.checks) == [
        "pellucid evaluate run --tasks PATH/alone.yaml,PATH/facts.yaml,PATH/halves.yaml"
        " --steps 13 --json",
        "pellucid evaluate run --tasks agreement,brackets --steps 7 --limit 12 --json",
    ]
    assert "PATH is the folder" in "".join(one.does for one in found.checks if "PATH" in one.line)
    lookup = contamination.Lookup(run)
    (table,) = [one for one in found.blocks if isinstance(one, Table)][:1]
    assert [str(one) for one in table.head[-2:]] == ["of the clean", "95% interval"]
    for row in table.rows:
        entry = next(one for one in stored.of_run(run)[::-1] if one["task"] == row[0].split()[0])
        clean = lookup.of(entry).clean
        assert row[-2:] == (clean.cells()[:2] if clean else ("-", "-"))


def test_calibration_and_validation_texts_are_told(family: Family, tmp_path: Path) -> None:
    run = Path(shutil.copytree(family.parent, tmp_path / "run"))
    inputs = Inputs.load(run, load(run))
    tasks = chosen("validation,agreement", inputs, limit=12)
    with kept.writing(run, tasks, [13]) as chain:
        for one in measure(inputs, tasks, [13], lambda *_: None, lambda *_: None):
            chain.keep(kept.evaluation(inputs.recorded(), 13, one.task, one.answers))
    shown = sections(run)["Evaluations"]
    tables = {str(block.caption): block for block in shown.blocks if isinstance(block, Table)}
    entry = next(one for one in stored.entries(run) if one["task"] == "agreement")
    lines = [*stored.lines(run, entry)]
    nats = [line.answer.nats for line in lines if isinstance(line.answer, Likelihoods)]
    bins = calibration.bins([line.example for line in lines], nats)
    row = next(
        one
        for one in tables["Calibration at the last step"].rows
        if one[0] == "agreement (limit 12)"
    )
    assert row[-1] == f"{calibration.error(bins):.3f}"
    assert row[-2] == f"{sum(line.numbers['acc'] for line in lines) / len(lines):.3f}"
    groups = [one[0] for one in tables["Validation texts by source and length, step 13"].rows]
    assert groups[:2] == ["all", "source stones"] and groups[2].startswith("length ")


def test_a_row_names_the_metric_so_that_measured_numbers_are_told(family: Family) -> None:
    shown = sections(family.parent)["Evaluations"]
    table = next(one for one in shown.blocks if isinstance(one, Table))
    metrics_of = {
        f"{entry['task']} (made 1)": entry["metric"] for entry in stored.entries(family.parent)
    }
    assert str(table.head[1]) == "metric"
    assert {row[0]: row[1] for row in table.rows} == metrics_of


@pytest.mark.parametrize("length", [250, 300, 5000])
def test_a_name_that_is_too_long_is_named(release: Path, tmp_path: Path, length: int) -> None:
    with pytest.raises(FolderUnfit, match="File name too long"):
        report([str(release)], tmp_path / ("x" * length))
    with (
        pytest.raises(FolderUnfit, match="File name too long"),
        files.new_folder(tmp_path / ("x" * length)),
    ):
        pass
