"""What verify and audit do not tell, as docs/threats.md admits. A test that fails here
says that a limit has gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_steps
from pellucid.replay.request import Request
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run
from tests.forgery import beside
from tests.forgery.forge import edit_numbers, opened, quiet, seal
from tests.forgery.steps import trained_before
from tests.test_guards import GUARDS, spike_at


def passes(folder: Path, *steps: int) -> bool:
    """Whether verify and the audits of these steps find nothing."""
    return not verify(folder, quiet).problems and all(
        one.ok for one in audit_steps(opened(folder), steps, quiet)
    )


def test_every_audit_makes_the_first_state_again(finished: Path, tmp_path: Path) -> None:
    """No step that was taken shows it, for the anchor of the first state stands for it."""
    folder = tmp_path / "before"
    trained_before(finished, folder)
    seal(folder)
    assert passes(folder, *range(1, 14))
    found = Request.of(opened(folder), [9], None, None, None, False, "").run(quiet)
    assert [(one.step, one.ok) for one in found.findings] == [(0, False), (9, True)]


def test_a_branch_that_a_rollback_abandoned_is_not_replayed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spike that it went back for never was: the losses of that step are made up."""
    folder = make_run(tmp_path / "claimed", corpus, [*GUARDS, 'guards.loss.action="rollback"'])
    with monkeypatch.context() as lying:
        spike_at(lying, 12)
        finish(folder)
    publish(folder)
    assert [one["step"] for one in LedgerFile(folder).rollbacks] == [12]
    assert passes(folder, *range(17))


def test_what_is_said_of_a_text_is_bound_and_not_known_to_be_true(release: Path) -> None:
    """Another origin, and every root over it made again: another head, and nothing else."""
    head = LedgerFile(release).head
    beside.other_origin(release)
    seal(release)
    assert passes(release, 7, 13)
    assert LedgerFile(release).head != head


def test_measurements_and_the_journal_are_only_said(release: Path) -> None:
    """A step faster than it was, and a journal with another past."""
    edit_numbers(release, "steps", "seconds", 7, 1e-6)
    edit_numbers(release, "steps", "memory_bytes", 7, 1)
    (release / layout.JOURNAL).write_bytes(
        (release / layout.JOURNAL).read_bytes().splitlines(keepends=True)[0]
    )
    seal(release)
    assert passes(release, 7)


def test_a_release_cannot_tell_of_one_that_was_withheld(
    finished: Path, corpus: Path, tmp_path: Path
) -> None:
    """Of two runs by two seeds the one that suits is published, and is a true run."""
    other = finish(make_run(tmp_path / "small", corpus, ["seed=2"]))
    publish(other)
    assert LedgerFile(other).head != LedgerFile(finished).head
    assert passes(other, 7)
