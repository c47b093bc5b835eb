"""Whoever names a built-in task has asked its examples: they are drawn again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import EvaluationsUnfit, TaskDiffers
from pellucid.evaluate import builtin
from pellucid.evaluate.builtin import BuiltIn
from pellucid.evaluate.suite import BUILT_IN, memorization
from pellucid.evaluate.suite.memorization import Drawn
from pellucid.evaluate.task import OURS, Task
from pellucid.look.show import Shown
from pellucid.opened import open as run_of
from pellucid.record import chain, evaluations
from pellucid.record.requests import Choices, Example
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store.ledger import LedgerFile
from tests.conftest import pellucid
from tests.release.evaluating import answered, rewrite, seal_as_it_is

LIMIT = 6
SMALL = Drawn(9, 7, ranges=2, sequences=20)


def entry_of(folder: Path, task: Task, **changes: Any) -> dict[str, Any]:
    """What an entry says of a task, whatever is answered."""
    return {
        "n": 1,
        "head": LedgerFile(folder).head,
        "step": 12,
        "task": task.name,
        "harness": task.harness[0],
        "version": task.harness[1],
        "metric": task.metric,
        "settings": dict(task.settings),
        "task_digest": evaluations.task_digest(task.examples),
        **changes,
    }


def wrong(folder: Path, entry: Mapping[str, Any]) -> str:
    return BuiltIn(folder, [entry]).wrong(entry)


def tasks_of(folder: Path) -> Iterator[Task]:
    run = Shown(folder)
    for name in builtin.NAMES:
        yield builtin.made(name, run)
    yield memorization.memorization(run.recipe, run.shards, run.order, SMALL)


def cut(task: Task, limit: int) -> Task:
    settings = {**task.settings, "limit": limit}
    return replace(task, examples=task.examples[:limit], settings=settings)


def test_every_built_in_task_is_drawn_again_whole_or_cut(finished: Path) -> None:
    tasks = [*tasks_of(finished)]
    assert {task.name for task in tasks} == {*builtin.NAMES}
    for task in tasks:
        for own in (task, cut(task, LIMIT), cut(task, 10**6)):
            assert wrong(finished, entry_of(finished, own)) == ""


def of_others(task: Task) -> Task:
    """The easiest question, with the task's name."""
    examples = [Example("a", Choices("The matrix is", (" big", " qqq")), 0, "a")]
    return replace(task, examples=examples)


FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "another version": ({"settings": {"version": 2}}, "other settings than version 1"),
    "no version": ({"settings": {}}, "other settings than version 1"),
    "shots": ({"settings": {"version": 1, "num_fewshot": 5}}, "other settings than version 1"),
    "a limit that cuts the end": ({"settings": {"version": 1, "limit": -5}}, "limit"),
    "a limit that is no number": ({"settings": {"version": 1, "limit": True}}, "limit"),
    "the limit of another part": ({"settings": {"version": 1, "limit": 9}}, "other examples"),
    "another harness": ({"harness": "lm-eval"}, "made by lm-eval"),
    "another name": ({"task": "agreemnt"}, "no built-in task"),
    "another task's name": ({"task": "determiners"}, "other examples"),
    "another metric": ({"metric": "likelihood"}, "rated by likelihood"),
}


@pytest.mark.parametrize("name", FORGED)
def test_what_an_entry_says_of_its_task_is_held_against_the_task(name: str, finished: Path) -> None:
    changes, said = FORGED[name]
    assert said in wrong(finished, entry_of(finished, BUILT_IN["agreement"]()) | changes)


def test_other_examples_under_the_name_of_a_task_are_named(finished: Path) -> None:
    for task in tasks_of(finished):
        found = wrong(finished, entry_of(finished, of_others(task)))
        assert "other examples" in found, task.name


def test_a_task_of_others_may_have_any_other_name(finished: Path) -> None:
    theirs = Task(
        "arc_easy",
        "accuracy",
        of_others(BUILT_IN["agreement"]()).examples,
        harness=("lm-eval", "1"),
    )
    assert wrong(finished, entry_of(finished, theirs)) == ""


def test_sequences_are_those_of_the_order_at_that_time(rolled_back: Path) -> None:
    """The run went from step 11 back to step 8, so later steps took other rows."""
    run, ledger = Shown(rolled_back), LedgerFile(rolled_back)
    (rollback,) = ledger.rollbacks
    heads = {}
    for history in (ledger.before(rollback), ledger.history):
        order = run.order.along(history.rollbacks)
        task = memorization.memorization(run.recipe, run.shards, order, SMALL)
        heads[history.branch] = entry_of(rolled_back, task)
    assert heads[0]["task_digest"] != heads[1]["task_digest"]
    lines = (rolled_back / "record/ledger.jsonl").read_bytes().splitlines(keepends=True)
    earlier = chain.digest_of(lines[rollback["n"] - 1])
    for branch, head, fits in (
        (1, ledger.head, True),
        (0, ledger.head, False),
        (0, earlier, True),
        (1, earlier, False),
    ):
        entry = heads[branch] | {"head": head}
        assert (wrong(rolled_back, entry) == "") == fits, (branch, fits)


def test_a_reader_draws_so_many_sequences_of_a_run_and_no_more(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = [Drawn(9, 7, ranges, sequences) for ranges, sequences in ((2, 2), (1, 3), (2, 1))]
    run, count = Shown(finished), list[Drawn]()
    tasks = [memorization.memorization(run.recipe, run.shards, run.order, one) for one in drawn]
    entries = [entry_of(finished, task, task_digest="0" * 64) for task in tasks]
    examples = memorization.examples

    def counted(*arguments: Any) -> Any:
        count.append(arguments[-1])
        return examples(*arguments)

    monkeypatch.setattr(memorization, "examples", counted)
    monkeypatch.setattr(builtin, "_MOST", 8)
    known = BuiltIn(finished, entries)
    told = [known.wrong(entry) for entry in [*entries, *entries]]
    assert count == drawn[:2]
    assert [("at most" in one) for one in told] == [False, False, True] * 2
    long = Drawn(4096, 4096, 100, 200)
    assert memorization.drawn_of(long.settings(None)) is None


# ---- in a release --------------------------------------------------------------------------------


@pytest.fixture
def forged(release: Path) -> Path:
    """Sealed again, with an easy question that has the name of a built-in task."""
    task = of_others(cut(BUILT_IN["agreement"](), 1))
    rewrite(
        release, [evaluations.genesis(LedgerFile(release).head), answered(release, 12, 1, task)]
    )
    return release


def test_a_forged_task_is_refused_everywhere(forged: Path) -> None:
    """Verify names it, publish does not seal it, and no reader shows its numbers."""
    with pytest.raises(EvaluationsUnfit, match="TaskDiffers"):
        publish(forged)
    seal_as_it_is(forged, site=True)
    found = [(one.error, one.where) for one in verify(forged, lambda _: None).problems]
    assert found == [("TaskDiffers", "evaluations/chain.jsonl: entry 1")]
    for read in (
        lambda: Shown(forged).evaluations(12),
        lambda: run_of(forged).evaluations,
        lambda: builtin.of_run(forged),
    ):
        with pytest.raises(TaskDiffers, match="agreement"):
            read()
    said = pellucid("report", forged, "--to", forged.parent / "report", check=5).stderr
    assert "TaskDiffers" in said
    readme = (forged / "README.md").read_text()
    assert "cannot be read" in readme and "agreement" not in readme
    assert b"agreement" not in (forged / "site/data/evaluations.js").read_bytes()


def test_an_honest_one_is_sealed_and_shown(release: Path) -> None:
    task = cut(BUILT_IN["agreement"](), LIMIT)
    honest = answered(release, 12, 1, task)
    assert honest["harness"] == OURS[0]
    rewrite(release, [evaluations.genesis(LedgerFile(release).head), honest])
    publish(release, site=False)
    assert verify(release, lambda _: None).ok
    assert "agreement &#40;limit 6&#41;" in (release / "README.md").read_text()
    (row,) = Shown(release).evaluations(12)
    assert (row["task"], row["variant"]) == ("agreement", "limit 6")


def test_the_format_names_the_digest_of_every_task_made_by_rule() -> None:
    """So another reader can draw them too, and a change of an example has to raise the version."""
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    for name, make in BUILT_IN.items():
        task = make()
        assert task.settings == {"version": 1}
        row = f"| `{name}` | `{task.metric}` | `{evaluations.task_digest(task.examples)}` |\n"
        assert row in text
