"""Every forgery of the table is caught where it says, by name; and where only a
replay tells, verify is content."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pellucid.release.verify import verify
from pellucid.replay import parallel
from pellucid.replay.audit import audit_step, audit_steps
from pellucid.replay.request import Request
from pellucid.store.ledger import LedgerFile
from tests.conftest import pellucid
from tests.forgery.caught import Forgery, look
from tests.forgery.forge import at, edit_ledger, fit, opened, quiet, seal, train
from tests.forgery.steps import one_bit, validated_better
from tests.forgery.table import FORGERIES


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda one: one.name.replace(" ", "_"))
def test_forgery(forgery: Forgery, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    forgery.make(finished, folder)
    forgery.seal(folder)
    caught = look(forgery, finished, folder)
    assert caught.by(forgery), caught
    if forgery.by == "verify":
        return
    assert caught.verified == [], "all that is recorded fits"
    assert bool(caught.audited) == (forgery.by in ("audit", "evaluations"))
    assert caught.seconds > 0 and caught.replayed <= forgery.step
    if forgery.elsewhere is not None:
        assert audit_step(opened(folder), forgery.elsewhere, quiet).ok


def test_an_audit_of_all_names_the_forged_step_and_no_other(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After step 7 the run is honest again, from the anchor of step 8
    on: it is found where it lies."""
    folder = tmp_path / "forged"
    train(finished, folder, at(7, one_bit))
    seal(folder)
    monkeypatch.setattr(parallel, "workers", lambda *_: 1)
    report = Request.of(opened(folder), [], None, None, None, True, "").run(quiet)
    assert [one.step for one in report.failed] == [7, 8], (
        "step 8 cannot be reached, only begun with"
    )
    assert (
        "step 7: weights" in report.failed[0].problems[0]
        and "not reached" in report.failed[1].problems[0]
    )
    assert report.odds.compared == 12


def test_every_audit_computes_the_last_validation_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is true and fits, so that no step that was taken shows it."""
    folder = tmp_path / "forged"
    validated_better(finished, folder, 13)
    seal(folder)
    assert verify(folder, quiet).problems == []
    assert all(one.ok for one in audit_steps(opened(folder), range(13), quiet))
    monkeypatch.setattr(parallel, "workers", lambda *_: 1)
    for step in (0, 1, 9, 12, 13):
        report = Request.of(opened(folder), [step], None, None, None, False, "").run(quiet)
        assert not report.ok and "13" in report.wrong and report.as_json()["ok"] is False
    for count, budget, every in ((1, None, False), (None, 60.0, False), (None, None, True)):
        assert not Request.of(opened(folder), [], count, 5, budget, every, "").run(quiet).ok
    for anchor in (folder / "anchors").iterdir():  # Its state has to be made again.
        shutil.rmtree(anchor)
    report = Request.of(opened(folder), [1], None, None, None, False, "").run(quiet)
    assert report.failed == [] and report.validation and report.validation.replayed == 13
    assert "step 13: validation is" in report.validation.problems[0]
    done = pellucid("audit", folder, "--step", 1, check=5)
    assert "step 13: validation is" in done.stdout and "the validation of step 13" in done.stderr


def test_an_honest_run_made_in_the_same_way_passes(finished: Path, tmp_path: Path) -> None:
    """What catches the forgeries is not how they are made."""
    folder = tmp_path / "honest"
    train(finished, folder)
    edit_ledger(folder, lambda body: body)
    fit(folder)
    seal(folder)
    assert LedgerFile(folder).head == LedgerFile(finished).head
    assert verify(folder, quiet).problems == []
    assert all(audit_step(opened(folder), step, quiet).ok for step in (0, 7, 13))
