"""What else happens in the process changes no bit: flushed denormals, forks."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pellucid.kernels import calls, library
from tests.conftest import lacks
from tests.kernels.machine import ROOT, compiler
from tests.kernels.values import assert_same, tensor, values


def flushing_library(folder: Path) -> Path:
    """One that was built with -ffast-math: loading it switches the flushing of denormals on."""
    gcc, out = compiler(), folder / "fast.so"
    (folder / "fast.c").write_text("int nothing;\n")
    command = [
        gcc,
        "-Ofast",
        "-ffast-math",
        "-shared",
        "-fPIC",
        str(folder / "fast.c"),
        "-o",
        str(out),
    ]
    # GCC 13 and later leave the object that does it out of shared libraries, and
    # those before complain of two.
    found = subprocess.run(
        [gcc, "-print-file-name=crtfastmath.o"], capture_output=True, text=True
    ).stdout.strip()
    if subprocess.run([*command, found], capture_output=True).returncode:
        subprocess.run(command, check=True)
    return out


def test_a_library_that_flushes_denormals_changes_no_bit(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kernels.flushed", str(flushing_library(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    if done.returncode == 77 and platform.machine() != "x86_64":  # GCC's object does it there.
        lacks("no library built with -ffast-math flushes denormals here")
    assert done.returncode == 0, done.stderr


def ends_well(child: int, seconds: float = 60) -> bool:
    """Whether a child ends with 0; a hanging one is killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("threads_of_child", [None, 1, 2, 3])
def test_a_forked_child_computes_the_same(threads_of_child: int | None) -> None:
    a, b = tensor(values(1, 130, 300)), tensor(values(2, 300, 90))
    library.set_threads(2)
    wanted = calls.product(a, b).numpy()
    for delay in (0.0, 0.01):  # While the pool's thread looks for work, and when it sleeps.
        time.sleep(delay)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if threads_of_child:
                    library.set_threads(threads_of_child)
                for _ in range(20):
                    assert_same(calls.product(a, b), wanted)
                code = 0
            finally:
                os._exit(code)
        assert_same(calls.product(a, b), wanted)
        assert ends_well(child)
    library.set_threads(1)
