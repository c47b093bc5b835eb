"""What this machine lets a process have, and what importing the package leaves as it was."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid import machine
from pellucid.kernels import library
from pellucid.operations import portable
from pellucid.replay.explain import Difference, published
from tests.conftest import memory_as_it_was

LIMITS = {
    "none": ({"cpu.max": "max 100000"}, 8),
    "two cores": ({"cpu.max": "200000 100000"}, 2),
    "a part is a core": ({"cpu.max": "50000 100000"}, 1),
    "more than there are": ({"cpu.max": "9900000 100000"}, 8),
    "of a folder above": ({"cpu.max": "300000 100000", "job/cpu.max": "max 100000"}, 3),
    "the least of both": ({"cpu.max": "300000 100000", "job/cpu.max": "250000 100000"}, 3),
    "version 1": ({"cpu/job/cpu.cfs_quota_us": "150000", "cpu/job/cpu.cfs_period_us": "100000"}, 2),
    "version 1, none": (
        {"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"},
        8,
    ),
    "version 1, a container's root": (
        {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"},
        4,
    ),
    "nonsense": ({"cpu.max": "0 0", "job/cpu.max": "what"}, 8),
    "nothing mounted": ({}, 8),
}


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake /sys/fs/cgroup, where this process is in the group job; of eight cores."""
    (tmp_path / "own").write_text("4:cpu,cpuacct:/job\n3:memory:/job\n0::/job\n")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_OF_THIS_PROCESS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path / "cgroup"


def write(folder: Path, limits: dict[str, str]) -> None:
    for name, text in limits.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")


def test_a_bound_of_memory_ends_with_the_test_that_set_it() -> None:
    """The fixture own_memory is this for every test."""
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_as_it_was():
        machine.bound_memory()
        assert resource.getrlimit(resource.RLIMIT_DATA) != before
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize("name", LIMITS)
def test_threads_are_no_more_than_a_cgroup_gives_time_for(cgroups: Path, name: str) -> None:
    limits, cores = LIMITS[name]
    write(cgroups, limits)
    assert machine.cores() == cores


@pytest.mark.parametrize(
    "place", ["memory.max", "job/memory.max", "memory/job/memory.limit_in_bytes"]
)
def test_memory_is_no_more_than_a_cgroup_gives(cgroups: Path, place: str) -> None:
    write(cgroups, {"memory.max": "max", place: "12345"})
    assert machine.memory() == 12345


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux obeys these limits")
@pytest.mark.parametrize(("limit", "said"), [("-v 260000", "(ulimit -v)"), ("-n 7", "(ulimit -n)")])
def test_a_limit_of_the_shell_is_not_the_releases_fault(
    finished: Path, limit: str, said: str
) -> None:
    command = f"ulimit {limit}; exec {sys.executable} -m pellucid verify {finished}"
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == 3 and "LimitReached" in done.stderr and said in done.stderr, (
        done.stdout + done.stderr
    )
    assert "trust" not in done.stderr and "problem" not in done.stdout


def test_our_own_bound_is_the_releases_fault_and_no_bound_is_the_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = dict.fromkeys((resource.RLIMIT_AS, resource.RLIMIT_DATA), (resource.RLIM_INFINITY, -1))
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert "all that the machine has" in str(machine.limit_reached(MemoryError()))
    limits[resource.RLIMIT_DATA] = (machine.MEMORY, -1)
    assert machine.limit_reached(MemoryError()) is None
    limits[resource.RLIMIT_AS] = (1 << 30, -1)
    assert "1.1 GB (ulimit -v)" in str(
        machine.limit_reached(RuntimeError("can't start new thread"))
    )
    assert (
        machine.limit_reached(RuntimeError("another")) is None
        and machine.limit_reached(OSError(5, "x")) is None
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux obeys these limits")
@pytest.mark.parametrize(
    ("limit", "code", "said"), [("4000000", 3, "(ulimit -v)"), ("unlimited", 1, "Traceback")]
)
def test_a_library_that_does_not_fit_is_a_limit(
    tmp_path: Path, limit: str, code: int, said: str
) -> None:
    """NumPy's own words where the dynamic linker finds no room; without a
    limit they mean another thing."""
    (tmp_path / "numpy.py").write_text(
        "try:\n"
        "    raise ImportError('libx.so: failed to map segment from shared object')\n"
        "except ImportError as error:\n"
        "    raise ImportError(f'Importing failed: {error}') from error\n"
    )
    command = (
        f"ulimit -v {limit}; "
        f"exec {sys.executable} -m pellucid new {tmp_path / 'run'} --data {tmp_path}"
    )
    path = os.pathsep.join([str(tmp_path), str(Path(machine.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == code and said in done.stderr, done.stderr
    assert (len(done.stderr.splitlines()) == 1) == (code == 3)


def test_importing_the_package_changes_nothing_of_the_process() -> None:
    """A notebook's own settings stay: environment, signals, limits, warnings, torch's threads."""
    code = """
import os, resource, signal, sys, warnings
import torch
seen = lambda: (dict(os.environ), [signal.getsignal(n) for n in signal.valid_signals()],
    warnings.filters[:],
    [resource.getrlimit(n) for n in (resource.RLIMIT_DATA, resource.RLIMIT_AS)],
    sys.getrecursionlimit(), torch.get_num_threads(),
    torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype())
before = seen()
import pellucid, pellucid.train.loop, pellucid.run, pellucid.plan.calibrate
import pellucid.cli, pellucid.opened
assert seen() == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ours", [False, True])
def test_only_a_process_of_ours_keeps_freed_memory(
    monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(library, "keep_memory", lambda: kept.append(True))
    for name in ("GOMP_SPINCOUNT", "_PELLUCID_PROCESS"):
        monkeypatch.setenv(name, "0")  # So that it is put back.
        monkeypatch.delenv(name)
    if ours:
        machine.settle()
    portable.configure("cpu", 1)
    assert kept == [True] * ours and ("GOMP_SPINCOUNT" in os.environ) is ours


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux obeys these limits")
def test_memory_is_bounded_while_a_table_is_read_and_not_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(machine, "MEMORY", 64 << 20)
    found = Difference("a", "b")
    assert published(found, lambda: bytearray(1 << 30)) is None
    assert len(found.notes) == 1 and found.notes[0].startswith("Not read: TooMuchMemory")
    assert published(found, lambda: len(bytearray(1 << 20))) == 1 << 20
    assert len(bytearray(1 << 30)) == 1 << 30 and resource.getrlimit(resource.RLIMIT_DATA) == before
