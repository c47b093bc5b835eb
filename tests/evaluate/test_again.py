"""An audit of evaluations asks the model again, and names answers that it does not give."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid.errors import EvaluationBroken, FolderUnfit, FormatInvalid
from pellucid.evaluate.again import ask_again
from pellucid.evaluate.task import Task
from pellucid.inputs import Inputs
from pellucid.measured import stored
from pellucid.recipe import load
from pellucid.record import evaluations, metrics
from pellucid.record.requests import Answer, Continue, Ids, Likelihoods, Request
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import files, layout
from tests.conftest import pellucid
from tests.evaluate.test_measure import TASKS, measured
from tests.release.evaluating import rewrite

STEPS, ALL = [0, 6, 12], 100


def again(folder: Path, count: int = ALL, seed: int = 1) -> list[tuple[int, str, bool]]:
    inputs = Inputs.load(folder, load(folder))
    asked, of = ask_again(inputs, count, seed, lambda *_: None)
    assert of == sum(1 for entry in stored.of_run(folder) for _ in stored.lines(folder, entry))
    return [(one.entry["n"], one.line.example.name, one.same) for one in asked]


def test_every_answer_is_given_again(trained: Path) -> None:
    measured(trained, STEPS)
    asked = again(trained)
    assert len(asked) == 3 * 9 and all(same for *_, same in asked)


def test_the_seed_chooses(trained: Path) -> None:
    measured(trained, STEPS)
    some = again(trained, 5, 1)
    assert len(some) == 5 and some == again(trained, 5, 1) != again(trained, 5, 2)
    drawn = {(n, name) for seed in range(40) for n, name, _ in again(trained, 2, seed)}
    assert len(drawn) > 15


def better(line: evaluations.Line) -> Answer:
    """An answer that the model did not give: of tokens, with one that is right."""
    if isinstance(line.answer, Ids) and isinstance(line.example.target, tuple):
        assert line.answer.ids[0] != line.example.target[0]
        return Ids((line.example.target[0], *line.answer.ids[1:]))
    return Likelihoods((-0.5, -9.0), (True, False))


def forge(folder: Path, n: int, place: int) -> None:
    """A better answer to one example; digests, numbers and chain are made again."""
    entry = stored.entries(folder)[n - 1]
    lines = [*stored.lines(folder, entry)]
    request, target = lines[place].example.request, lines[place].example.target
    answer = better(lines[place])
    numbers = metrics.numbers_of(entry["metric"], request, target, answer)
    assert numbers is not None
    lines[place] = lines[place]._replace(answer=answer, numbers=dict(numbers))
    written = [evaluations.line_of(*line) for line in lines]
    examples = evaluations.Examples(entry["metric"])
    assert [examples.take(line) for line in written] == [""] * len(written)
    files.write_bytes(folder / layout.examples(n), b"".join(written))
    body = dict(entry) | {
        "results": examples.tree.root().hex(),
        "numbers": examples.numbers(),
        "sha256": files.sha256_file(folder / layout.examples(n)),
    }
    bodies = [evaluations.genesis(entry["head"]), *stored.entries(folder)]
    bodies[n] = body
    rewrite(folder, [{k: v for k, v in b.items() if k not in ("prev", "n")} for b in bodies])


@pytest.mark.parametrize(("n", "task"), [(6, "accuracy"), (10, "extraction")])
def test_a_forged_answer_passes_verify_and_not_the_audit(trained: Path, n: int, task: str) -> None:
    measured(trained, STEPS)
    forge(trained, n, 1)
    publish(trained)
    assert verify(trained, lambda _: None).ok
    assert {(n, name) for n, name, same in again(trained) if not same} == {(n, "1")}
    answer = pellucid("audit", trained, "--evaluations", ALL, "--json", check=None)
    assert answer.returncode == 5
    about, _ = json.JSONDecoder().raw_decode(answer.stdout)
    assert (about["answers"], about["of"]) == (27, 27)
    some = pellucid("audit", trained, "--evaluations", 1, "--seed", 3, check=None).stdout
    assert "audit: 1 of 27 examples asked again: " in some
    (differing,) = about["differing"]
    assert differing == {"n": n, "step": 6, "task": task, "example": "1", "same": False}


def test_results_of_another_checkpoint_are_named_by_the_audit(trained: Path) -> None:
    measured(trained, STEPS)
    entries = stored.entries(trained)
    first, last = trained / layout.examples(1), trained / layout.examples(11)
    first.write_bytes(last.read_bytes())
    body = entries[0] | {key: entries[10][key] for key in ("results", "numbers", "sha256")}
    bodies = [evaluations.genesis(body["head"]), body, *entries[1:]]
    rewrite(trained, [{k: v for k, v in b.items() if k not in ("prev", "n")} for b in bodies])
    publish(trained)
    assert verify(trained, lambda _: None).ok
    assert {n for n, _, same in again(trained) if not same} == {1}


@pytest.mark.parametrize("more", [["--samples"], ["--step", "3"], ["--all"]])
def test_other_options_that_choose_are_refused(finished: Path, more: list[str]) -> None:
    answer = pellucid("audit", finished, "--evaluations", 3, *more, check=None)
    assert answer.returncode == 2 and "option that chooses" in answer.stderr


def test_an_answer_of_other_bits_is_another_answer_though_it_is_equal(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.0 and -0.0."""
    measured(trained, [12], TASKS[:1])
    lines = stored.lines
    zero, other = Likelihoods((0.0, -1.0), (True, False)), Likelihoods((-0.0, -1.0), (True, False))
    monkeypatch.setattr(
        stored, "lines", lambda *of: (line._replace(answer=zero) for line in lines(*of))
    )
    for computed, same in ((zero, True), (other, False)):
        monkeypatch.setattr(
            "pellucid.evaluate.again.answers",
            lambda _, asked, given=computed: (given for _ in asked),
        )
        assert [answered for *_, answered in again(trained)] == [same, same]


def test_more_answers_than_there_are_is_all_of_them(trained: Path) -> None:
    measured(trained, [12], TASKS[:1])
    assert len(again(trained, 10**30)) == 2


def test_an_audit_of_no_evaluation_says_so(finished: Path) -> None:
    answer = pellucid("audit", finished, "--evaluations", 3, check=None)
    assert answer.returncode == 2 and "no evaluation of its steps" in answer.stderr


def replaced(folder: Path, task: Task, request: Request) -> None:
    """An evaluation of the last step whose first example asks something else."""
    measured(folder, [12], [task])
    (entry,) = stored.entries(folder)
    line = next(iter(stored.lines(folder, entry)))
    line = line._replace(example=line.example._replace(request=request))
    files.write_bytes(folder / layout.examples(1), evaluations.line_of(*line))
    body = {name: value for name, value in entry.items() if name not in ("prev", "n")}
    body["task_digest"] = evaluations.task_digest([line.example])
    rewrite(folder, [evaluations.genesis(entry["head"]), body])


@pytest.mark.parametrize(
    ("ids", "wrong"), [((5, 10**6), "holds 1000000"), ((1,) * 30, "longer than the context 32")]
)
def test_token_ids_that_the_model_cannot_be_asked_are_the_releases_fault(
    trained: Path, ids: tuple[int, ...], wrong: str
) -> None:
    replaced(trained, TASKS[4], Continue(ids, 4))
    with pytest.raises(EvaluationBroken, match=wrong):
        again(trained)
    assert any(wrong in one for one in broken(trained))


@pytest.mark.parametrize("beyond", ["target", "answer"])
def test_verify_names_a_token_that_the_vocabulary_does_not_have(trained: Path, beyond: str) -> None:
    measured(trained, [12], [TASKS[4]])
    (entry,) = stored.entries(trained)
    line, *_ = stored.lines(trained, entry)
    assert isinstance(line.answer, Ids) and isinstance(line.example.target, tuple)
    if beyond == "answer":
        line = line._replace(answer=Ids((10**6, *line.answer.ids[1:])))
    else:
        target = (10**6, *line.example.target[1:])
        line = line._replace(example=line.example._replace(target=target))
    files.write_bytes(trained / layout.examples(1), rated(line))
    assert "has the token 1000000, and the vocabulary has 300 tokens" in broken(trained)


def rated(line: evaluations.Line) -> bytes:
    example = line.example
    numbers = metrics.numbers_of("extraction", example.request, example.target, line.answer)
    assert numbers is not None
    return evaluations.line_of(example, line.answer, numbers)


def broken(folder: Path) -> list[str]:
    """What verify says of lines, once the file's digest fits."""
    (entry,) = stored.entries(folder)
    body = {key: told for key, told in entry.items() if key not in ("prev", "n")}
    body["sha256"] = files.sha256_file(folder / layout.examples(1))
    rewrite(folder, [evaluations.genesis(entry["head"]), body])
    found = verify(folder, lambda _: None).problems
    return [one.detail for one in found if one.error == "EvaluationBroken"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_stands_in_the_place_of_the_chain_is_named(
    trained: Path, make: Callable[[Path], None]
) -> None:
    (trained / "evaluations").mkdir()
    make(trained / layout.EVALUATIONS)
    with pytest.raises(FormatInvalid, match="evaluations/chain"):
        again(trained)
    with pytest.raises(FormatInvalid, match="evaluations/chain"):
        measured(trained, [12])


def test_a_file_in_the_place_of_the_folder_is_named(trained: Path) -> None:
    (trained / "evaluations").write_bytes(b"")
    with pytest.raises(FolderUnfit):
        measured(trained, [12])
