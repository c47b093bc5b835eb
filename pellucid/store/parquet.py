"""Parquet files opened for reading by row group and column, from disk or from a release behind a URL."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.errors import FormatInvalid
from pellucid.store import files
from pellucid.store.remote import RemotePath

_MAGIC = b"PAR1"
_END = 8  # Bytes behind the footer: its length, and the magic.
_GUESS = 16 << 10  # Bytes: most footers are shorter.
_LONGEST = 64 << 20  # Bytes of a footer: a hundred thousand row groups.


def opened(path: Path) -> pq.ParquetFile:
    """The file with its footer read. Raises FileMissing, FormatInvalid, and what pyarrow raises."""
    if not isinstance(path, RemotePath):
        # By its descriptor: by its name pyarrow could meet something else.
        with files.open_file(path) as file:
            return pq.ParquetFile(f"/dev/fd/{file.fileno()}")
    files.require_file(path)
    return pq.ParquetFile(path.ranges(), metadata=_footer(path), pre_buffer=True)


def source(path: Path) -> pa.NativeFile:
    """The file opened to be read, for pyarrow. Raises FileMissing, FormatInvalid, and what pyarrow raises."""
    files.require_file(path)
    return pa.PythonFile(path.ranges(), "r") if isinstance(path, RemotePath) else pa.OSFile(str(path))


def _footer(path: RemotePath) -> pq.FileMetaData:
    """The footer alone: pyarrow would read the last 64 KB."""
    size, served = path.stat().st_size, path.served
    end = served.read(path.inner, size - _GUESS, size)
    length = int.from_bytes(end[-_END:-4], "little") + _END
    if length > _LONGEST:
        raise FormatInvalid(path=path, detail=f"has a footer of {length} bytes")
    if len(end) < length <= size:
        end = served.read(path.inner, size - length, size)
    return pq.read_metadata(io.BytesIO(_MAGIC + end[-length:]))
