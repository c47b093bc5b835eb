"""A ledger or a journal that a power cut damaged: what the last anchor proves
stays, and the run goes on."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import LedgerBroken
from pellucid.look.status import status
from pellucid.release.verify import verify
from pellucid.run import run
from pellucid.store import files, layout, log, repair
from pellucid.store.ledger import LedgerFile
from pellucid.terminal import Terminal
from pellucid.train import loop
from tests.conftest import finish, make_run, spiking


class Stop(Terminal):
    def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None:
        if number == 12:
            raise KeyError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run that was killed at step 12; its last anchor is that of step 10. Only to be read."""
    folder = make_run(tmp_path_factory.mktemp("stopped") / "small", corpus)
    with pytest.raises(KeyError):
        run(folder, Stop(quiet=True))
    return folder


@pytest.fixture
def damaged(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def lines_of(folder: Path) -> list[bytes]:
    return (folder / layout.LEDGER).read_bytes().splitlines(keepends=True)


def number_of(folder: Path, step: int) -> int:
    return int(LedgerFile(folder).step(step)["n"])


def flipped(line: bytes) -> bytes:
    """Another number in an entry that can still be read."""
    return line.replace(b'"loss":"40', b'"loss":"41')


def validation(lines: list[bytes], after: int) -> list[bytes]:
    return [*lines[:after], bytes(len(lines[after])), *lines[after + 1 :]]


DAMAGES = {
    "zeros at the end": lambda lines, n: [*lines[:-1], bytes(len(lines[-1])), b"\n"],
    "zeros longer than any line": lambda lines, n: [*lines[:-1], bytes(2 << 20)],
    "a line cut and others behind it": lambda lines, n: [
        *lines[:-2],
        lines[-2][:40] + b"\n",
        lines[-1],
    ],
    "a number of step 11": lambda lines, n: [*lines[:-2], flipped(lines[-2]), lines[-1]],
    "the validation of step 10": lambda lines, n: validation(lines, n + 1),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_behind_the_last_anchor_is_cut_off(name: str, damaged: Path, finished: Path) -> None:
    lines, n = lines_of(damaged), number_of(damaged, 10)
    (damaged / layout.LEDGER).write_bytes(b"".join(DAMAGES[name](lines, n)))
    finish(damaged)
    assert status(damaged)["finished"] and LedgerFile(damaged).head == LedgerFile(finished).head
    entries = [entry.body for entry in log.read(damaged / layout.JOURNAL)]
    told = [entry["removed"] for entry in entries if entry["kind"] == "repair"]
    assert len(told) == 1 and "bytes of the ledger, from entry" in told[0]


@pytest.mark.parametrize("seed", range(20))
def test_what_an_anchor_proves_is_never_cut(seed: int, damaged: Path) -> None:
    draw, lines, n = random.Random(seed), lines_of(damaged), number_of(damaged, 10)
    # What the last entry says, nothing but its computation proves.
    place = draw.randrange(len(lines) - 1)
    changed = draw.choice(
        [bytes(len(lines[place])), lines[place][:-9] + b"\n", flipped(lines[place]), b"{}\n", b""]
    )
    content = b"".join([*lines[:place], changed, *lines[place + 1 :]])
    (damaged / layout.LEDGER).write_bytes(content)
    if changed == lines[place]:
        assert not repair.ledger(damaged)
    elif place > n:
        assert repair.ledger(damaged)
        kept = lines_of(damaged)
        assert n < len(kept) <= place + 1 and kept == lines[: len(kept)]
        assert not repair.ledger(damaged)
    else:
        with pytest.raises(LedgerBroken):
            repair.ledger(damaged)
        assert (damaged / layout.LEDGER).read_bytes() == content


# ---- a rollback in the tail --------------------------------------------------------------------


class StopBehindRollback(Terminal):
    """Killed at step 10 of the branch that the incident began: no anchor
    of that branch is stored yet."""

    gone_back = False

    def incident(self, incident: dict[str, Any]) -> None:
        self.gone_back = True

    def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None:
        if self.gone_back and number == 10:
            raise KeyError


@pytest.fixture
def spiked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, 11))


@pytest.fixture
def rolled_back(spiked: None, corpus: Path, tmp_path: Path) -> Path:
    """Went from step 11 back to step 8. Of the anchors 0, 5 and 10 the last one
    lies in what was abandoned."""
    settings = ["guards.window=8", "guards.back=3", 'guards.loss.action="rollback"']
    anchored = "placement.anchors={every = 5, powers_of_two = false}"
    folder = make_run(tmp_path / "run", corpus, [*settings, anchored])
    with pytest.raises(KeyError):
        run(folder, StopBehindRollback(quiet=True))
    assert layout.steps_in(folder / layout.ANCHORS) == [0, 5]
    assert layout.steps_in(layout.abandoned(folder, 1) / layout.ANCHORS) == [10]
    assert [(one["step"], one["to"]) for one in LedgerFile(folder).rollbacks] == [(11, 8)]
    return folder


def with_zeros(folder: Path, kind: str, step: int, branch: int = 0) -> bytes:
    """Make zeros of one entry, and say what the ledger then holds."""
    lines = lines_of(folder)
    bodies = [json.loads(line) for line in lines]
    (n,) = (
        body["n"]
        for body in bodies
        if (body["kind"], body.get("step"), body.get("branch", 0)) == (kind, step, branch)
    )
    content = b"".join([*lines[:n], bytes(len(lines[n]) - 1) + b"\n", *lines[n + 1 :]])
    (folder / layout.LEDGER).write_bytes(content)
    return content


@pytest.mark.parametrize(
    "entry", [("step", 11, 0), ("incident", 11, 1), ("step", 9, 1), ("step", 10, 1)], ids=str
)
def test_a_rollback_that_is_cut_off_is_decided_again(
    entry: tuple[str, int, int], rolled_back: Path, tmp_path: Path
) -> None:
    whole = finish(Path(shutil.copytree(rolled_back, tmp_path / "whole")))
    with_zeros(rolled_back, *entry)
    finish(rolled_back)
    assert (rolled_back / layout.LEDGER).read_bytes() == (whole / layout.LEDGER).read_bytes()
    assert verify(rolled_back, lambda _: None).problems == []
    names = [
        {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
        for one in (rolled_back, whole)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("step", [7, 9, 10])
def test_what_an_abandoned_anchor_proves_is_never_cut(step: int, rolled_back: Path) -> None:
    content = with_zeros(rolled_back, "step", step)
    with pytest.raises(LedgerBroken):
        finish(rolled_back)
    assert (rolled_back / layout.LEDGER).read_bytes() == content


def test_a_ledger_that_the_anchors_do_not_know_is_left_alone(damaged: Path) -> None:
    about = damaged / "anchors/step5/anchor.json"
    files.write_json(about, files.read_json(about) | {"ledger_digest": "0" * 64})
    content = (damaged / layout.LEDGER).read_bytes()[:-40] + b"\n"
    (damaged / layout.LEDGER).write_bytes(content)
    with pytest.raises(LedgerBroken):
        repair.ledger(damaged)
    assert (damaged / layout.LEDGER).read_bytes() == content


def test_the_end_of_a_journal_is_cut_and_its_middle_is_not(damaged: Path) -> None:
    path = damaged / layout.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + bytes(300) + b"\n" + bytes(99) + b"\n")
    removed = repair.journal(damaged)
    assert "401 bytes of the journal" in removed and path.read_bytes() == b"".join(lines[:-1])
    for changed in (bytes(50) + b"\n", lines[1].replace(b"stage", b"stages")):
        content = b"".join([lines[0], changed, *lines[2:]])
        path.write_bytes(content)
        assert not repair.journal(damaged) and path.read_bytes() == content
        with pytest.raises(LedgerBroken):
            finish(damaged)


def test_a_release_is_never_repaired(release: Path) -> None:
    (release / "model.safetensors").unlink()
    content = (release / layout.LEDGER).read_bytes()[:-40] + b"\n"
    (release / layout.LEDGER).write_bytes(content)
    with pytest.raises(Exception, match="ledger"):
        finish(release)
    assert (release / layout.LEDGER).read_bytes() == content


def test_anchors_made_afterwards_lie_behind_the_rows(damaged: Path, finished: Path) -> None:
    """Of steps 11 and 12 no row is on disk: the run goes on from step 10."""
    from pellucid.release.publish import publish
    from pellucid.release.verify import verify
    from pellucid.replay.anchoring import place_anchors

    made, _ = place_anchors(damaged, "every=12,powers_of_two=true", lambda done, total: None)
    assert made == [12]
    finish(damaged)
    publish(damaged)
    assert verify(damaged, lambda what: None).problems == []
