"""Formats whose records have named fields: JSON lines, JSON arrays, CSV and TSV, Parquet.

Each reader gives Values; `records` takes their texts from under source.text_key, and what else the
source names a field for (data/about.py). Memory holds one record of JSON or CSV, and of Parquet
some rows of one row group."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.data import chats, encodings, packings, times
from pellucid.data.about import about, keys_of, under
from pellucid.data.chats import Chat
from pellucid.data.formats import LIMITS, How, Record, Seen, binary, bounded, lines, unused
from pellucid.errors import SourceUnreadable
from pellucid.errors.base import one_line

DELIMITERS = ",;|\t"
_HEADER = 32  # Lines behind the first that a table's names may fill.
# Of a Parquet file, made into values together: a few bytes may hold texts of 1 MB each.
_ROWS = 16
_ESCAPED = "surrogateescape"  # Bytes that are not UTF-8 come back as they were, to be judged.
_SURROGATES = re.compile("[\ud800-\udfff]")
_BLANK = " \t\r\n"
_decode = json.JSONDecoder().raw_decode


class Value(NamedTuple):
    """One record: its fields, or why it has none."""

    number: int  # From 1: the line or the row it begins at, or its place in the array.
    size: int  # Bytes in the file, unpacked; of a row of Parquet the mean of all.
    fields: Any  # As JSON has them; a mapping where the record is one.
    dropped: str = ""
    changed: str = ""
    replaced: int = 0


def records(path: Path, how: How, after: int = 0) -> Iterator[Record]:
    """The records of a file, those before number `after` passed over. Raises SourceUnreadable."""
    with contextlib.closing(Seen()) if how.source.id_key else contextlib.nullcontext() as names:
        for value in VALUES[how.source.format](path, how):
            if value.number == 0:
                yield binary(path)
                continue
            said = about(value.fields, how.source)
            name = unused(said.id, value.number, names) if names else str(value.number)
            if value.number >= after:
                record = _record(value, how)._replace(name=f":{name}", about=said)
                bounded(len(record.text), path, how, record.number)  # Of Parquet nothing else does.
                yield record


def _record(value: Value, how: How) -> Record:
    number, size, fields, dropped, changed, replaced = value
    record = Record(number, "", "", dropped, changed, replaced, size)
    if dropped:
        return record
    chat = text_of(fields, how.source.text_key)
    if chat is None:
        return record._replace(dropped="no_text")
    text, record = chat.text, record._replace(noted=chat.noted)
    if not text.isascii() and (halves := len(_SURROGATES.findall(text))):
        # JSON can escape half of a surrogate pair, which no UTF-8 can hold.
        if how.policy == "drop":
            return record._replace(dropped="invalid_utf8")
        text, replaced = _SURROGATES.sub("\ufffd", text), replaced + halves
        record = record._replace(changed="invalid_utf8_replaced", replaced=replaced)
    return record._replace(text=text, dropped="" if text else "empty")


def text_of(value: Any, key: str) -> Chat | None:
    """The text under a key, a chat in plain lines; None where there is none."""
    value_at = under(value, key)
    return Chat(value_at) if isinstance(value_at, str) else chats.read(value_at)


def _json_value(content: bytes, how: How, number: int) -> Value:
    text = encodings.decoded(content, how.policy)
    value = Value(number, len(content), None, text.dropped, text.changed, text.replaced)
    if text.dropped:
        return value
    try:
        return value._replace(fields=json.loads(text.text))
    except (ValueError, RecursionError):
        return value._replace(dropped="malformed", changed="", replaced=0)


def json_lines(path: Path, how: How) -> Iterator[Value]:
    """A JSON object on each line."""
    for number, line in lines(path, how):
        content = line.removesuffix(b"\r")
        yield _json_value(content, how, number) if number else Value(0, 0, None)


def json_array(path: Path, how: How) -> Iterator[Value]:
    """The elements of the array that the file is; what goes on otherwise is, to the end of the
    file, one malformed record."""
    reader, number = _Characters(path, how), 0
    if not reader.passed("["):
        yield Value(1, reader.rest(), None, "malformed")
        return
    while not reader.passed("]"):
        number += 1
        element = reader.value(number) if number == 1 or reader.passed(",") else ""
        if not element:
            yield Value(number, reader.rest(), None, "malformed")
            return
        yield _json_value(element.encode("utf-8", _ESCAPED), how, number)
    if reader.next():
        yield Value(number + 1, reader.rest(), None, "malformed")


class _Characters:
    """The characters of a file, some at a time. Bytes that are not UTF-8 are lone surrogates."""

    def __init__(self, path: Path, how: How) -> None:
        self._path, self._how = path, how
        self._chunks = encodings.unmarked(how.chunks(path))
        self._decoder = codecs.getincrementaldecoder("utf-8")(_ESCAPED)
        self._text, self._at = "", 0

    def passed(self, character: str) -> bool:
        """Pass the next character that is no blank if it is this one; whether it was."""
        matches = self.next() == character
        self._at += matches
        return matches

    def next(self) -> str:
        """The next character that is no blank; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or not self._more(1):
                return self._text[self._at : self._at + 1]

    def value(self, number: int) -> str:
        """The text of the JSON value that comes next; "" where none
        does, or the file ends in it."""
        self.next()
        while True:
            held = len(self._text) - self._at
            try:
                _, end = _decode(self._text, self._at)
            except (ValueError, RecursionError):
                end = 0
            if 0 < end < len(self._text):
                break
            bounded(held, self._path, self._how, number)
            # What reaches the end of what is there could go on: a number does. Twice as much before
            # it is tried again, so that time stays in proportion to size.
            if not self._more(held):
                end = min(end, held)  # Of what is there now, which begins at the value.
                break
        found, self._at = self._text[self._at : end], max(end, self._at)
        return found

    def rest(self) -> int:
        """Pass everything up to the end of the file: how many bytes that is."""
        held, self._text, self._at = self._text[self._at :].encode("utf-8", _ESCAPED), "", 0
        return len(held) + sum(map(len, self._chunks))

    def _more(self, least: int) -> bool:
        """Add at least so many characters, if the file has them; whether there were any."""
        pieces, added = [self._text[self._at :]], 0
        for chunk in self._chunks:
            pieces.append(self._decoder.decode(chunk))
            added += len(pieces[-1])
            if added >= least:
                break
        self._text, self._at = "".join(pieces), 0
        return added > 0


def csv_rows(path: Path, how: How) -> Iterator[Value]:
    """The rows behind the first, which names the columns (RFC 4180); numbered by their lines.

    The delimiter is the one of DELIMITERS that cuts the first row into the most columns.
    """
    beginning = _beginning(path, how)
    if beginning is None:
        yield Value(0, 0, None)
        return
    delimiter, names, used, numbered = beginning
    # The csv module wants lines with their ends, which belong to the fields that go over them.
    rows = csv.reader(
        (line.decode("utf-8", _ESCAPED) + "\n" for _, line in numbered), delimiter=delimiter
    )
    with _field_limit(path, how):
        while True:
            number = rows.line_num + 1 + used
            row = next(rows, None)
            if row is None:
                return
            if row:
                yield _csv_value(row, names, how, number)


def columns(path: Path, how: How) -> tuple[str, list[str]]:
    """The delimiter of a table, and what its first row has: the names. Raises SourceUnreadable."""
    beginning = _beginning(path, how)
    return beginning[:2] if beginning else (",", [])


def _beginning(
    path: Path, how: How
) -> tuple[str, list[str], int, Iterator[tuple[int, bytes]]] | None:
    """The delimiter, the names, how many lines they fill, and the lines behind them; None of a
    binary file."""
    numbered = lines(path, how)
    number, first = next(numbered, (1, b""))
    if number == 0:
        return None
    # A name in quotes may go over several lines; where the quotes are not closed, it does not.
    held = list(itertools.islice(numbered, _HEADER)) if first.count(b'"') % 2 else []
    with _field_limit(path, how):
        delimiter, names, used = _header([first, *(line for _, line in held)])
    return delimiter, names, used, itertools.chain(held[used - 1 :], numbered)


def _header(first: list[bytes]) -> tuple[str, list[str], int]:
    """The delimiter, the names, and how many of the first lines they fill."""
    texts = [line.decode("utf-8", "replace") for line in first]
    several = [one for one in DELIMITERS if _names(texts, one, strict=True)[1] > 1]
    among = texts if several else texts[:1]
    delimiter = max(several or DELIMITERS, key=lambda one: len(_names(among, one)[0]))
    return delimiter, *_names(among, delimiter)


def _names(texts: list[str], delimiter: str, strict: bool = False) -> tuple[list[str], int]:
    """The first row, and how many lines it fills; nothing, and 1, where it is none."""
    ended = [line + "\n" for line in texts] if len(texts) > 1 else texts
    reader = csv.reader(ended, delimiter=delimiter, strict=strict)
    try:
        return next(reader, []), max(1, reader.line_num)
    except csv.Error:
        if strict:
            return [], 1
        raise


def _csv_value(row: list[str], names: list[str], how: How, number: int) -> Value:
    fields = [field.encode("utf-8", _ESCAPED) for field in row]
    content = b"\n".join(fields)  # Judged together, as a line of JSON is.
    text = encodings.decoded(content, how.policy)
    value = Value(number, len(content), None, "", text.changed, text.replaced)
    if text.dropped == "invalid_utf8":
        return value._replace(dropped=text.dropped)
    if len(row) != len(names):
        return value._replace(dropped="malformed", changed="", replaced=0)
    codec = "cp1252" if text.changed == "latin1_guessed" else "utf-8"
    decoded = [field.decode(codec, "replace") for field in fields]
    return value._replace(fields=dict(zip(names, decoded, strict=True)))


@contextlib.contextmanager
def _field_limit(path: Path, how: How) -> Iterator[None]:
    """The csv module's limit, which holds for the whole process, as long as a file is read."""
    before = csv.field_size_limit(LIMITS["csv"])
    try:
        yield
    except csv.Error as error:
        raise SourceUnreadable(source=how.source.name, path=path, detail=str(error)) from error
    finally:
        csv.field_size_limit(before)


def parquet_rows(path: Path, how: How) -> Iterator[Value]:
    """The rows of a Parquet file. Nothing is read but the columns that the source names; all of
    them where it names none for the text."""
    key, number = how.source.text_key, 0
    with (
        packings.named_refusals(path, how.source.name),
        _arrow_errors(path, how),
        path.open("rb") as stream,
    ):
        file = pq.ParquetFile(stream)
        metadata = file.metadata
        groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
        size = sum(group.total_byte_size for group in groups) // max(1, metadata.num_rows)
        if key and not _has(file, key):
            rows = range(1, metadata.num_rows + 1)
            yield from (Value(row, size, None, "no_text") for row in rows)
            return
        wanted = [key, *keys_of(how.source).values()] if key else None
        for batch in file.iter_batches(batch_size=_ROWS, columns=wanted, use_threads=False):
            if how.sample:
                how.sample.unpack(_unpacked(batch))
            for fields in times.spelled(batch).to_pylist():
                number += 1
                yield Value(number, size, fields)


def _unpacked(batch: pa.RecordBatch) -> int:
    """The bytes of some rows, each value of a dictionary as often as they have it."""
    decoded = (
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    )
    return sum(column.nbytes for column in decoded)


def _has(file: pq.ParquetFile, key: str) -> bool:
    paths = (file.schema.column(index).path for index in range(len(file.schema)))
    return any(f"{path}.".startswith(f"{key}.") for path in paths)


@contextlib.contextmanager
def _arrow_errors(path: Path, how: How) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        detail = one_line(error)
        raise SourceUnreadable(source=how.source.name, path=path, detail=detail) from error


VALUES: dict[str, Callable[[Path, How], Iterator[Value]]] = {
    "jsonl": json_lines,
    "json": json_array,
    "csv": csv_rows,
    "parquet": parquet_rows,
}
