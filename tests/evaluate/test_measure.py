"""Evaluations that a run keeps: asked once, whole after a kill, and what verify holds them to."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pellucid.errors import (
    EvaluationBroken,
    EvaluationLost,
    StateDiffers,
    StepUnknown,
    TaskUnfit,
)
from pellucid.evaluate import kept
from pellucid.evaluate import measure as measure_room
from pellucid.evaluate.measure import Measured, measure
from pellucid.evaluate.task import Task
from pellucid.inputs import Inputs
from pellucid.measured import stored
from pellucid.recipe import load
from pellucid.record import evaluations
from pellucid.record.metrics import MEASURED
from pellucid.record.requests import (
    Answer,
    Choices,
    Continue,
    Example,
    Generate,
    Request,
    Rolling,
    Target,
)
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import layout
from tests.release.evaluating import rewrite

ASKED: dict[str, list[tuple[Request, Target]]] = {
    "accuracy": [(Choices("the cat", (" sat", " sang")), 0), (Choices("a", (" b", " c")), 1)],
    "bits_per_byte": [(Rolling("the cat sat on the mat"), None), (Rolling("x"), None)],
    "exact_match": [(Generate("the cat", ("\n",), 5), "sat"), (Generate("", (), 3), "the")],
    "likelihood": [(Choices("the cat", (" sat",)), None)],
    "extraction": [(Continue((5, 6, 7), 4), (1, 2, 3, 4)), (Continue((9,), 2), (8, 8))],
}
MADE = ("made", "1")
TASKS = [
    Task(
        metric,
        metric,
        [Example(f"{number}", *asked, "") for number, asked in enumerate(examples)],
        {"seed": 1},
        harness=MADE,
    )
    for metric, examples in ASKED.items()
]


def measured(
    folder: Path, steps: list[int], tasks: list[Task] = TASKS, keep: bool = True
) -> list[Measured]:
    inputs, results = Inputs.load(folder, load(folder)), []
    with kept.writing(folder, tasks, steps) as chain:
        known = stored.entries(folder)
        for one in measure(inputs, tasks, steps, lambda *_: None, lambda *_: None, known):
            results.append(one)
            if keep and one.entry is None:
                chain.keep(kept.evaluation(inputs.recorded(), one.step, one.task, one.answers))
    return results


def test_what_is_kept_verifies_and_is_not_asked_again(trained: Path) -> None:
    assert all(one.entry is None for one in measured(trained, [0, 12]))
    entries = stored.entries(trained)
    assert [(entry["step"], entry["task"]) for entry in entries] == [
        (step, metric) for step in (0, 12) for metric in ASKED
    ]
    publish(trained)
    report = verify(trained, lambda _: None)
    assert report.ok and "evaluations" in report.checked
    (trained / layout.MANIFEST).unlink()
    again = measured(trained, [0, 6, 12])
    assert {one.step for one in again if one.entry is None} == {6}
    assert {one.step for one in again if one.entry} == {0, 12}


def test_other_examples_are_asked(trained: Path) -> None:
    measured(trained, [12], TASKS[:1])
    task = TASKS[0]
    others = [replace(task, examples=task.examples[:1]), replace(task, name="another")]
    assert [one.entry for one in measured(trained, [12], others)] == [None] * 2
    assert all(one.entry for one in measured(trained, [12], [task]))


class ByHand(Task):
    """Rated by nobody but who asked."""

    def rated(self, answers: Sequence[Answer]) -> tuple[str, list[Mapping[str, float]]]:
        return MEASURED, [{"good": 1.0} for _ in answers]


def test_who_asked_counts_where_no_metric_rates(trained: Path) -> None:
    """Equal examples that a metric rates have equal numbers, whoever asks. Others may not."""
    for kind, again in ((Task, False), (ByHand, True)):
        task = kind(kind.__name__, "accuracy", TASKS[0].examples, harness=MADE)
        measured(trained, [12], [task])
        others = [replace(task, settings={"seed": 2}), replace(task, harness=("made", "2"))]
        assert all(one.entry for one in measured(trained, [12], [task]))
        assert [one.entry is None for one in measured(trained, [12], others)] == [again] * 2


@pytest.mark.parametrize("task", [
    replace(TASKS[0], name="agreement"),
    replace(TASKS[0], harness=("pellucid", "9.9")),
], ids=["a built-in name", "a built-in harness"])  # fmt: skip
def test_what_is_not_built_in_is_not_kept_as_if_it_were(trained: Path, task: Task) -> None:
    with pytest.raises(TaskUnfit, match="only built-in tasks"):
        measured(trained, [12], [task])
    assert stored.entries(trained) == []


def test_a_step_has_the_same_answers_alone_and_among_others(trained: Path) -> None:
    among = {one.step: one.answers for one in measured(trained, [3, 7, 9], TASKS[:1], keep=False)}
    (alone,) = measured(trained, [7], TASKS[:1], keep=False)
    assert alone.answers == among[7]
    assert among[3] != among[9]


def in_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_room, "workers", lambda *_: 2)
    monkeypatch.setattr(measure_room, "WORTH", 1e-9)


def test_processes_give_the_same_answers(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = measured(trained, [0, 5, 9, 12], keep=False)
    in_processes(monkeypatch)
    told: list[tuple[str, int, int]] = []
    inputs = Inputs.load(trained, load(trained))
    shared = [
        *measure(inputs, TASKS, [0, 5, 9, 12], lambda *_: None, lambda *said: told.append(said))
    ]
    assert sorted(shared, key=lambda one: one.step) == alone
    examples = 4 * sum(len(task.examples) for task in TASKS)
    assert told[-1] == ("4 steps", examples, examples)


def test_what_is_wrong_in_a_process_is_named(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_processes(monkeypatch)
    anchor = layout.anchor(trained, 10) / "model.safetensors"
    damaged = bytearray(anchor.read_bytes())
    damaged[-1] ^= 1
    anchor.write_bytes(damaged)
    with pytest.raises(StateDiffers):
        measured(trained, [0, 12])
    monkeypatch.setattr(measure_room, "_of_part", killed)
    with pytest.raises(EvaluationLost, match="memory"):
        measured(trained, [0, 12])


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_examples_without_an_entry_are_written_anew(trained: Path) -> None:
    """As a kill between both leaves them."""
    measured(trained, [12], TASKS[:2])
    chain, examples = trained / layout.EVALUATIONS, trained / layout.examples(2)
    whole = chain.read_bytes(), examples.read_bytes()
    chain.write_bytes(b"".join(whole[0].splitlines(keepends=True)[:-1]) + b'{"prev":"')
    examples.write_bytes(b"half")
    measured(trained, [12], TASKS[:2])
    assert (chain.read_bytes(), examples.read_bytes()) == whole


def test_examples_are_read_again(trained: Path) -> None:
    (one, *_) = measured(trained, [12])
    (entry, *_) = stored.entries(trained)
    lines = list(stored.lines(trained, entry))
    assert [line.example for line in lines] == [*one.task.examples]
    assert [line.answer for line in lines] == one.answers


def test_a_broken_chain_or_line_is_named(trained: Path) -> None:
    measured(trained, [12], TASKS[:1])
    (entry,) = stored.entries(trained)
    examples = trained / layout.examples(1)
    examples.write_bytes(examples.read_bytes().replace(b" sang", b" sank "))
    with pytest.raises(EvaluationBroken, match="asks other questions"):
        list(stored.lines(trained, entry))
    examples.write_bytes(examples.read_bytes().replace(b'"target":0', b'"target":9'))
    with pytest.raises(EvaluationBroken, match="target"):
        list(stored.lines(trained, entry))
    chain = trained / layout.EVALUATIONS
    chain.write_bytes(chain.read_bytes().replace(b'"metric":"accuracy"', b'"metric":"accurate"'))
    with pytest.raises(EvaluationBroken):
        stored.entries(trained)


def test_a_step_that_there_is_not_is_named_before_anything_is_asked(trained: Path) -> None:
    with pytest.raises(StepUnknown):
        measured(trained, [12, 999])
    assert not (trained / layout.EVALUATIONS).exists()


def test_numbers_of_a_built_in_task_are_not_called_measured(trained: Path) -> None:
    """They would pass verify and an audit of their answers, whatever they are."""
    measured(trained, [12], TASKS[:1])
    (entry,) = stored.entries(trained)
    body = {key: value for key, value in entry.items() if key not in ("prev", "n")}
    rewrite(
        trained,
        [evaluations.genesis(entry["head"]), body | {"metric": MEASURED, "harness": "pellucid"}],
    )
    with pytest.raises(EvaluationBroken, match="metric"):
        measured(trained, [12], TASKS[:1])


def test_a_setting_that_no_entry_can_hold_is_named_and_not_kept(trained: Path) -> None:
    task = replace(TASKS[0], name="huge", settings={"limit": 10**18})
    with pytest.raises(TaskUnfit, match="settings"):
        measured(trained, [12], [task])
    assert stored.entries(trained) == []
