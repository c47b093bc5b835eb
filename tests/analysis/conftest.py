"""A run of several epochs over a few documents, one of them there twice, with its evaluations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pellucid.evaluate import kept
from pellucid.evaluate.measure import measure
from pellucid.evaluate.suite.memorization import Drawn, memorization
from pellucid.inputs import Inputs
from pellucid.measured import stored
from pellucid.recipe import load
from tests.conftest import finish, make_run, prose, write_corpus

LAST = 120
STEPS, DRAWN = [0, 5, 45, LAST], Drawn(9, 7, ranges=4, sequences=6)
SETTINGS = [
    f"train.steps={LAST}",
    "train.lr=2e-2",
    "optimizer.kind=muon",
    "checkpoints.every=100",
    "validation.every=100",
]


def evaluated(folder: Path, steps: list[int], limit: int | None = None) -> None:
    """Ask steps the task, and keep what they answer."""
    inputs = Inputs.load(folder, load(folder))
    task = memorization(inputs.recipe, inputs.shards, inputs.order, DRAWN, limit)
    with kept.writing(folder, [task], steps) as chain:
        known = stored.entries(folder)
        for one in measure(inputs, [task], steps, lambda *_: None, lambda *_: None, known):
            if one.entry is None:
                chain.keep(kept.evaluation(inputs.recorded(), one.step, one.task, one.answers))


@pytest.fixture(scope="session")
def memorised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only to be read: take `mine` to change things."""
    place = tmp_path_factory.mktemp("memorised")
    corpus = write_corpus(place / "stones", documents=14)
    (corpus / "again.txt").write_text("Once more. " + prose(3, 60), encoding="utf-8")
    (corpus / "more.txt").write_text("And so it ends. " + prose(3, 60), encoding="utf-8")
    folder = finish(make_run(place / "run", corpus, SETTINGS))
    evaluated(folder, STEPS)
    return folder


@pytest.fixture
def mine(memorised: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(memorised, tmp_path / "mine"))
