"""The road from the command to the training step: how many files a reader passes, and how long."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from pellucid.cli.train import run
from pellucid.train import loop
from pellucid.train.step import training_step
from tests.conftest import make_run
from tests.test_imports import PACKAGE, graph, reached, room

# In reading order. Every file counts whole, whatever else it holds.
ROAD = [
    "cli/train.py",  # The verb `run` …
    "run.py",  # … does the stages in order.
    "training.py",  # The last of them trains and records …
    "inputs.py",  # … from what the folder holds.
    "train/loop.py",
    "train/step.py",
]
BESIDE = {"inputs.py"}  # Read on the way, and left again before the first step.
MAX_FILES, MAX_LINES = 6, 900


class Arrived(Exception):
    """The training step is reached."""


def files_called(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of this package that are in the middle of something when the first step begins."""
    files: list[str] = []

    def arrive(*_: Any) -> None:
        files.extend(frame.filename for frame in reversed(inspect.stack()))
        raise Arrived

    monkeypatch.setattr(loop, "training_step", arrive)
    with pytest.raises(Arrived):
        run(run_folder)
    names = [
        Path(file).relative_to(PACKAGE) for file in files if Path(file).is_relative_to(PACKAGE)
    ]
    return list(dict.fromkeys(name.as_posix() for name in names))


def test_a_reader_passes_these_files_and_no_other(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = files_called(make_run(tmp_path / "small", corpus), monkeypatch)
    step = Path(inspect.getfile(training_step)).relative_to(PACKAGE).as_posix()
    assert [*called, step] == [file for file in ROAD if file not in BESIDE]


def test_the_road_is_short() -> None:
    lines = {file: len((PACKAGE / file).read_text().splitlines()) for file in ROAD}
    assert len(lines) <= MAX_FILES
    assert sum(lines.values()) <= MAX_LINES, lines


def test_training_needs_nothing_that_replays() -> None:
    assert "inputs" in graph()["training"]
    for module in ("run", "training"):
        assert [one for one in sorted(reached(graph(), module)) if room(one) == "replay"] == []
