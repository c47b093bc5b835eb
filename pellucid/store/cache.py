"""Replayed states kept on this machine, so that the next question
about a step need not replay again.

An entry is an anchor's folder, `step512-STATEROOT`, below the user's cache folder. A
reader trusts none: what it reads has the root it asked for, or the entry goes. Writers
take turns, and an entry appears whole.

PELLUCID_CACHE       where (default: pellucid in XDG_CACHE_HOME or ~/.cache)
PELLUCID_CACHE_BYTES how much at most (default 2 GB; 0 keeps nothing); the entries used
                     longest ago go first
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import FormatInvalid, NoPermission, StateDiffers, VariableInvalid
from pellucid.record import digests
from pellucid.store import anchors, files

BYTES = 2_000_000_000
_ENTRY = re.compile(rf"step(0|[1-9][0-9]{{0,15}})-({digests.DIGEST})")


def folder() -> Path:
    """Where the entries lie; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PELLUCID_CACHE") or Path(home, "pellucid")) / "states"


def limit() -> int:
    """How many bytes the entries may take. Raises VariableInvalid."""
    text = os.environ.get("PELLUCID_CACHE_BYTES", str(BYTES))
    if not re.fullmatch("[0-9]{1,18}", text):
        raise VariableInvalid(
            variable="PELLUCID_CACHE_BYTES", found=text, wanted="a number of bytes", default=BYTES
        )
    return int(text)


def held() -> list[tuple[int, str]]:
    """The step and the state root of every entry, the latest step first."""
    if not limit() or not folder().is_dir():
        return []
    matches = (_ENTRY.fullmatch(path.name) for path in folder().iterdir())
    return sorted(
        ((int(match.group(1)), match.group(2)) for match in matches if match), reverse=True
    )


def read(step: int, root: str) -> dict[str, dict[str, np.ndarray]] | None:
    """The state with this root, mapped from disk and hashed; None where it is
    damaged, and then it is removed."""
    place = _place(step, root)
    try:
        groups, _ = anchors.check(place, step, root)
    except (
        FormatInvalid,
        StateDiffers,
        NoPermission,
        OSError,
        ValueError,
    ):  # Whatever it has become: gone.
        with _turn(), files.named_errors(place, "remove"):
            files.remove_folder(place)
        return None
    with contextlib.suppress(OSError):  # Removed meanwhile; what is mapped stays.
        os.utime(place)
    return groups


def keep(groups: anchors.Groups, about: Mapping[str, Any]) -> None:
    """Add a state, of which about is what its anchor.json says. Raises DiskFull, NoPermission."""
    size = anchors.size_of(groups)
    place = _place(about["step"], about["state"])
    if size > limit():
        return
    with _turn():
        # Of killed processes: whoever has the turn is the only writer.
        files.remove_partial(folder())
        if place.exists():
            return
        _trim(limit() - size)
        anchors.write(place, groups, about, None)
        _trim(limit())  # Headers and anchor.json count too.


def _place(step: int, root: str) -> Path:
    return folder() / f"step{step}-{root}"


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    with files.named_errors(folder()):
        folder().mkdir(parents=True, exist_ok=True)
    with files.locked(folder(), wait=True):
        yield


def _trim(size: int) -> None:
    """Remove entries, those used longest ago first, until the rest takes at most so many bytes."""
    places = [path for path in folder().iterdir() if _ENTRY.fullmatch(path.name)]
    places.sort(key=lambda place: place.stat().st_mtime_ns)
    sizes = [sum(path.stat().st_size for path in place.iterdir()) for place in places]
    left = sum(sizes)
    for place, freed in zip(places, sizes, strict=True):
        if left <= size:
            return
        files.remove_folder(place)
        left -= freed
