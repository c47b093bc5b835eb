"""An incident of no finite number is computed again by every audit;
an invented one is named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pellucid import training
from pellucid.errors import BudgetTooSmall, NotFinite
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay import effort, incidents, parallel
from pellucid.replay.audit import passes
from pellucid.replay.effort import Speed
from pellucid.replay.request import Report, Request
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from tests.conftest import Numbers, finish, make_run, pellucid
from tests.forgery.forge import opened, quiet

GUARDS = ["guards.back=3", "train.steps=16", 'guards.not_finite="rollback"']


def inventing(quantity: str, *batches: int) -> Callable[..., Any]:
    """The training step, but these batches of the order do not suit the maker."""
    real, numbers = loop.training_step, Numbers()

    def taken(state: Any, batch: Any, *rest: Any) -> Any:
        if numbers.of(batch) in batches:
            raise NotFinite(
                step=batch.step, quantity=quantity, words="the norm", value=float("nan")
            )
        return real(state, batch, *rest)

    return taken


def invented(folder: Path, corpus: Path, quantity: str, *batches: int) -> Path:
    make_run(folder, corpus, GUARDS)
    with mock.patch.object(loop, "training_step", inventing(quantity, *batches)):
        finish(folder)
    publish(folder)
    assert verify(folder, quiet).problems == [], "all that is recorded fits"
    return folder


def audited(folder: Path, seed: int = 1, every: bool = False) -> Report:
    named = [] if every else [16]
    return Request.of(opened(folder), named, None, seed, None, every, "").run(quiet)


@pytest.mark.parametrize("quantity", ["grad_norm", "weight_norm"])
def test_an_invented_norm_is_named_whichever_step_is_audited(
    quantity: str, corpus: Path, tmp_path: Path
) -> None:
    folder = invented(tmp_path / "invented", corpus, quantity, 12)
    report = audited(folder)
    assert report.failed == [] and not report.ok
    (found,) = report.incidents
    assert (found.step, found.branch, found.quantity) == (11, 0, quantity)
    assert f"recorded: {quantity} is nan; computed here: {quantity} is " in found.problems[0]
    assert report.wrong == "the incident after step 11"
    done = pellucid("audit", folder, "--steps", 1, check=5)
    assert found.problems[0] in " ".join(done.stdout.split())
    assert "the incident after step 11" in done.stderr
    told = json.loads(pellucid("audit", folder, "--budget", "60s", "--json", check=5).stdout)
    assert not told["ok"] and told["incidents"][0]["step"] == 11


def test_incidents_on_branches_that_were_left_are_taken_again_too(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second comes before the run is as far as the first, and abandons its branch."""
    folder = invented(tmp_path / "twice", corpus, "grad_norm", 12, 13)
    ledger = LedgerFile(folder)
    assert len(ledger.rollbacks) == 2 and len(incidents.recorded(ledger)) == 2
    monkeypatch.setattr(parallel, "workers", lambda *_: 1)
    for every in (False, True):
        report = audited(folder, every=every)
        assert report.seed is None, "all of them were taken again"
        assert [one.branch for one in report.incidents] == [0, 1]
        assert all("computed here" in one.problems[0] for one in report.incidents)
    monkeypatch.setattr(incidents, "MOST", 1)
    by_seed = {audited(folder, seed).incidents[0].branch for seed in range(9)}
    assert by_seed == {0, 1}, "the seed decides where there are too many"
    report = audited(folder, 7)
    assert report.as_json()["seed"] == 7 and ", incidents chosen by seed 7: " in str(report)
    report = audited(folder, 7, every=True)
    assert len(report.incidents) == 2 and report.seed is None and "seed" not in str(report)


@pytest.mark.parametrize(("rate", "quantity"), [("1e39", "weight_norm"), ("1e18", "grad_norm")])
def test_one_that_was_passes(rate: str, quantity: str, corpus: Path, tmp_path: Path) -> None:
    """A learning rate out of all proportion: the run goes back, and at last stops."""
    folder = make_run(tmp_path / "wild", corpus, [*GUARDS, f"train.lr={rate}"])
    with pytest.raises(NotFinite):
        finish(folder)
    ledger = LedgerFile(folder)
    recorded = incidents.recorded(ledger)
    assert [one["action"] for one in recorded] == ["rollback"] * 3 + ["stop"]
    chosen = incidents.chosen_incidents(opened(folder), 1, True)
    found = [incidents.audit_incident(past, quiet) for past in chosen]
    assert [one.problems for one in found] == [()] * 4
    assert {one.quantity for one in found} == {quantity}
    (problem,) = verify(folder, quiet).problems
    assert problem.error == "LedgerIncomplete", "it stopped, and all that it recorded is right"


def test_a_validation_that_is_finite_is_named(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "invented", corpus, GUARDS)
    real, numbers = training.validate, list[int]()

    def lying(state: Any, *rest: Any) -> Any:
        if state.step == 10 and not numbers:
            numbers.append(10)
            raise NotFinite(step=10, quantity="validation", words="the loss", value=float("inf"))
        return real(state, *rest)

    with mock.patch.object(training, "validate", lying):
        finish(folder)
    publish(folder)
    assert verify(folder, quiet).problems == []
    (found,) = audited(folder).incidents
    assert (
        "recorded: validation is inf; computed here: validation is a finite number"
        in (found.problems[0])
    )


# ---- what they cost ----------------------------------------------------------------------------

SPEED = Speed(load=10.0, step=1.0, validation=100.0)


def test_what_an_audit_needs_counts_incidents(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first leaves step 11 from the anchor of step 0, the second step 12 of another branch."""
    folder = invented(tmp_path / "twice", corpus, "grad_norm", 12, 13)
    for anchor in (folder / "anchors").iterdir():
        if anchor.name not in ("step0", "step16"):
            shutil.rmtree(anchor)
    pasts = incidents.chosen_incidents(opened(folder), 1, True)
    taken = [past.step for past in pasts]
    assert [past.way for past in pasts] == [(0, step) for step in taken]
    monkeypatch.setattr(effort, "measure", lambda inputs, step: SPEED)
    needs = Request.of(opened(folder), [1], None, 1, None, False, "").needs().effort
    seconds = sum(10.0 + step + 1.0 for step in taken)
    assert needs.incidents == 2 and needs.incident_seconds == seconds
    assert needs.seconds == 11.0 + 110.0 + seconds
    assert needs.replayed == 1 + sum(step + 1 for step in taken)
    report = Request.of(opened(folder), [1], None, 1, None, False, "").run(quiet)
    assert [one.replayed for one in report.incidents] == taken
    told = pellucid("audit", folder, "--step", 1, "--dry-run").stdout
    assert "for 2 incident(s) of no finite number" in told


def test_the_files_named_are_enough_for_incidents(corpus: Path, tmp_path: Path) -> None:
    folder = invented(tmp_path / "invented", corpus, "grad_norm", 12)
    inputs, target = opened(folder), tmp_path / "part"
    request = Request.of(inputs, [16], None, 1, None, False, "")
    (past,) = incidents.chosen_incidents(inputs, 1, False)
    assert past.way.start not in (None, *(part.start for part in passes(inputs, [16])))
    besides = effort.Besides(None, (past,))
    for path in effort.files_read(inputs, passes(inputs, [16]), besides):
        (target / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.relative_to(folder))
    assert (target / f"anchors/step{past.way.start}").is_dir()
    problems = [one.problems for one in request.run(quiet).incidents]
    assert [one.problems for one in audited(target).incidents] == problems


def test_a_budget_that_incidents_use_up_is_refused_beforehand(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = invented(tmp_path / "invented", corpus, "grad_norm", 12)
    monkeypatch.setattr(effort, "measure", lambda inputs, step: SPEED)
    monkeypatch.setattr(incidents.loop, "steps", mock.Mock(side_effect=AssertionError("replayed")))
    words = "the last validation and 1 incident(s) of no finite number"
    with pytest.raises(BudgetTooSmall, match=re.escape(words)):
        Request.of(opened(folder), [], None, 1, 125.0, False, "").run(quiet)
    needs = Request.of(opened(folder), [1], None, 1, 125.0, False, "").needs()
    assert not needs.fits_budget
