"""What verify and audit do not tell, as docs/threats.md admits. A test that fails here
says that a limit has gone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pellucid.data.documents import split_of
from pellucid.look.show import list_documents
from pellucid.opened import open as run_of
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_steps
from pellucid.replay.request import Request
from pellucid.store import files, layout
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run, pellucid, write_corpus
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


def test_a_fork_of_nothing_passes_and_is_called_a_fork(finished: Path, tmp_path: Path) -> None:
    """It claims a million steps, and shows them nowhere as its own."""
    folder, before, tokens = tmp_path / "nothing", 999_996, 10**17
    beside.fork_of_nothing(finished, folder, before, tokens)
    publish(folder)
    assert passes(folder, before + 1, before + 4)
    own, claimed = "4 in this release (999,997 to 1,000,000)", "999,996 claimed for the run before"
    said = (folder / "README.md").read_text()
    assert f"| steps | {own}, after {claimed} |" in said
    assert f"fork of | `{'c0ffee42' * 8}` after step 999,996" in said
    told = (
        "512 in the 4 steps of this release, after 100,000,000,000,000,000 claimed for the 999,996"
    )
    parted = f"fork of {'c0ffee42' * 8} after step 999,996; what came before is not in this release"
    looks = [
        pellucid("status", folder).stdout,
        pellucid("show", folder, "step", before + 4).stdout,
        run_of(folder)._repr_html_(),
        run_of(folder).step(before + 4)._repr_html_(),
    ]
    audited = pellucid("audit", folder, "--step", before + 4).stdout
    all_audited = pellucid("audit", folder, "--all").stdout
    for text in (*looks, audited, all_audited):
        assert parted in text
    for text in (said, *looks):
        assert told in text
    assert "4 of 4 steps of this release replayed" in all_audited
    numbers = {"own_steps": 4, "own_tokens": "512", "step": before, "tokens": str(tokens)}
    about = {"parent": "c0ffee42" * 8, **numbers, "without": []}
    assert json.loads(pellucid("status", folder, "--json").stdout)["fork"] == about
    assert json.loads(pellucid("audit", folder, "--step", before + 1, "--json").stdout)["fork"] == (
        about
    )
    shown = json.loads(pellucid("show", folder, "step", before + 4, "--json").stdout)
    assert shown["fork"] == about == run_of(folder).fork
    kept = files.read_json(folder / "pellucid.json")["fork"]
    assert kept == {"parent": "c0ffee42" * 8, "step": before, "tokens": str(tokens)}


def test_texts_are_ground_until_they_are_for_validation(tmp_path: Path) -> None:
    """Every text of validation is a text of training with a blank more at its end."""
    share, texts = 1500, write_corpus(tmp_path / "honest", 30)
    place = tmp_path / "ground"
    place.mkdir()

    def ground(text: str, held: bool) -> str:
        turned = (text + " " * blanks for blanks in range(1000))
        return next(
            one
            for one in turned
            if (split_of(hashlib.sha256(one.encode()).digest(), share) == "validation") == held
        )

    for path in texts.iterdir():
        text = path.read_text(encoding="utf-8")
        (place / f"{path.stem}a.txt").write_text(ground(text, False), encoding="utf-8")
        if int(path.stem) < 8:
            (place / f"{path.stem}b.txt").write_text(ground(text + " ", True), encoding="utf-8")
    folder = finish(make_run(tmp_path / "run", place))
    publish(folder)
    kept = [one["id"] for one in list_documents(folder) if one["split"] == "validation"]
    assert kept == [f"ground/{number:03}b.txt" for number in range(8)]
    assert passes(folder, 7, 13)


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
