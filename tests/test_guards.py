"""Incidents end to end: a run that notes, stops or goes back, and what
everybody else makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid.data.order import Order
from pellucid.errors import Guarded, NotFinite, Stopped
from pellucid.inputs import Inputs
from pellucid.recipe import load
from pellucid.record import digests
from pellucid.record.history import History, Rollback, Span
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.replay.diff import diff_here
from pellucid.replay.materialise import walk
from pellucid.run import run
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile
from pellucid.terminal import Terminal
from pellucid.train import loop
from tests.conftest import Numbers, finish, make_run, spiking
from tests.forgery.forge import bodies, edit_ledger

# Losses fall, so that a step is "high" whenever it is a tenth over what the rule is told below.
GUARDS = ["guards.window=8", "guards.back=3", "train.steps=16"]


def spike_at(monkeypatch: pytest.MonkeyPatch, *batches: int) -> None:
    """Learning goes wild on these batches of the order."""
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, *batches))


@pytest.fixture
def guarded(corpus: Path, tmp_path: Path) -> Any:
    """Makes a run with these guards."""

    def make(*settings: str) -> Path:
        return make_run(tmp_path / "guarded", corpus, [*GUARDS, *settings])

    return make


def incidents(folder: Path) -> list[dict[str, Any]]:
    return [body for body in bodies(folder) if body["kind"] == "incident"]


def test_a_note_changes_nothing_but_the_ledger(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = guarded()
    spike_at(monkeypatch, 12)
    finish(folder)
    assert [(one["step"], one["action"]) for one in incidents(folder)] == [(12, "note")]
    assert verify(folder, lambda _: None).problems == []


def test_a_rollback_passes_the_batches_over_and_keeps_what_it_abandons(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = guarded('guards.loss.action="rollback"')
    spike_at(monkeypatch, 12)
    finish(folder)
    (incident,) = incidents(folder)
    assert (incident["step"], incident["to"], incident["passed_over"], incident["branch"]) == (
        12,
        9,
        3,
        1,
    )
    ledger = LedgerFile(folder)
    assert ledger.ended and ledger.steps_done == 16
    assert ledger.history == History((Span(0, 0, 0), Span(1, 9, 3)), (Rollback(12, 9),))
    assert [one["step"] for one in ledger.between(0, 16) if one["kind"] == "step"] == list(
        range(1, 17)
    )
    assert [one["step"] for one in ledger.abandoned(incident) if one["kind"] == "step"] == [
        10,
        11,
        12,
    ]
    place = layout.abandoned(folder, 1)
    assert layout.steps_in(place / "anchors") == [10] and layout.steps_in(folder / "anchors")[
        -2:
    ] == [15, 16]
    assert layout.steps_in(place / "checkpoints") == [] and layout.steps_in(
        folder / "checkpoints"
    ) == [0, 6, 12, 16]
    assert verify(folder, lambda _: None).problems == []
    publish(folder)
    assert verify(folder, lambda _: None).problems == []
    # Steps after it train on what comes later in the order, and replay to the same bits.
    inputs = Inputs.load(folder, load(folder))
    whole = Order.of(folder, inputs.recipe, inputs.shards)
    for step, undisturbed in ((9, 9), (10, 13), (16, 19)):
        assert inputs.batch(step).blocks_B.tolist() == whole.rows(undisturbed).blocks.tolist()
    assert audit_step(inputs, 12, lambda *_: None).ok


def test_the_states_behind_a_rollback_are_materialised_and_explained(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = guarded('guards.loss.action="rollback"')
    spike_at(monkeypatch, 12)
    finish(folder)
    shutil.rmtree(folder / layout.ANCHORS / "step15")
    inputs, ledger = Inputs.load(folder, load(folder)), LedgerFile(folder)
    for state in walk(inputs, [9, 11, 14], lambda *_: None):
        assert state.roots().state.hex() == ledger.step(state.step)["state"]
    found = diff_here(folder, lambda *_: None)
    assert found.equal, found.as_json()


def test_show_tells_only_steps_that_were_kept(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pellucid.look.show import Shown

    folder = guarded('guards.loss.action="rollback"')
    spike_at(monkeypatch, 12)
    finish(folder)
    shown = Shown(folder)
    seen = {}
    for number in range(shown.shards.blocks):
        for one in shown.block(number)["steps"]:
            seen[one["step"], one["row"]] = number
    found = {
        (k, row): one["block"]
        for k in range(1, 17)
        for row, one in enumerate(shown.step(k)["rows"])
    }
    assert seen == found


def test_killed_at_any_moment_of_a_rollback_it_ends_with_the_same_bytes(
    guarded: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = guarded('guards.loss.action="rollback"', "guards.rollbacks=2")
    shutil.copytree(folder, tmp_path / "killed")
    spikes = spiking(loop.training_step, 12, 14)
    monkeypatch.setattr(loop, "training_step", spikes)
    finish(folder)
    assert [one["branch"] for one in incidents(folder)] == [1, 2]
    from pellucid.store import aside

    killed, real = tmp_path / "killed", aside.files.link_or_copy
    moments = iter(range(3))

    def dies(source: Path, target: Path) -> None:
        if "abandoned" in str(target) and next(moments, None) is not None:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(aside.files, "link_or_copy", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            finish(killed)
    monkeypatch.setattr(aside.files, "link_or_copy", real)
    monkeypatch.setattr(
        aside.files, "remove_folder", lambda path: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        finish(killed)
    monkeypatch.undo()
    monkeypatch.setattr(loop, "training_step", spikes)
    finish(killed)
    assert (killed / layout.LEDGER).read_bytes() == (folder / layout.LEDGER).read_bytes()
    assert verify(killed, lambda _: None).problems == []
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(killed).as_posix() for path in killed.rglob("*") if path.is_file()
    }


def test_after_too_many_rollbacks_it_stops_and_says_so_again(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = guarded('guards.loss.action="rollback"', "guards.rollbacks=1")
    spike_at(monkeypatch, 12, 15)
    for _ in range(2):
        with pytest.raises(Guarded, match=r"Step 12: loss .* is over .*guards\.loss"):
            finish(folder)
    assert [one["action"] for one in incidents(folder)] == ["rollback", "stop"]
    problems = verify(folder, lambda _: None).problems
    assert [one.error for one in problems] == [
        "LedgerIncomplete"
    ] and "its own rule on loss" in problems[0].detail


def test_what_is_not_finite_is_recorded_and_passed_over(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = guarded('guards.not_finite="rollback"')
    real, numbers = loop.training_step, Numbers()

    def training_step(state: Any, batch: Any, *rest: Any) -> Any:
        if numbers.of(batch) == 12:
            raise NotFinite(
                step=state.step + 1, quantity="grad_norm", words="the norm", value=float("nan")
            )
        return real(state, batch, *rest)

    monkeypatch.setattr(loop, "training_step", training_step)
    finish(folder)
    (incident,) = incidents(folder)
    assert (incident["rule"], incident["value"], incident["step"], incident["to"]) == (
        "not_finite",
        "nan",
        11,
        9,
    )
    assert verify(folder, lambda _: None).problems == []


@pytest.mark.parametrize(
    ("settings", "batches", "step"),
    [
        (['guards.not_finite="stop"'], [11], 10),  # Right after an anchor.
        (['guards.not_finite="rollback"', "guards.rollbacks=1"], [12, 13], 9),  # After a rollback.
    ],
)
def test_a_stop_before_any_step_is_recorded_once(
    settings: list[str],
    batches: list[int],
    step: int,
    guarded: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, real, numbers = guarded(*settings), loop.training_step, Numbers()

    def training_step(state: Any, batch: Any, *rest: Any) -> Any:
        if numbers.of(batch) in batches:
            raise NotFinite(
                step=state.step + 1, quantity="grad_norm", words="the norm", value=float("nan")
            )
        return real(state, batch, *rest)

    monkeypatch.setattr(loop, "training_step", training_step)
    for _ in range(3):
        with pytest.raises(NotFinite):
            finish(folder)
    *rollbacks, stop = incidents(folder)
    assert (stop["step"], stop["action"], len(rollbacks)) == (step, "stop", len(batches) - 1)
    (problem,) = verify(folder, lambda _: None).problems
    assert problem.error == "LedgerIncomplete" and "its own rule on not_finite" in problem.detail


def test_a_stop_while_it_trains_on_a_branch_is_resumed(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = guarded('guards.loss.action="rollback"')
    spike_at(monkeypatch, 12)

    class Impatient(Terminal):
        def step(self, number: int, *rest: Any) -> None:
            if number == 14:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run(folder, Impatient(quiet=True))
    finish(folder)
    assert verify(folder, lambda _: None).problems == []


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("limit", digests.float_bits(1.0), "limit is"),
        ("to", 8, "to is 8, and the recipe's rules give 9"),
        ("passed_over", 4, "passed_over is 4"),
        ("action", "note", "action is 'note'"),
    ],
)
def test_verify_follows_the_rules(
    guarded: Any, monkeypatch: pytest.MonkeyPatch, field: str, value: Any, told: str
) -> None:
    """The chain is made again, so that only the rules can tell."""
    folder = guarded('guards.loss.action="rollback"')
    spike_at(monkeypatch, 12)
    finish(folder)
    edit_ledger(folder, lambda body: {**body, field: value} if body["kind"] == "incident" else body)
    problems = verify(folder, lambda _: None).problems
    assert any("incident of step 12" in one.where and told in one.detail for one in problems), (
        problems
    )


def test_an_incident_left_out_or_invented_is_noticed(
    guarded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = guarded()
    spike_at(monkeypatch, 12)
    finish(folder)
    edit_ledger(folder, lambda body: None if body["kind"] == "incident" else body)
    (problem, *_) = verify(folder, lambda _: None).problems
    assert problem.error == "LedgerIncomplete" and "incident of step 12" in problem.where


def test_the_status_tells_of_incidents(
    guarded: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from pellucid.answers import print_status
    from pellucid.look.status import status

    folder = guarded()
    spike_at(monkeypatch, 12)
    finish(folder)
    about = status(folder)
    assert [one["step"] for one in about["incidents"]] == [12] and json.dumps(about)
    print_status(about)
    assert "incident  step 12: loss" in capsys.readouterr().out
