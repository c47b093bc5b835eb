"""Paths into a release behind a URL, so that whoever reads from a folder reads from there.

Only what readers need works; whatever would touch the local disk is refused by __fspath__.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Generator
from pathlib import PosixPath
from typing import Any

from pellucid.store.served import PAGE, Served

_AHEAD = 1 << 20  # Bytes read ahead at most, where a file is read from one end to the other.


class RemotePath(PosixPath):
    """A file or folder of a release; inner is its path there, empty for the release itself."""

    served: Served
    inner: str

    def __new__(cls, served: Served, inner: str = "") -> RemotePath:
        path = super().__new__(cls, served.url, inner)
        path.served, path.inner = served, inner
        return path

    def __init__(self, served: Served, inner: str = "") -> None:
        if sys.version_info >= (3, 12):  # Before, a path is complete when it is made.
            super().__init__(served.url, inner)

    def __truediv__(self, key: Any) -> RemotePath:
        added = str(key)
        return RemotePath(
            self.served, "/".join(part for part in (self.inner, added) if part not in ("", "."))
        )

    def joinpath(self, *segments: Any) -> RemotePath:
        path = self
        for segment in segments:
            path = path / segment
        return path

    @property
    def parent(self) -> RemotePath:  # type: ignore[override]
        return RemotePath(self.served, self.inner.rpartition("/")[0])

    def __str__(self) -> str:
        return self.served.where(self.inner)

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __fspath__(self) -> str:
        raise TypeError(f"{self} is an address and no path on this machine")

    def is_file(self, **_: Any) -> bool:
        return self.inner in self.served.files

    def is_dir(self, **_: Any) -> bool:
        return self.served.folder(self.inner) is not None

    def is_symlink(self) -> bool:
        return False

    def exists(self, **_: Any) -> bool:
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Generator[RemotePath, None, None]:
        names = self.served.folder(self.inner)
        if names is None:
            raise FileNotFoundError(str(self))
        yield from (self / name for name in sorted(names))

    def stat(self, **_: Any) -> os.stat_result:
        """Mode and size alone."""
        if not self.exists():
            raise FileNotFoundError(str(self))
        size = self.served.size(self.inner) if self.is_file() else 0
        mode = stat.S_IFREG | 0o444 if self.is_file() else stat.S_IFDIR | 0o555
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """To read bytes; nothing else is possible. Raises FileMissing."""
        if mode != "rb":
            raise io.UnsupportedOperation(f"{self} can only be read, as bytes")
        return io.BufferedReader(self.ranges(), PAGE)

    def ranges(self) -> Ranges:
        """The file, unbuffered."""
        return Ranges(self.served, self.inner)

    def read_bytes(self) -> bytes:
        """The whole file, held against the manifest. Raises FileMissing, RemoteDiffers."""
        return self.served.read(self.inner, 0, self.served.size(self.inner))

    def read_text(self, *_: Any, **__: Any) -> str:
        return self.read_bytes().decode("utf-8")


class Ranges(io.RawIOBase):
    """A file of a release as a stream of bytes. Where it is read on and on,
    ever more is fetched at once."""

    def __init__(self, served: Served, path: str) -> None:
        self._served, self._path = served, path
        self._size = served.size(path)
        self._at = self._fetched = 0
        self._next = -1  # Where the read before this one ended.
        self._ahead = PAGE

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"a position before the beginning: {start + offset}")
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """All of what is asked for, unless the file ends."""
        stop = self._size if size is None or size < 0 else self._at + size
        content = self._served.read(self._path, self._at, stop)
        self._at += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        """At most to the end of a page, where no more than a page is asked for."""
        count = len(buffer)
        if count <= PAGE:
            count = min(count, PAGE - self._at % PAGE)
            self._look_ahead()
        content = self.read(count)
        buffer[: len(content)] = content
        self._next = self._at
        return len(content)

    def _look_ahead(self) -> None:
        """Fetch the pages that come next, twice as many each time that reading came
        to the end of those before."""
        if self._at != self._next:
            self._ahead, self._fetched = PAGE, self._at + PAGE
        elif self._at >= self._fetched:
            self._ahead = min(2 * self._ahead, _AHEAD)
            self._fetched = self._at + self._ahead
            self._served.read(self._path, self._at, self._fetched)
