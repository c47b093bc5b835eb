"""The formats of single files: from a file's bytes to records of text.

Bytes are read as they are and decoded explicitly (data/encodings.py); no newline is translated,
and a byte order mark at the start of a file is removed. Memory holds one text file, or one
record of the other formats."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pellucid.data import encodings, packings
from pellucid.data.about import About
from pellucid.errors import DiskFull, NoPermission, SetUnusable, SourceUnreadable
from pellucid.recipe import Source
from pellucid.store import files

# Bytes of one record, unpacked: what is held in memory, and of JSON the many
# times more that it is as values.
LIMITS = {
    "text": 1 << 30,
    "lines": 256 << 20,
    "fasta": 256 << 20,
    "jsonl": 32 << 20,
    "json": 32 << 20,
    "csv": 32 << 20,
    "parquet": 32 << 20,
}
_LOOKED_AT = 8192  # A NUL byte among so many first bytes makes a file binary.
_BLANKS = b" \t\v\f\r"


class Record(NamedTuple):
    """One record of a file: its text, or the reason why it is dropped (data/reasons.py)."""

    number: int  # The line it begins at, from 1; 1 for a whole file.
    name: str  # What is added to the file's id: "", ":17", ":NC_001416".
    text: str
    dropped: str = ""
    changed: str = ""  # A reason why the text is not what the bytes say in UTF-8.
    replaced: int = 0  # Bytes that became U+FFFD.
    size: int = 0  # Bytes it has in the file, unpacked.
    about: About = About()  # What its fields say.
    noted: tuple[str, ...] = ()  # Reasons that are counted, though the text is as it is.


class How(NamedTuple):
    """What decides how a file is read."""

    source: Source
    policy: str = "replace"  # data.invalid_utf8
    sample: packings.Sample | None = None  # Where the source's beginning is enough.

    def chunks(self, path: Path) -> Iterator[bytes]:
        """The bytes of a file, unpacked. Raises SourceUnreadable."""
        return packings.chunks(path, self.source.name, self.sample)


def sample_of(format: str) -> packings.Sample:
    """An empty sample of a source; files of packages are short."""
    return packings.Sample(LIMITS.get(format, 0))


class Seen:
    """A set of byte strings that lies on disk, so that memory stays flat."""

    def __init__(self, path: Path | str = "") -> None:
        # An empty path is SQLite's own temporary file, which no kill can leave behind.
        self._path = path
        with self._named_errors():
            self._base = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode = off", "synchronous = off", "cache_size = -65536"):
            self._execute(f"pragma {pragma}")
        self._execute("create table seen (item blob primary key) without rowid")
        self._execute("begin")

    def add(self, item: bytes) -> bool:
        """Whether the item is new."""
        return self._execute("insert or ignore into seen values (?)", item).rowcount == 1

    def _execute(self, command: str, *values: bytes) -> sqlite3.Cursor:
        with self._named_errors():
            return self._base.execute(command, values)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """What SQLite refuses, as DiskFull, NoPermission or SetUnusable."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0)
            path = self._path or "the system's temporary folder"
            if code & 0xFF == sqlite3.SQLITE_FULL:
                raise DiskFull(path=path) from error
            if code == sqlite3.SQLITE_IOERR_WRITE and self._path:
                # SQLite keeps to itself what the system said; an ordinary write hears it again.
                with files.named_errors(self._path), open(self._path, "ab") as file:
                    file.write(bytes(1 << 16))
            if code & 0xFF in (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY):
                raise NoPermission(action="write", path=path) from error
            raise SetUnusable(path=path, detail=error) from error

    def close(self) -> None:
        self._base.close()


def is_binary(head: bytes) -> bool:
    return b"\0" in head[:_LOOKED_AT] and not encodings.is_wide(head)


def read_text(path: Path, how: How, after: int = 0) -> Iterator[Record]:
    """The whole file as one record. Raises SourceUnreadable over 1 GiB."""
    content = bytearray()
    for chunk in how.chunks(path):
        content += chunk
        if len(content) > LIMITS["text"]:
            detail = (
                f'is larger than {LIMITS["text"] >> 20} MiB; use format = "lines" or "jsonl" '
                "for such files"
            )
            raise SourceUnreadable(source=how.source.name, path=path, detail=detail)
    yield text_record(bytes(content), how)


def text_record(content: bytes, how: How) -> Record:
    """The record of a whole file's bytes."""
    if is_binary(content):
        return Record(1, "", "", "binary", size=len(content))
    return _record(b"".join(encodings.unmarked(iter([content]))), how, 1, "")


def _record(content: bytes, how: How, number: int, name: str) -> Record:
    return Record(number, name, *encodings.decoded(content, how.policy), len(content))


def read_lines(path: Path, how: How, after: int = 0) -> Iterator[Record]:
    """One record a line, ended by \\n or \\r\\n; lines before number `after` are passed over."""
    for number, line in lines(path, how):
        if number == 0:
            yield binary(path)
        elif number >= after:
            yield _record(line.removesuffix(b"\r"), how, number, f":{number}")


def binary(path: Path) -> Record:
    """The one record of a file that is dropped as binary."""
    return Record(1, "", "", "binary", size=path.stat().st_size)


def read_fasta(path: Path, how: How, after: int = 0) -> Iterator[Record]:
    """Each record's sequence without its line breaks, named by the first word of its header.

    Lines that begin with ; are comments and blanks belong to no sequence. A name that the file
    had before gets ":<line>" added; lines before the first header are one malformed record.
    """
    names = Seen()
    try:
        start, name, pieces, size = 1, None, [], 0
        for number, line in lines(path, how):
            if number == 0:
                yield binary(path)
                return
            if line[:1] != b">":
                pieces.append(_residues(line))
                size += len(line)
                bounded(size, path, how, start)
                continue
            yield from _sequence(start, name, pieces, how, after)
            name = unused(_first_word(line), number, names)
            start, pieces, size = number, [], 0
        yield from _sequence(start, name, pieces, how, after)
    finally:
        names.close()


def _residues(line: bytes) -> bytes:
    return b"" if line.startswith(b";") else line.translate(None, _BLANKS)


def _sequence(
    start: int, name: str | None, pieces: list[bytes], how: How, after: int
) -> Iterator[Record]:
    if start < after:
        return
    content = b"".join(pieces)
    if name is not None:
        yield _record(content, how, start, f":{name}")
    elif content:
        yield Record(start, "", "", "malformed", size=len(content))


def _first_word(header: bytes) -> str:
    words = header[1:].split(None, 1)
    return words[0].decode("utf-8", "replace") if words and not header[1:2].isspace() else ""


def unused(name: str, number: int, names: Seen) -> str:
    """What a record is called: its name, else its number; with the number behind it where the file
    had that before."""
    name = name or str(number)
    while not names.add(name.encode()):
        name += f":{number}"
    return name


def lines(path: Path, how: How) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its \\n; (0, b"") alone for a binary file."""
    number, pieces, size = 0, [], 0
    chunks = how.chunks(path)
    first = next(chunks, b"")
    if is_binary(first):
        yield 0, b""
        return
    for chunk in encodings.unmarked(itertools.chain([first], chunks)):
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        size += len(first)
        bounded(size, path, how, number + 1)
        if how.sample:
            how.sample.unpack(0, len(others))
        if others:
            number += 1
            yield number, b"".join(pieces)
            for line in others[:-1]:
                number += 1
                yield number, line
            pieces, size = [others[-1]], len(others[-1])
    if size:
        yield number + 1, b"".join(pieces)


def bounded(size: int, path: Path, how: How, number: int) -> None:
    """Raises SourceUnreadable where a record has more bytes than its format's limit."""
    if size > (limit := LIMITS[how.source.format]):
        detail = f"the record at line {number} is larger than {limit >> 20} MiB"
        raise SourceUnreadable(source=how.source.name, path=path, detail=detail)
