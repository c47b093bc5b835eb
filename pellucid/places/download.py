"""A release, or a part of it, brought from its address into a folder.

Every file is held against the SHA-256 in the manifest while it comes. Its name appears when all of
it is there, so a download that was killed goes on where it stopped."""

from __future__ import annotations

import itertools
import operator
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data import stage
from pellucid.errors import DiskFull, FolderTaken, FormatInvalid
from pellucid.places import parts
from pellucid.places.threads import each
from pellucid.store import files, layout
from pellucid.store.remote import RemotePath
from pellucid.store.sealed import File
from pellucid.store.served import Served

_AT_ONCE = 4  # Files on their way.


class Downloaded(NamedTuple):
    """What came, what was there already, and what was not asked for: files and bytes."""

    files: int
    bytes: int
    kept: int
    left_out: list[File]

    def as_json(self) -> dict[str, Any]:
        rest = sum(file.size for file in self.left_out)
        left = {"files": len(self.left_out), "bytes": rest, "parts": parts.tops(self.left_out)}
        return {"files": self.files, "bytes": self.bytes, "kept": self.kept, "left_out": left}


def download(
    source: RemotePath,
    target: Path,
    only: Sequence[str] = (),
    progress: stage.Progress = stage.silent,
) -> Downloaded:
    """Bring a release into a folder that is new, empty, or holds a part of it already. only: files
    and folders; none for all. The manifest comes last.

    Raises PartUnknown, FolderTaken, FolderUnfit, FormatInvalid, RemoteDiffers, DiskFull and what
    the way there raises."""
    served = source.served
    _require_names(served)
    wanted = parts.chosen(served.files.values(), only, served.url)
    left_out = [one for one in served.files.values() if one not in {*wanted}]
    left_out = [one for one in left_out if one.path != layout.MANIFEST]
    _require_own(target, served)
    target.mkdir(parents=True, exist_ok=True)
    with files.locked(target):
        files.remove_partial(target)
        missing = [one for one in wanted if not _is_there(target, one)]
        _require_room(target, missing)
        total = sum(one.size for one in missing)
        meter = stage.Meter(progress, "download", "bytes", 0, total)
        come = _Coming(served, target, meter)
        by_content = itertools.groupby(
            sorted(missing, key=operator.attrgetter("sha256", "path")),
            operator.attrgetter("sha256"),
        )
        each([[*group] for _, group in by_content], come.equal, _AT_ONCE)
        meter.tell()
        files.write_bytes(
            target / layout.MANIFEST,
            served.read(layout.MANIFEST, 0, served.size(layout.MANIFEST)),
        )
    return Downloaded(len(missing), come.bytes, len(wanted) - len(missing), left_out)


def _require_names(served: Served) -> None:
    """Nothing is written that a release does not have. Raises FormatInvalid."""
    for path in served.files:
        if not layout.room_of(path):
            detail = f"names {path[:200]!r}, which is no file of a release"
            raise FormatInvalid(path=served.where(layout.MANIFEST), detail=detail)


def _require_own(target: Path, served: Served) -> None:
    """Raises FolderTaken where other files lie than those of this release, or those of another."""
    if not target.exists():
        return
    layout.refuse_links(target)
    found = [path for path in files.walk(target) if not path.startswith(files.TEMPORARY)]
    foreign = [path for path in found if path not in served.files and ".partial-" not in path]
    if foreign or not target.is_dir():
        raise FolderTaken(path=target, found=foreign[0] if foreign else "a file of that name")
    seal = target / layout.MANIFEST
    expected = served.read(layout.MANIFEST, 0, served.size(layout.MANIFEST))
    if seal.exists() and not files.holds(seal, expected):
        raise FolderTaken(path=target, found="another release")


def _is_there(target: Path, file: File) -> bool:
    """Whether a file has come, whole: by its content, since a seal vouches for it."""
    path = files.inside(target, file.path, str(target))
    return (
        files.is_file(path)
        and path.stat().st_size == file.size
        and files.sha256_file(path) == file.sha256
    )


def _require_room(target: Path, missing: Sequence[File]) -> None:
    """Raises DiskFull before anything comes, where it would not fit."""
    sizes = {file.sha256: file.size for file in missing}
    if sum(sizes.values()) > shutil.disk_usage(target).free:
        raise DiskFull(path=target)


class _Coming:
    """Files on their way into a folder; what several are equal to comes once."""

    def __init__(self, served: Served, target: Path, meter: stage.Meter) -> None:
        self._served, self._target, self._meter = served, target, meter
        self._lock = threading.Lock()
        self.bytes = 0

    def equal(self, group: Sequence[File]) -> None:
        first = self._target / group[0].path
        with files.whole_file(first) as partial, partial.open("xb") as file:
            for piece in self._served.pieces(group[0].path):
                file.write(piece)
                self._came(len(piece))
        for other in group[1:]:
            room = layout.room_of(other.path)
            path = self._target / other.path
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.whole_file(path) as partial:
                (files.link_or_copy if room and room.linked else files.copy)(first, partial)
            self._meter.add(other.size)

    def _came(self, count: int) -> None:
        with self._lock:
            self.bytes += count
            self._meter.add(count)
