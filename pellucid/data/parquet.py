"""Documents on disk: Parquet parts, written in row groups of even size
and read a group at a time."""

from __future__ import annotations

import bisect
import difflib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.data import cutting, stage
from pellucid.data.reasons import REASONS
from pellucid.errors import DocumentInParts, DocumentUnknown, FormatInvalid
from pellucid.errors.base import one_line
from pellucid.record import digests, merkle
from pellucid.store import files, parquet
from pellucid.store.dictionaries import check_dictionaries

SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in ("id", "source", "licence", "origin", "date", "split")
        ),
        pa.field("characters", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

DICTIONARIES = ["source", "licence", "split"]  # The columns that have one; a text never has.
_ABOUT = ("id", "licence", "origin", "date")  # What tells what a document is.

_NEAR = 3  # Ids that are told in place of one that is not there.
_COMPARED = 20_000  # Documents at most whose ids are held against one that is not there.

_LENGTH = 4  # Bytes before each text in a page.
_UTF8 = 4  # Bytes of a character, at most.
_LONGEST_NAME = 1 << 16  # Bytes of a row's id or origin, as a mean over a row group.

GROUP_BYTES = 8 << 20  # Text in one row group: what has to be unpacked to read one document.
GROUP_ROWS = 1 << 16
PART_BYTES = 128 << 20  # Text in one part: what a kill can cost.


class Row(NamedTuple):
    """One document as it is stored: the columns in their order, "index" as number."""

    number: int
    id: str
    source: str
    licence: str
    origin: str
    date: str
    split: str
    characters: int
    bytes: int
    sha256: str
    text: str


def write_part(path: Path, rows: Iterator[Row], salt_of: Callable[[int], bytes]) -> dict[str, Any]:
    """Write rows until the part is full or they end; returns the part's entry in the manifest.
    salt_of is asked once for each document, in their order.

    The rows' iterator is left right behind the last row written.
    """
    tree, group, group_bytes, first = merkle.Tree(), [], 0, None
    totals = {"train": 0, "validation": 0, "bytes": 0, "characters": 0}
    with parquet.writer(path, SCHEMA, dictionaries=DICTIONARIES) as writer:
        for row in rows:
            first = row.number if first is None else first
            group.append(row)
            group_bytes += row.bytes
            labels = (row.id, row.licence, row.origin, row.date)
            tree.add(digests.document_leaf(salt_of(row.number), *labels, row.text))
            totals[row.split] += 1
            totals["bytes"] += row.bytes
            totals["characters"] += row.characters
            if group_bytes >= GROUP_BYTES or len(group) >= GROUP_ROWS:
                writer.write_batch(_batch(group))
                group, group_bytes = [], 0
            if totals["bytes"] >= PART_BYTES:
                break
        if group:
            writer.write_batch(_batch(group))
    return {"first_index": first or 0, **totals, "root": tree.root().hex()}


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


class Part:
    """One Parquet file of documents, opened when it is first read."""

    def __init__(self, path: Path, source: str, first_index: int, documents: int) -> None:
        self.path, self.source, self.first_index, self.documents = (
            path,
            source,
            first_index,
            documents,
        )
        self._file: pq.ParquetFile | None = None
        self._starts: list[int] = []  # First row of each row group.

    def opened(self) -> pq.ParquetFile:
        """The file, its schema and its number of rows checked. Raises FormatInvalid."""
        if self._file is None:
            try:
                file = parquet.opened(self.path, SCHEMA)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise FormatInvalid(path=self.path, detail=one_line(error)) from error
            if file.metadata.num_rows != self.documents:
                raise FormatInvalid(
                    path=self.path, detail="has a different number of rows than its manifest says"
                )
            sizes = [
                file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)
            ]
            if not all(0 < size <= GROUP_ROWS for size in sizes):
                raise FormatInvalid(
                    path=self.path,
                    detail=f"has a row group without rows or with more than {GROUP_ROWS}",
                )
            self._starts = [0, *itertools.accumulate(sizes)][:-1]
            self._file = file
        return self._file

    @property
    def groups(self) -> int:
        return self.opened().metadata.num_row_groups

    def group_of(self, index: int) -> tuple[int, int]:
        """(row group, row within it) of a document index."""
        self.opened()
        row = index - self.first_index
        group = next(i for i in reversed(range(len(self._starts))) if self._starts[i] <= row)
        return group, row - self._starts[group]

    def read(self, group: int, columns: list[str] | None = None) -> pa.RecordBatch:
        """One row group. Raises FormatInvalid where it does not unpack."""
        try:
            table = self.opened().read_row_group(group, columns=columns, use_threads=False)
            table.validate(full=True)  # Also that texts are Unicode.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatInvalid(path=self.path, detail=one_line(error)) from error
        if table.num_rows != self._file_rows(group):
            raise FormatInvalid(
                path=self.path,
                detail=f"has a different number of rows in row group {group} than it says",
            )
        return table.combine_chunks().to_batches()[0]

    def _file_rows(self, group: int) -> int:
        return self.opened().metadata.row_group(group).num_rows


def check_sizes(part: Part, said: int, longest: int) -> None:
    """That the texts of a part have no more bytes than its manifest says, and none more
    than the longest text; by the headers of its pages, before anything is unpacked: a
    few bytes can unpack to any text.

    longest: characters of a text; said: bytes of all of the part's. Raises
    FileMissing, FormatInvalid."""
    total, groups = 0, parquet.check_pages(part.path, SCHEMA)
    for number, group in enumerate(groups):
        columns = dict(zip(SCHEMA.names, group, strict=True))
        if others := [
            name for name in SCHEMA.names if columns[name].dictionary and name not in DICTIONARIES
        ]:
            raise FormatInvalid(
                path=part.path, detail=f"row group {number}: {others[0]} has a dictionary"
            )
        texts = columns["text"]
        size = texts.unpacked - _LENGTH * texts.values
        total += size
        if total > said or size > _UTF8 * longest * texts.values:
            detail = (
                f"row group {number}: the texts are longer than the manifest or the recipe allows"
            )
            raise FormatInvalid(path=part.path, detail=detail)
        for name in ("id", "source", "licence", "origin", "date", "split", "sha256"):
            if columns[name].unpacked > _LONGEST_NAME * columns[name].values:
                raise FormatInvalid(
                    path=part.path, detail=f"row group {number}: {name} is too long"
                )
    check_dictionaries(part.path, SCHEMA, groups)


class Documents:
    """The finished documents of a run, read a row group at a time. Make one with Documents.open."""

    def __init__(self, manifest: dict[str, Any], parts: list[Part]) -> None:
        self.manifest, self.parts = manifest, parts
        self.count = sum(part.documents for part in parts)
        self._first = [part.first_index for part in parts]
        self._group: tuple[tuple[int, int], pa.RecordBatch] | None = None  # The one read last.
        self._columns = functools.lru_cache(maxsize=32)(
            lambda number, group, names: self.parts[number].read(group, list(names))
        )

    @classmethod
    def open(cls, folder: Path) -> Documents:
        """The documents of a run folder. Raises FormatInvalid, FormatTooNew, PathUnsafe."""
        path = folder / stage.DOCUMENTS / stage.MANIFEST
        manifest = stage.read_manifest(path, "documents")
        parts, first = [], 0
        for entry in stage.list_in(manifest, "parts", path):
            rows = stage.count_in(entry, "documents", path)
            file = files.inside(path.parent, stage.text_in(entry, "file", path), str(path))
            if stage.count_in(entry, "first_index", path) != first or rows == 0:
                raise FormatInvalid(
                    path=path, detail=f"{entry['file']} does not follow the part before it"
                )
            stage.count_in(entry, "bytes", path)
            parts.append(Part(file, stage.text_in(entry, "source", path), first, rows))
            first += rows
        for entry in [*stage.list_in(manifest, "sources", path), manifest]:
            _check_totals(entry, path, named=entry is not manifest)
        return cls(manifest, parts)

    def get(self, index: int) -> dict[str, Any]:
        """The row of a document, its text included. Raises DocumentUnknown."""
        batch, row = self._whole(index)
        return batch.slice(row, 1).to_pylist()[0]

    def text(self, index: int) -> str:
        """The text of a document, quickly where the one asked for before lies near. Raises
        DocumentUnknown."""
        batch, row = self._whole(index)
        return batch.column("text")[row].as_py()

    def between(self, first: int, last: int, columns: list[str]) -> pa.Table:
        """Columns of the documents first..last, quickly where those asked for before lie near."""
        batches, at = [], first
        while at <= last:
            number, group, row = self._place(at)
            batch = self._columns(number, group, tuple(columns)).slice(row, last - at + 1)
            batches.append(batch)
            at += batch.num_rows
        return pa.Table.from_batches(batches)

    def about(self, index: int) -> dict[str, Any]:
        """A document's id, licence, origin and date, without unpacking any text. Raises
        DocumentUnknown."""
        number, group, row = self._place(index)
        return self._columns(number, group, _ABOUT).slice(row, 1).to_pylist()[0]

    def sha256(self, index: int) -> str:
        """The SHA-256 of a document's text, as its row says. Raises DocumentUnknown."""
        number, group, row = self._place(index)
        return self.parts[number].read(group, ["sha256"]).slice(row, 1).to_pylist()[0]["sha256"]

    def _whole(self, index: int) -> tuple[pa.RecordBatch, int]:
        """The row group of a document, and its row there. Raises DocumentUnknown."""
        number, group, row = self._place(index)
        if self._group is None or self._group[0] != (number, group):
            self._group = (number, group), self.parts[number].read(group)
        return self._group[1], row

    def part_of(self, index: int) -> Part:
        """The part that holds a document. Raises DocumentUnknown."""
        return self.parts[self._place(index)[0]]

    def _place(self, index: int) -> tuple[int, int, int]:
        """The part, the row group in it, and the row in that."""
        if not 0 <= index < self.count:
            raise DocumentUnknown(document=index)
        number = bisect.bisect_right(self._first, index) - 1
        return number, *self.parts[number].group_of(index)

    def find(self, document_id: str) -> int:
        """The index of the document with this id. Raises DocumentUnknown, DocumentInParts."""
        return self.found([document_id], parts=False)[document_id][0]

    def found(self, names: Iterable[str], parts: bool = True) -> dict[str, list[int]]:
        """The indices of the documents with these ids, found in one pass; where there is none of an
        id, those of its parts, if it is that of a text which was cut. Raises DocumentUnknown, and
        without `parts` DocumentInParts."""
        wanted = set(names)
        sources = {name.partition("/")[0] for name in wanted}
        own, cut = dict[str, list[int]](), dict[str, list[int]]()
        for part in (part for part in self.parts if part.source in sources):
            for group in range(part.groups):
                batch = part.read(group, ["index", "id"])
                for index, name in zip(
                    *(column.to_pylist() for column in batch.columns), strict=True
                ):
                    if name in wanted:
                        own.setdefault(name, [index])
                    elif "#" in name and (text := cutting.text_of(name)[0]) in wanted:
                        cut.setdefault(text, []).append(index)
                if len(own) == len(wanted):
                    return own
        found = ({**cut, **own}) if parts else own
        if missing := wanted - found.keys():
            name = min(missing)
            if indices := cut.get(name):
                first = self.about(indices[0])["id"]
                raise DocumentInParts(document=name, count=len(indices), first=first)
            raise DocumentUnknown(document=name, near=self.near(name))
        return found

    def near(self, document_id: str) -> str:
        """The ids that somebody may have meant, as advice: those that end so, or are spelled much
        like it. A text that was cut is one, unless a part is asked for."""
        every = (one for batch in self.rows(["id"]) for one in batch.column("id").to_pylist())
        part = cutting.ends_as_part(document_id)
        texts = (one if part else cutting.text_of(one)[0] for one in every)
        near, ids, ends = (
            dict[str, None](),
            dict[str, None](),
            (f"/{document_id}", f":{document_id}"),
        )
        for one in texts:  # Two sources may have it, however far apart.
            if one.endswith(ends):
                near[one] = None
            if len(near) == _NEAR:
                break
            if len(ids) < _COMPARED:
                ids[one] = None
        told = list(near) or difflib.get_close_matches(document_id, ids)
        return f" (did you mean {' or '.join(told)}?)" if told else ""

    def rows(self, columns: list[str], split: str | None = None) -> Iterator[pa.RecordBatch]:
        """Batches of these columns in the documents' order, one row group in memory at a time."""
        for part in self.parts:
            yield from rows_of(part, columns, split)


def _check_totals(entry: Any, path: Path, named: bool) -> None:
    """What a manifest says of a source or of all of them has the form it
    should. Raises FormatInvalid."""
    for key in ("documents", "bytes", "characters"):
        stage.count_in(entry, key, path)
    if named:
        for key in ("name", "licence"):
            stage.text_in(entry, key, path)
        dropped = entry.get("dropped")
        if not isinstance(dropped, dict):
            raise FormatInvalid(path=path, detail="dropped is not an object")
        for reason, count in dropped.items():
            if reason not in REASONS or type(count) is not int or count < 1:
                said = f"{reason[:40]!r}: {str(count)[:40]!r}"
                raise FormatInvalid(
                    path=path, detail=f"dropped has {said}, not a reason and its count"
                )


def rows_of(part: Part, columns: list[str], split: str | None = None) -> Iterator[pa.RecordBatch]:
    """As Documents.rows, of one part."""
    for group in range(part.groups):
        if split is None:
            yield part.read(group, columns)
            continue
        batch = part.read(group, list(dict.fromkeys([*columns, "split"])))
        chosen = pa.array(
            [value == split for value in batch.column("split").to_pylist()], pa.bool_()
        )
        yield batch.filter(chosen).select(columns)
