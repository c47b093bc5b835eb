"""What the benches share: medians with their intervals, memory, and a
process that keeps a core busy."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# What sets the threads of OpenMP and MKL, and how they wait: peers run as PyTorch comes.
_THREADS = ("GOMP_", "OMP_", "KMP_", "MKL_")


def interval(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    """The 95% bootstrap interval of the median."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def with_interval(values: list[float], form: str) -> str:
    """The median and its interval, each in the form given: "0.95 (0.94 to 0.97)"."""
    low, high = interval(values)
    return f"{statistics.median(values):{form}} ({low:{form}} to {high:{form}})"


def quartiles_apart(values: list[float]) -> float:
    """The distance of the quartiles as a fraction of the median."""
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4)
    return (upper - lower) / statistics.median(values)


def forget_thread_settings() -> None:
    """Remove what the caller's environment says about OpenMP's threads, before they exist."""
    for name in [name for name in os.environ if name.startswith(_THREADS)]:
        del os.environ[name]


def memory(field: str) -> int:
    """This process's memory in bytes, by its name in /proc/self/status: VmHWM, VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


class Watched(NamedTuple):
    """What a child and all that it started took."""

    seconds: float
    cpu: float  # Seconds of all its processes together.
    peak: int  # Bytes: the largest sum over its processes, a page that several hold counted once.


def watched(command: list[str], pause: float = 0.05) -> Watched:
    """Run a command to its end, looking at its memory every so many seconds. Exits with
    what it said where it fails."""
    with tempfile.TemporaryFile() as said:
        started, peak = time.perf_counter(), 0
        # A session of its own, by which the processes that it starts are known.
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        before = os.times()
        try:
            while process.poll() is None:
                peak = max(peak, _memory_of_session(process.pid))
                time.sleep(pause)
        finally:
            if process.poll() is None:  # Interrupted: no Ctrl-C reaches another session.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        seconds, after = time.perf_counter() - started, os.times()
        if process.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)}\n{last}exit code {process.returncode}")
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return Watched(seconds, cpu, peak)


def _memory_of_session(session: int) -> int:
    """Bytes of all processes of a session now, shared pages by halves, thirds and so on (Pss)."""
    total = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # It has just ended.
            # After the name, which may hold spaces and brackets: state, parent, group, session.
            if int((place / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                pss = (place / "smaps_rollup").read_text().partition("\nPss:")[2]
                total += int(pss.split(maxsplit=1)[0]) * 1024 if pss else 0
    return total


class Others:
    """How much of the machine others use, from the moment it is made."""

    def __init__(self) -> None:
        self._before = self._now()

    def line(self) -> str:
        """To be printed when this process's children have ended. A figure
        taken beside others is none."""
        cores, elapsed = (
            os.cpu_count() or 1,
            [b - a for a, b in zip(self._before, self._now(), strict=True)],
        )
        return (
            f"meanwhile other processes used {max(0.0, elapsed[0]) / elapsed[1] / cores:.1%} of "
            "the machine"
        )

    @staticmethod
    def _now() -> tuple[float, float]:
        """Seconds of all processes but this one and its ended children, the host's other
        machines included; and the clock's."""
        ticks = [
            int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        ]
        user, nice, system, _, _, interrupts, soft, stolen = ticks
        own = os.times()
        busy = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
        return busy - sum(own[:4]), own.elapsed


def has_bf16() -> bool:
    """Whether the CPU has instructions for bf16."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """Another process keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
