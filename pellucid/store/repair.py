"""What a power cut damaged at the end of a chain is cut off; what is proven, or might be
evidence, is never touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pellucid.errors import FormatInvalid, LedgerBroken
from pellucid.record import chain, entries
from pellucid.store import anchors, files, layout


class Damage(NamedTuple):
    """The first entry of a chain that is wrong, and where it begins."""

    n: int
    offset: int
    detail: str
    body: dict[str, Any]  # What it says; nothing where it cannot be read.
    before: int  # Where the entry before it begins.


def ledger(folder: Path) -> str:
    """Cut a ledger back where it is damaged behind the last anchor; returns what was
    removed, in words, "" for nothing.

    An anchor, also one that a rollback abandoned, names the digest of its step's entry, and so
    proves all entries before it. What comes later is computed again: the entries that are kept
    are compared, those that were cut come out the same. Raises LedgerBroken where the damage
    lies at or before that entry."""
    path = folder / layout.LEDGER
    if not path.is_file() or (damage := _damage(path, chain.LedgerTip())) is None:
        return ""
    proven = _proven(folder)
    cut, offset = damage.n, damage.offset
    # It was changed, or the one before it was: nothing tells which.
    if damage.body and damage.n - 1 not in proven:
        cut, offset = damage.n - 1, damage.before
    stored = any(layout.steps_in(folder / name) for name in (layout.ANCHORS, layout.CHECKPOINTS))
    if cut <= max(proven, default=-1) or (stored and not proven) or not _holds(path, proven, cut):
        raise LedgerBroken(path=path, where=f"entry {damage.n}", detail=damage.detail)
    removed = _cut(path, offset)
    return f"{removed} bytes of the ledger, from entry {cut} on: entry {damage.n} {damage.detail}"


def journal(folder: Path) -> str:
    """As `ledger`, of the journal, where nothing that can be read follows the
    damage. Else a person has to look."""
    path = folder / layout.JOURNAL
    if not path.is_file() or (damage := _damage(path, chain.Tip())) is None or damage.body:
        return ""
    with files.open_file(path) as file:
        file.seek(damage.offset)
        if any(not chain.parse(line)[1] for line in _lines(file)):
            return ""
    removed = f"{_cut(path, damage.offset)} bytes of the journal, from entry {damage.n} on"
    return f"{removed}: entry {damage.n} {damage.detail}"


def _damage(path: Path, tip: chain.Tip) -> Damage | None:
    """What is wrong first. A last line that was cut short is no damage:
    whoever opens a chain removes it."""
    starts = [0, 0]
    with files.open_file(path) as file:
        size = os.fstat(file.fileno()).st_size

        def lines() -> Iterator[bytes]:
            for line in _lines(file):
                starts[:] = starts[1], file.tell() - len(line)
                yield line

        for entry in chain.read(lines(), tip, entries.step_of):
            if entry.problem:
                with_break = os.pread(file.fileno(), 1, file.tell() - 1) == b"\n"
                if file.tell() == size and not with_break and size - starts[1] <= chain.MAX_LINE:
                    return None
                return Damage(entry.n, starts[1], entry.problem, entry.body, starts[0])
    return None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(chain.MAX_LINE + 2):
        yield line


def _proven(folder: Path) -> dict[int, str]:
    """By their numbers, the digests of the entries that anchors name,
    those of abandoned branches too."""
    digests = {}
    branches = [folder, *sorted((folder / layout.ABANDONED).glob("*"))]
    places = [
        layout.anchor(branch, step)
        for branch in branches
        for step in layout.steps_in(branch / layout.ANCHORS)
    ]
    for place in places:
        try:
            about = files.read_json(place / anchors.ABOUT)
            digests[int(about["ledger_entry"])] = str(about["ledger_digest"])
        except (FormatInvalid, KeyError, TypeError, ValueError):
            continue  # It proves nothing; whoever resumes from it says what is wrong.
    return digests


def _holds(path: Path, proven: dict[int, str], end: int) -> bool:
    """Whether the entries before `end` are those that the anchors name."""
    with files.open_file(path) as file:
        for entry in chain.read(_lines(file), chain.Tip(), entries.step_of):
            if entry.n == end:
                break
            if proven.get(entry.n, entry.digest) != entry.digest:
                return False
    return True


def _cut(path: Path, offset: int) -> int:
    """Remove what a file holds from an offset on; returns how many bytes."""
    with files.named_errors(path):
        removed = path.stat().st_size - offset
        os.truncate(path, offset)
        files.sync(path)
    return removed
