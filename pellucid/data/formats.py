"""The formats of single files: from a file's bytes to records of text.

Bytes are read as they are and decoded explicitly (data/encodings.py); no newline is translated, and a byte
order mark at the start of a file is removed. Memory holds one text file, or one record of the other formats.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data import encodings, packings
from pellucid.errors import DiskFull, NoPermission, SetUnusable, SourceUnreadable
from pellucid.recipe import Source
from pellucid.store import files

# Bytes of one record, unpacked: what is held in memory, and of JSON the many times more that it is as values.
LIMITS = {"text": 1 << 30, "jsonl": 32 << 20, "lines": 256 << 20, "fasta": 256 << 20}
_LOOKED_AT = 8192  # A NUL byte among so many first bytes makes a file binary.
_SURROGATES = re.compile("[\ud800-\udfff]")
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


class How(NamedTuple):
    """What decides how a file is read."""

    source: Source
    policy: str = "replace"  # data.invalid_utf8


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
    for chunk in packings.chunks(path, how.source.name):
        content += chunk
        if len(content) > LIMITS["text"]:
            detail = f'is larger than {LIMITS["text"] >> 20} MiB; use format = "lines" or "jsonl" for such files'
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
            yield _binary(path)
        elif number >= after:
            yield _record(line.removesuffix(b"\r"), how, number, f":{number}")


def _binary(path: Path) -> Record:
    return Record(1, "", "", "binary", size=path.stat().st_size)


def read_jsonl(path: Path, how: How, after: int = 0) -> Iterator[Record]:
    """The text under source.text_key of the JSON object on each line."""
    for number, line in lines(path, how):
        if number == 0:
            yield _binary(path)
        elif number >= after:
            yield _from_json(_record(line.removesuffix(b"\r"), how, number, f":{number}"), how)


def _from_json(record: Record, how: How) -> Record:
    if record.dropped:
        return record
    try:
        value = json.loads(record.text)
    except (ValueError, RecursionError):
        return record._replace(text="", dropped="malformed")
    text = text_of(value, how.source.text_key)
    if text is None:
        return record._replace(text="", dropped="no_text")
    if not text.isascii() and (halves := len(_SURROGATES.findall(text))):
        # JSON can escape half of a surrogate pair, which no UTF-8 can hold.
        if how.policy == "drop":
            return record._replace(text="", dropped="invalid_utf8")
        text, replaced = _SURROGATES.sub("\ufffd", text), record.replaced + halves
        return record._replace(text=text, changed="invalid_utf8_replaced", replaced=replaced)
    return record._replace(text=text, dropped="" if text else "empty")


def text_of(value: Any, key: str) -> str | None:
    """The text under a key, or under "data.text" the one of "text" in the object "data"; a chat in plain lines.

    A key that stands as it is written comes first. None where there is no text.
    """
    found: Any = value
    if isinstance(value, dict) and key in value:
        found = value[key]
    else:
        for word in key.split("."):
            found = found.get(word) if isinstance(found, dict) else None
    return found if isinstance(found, str) else chat(found)


def chat(messages: Any) -> str | None:
    """A list of {role, content} or {from, value} as lines "role: content"; None where it is none."""
    if not isinstance(messages, list) or not messages:
        return None
    lines = []
    for message in messages:
        if not isinstance(message, dict):
            return None
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if isinstance(content, list):  # Parts, of which some are no text.
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            content = "".join(text for text in texts if isinstance(text, str))
        if not isinstance(role, str) or not (content is None or isinstance(content, str)):
            return None
        lines.append(f"{role}: {content or ''}")
    return "\n".join(lines)


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
                yield _binary(path)
                return
            if line[:1] != b">":
                pieces.append(_residues(line))
                size += len(line)
                _bounded(size, path, how, start)
                continue
            yield from _sequence(start, name, pieces, how, after)
            start, name, pieces, size = number, _unused(line, number, names), [], 0
        yield from _sequence(start, name, pieces, how, after)
    finally:
        names.close()


def _residues(line: bytes) -> bytes:
    return b"" if line.startswith(b";") else line.translate(None, _BLANKS)


def _sequence(start: int, name: str | None, pieces: list[bytes], how: How, after: int) -> Iterator[Record]:
    if start < after:
        return
    content = b"".join(pieces)
    if name is not None:
        yield _record(content, how, start, f":{name}")
    elif content:
        yield Record(start, "", "", "malformed", size=len(content))


def _unused(header: bytes, number: int, names: Seen) -> str:
    words = header[1:].split(None, 1)
    name = words[0].decode("utf-8", "replace") if words and not header[1:2].isspace() else str(number)
    while not names.add(name.encode()):
        name += f":{number}"
    return name


READERS: dict[str, Callable[[Path, How, int], Iterator[Record]]] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "lines": read_lines,
    "fasta": read_fasta,
}


def lines(path: Path, how: How) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its \\n; (0, b"") alone for a binary file."""
    number, pieces, size = 0, [], 0
    chunks = packings.chunks(path, how.source.name)
    first = next(chunks, b"")
    if is_binary(first):
        yield 0, b""
        return
    for chunk in encodings.unmarked(itertools.chain([first], chunks)):
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        size += len(first)
        _bounded(size, path, how, number + 1)
        if others:
            number += 1
            yield number, b"".join(pieces)
            for line in others[:-1]:
                number += 1
                yield number, line
            pieces, size = [others[-1]], len(others[-1])
    if size:
        yield number + 1, b"".join(pieces)


def _bounded(size: int, path: Path, how: How, number: int) -> None:
    if size > (limit := LIMITS[how.source.format]):
        detail = f"the record at line {number} is larger than {limit >> 20} MiB"
        raise SourceUnreadable(source=how.source.name, path=path, detail=detail)
