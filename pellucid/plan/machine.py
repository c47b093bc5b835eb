"""This machine: its memory, its disk, its instruction sets."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from pellucid.kernels import library

_LIMIT = Path("/sys/fs/cgroup/memory.max")  # A container's, where there is one.


def memory() -> int:
    """Bytes that this process may use: the machine's, or its container's."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _LIMIT.read_text().strip() if _LIMIT.is_file() else "max"
    return min(whole, int(limit)) if limit.isdigit() else whole


def peak() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """The bytes that this process holds; where the system does not tell, the most it has held."""
    place = Path("/proc/self/statm")
    return int(place.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if place.is_file() else peak()


def free(folder: Path) -> int:
    """Free bytes of the disk that a folder lies on."""
    return shutil.disk_usage(folder).free


def instruction_sets() -> list[str]:
    """Those whose kernels run here, the one that is taken first; without "software", which exists for tests."""
    loaded = library.load()
    taken = library.isa(loaded)
    known = [name for name in library.KNOWN if name != "software" and loaded.pellucid_start(name.encode(), 1)]
    library.start(loaded, taken, 1)  # Asking took each of them.
    return [taken, *(name for name in known if name != taken)]
