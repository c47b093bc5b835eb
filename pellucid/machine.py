"""This machine: its memory, what this process has had of it, its disk."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pellucid.errors import LimitReached, TooMuchMemory
from pellucid.store import files

# Bytes that verbs which only read somebody else's release may have; docs/threats.md states it.
MEMORY = 4 << 30

_OWN = {MEMORY}  # The limits of data that are our own bounds, as they were set.
_CGROUPS = Path("/sys/fs/cgroup")  # A container's or a job's limits, where there are any.
_OURS = "_PELLUCID_PROCESS"
_OF_THIS_PROCESS = Path("/proc/self/cgroup")


def cores() -> int:
    """How many cores this process may use: those it may run on, and of their time what its cgroups
    allow (containers, Slurm); at least one."""
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([most, *(math.ceil(share) for share in _shares())]))


def _shares() -> Iterator[float]:
    """The cores' worth of time that this process's cgroup, and each that it lies in, may take."""
    for folder in _cgroups("cpu"):
        numbers = _values_in(folder / "cpu.max")  # Version 2: quota and period, microseconds.
        if not numbers:  # Version 1.
            numbers = _values_in(folder / "cpu.cfs_quota_us") + _values_in(
                folder / "cpu.cfs_period_us"
            )
        if (
            len(numbers) == 2
            and numbers[0].isdigit()
            and numbers[1].isdigit()
            and int(numbers[0])
            and int(numbers[1])
        ):
            yield int(numbers[0]) / int(numbers[1])  # "max" and -1 are no limit.


def _cgroups(controller: str) -> list[Path]:
    """The folders of this process's cgroups that limit something, of both
    versions, from each up to the root."""
    folders = []
    for line in (
        _OF_THIS_PROCESS.read_text().splitlines() if _OF_THIS_PROCESS.is_file() else ["0::/"]
    ):
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # Each has its folder in version 1.
        root = _CGROUPS / controller if controllers else _CGROUPS
        inner = root / place.lstrip("/")
        folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(root)]
    return folders


def _values_in(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # Not mounted here, or of another controller.
        return []


def memory() -> int:
    """Bytes that this process may use: the machine's, or its container's."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    names = ("memory.max", "memory.limit_in_bytes")  # Of version 2, of version 1.
    limits = [
        word
        for folder in _cgroups("memory")
        for name in names
        for word in _values_in(folder / name)
    ]
    return min([installed, *(int(limit) for limit in limits if limit.isdigit())])


def available() -> int:
    """Bytes that can be had without swapping; where the system does not tell,
    all that this process may use."""
    path = Path("/proc/meminfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return memory()


def peak() -> int:
    """The most bytes that this process has held. Not ru_maxrss where the system tells more: on
    Linux that begins with what the process that started this one held."""
    place = Path("/proc/self/status")
    match = re.search(rb"VmHWM:\s*([0-9]+) kB", place.read_bytes()) if place.is_file() else None
    if match:
        return int(match[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def resident() -> int:
    """The bytes that this process holds; where the system does not tell, the most it has held."""
    place = Path("/proc/self/statm")
    return (
        int(place.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if place.is_file()
        else peak()
    )


def bound_memory() -> None:
    """Let this process have no more than MEMORY of its own, mapped files
    not counted; Linux alone obeys.

    A few bytes of Parquet can unpack to anything.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Let what is done inside take MEMORY beyond what this process holds: a verb that computes
    reads a table. The bound is lifted behind it. Linux alone obeys. Raises TooMuchMemory, or
    LimitReached for a limit of the shell's own."""
    before, hard = resource.getrlimit(resource.RLIMIT_DATA)
    place = Path("/proc/self/statm")
    in_use = (
        int(place.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE") if place.is_file() else 0
    )
    bound = in_use + MEMORY
    own = all(limit == resource.RLIM_INFINITY or limit > bound for limit in (before, hard))
    if own:
        _OWN.add(bound)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    try:
        yield
    except Exception as error:
        if reached := limit_reached(error):
            raise reached from None
        if _is_memory(error):
            raise TooMuchMemory() from None
        raise
    finally:
        if own:
            _OWN.discard(bound)
            resource.setrlimit(resource.RLIMIT_DATA, (before, hard))


def _is_memory(error: BaseException | None) -> bool:
    """Whether an error comes of a MemoryError, Arrow's among them."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__
    return error is not None


def limit_reached(error: BaseException | None) -> LimitReached | None:
    """The limit of the shell's or the machine's own that an error comes of; None for any other,
    bound_memory's among them, which no honest release reaches."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            fix = f"Raise the limit: ulimit -n {max(4096, 2 * most)}"
            return LimitReached(what="open files", limit=f"{most} (ulimit -n)", fix=fix)
        # What Python says where the system has no memory, or no number, for one thread more.
        threadless = isinstance(error, RuntimeError) and "can't start new thread" in str(error)
        if isinstance(error, MemoryError) or threadless:
            return _memory_reached()
        # What the dynamic linker says where a library does not fit; without a limit it
        # is another refusal (noexec).
        if isinstance(error, ImportError) and "failed to map segment" in str(error) and _limits():
            return _memory_reached()
        error = error.__cause__
    return None


def _limits() -> dict[str, int]:
    """The limits of memory that this process has, by the letter that ulimit knows each by."""
    soft = {
        "v": resource.getrlimit(resource.RLIMIT_AS)[0],
        "d": resource.getrlimit(resource.RLIMIT_DATA)[0],
    }
    return {letter: limit for letter, limit in soft.items() if limit != resource.RLIM_INFINITY}


def _memory_reached() -> LimitReached | None:
    limits = _limits()
    if limits.keys() == {"d"} and limits["d"] in _OWN:
        return None
    if limits:
        letter = min(limits, key=lambda letter: limits[letter])
        limit, fix = (
            f"{limits[letter] / 1e9:.1f} GB (ulimit -{letter})",
            f"Raise the limit: ulimit -{letter} unlimited",
        )
    else:
        limit = f"{memory() / 1e9:.1f} GB, all that the machine has"
        fix = "Use a machine with more memory: pellucid plan tells how much a training takes."
    return LimitReached(what="memory or threads", limit=limit, fix=fix)


def settle() -> None:
    """Let this process be set up for training: it is ours. A notebook or somebody else's
    program never calls this, and keeps its settings. Before torch is imported, for GNU OpenMP
    reads its own when it is loaded."""
    # Its threads spin while they wait, and where another process keeps a core busy a whole time
    # slice is spun away at every operation (docs/log.md, 2026-11-23). No bit depends on it.
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ[_OURS] = "1"  # Those that this process starts are ours too.


def settled() -> bool:
    """Whether settle was called here, or in the process that started this one."""
    return _OURS in os.environ


def free(folder: Path) -> int:
    """Free bytes of the disk that a folder lies on, or will."""
    while not folder.exists():
        folder = folder.parent
    with files.named_errors(folder, "read"):
        return shutil.disk_usage(folder).free
