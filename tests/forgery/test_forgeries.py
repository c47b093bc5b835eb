"""Every forgery of the table is caught where it says, by name; and where only a replay tells, verify is content."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from tests.forgery.forge import fit, seal, train
from tests.forgery.table import FORGERIES, Forgery, look, opened, quiet


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda one: one.name.replace(" ", "_"))
def test_forgery(forgery: Forgery, finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "forged"
    forgery.make(finished, folder)
    seal(folder)
    caught = look(forgery, finished, folder)
    assert caught.by(forgery), caught
    if forgery.by == "verify":
        return
    assert caught.verified == [], "all that is recorded fits"
    assert bool(caught.audited) == (forgery.by == "audit")
    assert caught.seconds > 0 and caught.replayed <= forgery.step
    if forgery.elsewhere is not None:
        assert audit_step(opened(folder), forgery.elsewhere, quiet).ok


def test_an_honest_run_made_in_the_same_way_passes(finished: Path, tmp_path: Path) -> None:
    """What catches the forgeries is not how they are made."""
    folder = tmp_path / "honest"
    train(finished, folder)
    fit(folder)
    seal(folder)
    assert verify(folder, quiet).problems == []
    assert all(audit_step(opened(folder), step, quiet).ok for step in (0, 7, 13))
