"""Audits as they are asked for: by seed, by budget, all, and what they would need."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid import machine
from pellucid.errors import AuditLost, BudgetTooSmall, CommandInvalid, StepUnknown
from pellucid.record import digests
from pellucid.replay import effort, parallel
from pellucid.replay.audit import audit_steps, compared, passes
from pellucid.replay.choose import chosen
from pellucid.replay.effort import Besides, Speed, audit_within, files_read, fitting, surely
from pellucid.replay.materialise import way_to
from pellucid.replay.parallel import audit_all, segments
from pellucid.replay.request import Request
from pellucid.store import anchors, layout
from tests.conftest import pellucid
from tests.forgery.forge import edit_ledger
from tests.replay.test_audit import forge_anchor, opened, quiet, rewrite


def asked(folder: Path, **words: Any) -> Request:
    given = {
        "named": [],
        "count": None,
        "seed": 7,
        "budget": None,
        "every": False,
        "microbatch": "",
    } | words
    return Request.of(opened(folder), **given)


def forge_loss(release: Path, *steps: int) -> None:
    def change(body: dict[str, Any]) -> None:
        if body.get("step") in steps and body["kind"] == "step":
            body["loss"] = digests.float_bits(digests.bits_float(body["loss"]) * 0.9)

    rewrite(release, change)


def keep_anchors(release: Path, *steps: int) -> None:
    for place in (release / "anchors").iterdir():
        if place.name not in [f"step{step}" for step in steps]:
            shutil.rmtree(place)


# ---- sharing a replay --------------------------------------------------------------------------


def test_steps_behind_one_anchor_share_a_replay(release: Path) -> None:
    keep_anchors(release, 0, 5)
    inputs = opened(release)
    assert passes(inputs, [9, 3, 12, 4]) == [(5, (9, 12), 0), (0, (3, 4), 0)]
    findings = audit_steps(inputs, [9, 3, 12, 4], quiet)
    assert [(one.step, one.replayed, one.ok) for one in findings] == [
        (3, 3, True),
        (4, 1, True),
        (9, 4, True),
        (12, 3, True),
    ]
    assert compared(findings) == 11


def test_every_step_on_the_way_is_compared_and_named_once(release: Path) -> None:
    keep_anchors(release, 5)
    forge_loss(release, 7, 10)
    findings = audit_steps(opened(release), [8, 9, 12], quiet)
    assert ["step 7: loss" in " ".join(one.problems) for one in findings] == [True, False, False]
    assert ["step 10: loss" in " ".join(one.problems) for one in findings] == [False, False, True]


def test_steps_behind_a_broken_state_are_not_called_right(release: Path) -> None:
    keep_anchors(release, 5)

    def change(body: dict[str, Any]) -> None:
        if body.get("step") == 8 and body["kind"] == "step":
            body["state"] = "00" * 32

    rewrite(release, change)
    findings = audit_steps(opened(release), [7, 8, 11, 12], quiet)
    assert [one.ok for one in findings] == [True, False, False, False]
    assert "step 8: state" in findings[1].problems[0] and findings[1].actual
    assert "step 12: not reached" in findings[3].problems[0] and findings[3].actual == ""
    assert compared(findings) == 3


def test_a_recorded_state_that_is_not_finite_is_a_finding(release: Path) -> None:
    from pellucid.store import tensors

    keep_anchors(release, 5)
    groups = {
        g: {n: a.copy() for n, a in t.items()}
        for g, t in anchors.read(layout.anchor(release, 5)).items()
    }
    groups["weights"]["model.norm.weight"][:] = np.float32(3e38)
    roots = tensors.state_roots(5, groups)
    about = json.loads((release / "anchors/step5/anchor.json").read_bytes())
    shutil.rmtree(release / "anchors/step5")
    anchors.write(release / "anchors/step5", groups, about, None)
    rewrite(
        release,
        lambda body: (
            body.update(weights=roots.weights.hex(), state=roots.state.hex())
            if body.get("step") == 5 and body["kind"] == "step"
            else None
        ),
    )
    findings = audit_steps(opened(release), [6, 7], quiet)
    assert "norm of the gradients" in findings[0].problems[0] and not findings[1].ok


# ---- by seed -----------------------------------------------------------------------------------


def test_the_seed_decides_which_and_all_compared_steps_count(finished: Path) -> None:
    report = asked(finished, count=4).run(quiet)
    head = opened(finished).recorded().head
    assert [one.step for one in report.findings] == sorted(itertools.islice(chosen(7, head, 13), 4))
    assert (
        report.ok
        and report.odds.sampled == 4
        and report.odds.compared == compared(report.findings) >= 4
    )
    assert report.as_json()["head"] == head and report.as_json()["seed"] == 7


def test_more_steps_than_there_are_is_all_of_them(finished: Path) -> None:
    assert len(asked(finished, count=99).run(quiet).findings) == 13


def test_named_steps_promise_nothing_of_chance(finished: Path) -> None:
    report = asked(finished, named=[7]).run(quiet)
    assert report.odds.sampled == 0 and report.odds.compared == 2 and report.seed is None


@pytest.mark.parametrize(
    "words",
    [
        {"named": [3], "count": 2},
        {"named": [3], "every": True},
        {"count": 2, "every": True},
        {"microbatch": "1", "every": True},
        {"microbatch": "1", "named": [3, 4]},
        {"microbatch": "one"},
    ],
)
def test_what_does_not_go_together_is_named(words: dict[str, Any], committed: Path) -> None:
    with pytest.raises(CommandInvalid):
        asked(committed, **words)


def test_a_budget_goes_with_the_seed_alone(finished: Path) -> None:
    for words in ({"named": [3]}, {"every": True}):
        with pytest.raises(CommandInvalid, match="--budget"):
            asked(finished, budget=60.0, **words).run(quiet)


def test_a_run_without_a_step_has_nothing_to_audit(release: Path) -> None:
    lines = (release / "record/ledger.jsonl").read_bytes().splitlines(keepends=True)
    (release / "record/ledger.jsonl").write_bytes(lines[0])
    with pytest.raises(StepUnknown):
        asked(release)


# ---- the last validation -----------------------------------------------------------------------


def test_a_report_says_which_validations_were_computed_again(finished: Path) -> None:
    about = asked(finished, named=[7]).run(quiet)
    assert about.validation and about.validation.ok and about.validation.replayed == 0
    assert about.validated == ([13], [0, 5, 10])
    assert "validation of step 13 recomputed: bit-equal; that of 3 steps (0 to 10) was not" in str(
        about
    )
    about = asked(finished, named=[13, 5]).run(quiet)
    assert about.validation is None and about.validated == ([5, 13], [0, 10])
    about = asked(finished, named=[0, 5, 10]).run(quiet)
    assert about.validated == ([0, 5, 10, 13], []) and str(about).endswith(
        "validation of 4 steps (0 to 13) recomputed: bit-equal"
    )
    assert about.as_json()["validation"]["step"] == 13


def test_a_validation_that_is_due_and_not_recorded_is_a_finding(release: Path) -> None:
    edit_ledger(
        release, lambda body: None if body["kind"] == "validation" and body["step"] == 13 else body
    )
    report = asked(release, named=[7]).run(quiet)
    assert (
        not report.ok
        and "step 13: validation is due, and none is recorded" in report.validation.problems
    )  # type: ignore[union-attr]


def test_a_run_that_goes_on_may_owe_its_validation(release: Path) -> None:
    """Killed between a step and its validation: the one before is the last."""

    def until(body: dict[str, Any]) -> dict[str, Any] | None:
        after = body["step"] > 10 if "step" in body else body["kind"] == "end"
        return None if after or (body["kind"] == "validation" and body["step"] == 10) else body

    edit_ledger(release, until)
    assert asked(release, named=[10]).run(quiet).validated == ([5], [0])
    assert asked(release, named=[10]).run(quiet).ok


# ---- within a budget ---------------------------------------------------------------------------

SECOND = Speed(load=0.0, step=1.0, validation=0.0)


def test_what_fits_is_the_longest_beginning_of_the_order(release: Path) -> None:
    keep_anchors(release, 5)
    inputs = opened(release)
    order = [8, 4, 7, 12, 13]  # 3 s, 4 s, on the way to 8, 4 s more, 1 s more.
    for seconds, count in ((2.9, 0), (3, 1), (6.9, 1), (7, 3), (10.9, 3), (11, 4), (12, 5)):
        assert fitting(inputs, order, SECOND, seconds) == order[:count], seconds
    loading = Speed(load=2.0, step=1.0, validation=0.0)
    assert fitting(inputs, order, loading, 11) == order[:3]  # 2 + 3, 2 + 4, and nothing for 7.
    validating = Speed(load=0.0, step=1.0, validation=5.0)
    assert fitting(inputs, [5, 10], validating, 10) == [5] and fitting(
        inputs, [4, 9], validating, 10
    ) == [4, 9]


def test_only_what_fits_wherever_it_lies_counts_as_chosen(release: Path) -> None:
    keep_anchors(release, 5)
    # Eight steps from the anchor of step 5 to step 13.
    assert surely(opened(release), SECOND, 23.9) == 2
    assert surely(opened(release), SECOND, 7.9) == 0


def test_a_budget_is_kept(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = asked(finished, budget=100.0).run(quiet)
    assert report.ok and len(report.findings) == 13 and report.odds.compared == 13
    with pytest.raises(BudgetTooSmall, match=r"--budget [0-9]+s"):
        asked(finished, budget=0.001).run(quiet)
    # By this clock every look at it takes a second: later passes no longer fit.
    ticks = itertools.count()
    speed = Speed(0.0, 0.5, 0.0)
    monkeypatch.setattr(effort.time, "perf_counter", lambda: float(next(ticks)))
    findings, sampled = audit_within(opened(finished), [3, 4, 6, 7, 9], speed, 12.0, quiet)
    assert 1 <= len(findings) < 5 and sampled <= len(findings)


def test_a_broken_anchor_ends_a_budget_with_a_finding(release: Path) -> None:
    keep_anchors(release, 5)
    forge_anchor(release, 5, "weights")
    assert effort.foresee(opened(release), 8, Besides(), 60.0) is None
    findings, _ = audit_within(opened(release), [8, 3], None, 60.0, quiet)
    assert [one.step for one in findings] == [8] and "step5" in findings[0].problems[0]


def test_a_budget_that_was_used_up_takes_the_first_step(finished: Path) -> None:
    assert [one.step for one in audit_within(opened(finished), [3, 9], SECOND, 0.0, quiet)[0]] == [
        3
    ]


# ---- all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
def test_all_takes_every_step_once(
    processes: int, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_anchors(release, 0, 4, 10)
    forge_loss(release, 6)
    monkeypatch.setattr(parallel, "workers", lambda *_: processes)
    seen: list[tuple[int, int]] = []
    findings = audit_all(opened(release), lambda done, total: seen.append((done, total)))
    assert [one.step for one in findings] == list(range(14)) and compared(findings) == 13
    assert [one.step for one in findings if not one.ok] == [6] and "step 6: loss" in findings[
        6
    ].problems[0]
    assert seen[-1] == (13, 13)


def test_segments_begin_with_the_seed_and_cover_every_step(release: Path) -> None:
    keep_anchors(release, 0, 4, 13)
    assert segments(opened(release)) == [(None, (0, 1, 2, 3, 4), 0), (4, tuple(range(5, 14)), 0)]
    keep_anchors(release)
    assert segments(opened(release)) == [(None, tuple(range(14)), 0)]


def test_one_core_has_one_process(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = opened(finished)
    monkeypatch.setattr(parallel, "cores", lambda: 1)
    assert parallel.workers(inputs, 4) == 1
    monkeypatch.setattr(parallel, "cores", lambda: 4)
    assert parallel.workers(inputs, 4) == 4
    monkeypatch.setattr(machine, "available", lambda: 3 * effort.least_memory(inputs))
    assert parallel.workers(inputs, 4) == 3


def test_a_killed_process_is_named(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "workers", lambda *_: 2)
    monkeypatch.setattr(parallel, "_audit", killed)
    with pytest.raises(AuditLost, match="memory"):
        audit_all(opened(finished), quiet)


def test_what_others_compute_is_not_waited_for(finished: Path) -> None:
    each = parallel.shared(finished, 2, slept, [60.0, 0.0], lambda _: None, AuditLost)
    started = time.monotonic()
    assert next(each) == (0.0, 0.0)
    each.close()
    assert time.monotonic() - started < 30
    assert not multiprocessing.active_children()


def slept(_: object, seconds: float, __: object) -> Iterator[float]:
    time.sleep(seconds)
    yield seconds


def test_what_is_ready_of_a_part_does_not_wait_for_the_rest(finished: Path, tmp_path: Path) -> None:
    each = parallel.shared(
        finished, 2, in_turn, [tmp_path / "a", tmp_path / "b"], lambda _: None, AuditLost
    )
    for part, result in each:  # The second result is made when the first one has come.
        assert result == "first" if not part.exists() else "second"
        part.touch()


def in_turn(_: object, place: Path, __: object) -> Iterator[str]:
    yield "first"
    ends = time.monotonic() + 60
    while not place.exists():
        assert time.monotonic() < ends
        time.sleep(0.05)
    yield "second"


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_a_ctrl_c_while_processes_start_is_quiet(finished: Path, seconds: float) -> None:
    """The terminal sends it to all of them, also to those that are still importing."""
    code = (
        "import sys; from pathlib import Path; from pellucid.errors import AuditLost;"
        "from pellucid.replay import parallel; from tests.replay.test_request import slept;"
        "print('ready', flush=True);"
        f"[*parallel.shared(Path({str(finished)!r}), 2, slept, [60.0] * 2, print, AuditLost)]"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert started.stdout and started.stdout.readline() == "ready\n"
    time.sleep(seconds)
    os.killpg(started.pid, signal.SIGINT)
    _, told = started.communicate(timeout=60)
    assert told.count("Traceback") == 1 and told.endswith("KeyboardInterrupt\n"), told
    assert started.returncode == -signal.SIGINT


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# ---- what it needs -----------------------------------------------------------------------------


def test_a_dry_run_replays_nothing_to_the_end_and_says_what_is_needed(finished: Path) -> None:
    found = json.loads(pellucid("audit", finished, "--all", "--dry-run", "--json").stdout)
    assert found["fits"] and found["replayed"] == 13 and found["smaller"] is None
    assert found["memory_bytes"] > 50e6 and found["seconds"] > 0 < found["step_seconds"]
    out = pellucid("audit", finished, "--step", 2, "--dry-run").stdout
    assert "It fits." in out and "for the last validation, of step 13" in out


def test_what_is_needed_counts_the_last_validation(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_anchors(release, 5)
    monkeypatch.setattr(
        effort, "measure", lambda inputs, step: Speed(load=10.0, step=1.0, validation=100.0)
    )
    needs = asked(release, named=[6]).needs().effort
    assert (
        needs.replayed == 1 + 8
        and needs.validation_seconds == 118.0
        and needs.seconds == 11.0 + 118.0
    )
    needs = asked(release, named=[13]).needs().effort
    assert needs.replayed == 8 and needs.validation_seconds == 0 and needs.seconds == 118.0


def test_the_files_named_are_enough(finished: Path, committed: Path, tmp_path: Path) -> None:
    """Whoever downloads only these can do the audit."""
    for folder, words in (
        (finished, {"named": [7, 9, 13]}),
        (committed, {"named": [9], "microbatch": "1"}),
    ):
        one = asked(folder, **words)
        target = tmp_path / folder.name
        besides = Besides() if one.microbatch else Besides(way_to(one.inputs, 13))
        planned = passes(one.inputs, one.named)
        for path in files_read(one.inputs, planned, besides, bool(one.microbatch)):
            (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(folder))
        again = asked(target, **words)
        assert (again.run_microbatch(quiet) if one.microbatch else again.run(quiet)).ok
        assert len(list(target.rglob("*"))) < len(list(folder.rglob("*"))) / 2


def test_what_does_not_fit_names_what_does(
    committed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = opened(committed)
    least = effort.least_memory(inputs, microbatch=True)
    monkeypatch.setattr(machine, "available", lambda: least)
    needs = asked(committed, count=3).needs()
    assert (
        not needs.fits
        and needs.effort.seconds is None
        and needs.smaller == "--step 11 --microbatch random"
    )
    assert "does not fit (memory)" in needs.verdict()
    monkeypatch.setattr(machine, "available", lambda: least - 1)
    assert asked(committed, count=3).needs().smaller == ""


def test_what_takes_too_long_names_how_many_fit(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "measure", lambda inputs, step: SECOND)
    needs = asked(finished, count=13, budget=4.0).needs()
    count = len(fitting(opened(finished), chosen(7, needs.request.head, 13), SECOND, 4.0))
    assert not needs.fits and needs.smaller == f"--steps {count} --seed 7" and 1 <= count < 13


def test_a_full_disk_is_told_beforehand(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free", lambda folder: 1000)
    assert asked(committed, count=1).needs().fits  # It writes nothing.
    needs = asked(committed, named=[9], microbatch="1").needs()
    assert not needs.fits and "(disk)" in needs.verdict()
