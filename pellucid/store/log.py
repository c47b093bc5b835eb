"""An append-only chain on disk: the ledger and the journal are two of these."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pellucid.errors import LedgerBroken
from pellucid.record import chain, columns, entries
from pellucid.store import files

_BLOCK = 1 << 20  # Bytes of a ledger that are read at once.


class Log:
    """A chain being written. Opening it checks the whole chain and removes a torn last line.

    tip: that of a chain without entries, a ledger's or another.
    """

    def __init__(self, path: Path, tip: chain.Tip) -> None:
        self.path, self.tip = path, tip
        self.torn = 0  # Bytes of a line that a killed process left unfinished.
        with files.named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                files.require_file(path)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
            self._file = os.open(path, flags, 0o644)
        self._cut_torn_line()
        for entry in (
            read_together(path, tip) if isinstance(tip, chain.LedgerTip) else read(path, tip)
        ):
            if isinstance(entry, chain.Entry) and entry.problem:
                os.close(self._file)
                raise LedgerBroken(path=path, where=f"entry {entry.n}", detail=entry.problem)

    def _cut_torn_line(self) -> None:
        size = os.fstat(self._file).st_size
        tail = os.pread(self._file, chain.MAX_LINE, max(0, size - chain.MAX_LINE))
        self.torn = len(tail) - (tail.rfind(b"\n") + 1)
        if self.torn:
            os.ftruncate(self._file, size - self.torn)

    def append(self, body: dict[str, Any]) -> dict[str, Any]:
        """Add an entry in one write; returns all of it. A write that
        fails leaves the file as it was."""
        entry = {**self.tip.place(), **body}
        line = chain.line_of(entry)
        size = os.fstat(self._file).st_size
        with files.named_errors(self.path):
            try:
                # Without fsync: a step that a power cut takes is computed again. Before an
                # anchor is written the recorder calls sync.
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, "only a part of the entry was written")
            except OSError:
                os.ftruncate(self._file, size)
                raise
        self.tip.take(line)
        return entry

    def sync(self) -> None:
        with files.named_errors(self.path):
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read(path: Path, tip: chain.Tip | None = None) -> Iterator[chain.Entry]:
    """The entries of a chain on disk, one line in memory at a time; a
    journal's where no tip is given."""
    with files.open_file(path) as file:
        yield from chain.read(_lines(file), tip or chain.Tip(), entries.step_of)


def read_together(
    path: Path, tip: chain.LedgerTip | None = None
) -> Iterator[chain.Entry | columns.Steps]:
    """The entries of a ledger on disk, a block of them in memory at a time, steps
    together where they can be."""
    with files.open_file(path) as file:
        yield from columns.read(_blocks(file), tip or chain.LedgerTip())


def _blocks(file: Any) -> Iterator[bytes]:
    """Whole lines, but for one that is longer than any entry: it is
    cut, and so told as a problem."""
    remainder = b""
    while block := file.read(_BLOCK):
        block = remainder + block
        end = block.rfind(b"\n") + 1 or (len(block) if len(block) > chain.MAX_LINE else 0)
        if end:
            yield block[:end]
        remainder = block[end:]
    if remainder:
        yield remainder


def _lines(file: Any) -> Iterator[bytes]:
    # readline with a bound: a hostile file without line breaks must not fill the memory.
    while line := file.readline(chain.MAX_LINE + 2):
        yield line
