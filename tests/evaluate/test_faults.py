"""What is wrong with a task of lm-eval, told by the field or the line to correct."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import RightChoiceMissing, TaskDataInvalid, TaskDataMissing, TaskInvalid
from pellucid.evaluate import harness
from pellucid.evaluate.harness import HarnessTask, Wanted, prepare
from pellucid.record.requests import Likelihoods
from tests.evaluate import local_tasks

pytestmark = pytest.mark.usefixtures("own_data_sets")


def one(path: Path, **named: Any) -> HarnessTask:
    (task,) = prepare([Wanted(str(path))], **named)
    return task


def labelled(*answers: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows whose right answers are these, one after each other."""
    rows = local_tasks.choice_rows()
    return {
        "test": [row | {"answer": answers[at % len(answers)]} for at, row in enumerate(rows)],
        "train": [row | {"answer": answers[0]} for row in local_tasks.choice_rows(100)],
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"doc_to_target": "lable"},
            "12 of 12 .* document 0, where doc_to_target gives lable.* to 3",
        ),
        ({"doc_to_target": "anser"}, r"the data has no field anser \(near: answer\)"),
        (
            {"rows": labelled(0, 1, 9)},
            "4 of 12 documents .* document 2, where doc_to_target gives 9",
        ),
        ({"rows": labelled(9, 1)}, "6 of 12 documents .* document 0, where doc_to_target gives 9"),
        (
            {"rows": labelled(0, -1)},
            "6 of 12 documents .* document 1, where doc_to_target gives -1",
        ),
        ({"rows": labelled("one")}, "12 of 12 documents .* doc_to_target gives one"),
        ({"rows": labelled([4, 5])}, "12 of 12 documents"),
    ],
)
def test_documents_without_a_right_choice_are_counted(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    """lm-eval counts every answer to them as wrong."""
    with pytest.raises(RightChoiceMissing, match=f"{told}.*Correct doc_to_target in"):
        one(local_tasks.choices(tmp_path, **changes))


def test_only_the_documents_that_are_asked_need_a_right_choice(tmp_path: Path) -> None:
    path = local_tasks.choices(tmp_path, rows=labelled(0, 1, 9))
    assert len(one(path, limit=2).examples) == 2
    with pytest.raises(RightChoiceMissing, match="1 of 3 documents"):
        one(path, limit=3)


def test_several_right_choices_are_asked(tmp_path: Path) -> None:
    task = one(local_tasks.choices(tmp_path, rows=labelled([0, 2])))
    likeliest = [Likelihoods((-2.0, -3.0, -1.0, -4.0), (False,) * 4)] * len(task.examples)
    metric, numbers = task.rated(likeliest)
    assert metric == "measured" and all(row["acc"] == 1.0 for row in numbers)


def test_a_task_that_rates_itself_needs_no_right_choice(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def rate(doc, results):\n    return {'acc': 1.0}\n")
    path = local_tasks.choices(tmp_path, doc_to_target="lable")
    path.write_text(path.read_text() + "process_results: !function own.rate\n")
    assert len(one(path).examples) == local_tasks.DOCUMENTS


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metric_list": local_tasks.means("accc", "acc")}, "its metric accc (near: acc)"),
        ({"metric_list": [{"metric": "accc"}]}, "its metric accc (near: acc)"),
        ({"test_split": "tets"}, "test_split is tets (near: test), and its data has only"),
        ({"training_split": "x"}, "training_split is x, and its data has only these splits: test,"),
        ({"doc_to_target": "{{anser}}"}, "doc_to_target names anser (near: answer)"),
        ({"doc_to_choice": "choises"}, "doc_to_choice gives no choices, and the data has no field"),
    ],
)
def test_a_wrong_field_of_a_task_is_named(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(TaskInvalid, match=re.escape(told)):
        one(local_tasks.choices(tmp_path, **changes))


def test_a_file_that_names_no_task(tmp_path: Path) -> None:
    path = local_tasks.choices(tmp_path)
    path.write_text(path.read_text().replace("task: choices", "tsk: choices"))
    with pytest.raises(TaskInvalid, match="it has no key task"):
        one(path)


def test_a_broken_line_of_the_data_is_named(tmp_path: Path) -> None:
    path, data = local_tasks.choices(tmp_path), tmp_path / "choices.test.jsonl"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join([*lines[:4], lines[4][:-9] + "\n", *lines[5:]]))
    with pytest.raises(TaskDataInvalid, match=re.escape(f"line 5 of {data} is no JSON")) as caught:
        one(path)
    assert "YAML" not in str(caught.value)


def test_data_that_is_no_table_says_why(tmp_path: Path) -> None:
    rows = labelled(0) | {"train": labelled([0])["train"]}
    with pytest.raises(TaskDataInvalid, match="cast array of type"):
        one(local_tasks.choices(tmp_path, rows=rows))


@pytest.mark.parametrize("offline", [False, True])
def test_a_format_that_is_misspelt_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    import datasets

    def unreached(**_: Any) -> None:
        raise ConnectionError("Couldn't reach 'jsn' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreached)
    for name in harness._OFFLINE:
        monkeypatch.setenv(name, "0")
    path = local_tasks.choices(tmp_path, dataset_path="jsn")
    with pytest.raises(TaskDataMissing, match=r"its dataset_path is jsn \(near: json\)") as caught:
        one(path, offline=offline)
    assert ("--offline" in str(caught.value)) is offline
