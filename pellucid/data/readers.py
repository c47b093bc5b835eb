"""What reads the files of each format: one line a format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from pellucid.data import formats, tables
from pellucid.data.formats import How, Record

READERS: dict[str, Callable[[Path, How, int], Iterator[Record]]] = {
    "text": formats.read_text,
    "lines": formats.read_lines,
    "fasta": formats.read_fasta,
    **dict.fromkeys(tables.VALUES, tables.records),
}
