"""What has a name and is no plain file, in words."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISREG, ""),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def other(mode: int) -> str:
    """ "a device", say; empty for a plain file."""
    return next((word for fits, word in _KINDS if fits(mode)), "of another kind")


def unfit(path: Path, follow: bool = True) -> str:
    """Why a name is no plain file; empty where it is one. follow: of what a link leads to."""
    try:
        kind = other(path.stat(follow_symlinks=follow).st_mode)
    except (OSError, ValueError):
        return "no such file"
    return kind and f"is not a file but {kind}"


def is_link(path: Path) -> bool:
    """As Path.is_symlink, also of a name that is too long to be one."""
    return os.path.lexists(path) and path.is_symlink()
