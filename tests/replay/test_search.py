"""What is heard of a search for a cause: how far it is, and only where somebody watches."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pellucid import counts
from pellucid.data import stage
from pellucid.data.salts import Public
from pellucid.replay import batches, flips
from pellucid.replay.diff import diff, explain_audit
from pellucid.train.events import Batch
from tests.replay.differences import Q_PROJ, inputs_of, quiet
from tests.replay.faults import SPARSE, STEP, flipped_bit, in_step, trained

Heard = list[tuple[str, int, int | None, str]]


@pytest.fixture(autouse=True)
def every_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "PAUSE", 0.0)


@pytest.fixture(scope="module")
def faulty(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One bit of one gradient was flipped, and nothing but the norm
    tells of it. Only to be read."""
    plant = in_step(flipped_bit(Q_PROJ, 40, 31, microbatch=1))
    return trained(tmp_path_factory.mktemp("runs") / "faulty", corpus, plant, [SPARSE])


@pytest.mark.parametrize("rows", [2, 6, 40])
def test_a_search_over_batches_tells_every_batch_that_it_tries(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batch(step: int) -> Batch:
        tokens = np.random.default_rng(step).integers(0, 300, (rows, 5))
        own = np.arange(rows) + 1000 * step
        return Batch(step, own, own * 0, own * 0, ["x"] * rows, own * 0, tokens, tokens * 0)

    phases = {step: SimpleNamespace(microbatch=1, last=step > 10) for step in range(7, 12)}
    recipe: Any = SimpleNamespace(
        seed=1,
        first=7,  # Of a fork: its steps before are not its own …
        schedule=SimpleNamespace(at=lambda step: phases[step].last),  # … and step 11 is a phase's.
        model=SimpleNamespace(attention="across"),
    )
    inputs = SimpleNamespace(identity=SimpleNamespace(salts=Public(1)))
    again = SimpleNamespace(recipe=recipe, inputs=inputs, batch=batch(9), batch_of=batch, number=9)
    heard: Heard = []
    target = {"batch": "00" * 32}
    question: Any = SimpleNamespace(
        again=again, target=target, search=lambda *words: heard.append(words)
    )
    monkeypatch.setattr(batches, "_TRIED", 100)
    assert list(batches.batches(question)) == []
    pairs = rows * (rows - 1) // 2
    total = min(100, pairs) + 2 * min(100, rows + 2 * pairs)  # Steps 8 and 10 are near.
    assert [done for _, done, _, _ in heard] == [*range(1, total + 1), total]
    assert {words[:1] + words[2:] for words in heard} == {("search", total, "batches")}


def test_a_search_over_flips_tells_every_bit_that_it_tries(finished: Path, faulty: Path) -> None:
    heard: Heard = []
    found = diff(finished, faulty, quiet, lambda *words: heard.append(words))
    assert found.cause is not None and found.cause.name == "flipped bit"
    inputs = inputs_of(finished)
    elements = counts.parameters(inputs.recipe.model, inputs.vocabulary).total
    total = flips._BITS * elements * 3  # Of the sum, and of each of two microbatches.
    assert {words[:1] + words[2:] for words in heard} == {("search", total, "flips")}
    dones = [done for _, done, _, _ in heard]
    assert dones == sorted(dones) and 0 < dones[0] < dones[-1] <= total


def test_a_search_that_finds_nothing_comes_to_its_end(
    finished: Path, faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: Heard = []
    monkeypatch.setattr(flips, "_MOST", 0)
    found = explain_audit(inputs_of(faulty), STEP, quiet, lambda *words: heard.append(words))
    assert found.cause is not None and found.cause.name != "flipped bit"
    assert heard[-1][1] == heard[-1][2]


def said_on_a_terminal(*words: object) -> str:
    """What a command says on standard error, that being a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pellucid", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "TERM": "xterm"}
    streams = {"stdin": theirs, "stdout": subprocess.DEVNULL, "stderr": theirs}
    read = b""
    with subprocess.Popen(command, env=environment, **streams) as child:
        os.close(theirs)
        with contextlib.suppress(OSError):  # As a terminal ends that nobody else has open.
            while more := os.read(ours, 1 << 16):
                read += more
    os.close(ours)
    assert child.returncode == 5, read
    return read.decode()


def test_a_search_is_seen_on_a_terminal_and_nowhere_else(finished: Path, faulty: Path) -> None:
    assert " flips of " in said_on_a_terminal("diff", finished, faulty)
    assert "flips" not in said_on_a_terminal("diff", finished, faulty, "--json")
    plain = [sys.executable, "-m", "pellucid", "diff", str(finished), str(faulty)]
    done = subprocess.run(plain, capture_output=True, text=True)
    assert "flips" not in done.stderr and "flipped bit" not in done.stderr
    assert "was flipped" in done.stdout
