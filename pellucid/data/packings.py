"""The bytes of a source's file, unpacked."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow

from pellucid.errors import SourceUnreadable
from pellucid.errors.base import one_line
from pellucid.store import files

CHUNK = 1 << 20
SAMPLE = 16 << 20  # Bytes, unpacked: of a source where its beginning is enough.
_LEAST, _LINE = 64, 32  # Bytes that a record of a sample counts as, and a line more than it has.
_DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, pyarrow.ArrowException)


class SampleFull(Exception):
    """A sample ends here: whoever takes one catches this."""


class Sample:
    """The beginning of a source: SAMPLE bytes of records, and for these no more work than the
    longest record takes. A small file can unpack to any size."""

    def __init__(self, longest: int) -> None:
        self._most, self._unpacked, self._taken = SAMPLE + 2 * longest, 0, 0

    def unpack(self, size: int, lines: int = 0) -> None:
        """So much more is unpacked. Raises SampleFull where there was too much before."""
        if self._unpacked > self._most:
            raise SampleFull
        self._unpacked += size + lines * _LINE

    def require_room(self) -> None:
        """Raises SampleFull where no other record is taken."""
        if self._taken >= SAMPLE:
            raise SampleFull

    def take(self, size: int) -> None:
        """A record is taken; each counts, also an empty one."""
        self._taken += max(size, _LEAST)


class _Packing(NamedTuple):
    endings: tuple[str, ...]
    magic: bytes
    opened: Callable[[Path], Any]
    shell: str  # What unpacks it to standard output.


def _zstd(path: Path) -> Any:
    return pyarrow.input_stream(str(path), compression="zstd")


_PACKINGS = (
    _Packing((".gz",), b"\x1f\x8b", gzip.open, "gzip -dc"),
    _Packing((".zst", ".zstd"), b"\x28\xb5\x2f\xfd", _zstd, "zstd -dc"),
    _Packing((".xz",), b"\xfd7zXZ\0", lzma.open, "xz -dc"),
    _Packing((".bz2",), b"BZh", bz2.open, "bzip2 -dc"),
)


@contextlib.contextmanager
def named_refusals(path: Path, source: str) -> Iterator[None]:
    """What the system refuses of a source, as NoPermission, or SourceUnreadable: a name
    too long, say, or a device."""
    try:
        with files.named_errors(path, "read"):
            yield
    except OSError as error:
        shown = path if len(str(path)) < 400 else f"{str(path)[:400]}…"
        raise SourceUnreadable(
            source=source, path=shown, detail=error.strerror or one_line(error)
        ) from error


def chunks(
    path: Path, source: str, sample: Sample | None = None, size: int | None = None
) -> Iterator[bytes]:
    """The file's bytes, at most size or CHUNK at once, unpacked by its name's ending or by what its
    first bytes say. Raises SourceUnreadable, and SampleFull of a sample."""
    with named_refusals(path, source):
        packing = _packing(path)
        try:
            with packing.opened(path) if packing else path.open("rb", buffering=0) as stream:
                while chunk := stream.read(size or CHUNK):
                    if sample:
                        sample.unpack(len(chunk))
                    yield chunk
        except _DAMAGED as error:
            raise SourceUnreadable(source=source, path=path, detail=one_line(error)) from error
        except OSError as error:
            # pyarrow reports damaged zstd as an OSError without a number, and bz2 what is none.
            if error.errno is not None:
                raise
            raise SourceUnreadable(source=source, path=path, detail=one_line(error)) from error


def head(path: Path, source: str, size: int) -> bytes:
    """The first bytes, unpacked, and no more than these. Raises SourceUnreadable."""
    content = b""
    for chunk in chunks(path, source, size=size):
        content += chunk
        if len(content) >= size:
            break
    return content[:size]


def shell(path: Path) -> str:
    """What unpacks the file in a pipe of the shell; "" for a plain one."""
    packing = _packing(path)
    return packing.shell if packing else ""


def _packing(path: Path) -> _Packing | None:
    with path.open("rb") as file:
        first = file.read(8)
    name = path.name.lower()
    for packing in _PACKINGS:
        if name.endswith(packing.endings):
            return packing
    return next((packing for packing in _PACKINGS if first.startswith(packing.magic)), None)
