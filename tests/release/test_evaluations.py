"""Evaluations beside a run: verify holds their chain against the
ledger and against the examples."""

from __future__ import annotations

import hashlib
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import EvaluationsUnfit
from pellucid.record import chain, digests, evaluations
from pellucid.record.requests import Example, Likelihoods, Rolling
from pellucid.release import evaluations as check
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.store import files, layout
from pellucid.store.ledger import LedgerFile
from tests.release.evaluating import CHAIN, evaluate, rewrite, seal_as_it_is


@pytest.fixture
def bodies(release: Path) -> list[dict[str, Any]]:
    """A release that was evaluated three times, and the entries."""
    made = evaluate(release, [0, 6, 12])
    publish(release)
    return made


def problems(folder: Path) -> list[tuple[str, str]]:
    """What verify finds once everything else has been sealed again."""
    seal_as_it_is(folder)
    return [(one.error, one.where) for one in verify(folder, lambda what: None).problems]


def test_a_release_that_was_evaluated_verifies(release: Path, bodies: list[dict[str, Any]]) -> None:
    report = verify(release, lambda what: None)
    assert report.ok and "evaluations" in report.checked
    assert len(bodies) == 4 and layout.room_of(layout.examples(3))


def test_a_release_without_evaluations_is_not_asked_for_any(release: Path) -> None:
    assert "evaluations" not in verify(release, lambda what: None).checked


LINES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "removed from the middle": lambda lines: [*lines[:1], *lines[2:]],
    "reordered": lambda lines: [lines[0], lines[2], lines[1], lines[3]],
    "forged": lambda lines: [*lines[:2], lines[2].replace(b"arc_easy", b"arc_hard"), lines[3]],
    "spelled otherwise": lambda lines: [*lines[:3], lines[3].replace(b":", b": ", 1)],
    "cut": lambda lines: [*lines[:3], lines[3][:-1]],
    "without its genesis": lambda lines: lines[1:],
}


@pytest.mark.parametrize("name", LINES)
def test_a_chain_that_is_changed_is_named(
    name: str, release: Path, bodies: list[dict[str, Any]]
) -> None:
    lines = (release / CHAIN).read_bytes().splitlines(keepends=True)
    (release / CHAIN).write_bytes(b"".join(LINES[name](lines)))
    found = problems(release)
    assert found and {error for error, where in found if where.startswith(CHAIN)} == {
        "EvaluationBroken"
    }


@pytest.mark.parametrize("name", [*LINES, "examples gone", "chain gone"])
def test_publish_refuses_what_verify_refuses(
    name: str, release: Path, bodies: list[dict[str, Any]]
) -> None:
    """And writes nothing: the run stays as it was."""
    before = (release / "README.md").read_bytes()
    if name in LINES:
        lines = (release / CHAIN).read_bytes().splitlines(keepends=True)
        (release / CHAIN).write_bytes(b"".join(LINES[name](lines)))
    else:
        (release / (CHAIN if name == "chain gone" else layout.examples(2))).unlink()
    with pytest.raises(EvaluationsUnfit, match=r"evaluations/"):
        publish(release)
    assert (release / "README.md").read_bytes() == before
    shutil.rmtree((release / CHAIN).parent)
    publish(release, site=False)
    assert verify(release, lambda what: None).ok


def test_the_missing_manifest_of_a_run_that_was_evaluated_says_what_to_do(
    release: Path, bodies: list[dict[str, Any]]
) -> None:
    (release / layout.MANIFEST).unlink()
    (found,) = verify(release, lambda what: None).problems
    assert found.error == "FileMissing" and f"pellucid publish {release}" in found.detail


ZERO = "0" * 64
ENTRIES: dict[str, tuple[dict[str, Any], str]] = {
    "another head": ({"head": ZERO}, "EvaluationDiffers"),
    "another run's weights": ({"weights": ZERO}, "EvaluationDiffers"),
    "the weights of another step": ({"step": 5}, "EvaluationDiffers"),
    "a step that is not there": ({"step": 14}, "EvaluationDiffers"),
    "better numbers": ({"numbers": {"acc": digests.float_bits(0.5)}}, "EvaluationDiffers"),
    "other results": ({"results": ZERO}, "EvaluationDiffers"),
    "another file": ({"sha256": ZERO}, "EvaluationDiffers"),
    "no task": ({"task": ""}, "EvaluationBroken"),
    "a task with a blank at its end": ({"task": "agreement "}, "EvaluationBroken"),
    "a task that looks like nothing": ({"task": "\ue000"}, "EvaluationBroken"),
    "a task with a letter that is not seen": ({"task": "agreement\u200b"}, "EvaluationBroken"),
    "a program with letters like ours": ({"harness": "\u0440ellucid"}, "EvaluationBroken"),
    "a program that looks like nothing": ({"harness": "\u2800"}, "EvaluationBroken"),
    "a version of blanks": ({"version": "1  "}, "EvaluationBroken"),
    "another field": ({"more": 1}, "EvaluationBroken"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_nothing_bears_out_is_named_though_the_chain_is_made_again(
    name: str, release: Path, bodies: list[dict[str, Any]]
) -> None:
    other, error = ENTRIES[name]
    rewrite(release, [*bodies[:2], bodies[2] | other, bodies[3]])
    about_file = {"results", "sha256", "numbers"} & {*other}
    where = layout.examples(2) if about_file else f"{CHAIN}: entry 2"
    assert problems(release) == [(error, where)]


def test_a_head_that_comes_before_that_of_an_entry_above_is_named(
    release: Path, bodies: list[dict[str, Any]]
) -> None:
    lines = (release / layout.LEDGER).read_bytes().splitlines()
    before = chain.digest_of(lines[-3])
    rewrite(release, [bodies[0] | {"head": before}, bodies[1] | {"head": before}, *bodies[2:]])
    assert problems(release) == []
    rewrite(release, [*bodies[:2], bodies[2] | {"head": before}, bodies[3]])
    assert problems(release) == [("EvaluationDiffers", f"{CHAIN}: entry 2")]
    first = chain.digest_of(lines[0])
    rewrite(release, [bodies[0] | {"head": first}, bodies[1], bodies[2] | {"head": first}])
    assert ("EvaluationDiffers", f"{CHAIN}: entry 2") in problems(release)


def test_examples_that_are_not_the_entrys_are_named(
    release: Path, bodies: list[dict[str, Any]]
) -> None:
    path = layout.examples(3)
    lines = (release / path).read_bytes().splitlines(keepends=True)
    for changed in (lines[:-1], [*lines[:-1], lines[-1].replace(b"yes", b"no")], lines[::-1]):
        files.write_bytes(release / path, b"".join(changed))
        assert problems(release) == [("EvaluationDiffers", path)]
        entry = bodies[3] | {"sha256": hashlib.sha256(b"".join(changed)).hexdigest()}
        rewrite(release, [*bodies[:3], entry])
        assert problems(release) == [("EvaluationDiffers", path)]
        rewrite(release, bodies)
    files.write_bytes(release / path, b"".join([*lines, lines[0]]))
    entry = bodies[3] | {"sha256": hashlib.sha256(b"".join([*lines, lines[0]])).hexdigest()}
    rewrite(release, [*bodies[:3], entry])
    assert problems(release) == [("EvaluationBroken", f"{path}: line 6")]
    (release / path).unlink()
    assert problems(release) == [("FileMissing", path)]


def test_files_that_no_entry_names_are_left_out_and_named(
    release: Path, bodies: list[dict[str, Any]]
) -> None:
    extra = [layout.examples(n) for n in (0, 4, 70_000)]
    for path in extra:
        files.write_bytes(release / path, b"{}\n")
    assert publish(release)["left_out"] == extra
    found = verify(release, lambda what: None).problems
    assert [(one.error, one.where) for one in found] == [("FileAdded", path) for path in extra]
    (release / CHAIN).unlink()
    seal_as_it_is(release)
    found = verify(release, lambda what: None).problems
    assert "FileMissing" in {one.error for one in found if one.where == CHAIN}


def test_an_abandoned_steps_weights_were_weights(
    release: Path, bodies: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was evaluated before a rollback stays true of the branch that ended."""
    entry = LedgerFile(release).step(12)
    rollback: dict[str, Any] = {"branch": 1}
    monkeypatch.setattr(LedgerFile, "step", lambda self, number: {"n": 10**6, "weights": ZERO})
    assert len(problems(release)) > 0
    init = LedgerFile.__init__

    def with_rollback(self: LedgerFile, folder: Path) -> None:
        init(self, folder)
        self.rollbacks = [rollback]

    monkeypatch.setattr(LedgerFile, "__init__", with_rollback)
    monkeypatch.setattr(LedgerFile, "abandoned", lambda self, incident: iter([entry]))
    found = [one.where for one in check.check(release)]
    assert found == [f"{CHAIN}: entry 1", f"{CHAIN}: entry 2"]


def test_a_text_that_has_no_utf8_is_refused() -> None:
    request = Rolling("\ud800")
    answer = Likelihoods((-1.0,), (False,))
    line = evaluations.line_of(Example("a", request, None, ""), answer, {"bytes": 1.0})
    for metric in ("bits_per_byte", "measured"):
        assert isinstance(evaluations.line_from(line, metric), str)
    whole = evaluations.line_of(Example("a", Rolling("\U0001f600"), None, ""), answer, {"n": 1.0})
    assert not isinstance(evaluations.line_from(whole, "measured"), str)


def test_a_chain_of_a_million_empty_lines_is_named_in_bounded_memory(
    release: Path, bodies: list[dict[str, Any]]
) -> None:
    (release / CHAIN).write_bytes(b"\n" * 10**6)
    tracemalloc.start()
    try:
        assert check.strays(release, {layout.examples(3), layout.examples(0)}) == {
            layout.examples(0)
        }
        assert len([*check.check(release)]) == 100
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
