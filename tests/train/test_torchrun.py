"""Whole runs under torchrun: several processes, some of which die, give the bits of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pellucid.look.status import status
from pellucid.store import layout, log
from pellucid.train import loop
from tests.conftest import finish, make_run, spiking

ROOT = Path(__file__).parents[2]
SETTINGS = ["train.batch=8", "train.microbatch=1", "record.commitment=microbatches"]


def torchrun(count: int, *words: object) -> subprocess.CompletedProcess[str]:
    """Several processes on this machine; `words` as after python."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *map(str, launch)]
    # Where the others did not notice a dead process, they would wait for half an hour.
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=120
    )


def identity(folder: Path) -> tuple[str, str]:
    about = status(folder)
    assert about["finished"]
    return about["head"], about["weights"]


def journal(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [entry.body for entry in log.read(folder / layout.JOURNAL) if entry.body["kind"] == kind]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> tuple[str, str]:
    """Head and weights that one process comes to."""
    return identity(finish(make_run(tmp_path_factory.mktemp("alone") / "small", corpus, SETTINGS)))


def test_stopped_with_two_processes_it_goes_on_with_one(
    alone: tuple[str, str], corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "small", corpus, SETTINGS)
    done = torchrun(2, "-m", "tests.train.victim", "torchrun", 1, 7, folder)
    assert (
        done.returncode
        and "Stopped by" in done.stderr
        and "at step 7, whose state is stored" in done.stderr
    )
    assert 7 in layout.steps_in(folder / "anchors")
    assert [entry["processes"] for entry in journal(folder, "start")] == ["2"]
    assert identity(finish(folder)) == alone


def test_four_processes_of_which_one_dies_and_two_go_on(
    alone: tuple[str, str], corpus: Path, tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "small", corpus, SETTINGS)
    done = torchrun(4, "-m", "tests.train.victim", "kill", 2, 7, folder)
    assert done.returncode and "ProcessLost" in done.stderr and "exitcode: -9" in done.stderr
    stop = journal(folder, "stop")[-1]
    # A release publishes its journal.
    assert stop["error"] == "ProcessLost" and "127.0.0.1" not in stop["detail"]
    assert status(folder)["steps_done"] == 6
    done = torchrun(2, "-m", "pellucid", "run", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"head"') == 1  # One process speaks.
    assert identity(folder) == alone
    assert [entry["processes"] for entry in journal(folder, "start")] == ["4", "2"]


def test_two_processes_go_back_together(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = ["guards.window=8", "guards.back=3", 'guards.loss.action="rollback"']
    folder = make_run(tmp_path / "small", corpus, [*SETTINGS, *guards])
    done = torchrun(2, "-m", "tests.train.victim", "spike", 0, 11, folder)
    assert done.returncode == 0 and "going back to step 8" in done.stderr, done.stderr
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, 11))
    assert identity(folder) == identity(
        finish(make_run(tmp_path / "alone", corpus, [*SETTINGS, *guards]))
    )
