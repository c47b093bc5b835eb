"""One digest of requests, likelihoods and texts: on every instruction set, with any number of
threads, whatever a pass reads at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.machine import isas

DIGEST = "eef5e55db1753293ea26c61dbfc12136a33512c2d772f4c73e2e5b15d1bd9c45"
CASES = [(threads, rows) for threads in (1, 2) for rows in (1, 7, 32, 2048)]


@pytest.mark.parametrize("isa", isas())
def test_answers_have_one_digest(isa: str) -> None:
    command = [sys.executable, "-m", "tests.evaluate.answered"]
    done = subprocess.run(
        command + [f"{threads},{rows}" for threads, rows in CASES],
        env={**os.environ, "PELLUCID_ISA": isa},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{threads} {rows} {DIGEST}" for threads, rows in CASES]
