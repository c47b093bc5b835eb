"""This machine: its memory, what this process has had of it, its disk."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
from pathlib import Path

from pellucid.store import files

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # A container's, where there is one.


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes that this process may use: the machine's, or its container's."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else "max"
    return min(whole, int(limit)) if limit.isdigit() else whole


def available() -> int:
    """Bytes that can be had without swapping; where the system does not tell, all that this process may use."""
    path = Path("/proc/meminfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return memory()


def peak() -> int:
    """The most bytes that this process has held. Not ru_maxrss where the system tells more: on Linux that begins with
    what the process that started this one held."""
    place = Path("/proc/self/status")
    found = re.search(rb"VmHWM:\s*([0-9]+) kB", place.read_bytes()) if place.is_file() else None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resident() -> int:
    """The bytes that this process holds; where the system does not tell, the most it has held."""
    place = Path("/proc/self/statm")
    return int(place.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if place.is_file() else peak()


def free(folder: Path) -> int:
    """Free bytes of the disk that a folder lies on, or will."""
    while not folder.exists():
        folder = folder.parent
    with files.named_errors(folder, "read"):
        return shutil.disk_usage(folder).free
