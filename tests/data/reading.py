"""Reading a file of a source as its format has it, for the tests of the data room."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow as pa

from pellucid.data import formats
from pellucid.data.readers import READERS
from pellucid.recipe import Source

CHAT = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": [{"type": "text", "text": "Yes?"}, {}]},
]


def pack(content: bytes, ending: str) -> bytes:
    """The content as a file of this ending holds it; as it is where the ending names no packing."""
    packings = {
        ".gz": gzip.compress,
        ".zst": _zstd,
        ".zstd": _zstd,
        ".xz": lzma.compress,
        ".bz2": bz2.compress,
    }
    return packings[ending](content) if ending in packings else content


def _zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(content)
    return sink.getvalue().to_pybytes()


def read(
    tmp_path: Path,
    format: str,
    content: bytes,
    ending: str = "",
    policy: str = "replace",
    after: int = 0,
    text_key: str = "text",
) -> list[tuple[int, str, str, str, bool]]:
    """(number, name, text, dropped, whether something was replaced) of each record."""
    path = tmp_path / f"file{ending}"
    path.write_bytes(pack(content, ending))
    how = formats.How(Source(name="s", format=format, text_key=text_key), policy)
    return [(*record[:4], record.replaced > 0) for record in READERS[format](path, how, after)]


def texts(tmp_path: Path, format: str, content: bytes, **fields) -> list[tuple[str, str]]:
    """(text, dropped) of each record."""
    return [record[2:4] for record in read(tmp_path, format, content, **fields)]
