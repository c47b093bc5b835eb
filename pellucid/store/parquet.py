"""Parquet files opened for reading by row group and column, from disk or from a release behind a URL."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq

from pellucid.store import files
from pellucid.store.remote import RemotePath

_MAGIC = b"PAR1"
_END = 8  # Bytes behind the footer: its length, and the magic.
_GUESS = 16 << 10  # Bytes: most footers are shorter.


def opened(path: Path) -> pq.ParquetFile:
    """The file with its footer read. Raises FileMissing, FormatInvalid, and what pyarrow raises."""
    files.require_file(path)
    if not isinstance(path, RemotePath):
        return pq.ParquetFile(path)
    return pq.ParquetFile(path.ranges(), metadata=_footer(path), pre_buffer=True)


def _footer(path: RemotePath) -> pq.FileMetaData:
    """The footer alone: pyarrow would read the last 64 KB."""
    size, served = path.stat().st_size, path.served
    end = served.read(path.inner, size - _GUESS, size)
    length = int.from_bytes(end[-_END:-4], "little") + _END
    if length > len(end) and length <= size:
        end = served.read(path.inner, size - length, size)
    return pq.read_metadata(io.BytesIO(_MAGIC + end[-length:]))
