"""An incident of no finite number is computed again by every audit;
an invented one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pellucid.errors import NotFinite
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay import incidents, parallel
from pellucid.replay.request import Report, Request
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop, validation
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
    assert f"{quantity} came out as nan, and {quantity} comes out as " in found.problems[0]
    assert report.wrong() == "the incident after step 11"
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
    monkeypatch.setattr(parallel, "workers", lambda _: 1)
    for every in (False, True):
        report = audited(folder, every=every)
        assert [one.branch for one in report.incidents] == [0, 1]
        assert all("comes out as" in one.problems[0] for one in report.incidents)
    monkeypatch.setattr(incidents, "MOST", 1)
    by_seed = {audited(folder, seed).incidents[0].branch for seed in range(9)}
    assert by_seed == {0, 1}, "the seed decides where there are too many"
    assert len(audited(folder, every=True).incidents) == 2


@pytest.mark.parametrize(("rate", "quantity"), [("1e39", "weight_norm"), ("1e18", "grad_norm")])
def test_one_that_was_passes(rate: str, quantity: str, corpus: Path, tmp_path: Path) -> None:
    """A learning rate out of all proportion: the run goes back, and at last stops."""
    folder = make_run(tmp_path / "wild", corpus, [*GUARDS, f"train.lr={rate}"])
    with pytest.raises(NotFinite):
        finish(folder)
    ledger = LedgerFile(folder)
    recorded = incidents.recorded(ledger)
    assert [one["action"] for one in recorded] == ["rollback"] * 3 + ["stop"]
    found = incidents.audit_incidents(opened(folder), 1, True, quiet)
    assert [one.problems for one in found] == [()] * 4
    assert {one.quantity for one in found} == {quantity}


def test_a_validation_that_is_finite_is_named(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "invented", corpus, GUARDS)
    real, numbers = validation.validate, list[int]()

    def lying(state: Any, *rest: Any) -> Any:
        if state.step == 10 and not numbers:
            numbers.append(10)
            raise NotFinite(step=10, quantity="validation", words="the loss", value=float("inf"))
        return real(state, *rest)

    with mock.patch.object(validation, "validate", lying):
        finish(folder)
    publish(folder)
    assert verify(folder, quiet).problems == []
    (found,) = audited(folder).incidents
    assert (
        "validation came out as inf, and validation comes out as a finite number"
        in (found.problems[0])
    )
