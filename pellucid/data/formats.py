"""The formats of single files: from a file's bytes to records of text.

Bytes are read as they are and decoded as UTF-8 explicitly; no newline is translated, and a byte order
mark at the start of a file is removed. Memory holds one text file, or one record of the other formats.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow

from pellucid.errors import DiskFull, NoPermission, SetUnusable, SourceUnreadable
from pellucid.recipe import Source
from pellucid.store import files


def _endings(words: str, packed: bool = False) -> tuple[str, ...]:
    return tuple(f".{word}{more}" for word in words.split() for more in (("", ".gz", ".zst") if packed else ("",)))


TEXT_ENDINGS = _endings(
    "txt text md markdown rst adoc org tex "
    "py pyx pxd pyi c h cc cpp cxx hh hpp hxx cu cuh m s S asm rs go java kt scala swift "
    "js jsx mjs ts tsx css html htm xml svg json yaml yml toml ini cfg conf sh bash zsh fish "
    "rb pl pm php lua r R jl hs ml mli fs cs vb clj el lisp scm ex exs erl sql proto "
    "cmake mk dts dtsi v sv vhd f f90 for pas ada zig nim dart tcl awk diff patch log csv tsv"
)
ENDINGS: dict[str, tuple[str, ...]] = {  # What a folder's files must end in where a source includes nothing.
    "text": TEXT_ENDINGS,
    "jsonl": _endings("jsonl json ndjson", packed=True),
    "lines": _endings("txt lines smi smiles csv tsv", packed=True),
    "fasta": _endings("fa fasta fas fna faa ffn frn", packed=True),
    "package": _endings("py pyx md rst txt"),
}

TEXT_LIMIT = 1 << 30  # Bytes of one text file.
RECORD_LIMIT = 256 << 20  # Bytes of one record of the other formats.
_CHUNK = 1 << 20
_LOOKED_AT = 8192  # A NUL byte among so many first bytes makes a file binary.
_BOM = b"\xef\xbb\xbf"
_SURROGATES = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """One record of a file: its text, or the reason why it is dropped."""

    number: int  # The line it begins at, from 1; 1 for a whole file.
    name: str  # What is added to the file's id: "", ":17", ":NC_001416".
    text: str
    dropped: str = ""
    replaced: bool = False  # Bytes that are not UTF-8 became U+FFFD.


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


def decoded(content: bytes, policy: str, number: int = 1, name: str = "") -> Record:
    """A record from its UTF-8 bytes, under data.invalid_utf8 ("replace" or "drop")."""
    try:
        text, replaced = content.decode("utf-8"), False
    except UnicodeDecodeError:
        if policy == "drop":
            return Record(number, name, "", "invalid_utf8")
        text, replaced = content.decode("utf-8", "replace"), True
    return Record(number, name, text, "" if text else "empty", replaced)


def is_binary(head: bytes) -> bool:
    return b"\0" in head[:_LOOKED_AT]


def read_text(path: Path, source: Source, policy: str, after: int = 0) -> Iterator[Record]:
    """The whole file as one record. Raises SourceUnreadable over 1 GiB."""
    with files.named_errors(path, "read"), path.open("rb") as file:
        content = file.read(TEXT_LIMIT + 1)
    if len(content) > TEXT_LIMIT:
        detail = f'is larger than {TEXT_LIMIT >> 20} MiB; use format = "lines" or "jsonl" for such files'
        raise SourceUnreadable(source=source.name, path=path, detail=detail)
    yield text_record(content, policy)


def text_record(content: bytes, policy: str) -> Record:
    """The record of a whole file's bytes."""
    if is_binary(content):
        return Record(1, "", "", "binary")
    return decoded(content.removeprefix(_BOM), policy)


def read_lines(path: Path, source: Source, policy: str, after: int = 0) -> Iterator[Record]:
    """One record a line, ended by \\n or \\r\\n; lines before number `after` are passed over."""
    for number, line in _lines(path, source):
        if number == 0:
            yield Record(1, "", "", "binary")
        elif number >= after:
            yield decoded(line.removesuffix(b"\r"), policy, number, f":{number}")


def read_jsonl(path: Path, source: Source, policy: str, after: int = 0) -> Iterator[Record]:
    """The string under source.text_key of the JSON object on each line."""
    for number, line in _lines(path, source):
        if number == 0:
            yield Record(1, "", "", "binary")
        elif number >= after:
            yield _from_json(decoded(line.removesuffix(b"\r"), policy, number, f":{number}"), source, policy)


def _from_json(record: Record, source: Source, policy: str) -> Record:
    if record.dropped:
        return record
    try:
        value = json.loads(record.text)
    except (ValueError, RecursionError):
        return record._replace(text="", dropped="malformed")
    text = value.get(source.text_key) if isinstance(value, dict) else None
    if not isinstance(text, str):
        return record._replace(text="", dropped="no_text")
    if not text.isascii() and _SURROGATES.search(text):
        # JSON can escape half of a surrogate pair, which no UTF-8 can hold.
        if policy == "drop":
            return record._replace(text="", dropped="invalid_utf8")
        return record._replace(text=_SURROGATES.sub("\ufffd", text), replaced=True)
    return record._replace(text=text, dropped="" if text else "empty")


def read_fasta(path: Path, source: Source, policy: str, after: int = 0) -> Iterator[Record]:
    """Each record's sequence without its line breaks, named by the first word of its header.

    A name that the file had before gets ":<line>" added; lines before the first header are one
    malformed record.
    """
    names = Seen()
    try:
        start, name, pieces, size = 1, None, [], 0
        for number, line in _lines(path, source):
            if number == 0:
                yield Record(1, "", "", "binary")
                return
            if line[:1] != b">":
                pieces.append(line.rstrip(b"\r"))
                size += len(line)
                _bounded(size, path, source, start)
                continue
            yield from _sequence(start, name, pieces, policy, after)
            start, name, pieces, size = number, _unused(line, number, names), [], 0
        yield from _sequence(start, name, pieces, policy, after)
    finally:
        names.close()


def _sequence(start: int, name: str | None, pieces: list[bytes], policy: str, after: int) -> Iterator[Record]:
    if start < after:
        return
    content = b"".join(pieces)
    if name is not None:
        yield decoded(content, policy, start, f":{name}")
    elif content:
        yield Record(start, "", "", "malformed")


def _unused(header: bytes, number: int, names: Seen) -> str:
    words = header[1:].split(None, 1)
    name = words[0].decode("utf-8", "replace") if words and not header[1:2].isspace() else str(number)
    while not names.add(name.encode()):
        name += f":{number}"
    return name


READERS: dict[str, Callable[[Path, Source, str, int], Iterator[Record]]] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "lines": read_lines,
    "fasta": read_fasta,
}


def _lines(path: Path, source: Source) -> Iterator[tuple[int, bytes]]:
    """Every line with its number from 1, without its \\n; (0, b"") alone for a binary file."""
    number, pieces, size = 0, [], 0
    for chunk in _chunks(path, source):
        if number == 0 and not pieces:
            if is_binary(chunk):
                yield 0, b""
                return
            chunk = chunk.removeprefix(_BOM)
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        size += len(first)
        _bounded(size, path, source, number + 1)
        if others:
            number += 1
            yield number, b"".join(pieces)
            for line in others[:-1]:
                number += 1
                yield number, line
            pieces, size = [others[-1]], len(others[-1])
    if size:
        yield number + 1, b"".join(pieces)


def _bounded(size: int, path: Path, source: Source, number: int) -> None:
    if size > RECORD_LIMIT:
        detail = f"the record at line {number} is larger than {RECORD_LIMIT >> 20} MiB"
        raise SourceUnreadable(source=source.name, path=path, detail=detail)


def _chunks(path: Path, source: Source) -> Iterator[bytes]:
    """The file's bytes, unpacked where its name ends in .gz or .zst. Raises SourceUnreadable."""
    with files.named_errors(path, "read"):
        path.open("rb").close()
        try:
            with _opened(path) as stream:
                while chunk := stream.read(_CHUNK):
                    yield chunk
        except (gzip.BadGzipFile, EOFError, zlib.error, pyarrow.ArrowException) as error:
            raise SourceUnreadable(source=source.name, path=path, detail=_short(error)) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # pyarrow reports damaged zstd as an OSError without a number.
            raise SourceUnreadable(source=source.name, path=path, detail=_short(error)) from error


def _opened(path: Path):
    if path.name.endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.endswith(".zst"):
        return pyarrow.input_stream(str(path), compression="zstd")
    return path.open("rb", buffering=0)


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
