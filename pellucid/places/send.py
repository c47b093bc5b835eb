"""A sealed release, sent to an address of fsspec: a bucket, a server, a folder.

Each content is sent once; files that are equal to it are copied there. The manifest comes last, so
that whoever finds one finds all of the release. Everything is read back before: there are stores
that take damaged bytes with a wrong checksum and say nothing."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data import stage
from pellucid.errors import PlaceDiffers, PlaceTaken, PlaceUnwritable
from pellucid.errors.base import one_line
from pellucid.places.threads import each
from pellucid.store import files, layout, sealed
from pellucid.store.drivers import Driver
from pellucid.store.sealed import File

_AT_ONCE = 8  # Files on their way.
_PIECE = 8 << 20  # Bytes that are read back at a time.
_SEAL = 256 << 20  # Bytes of a manifest.


class Sent(NamedTuple):
    """What was sent, copied there, and found there: files; and the bytes that were sent."""

    url: str
    files: int
    bytes: int
    copied: int
    kept: int


def send(folder: Path, url: str, progress: stage.Progress = stage.silent) -> Sent:
    """Send a sealed release; what an earlier try left there is not sent again.

    Raises PlaceTaken where other files or another release lie, PlaceUnwritable, PlaceDiffers where
    what lies there in the end is not what was sent, DriverMissing, UrlInvalid."""
    place = _Place(url)
    manifest = sealed.read(folder)
    seal = files.read_bytes(folder / layout.MANIFEST, _SEAL)
    there = place.listed()
    _require_own(place, there, manifest.files, seal)
    missing = [one for one in manifest.files if there.get(one.path) != one.size]
    content = {one.sha256: one for one in reversed(manifest.files) if one not in {*missing}}
    new = {one.sha256: one for one in reversed(missing) if one.sha256 not in content}
    copies = [one for one in missing if new.get(one.sha256) is not one]
    meter = _Counted(progress, "send", sum(one.size for one in new.values()))
    each([*new.values()], lambda one: place.put(folder / one.path, one, meter), _AT_ONCE)
    sources = content | new
    each(copies, lambda one: place.copy(sources[one.sha256], one), _AT_ONCE)
    back = _Counted(progress, "read back", sum(one.size for one in manifest.files))
    held = each(manifest.files, lambda one: place.wrong(one, back), _AT_ONCE)
    wrong = [path for path in held if path]
    if wrong:
        raise PlaceDiffers(url=place.where(wrong[0]), count=len(wrong), folder=folder, place=url)
    place.seal(seal)
    sent = sum(one.size for one in new.values())
    return Sent(url, len(new), sent, len(copies), len(manifest.files) - len(missing))


def _require_own(place: _Place, there: dict[str, int], named: Iterable[File], seal: bytes) -> None:
    """Raises PlaceTaken."""
    foreign = sorted({*there} - {one.path for one in named} - {layout.MANIFEST})
    if foreign:
        raise PlaceTaken(url=place.url, found=foreign[0])
    if layout.MANIFEST in there and place.read(layout.MANIFEST, len(seal)) != seal:
        raise PlaceTaken(url=place.url, found="another release")


class _Counted:
    """A meter of bytes that threads may use."""

    def __init__(self, progress: stage.Progress, what: str, total: int) -> None:
        self._meter, self._lock = stage.Meter(progress, what, "bytes", 0, total), threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._meter.add(count)


class _Place:
    """A folder behind a driver of fsspec, which knows its own credentials."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        driver = Driver(self.url)
        self._system, self._root = driver.system, driver.root.rstrip("/")

    def where(self, path: str) -> str:
        return f"{self.url}/{path}"

    def listed(self) -> dict[str, int]:
        """The files there, by their paths, with their sizes."""
        with self._named(""):
            try:
                found: dict[str, Any] = self._system.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
        start = len(self._root.strip("/")) + 1
        return {name.strip("/")[start:]: about["size"] for name, about in found.items()}

    def put(self, local: Path, file: File, meter: _Counted) -> None:
        target = f"{self._root}/{file.path}"
        with self._named(file.path):
            self._in_folder(target, lambda: self._system.put_file(str(local), target))
        meter.add(file.size)

    def copy(self, source: File, file: File) -> None:
        target = f"{self._root}/{file.path}"
        with self._named(file.path):
            own = f"{self._root}/{source.path}"
            self._in_folder(target, lambda: self._system.cp_file(own, target))

    def _in_folder(self, target: str, write: Callable[[], Any]) -> None:
        try:
            write()
        except FileNotFoundError:  # A place with folders, which a bucket has not.
            self._system.makedirs(target.rpartition("/")[0], exist_ok=True)
            write()

    def wrong(self, file: File, meter: _Counted) -> str:
        """The path of a file that is not what it should be there, and is removed; else nothing."""
        running, size = hashlib.sha256(), 0
        with self._named(file.path):
            for piece in self._pieces(file.path):
                running.update(piece)
                size += len(piece)
                meter.add(len(piece))
                if size > file.size:
                    break
            if (size, running.hexdigest()) == (file.size, file.sha256):
                return ""
            self._system.rm_file(f"{self._root}/{file.path}")
        return file.path

    def _pieces(self, path: str) -> Iterator[bytes]:
        with self._system.open(f"{self._root}/{path}", "rb", block_size=_PIECE) as file:
            while piece := file.read(_PIECE):
                yield piece

    def read(self, path: str, most: int) -> bytes:
        """At most one byte more than so many."""
        with self._named(path), self._system.open(f"{self._root}/{path}", "rb") as file:
            return file.read(most + 1)

    def seal(self, content: bytes) -> None:
        with self._named(layout.MANIFEST):
            self._system.pipe_file(f"{self._root}/{layout.MANIFEST}", content)
        if self.read(layout.MANIFEST, len(content)) != content:
            raise PlaceDiffers(
                url=self.where(layout.MANIFEST), count=1, folder="RUN", place=self.url
            )

    @contextlib.contextmanager
    def _named(self, path: str) -> Iterator[None]:
        """Every driver has errors of its own."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            raise PlaceUnwritable(url=self.where(path), detail=one_line(error)) from error
