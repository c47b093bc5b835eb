"""Sources: folders, files and packages, read as documents in one fixed order, from any place on.

Every stream yields (document, cursor); reading again from a cursor gives
the documents that follow it."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from pellucid.data import (
    cutting,
    encodings,
    endings,
    formats,
    keys,
    packages,
    packings,
    recognise,
    tokenizer,
)
from pellucid.data.about import keys_of, lacking
from pellucid.data.globs import Glob
from pellucid.data.readers import READERS
from pellucid.data.reasons import LeftOut, describe
from pellucid.data.tables import VALUES
from pellucid.errors import (
    FieldMissing,
    FormatForeign,
    NamesUnclear,
    NoPermission,
    RecipeInvalid,
    RunInsideData,
    SourceEmpty,
    SourceMissing,
    SourceRepeated,
    SourceUnreadable,
    TextKeyMissing,
)
from pellucid.recipe import COMMAND_LINE, FILE, Data, Recipe, Source
from pellucid.store import file_kinds, layout

_OWN = frozenset(
    PurePath(path).parts[0]
    for path in (
        layout.DATA_MANIFEST,
        layout.LEDGER,
        layout.ANCHORS,
        layout.CHECKPOINTS,
        layout.METRICS,
        layout.TRACE,
    )
)  # Folders of a run that hold what it makes.
_ESCAPED = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")
_LOOKED_AT = 20  # Files of a source whose content is looked at before any work.
_TOLD = 4  # Endings that a message names.
_LOOKED_AT_BESIDE = 200  # Files of a folder that no source takes whose content is looked at.


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a stable id, and where it came from. `origin` never holds an absolute path."""

    id: str
    source: str
    licence: str
    origin: str
    date: str
    text: str
    part: int  # Of the text it is cut from, from 1; 0 where that is not cut.
    whole: bytes  # The SHA-256 of that text's UTF-8.


class Cursor(NamedTuple):
    """The place right behind one document: its file, its record's
    line, its part (0 where uncut)."""

    file: str
    record: int
    part: int


class Patterns:
    """Which '/'-paths a source takes."""

    def __init__(self, source: Source, paths: list[str]) -> None:
        exclude = source.exclude or (packages.EXCLUDED if source.format == "package" else ())
        self._format = source.format
        self._bare = endings.bare(paths, source.format)
        self._include = [Glob(pattern) for pattern in source.include]
        self._exclude = [Glob(pattern) for pattern in exclude]

    def refused(self, path: str) -> str:
        """Why the path is not taken: "not_included", "excluded", or "" where it is."""
        if self._include:
            if not any(pattern.matches(path) for pattern in self._include):
                return "not_included"
        elif not (endings.fits(path, self._format) or (self._bare and not endings.of(path))):
            return "not_included"
        return "excluded" if any(pattern.matches(path) for pattern in self._exclude) else ""


class Reader:
    """One source. `left` counts, by reason, what lies before the last cursor that was given out."""

    def __init__(
        self,
        source: Source,
        policy: str,
        longest: int,
        folder: Path,
        beside: Sequence[Source] = (),  # The other sources of the same folder.
    ) -> None:
        self.source, self.left, self._beside = source, LeftOut(), beside
        self.how, self._longest = formats.How(source, policy), longest
        self._package = packages.Package(source) if source.format == "package" else None
        self.root = folder / source.path
        self._foreign: dict[Path, bool] = {}
        self.licence = source.licence
        if self._package and source.licence == "unknown":
            self.licence = self._package.licence

    def documents(self, after: Cursor | None = None) -> Iterator[tuple[Document, Cursor]]:
        """The documents behind the cursor, all of them where it is None."""
        for path, place in self.files(after):
            within = after if after and path == after.file else None
            for record in self._records(path, place, within.record if within else 0):
                yield from self._parts(path, record, within)

    def sample(self) -> Iterator[Document]:
        """The documents of the first records. Raises SampleFull where more are behind them."""
        sample = formats.sample_of(self.source.format)
        self.how = self.how._replace(sample=sample)
        for path, place in self.files():
            sample.require_room()
            for record in self._records(path, place, 0):
                sample.require_room()
                yield from (document for document, _ in self._parts(path, record, None))
                sample.take(max(record.size, len(record.text)))

    def candidates(self) -> Iterator[str]:
        """The '/'-paths that would be read. Counts what is left out."""
        return (path for path, _ in self.files())

    def places(self) -> Iterator[Path]:
        """The files that would be read, of a source that is no package."""
        return (place for _, place in self.files() if isinstance(place, Path))

    @property
    def alone(self) -> bool:
        """Whether the source is one file, named by itself."""
        return self._package is None and not self.root.is_dir()

    def _parts(
        self, path: str, record: formats.Record, within: Cursor | None
    ) -> Iterator[tuple[Document, Cursor]]:
        begun = within is not None and record.number == within.record
        name = readable(path) + record.name
        if record.dropped:
            self.left.add(record.dropped, name, record.size)
            return
        if record.changed and not begun:
            self.left.add(record.changed, name, record.size)
            self.left.replaced += record.replaced
        if not begun:
            for reason in (*lacking(record.about, self.source), *record.noted):
                self.left.add(reason, name, record.size)
        yield from self._cut(path, name, record, within.part if within and begun else -1)

    def _cut(
        self, path: str, name: str, record: formats.Record, done: int
    ) -> Iterator[tuple[Document, Cursor]]:
        """The parts of a record's text behind the part `done`."""
        said, source = record.about, self.source.name
        whole = hashlib.sha256(record.text.encode("utf-8")).digest()
        origin = said.origin or (f"{self._package.url}#{name}" if self._package else name)
        about = (source, said.licence or self.licence, origin, said.date)
        for part, suffix, text in cutting.cut(name, record.text, self._longest):
            if part > done:
                document = Document(f"{source}/{name}{suffix}", *about, text, part, whole)
                yield document, Cursor(path, record.number, part)

    def _records(
        self, path: str, place: Path | packages.Entry, after: int
    ) -> Iterator[formats.Record]:
        if isinstance(place, packages.Entry):
            assert self._package is not None
            records = self._package.read(place, self.how)
        elif not self.alone and (kind := self.strange(place)):
            records = iter([formats.Record(1, "", "", kind, size=place.stat().st_size)])
        else:
            records = READERS[self.source.format](place, self.how, after)
        return (record for record in records if record.number >= after)

    def strange(self, place: Path) -> str:
        """What a file is that this source's format can make nothing of; "" for all others."""
        kind, asked = recognise.kind_of(place, self.source.name), bool(self.source.include)
        return kind if recognise.strange(kind, self.source.format, self.alone, asked) else ""

    def _is_foreign(self, place: Path | packages.Entry) -> bool:
        """Whether a file that no source takes is of a kind that no reader
        takes: of the first ones alone."""
        if not isinstance(place, Path):
            return False
        if place not in self._foreign and len(self._foreign) < _LOOKED_AT_BESIDE:
            self._foreign[place] = recognise.is_foreign(place, self.source.name)
        return self._foreign.get(place, False)

    def files(self, after: Cursor | None = None) -> Iterator[tuple[str, Path | packages.Entry]]:
        """The files that are read, in the order of their paths as
        UTF-8 bytes, from the cursor's on.

        What the walk leaves out counts as lying before the first file.
        """
        if self._package:
            entries = [(entry.path, entry) for entry in self._package.entries()]
        elif not self.root.is_dir():
            yield self.root.name, self.root  # A file named by itself is read whatever its ending.
            return
        else:
            left_out = self.left if after is None else LeftOut()
            entries = [
                (path, self.root / path) for path in walk(self.root, left_out, self.source.name)
            ]
        begin = os.fsencode(after.file) if after else b""
        paths = [path for path, _ in entries]
        patterns = Patterns(self.source, paths)
        others = [Patterns(one, paths) for one in self._beside]
        for path, place in entries:
            if os.fsencode(path) < begin:
                continue
            reason = patterns.refused(path)
            if reason == "not_included" and not all(other.refused(path) for other in others):
                reason = "elsewhere"
            elif reason == "not_included" and self._is_foreign(place):
                reason = "foreign"
            if reason:
                self.left.add(
                    reason, readable(path), place.stat().st_size if isinstance(place, Path) else 0
                )
            else:
                yield path, place


def walk(root: Path, left_out: LeftOut, source: str) -> list[str]:
    """Every file below root as a '/'-path, sorted by its bytes; links and hidden names are counted.

    Raises NoPermission, SourceUnreadable.
    """
    paths: list[str] = []
    folders = [""]
    while folders:
        prefix = folders.pop()
        with packings.named_refusals(root / prefix, source), os.scandir(root / prefix) as listing:
            for entry in listing:
                _sort_in(entry, prefix + entry.name, paths, folders, left_out)
    return sorted(paths, key=os.fsencode)


def _sort_in(
    entry: os.DirEntry[str], path: str, paths: list[str], folders: list[str], left_out: LeftOut
) -> None:
    if entry.name.startswith("."):
        left_out.add("hidden", readable(path))
    elif entry.is_symlink():
        left_out.add("link", readable(path))
    elif entry.is_dir(follow_symlinks=False):
        folders.append(path + "/")
    elif entry.is_file(follow_symlinks=False):
        paths.append(path)
    else:
        left_out.add("not_a_file", readable(path))


def readable(path: str) -> str:
    """The path as valid Unicode, one to one: bytes that are not UTF-8 as
    \\xff, a backslash doubled."""
    return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def path_of(name: str) -> str | None:
    """The path that reads so; None where none does."""
    if "\\" not in name:
        return name
    content = _ESCAPED.sub(
        lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", name.encode("utf-8")
    )
    path = content.decode("utf-8", "surrogateescape")
    return path if readable(path) == name else None


def readers(recipe: Recipe, folder: Path) -> list[Reader]:
    """One reader per source, in the recipe's order. Relative paths begin at the run folder."""
    data = recipe.data
    rest = (data.invalid_utf8, data.max_document_characters, folder)
    return [Reader(source, *rest, _beside(source, data)) for source in data.sources]


def _beside(source: Source, data: Data) -> list[Source]:
    """The other sources of the same folder: what they take is not left out."""
    if source.format == "package":
        return []
    return [
        source_beside
        for source_beside in data.sources
        if source_beside.path == source.path and source_beside.name != source.name
    ]


def fingerprint(recipe: Recipe, folder: Path) -> str:
    """What changes, most likely, when a source does: the names, sizes and times of
    its files, not where they lie."""
    hashed = hashlib.sha256()
    for reader in readers(recipe, folder):
        hashed.update(f"{reader.source.name}\0".encode())
        for path, place in reader.files():
            if isinstance(place, packages.Entry):
                about = place.sha256
            else:
                status = place.stat()
                about = f"{status.st_size} {status.st_mtime_ns}"
            hashed.update(os.fsencode(path) + f"\0{about}\0".encode())
    return hashed.hexdigest()


def check(recipe: Recipe, folder: Path, named: str = FILE) -> None:
    """Everything about the data that can be known before long work; named:
    where the fields of sources stand.

    Raises SourceMissing, SourceEmpty, FormatForeign, TextKeyMissing, SourceUnreadable,
    NoPermission, PackageMissing, PackageDiffers, RunInsideData, RecipeInvalid for a pattern that
    can take nothing, and for an existing tokenizer TokenizerInvalid and VocabularyTooLarge."""
    tokenizer.check(recipe, folder)
    for reader in readers(recipe, folder):
        _check_source(reader, folder, named)


def check_changed(before: Recipe, after: Recipe, folder: Path) -> None:
    """As `check`, of the sources alone that settings let one recipe read otherwise than the
    other; the path "" looks nowhere."""
    known = [_reading(source) for source in before.data.sources]
    for reader in readers(after, folder):
        if reader.source.path and _reading(reader.source) not in known:
            _check_source(reader, folder, COMMAND_LINE)


def _reading(source: Source) -> tuple[object, ...]:
    """What decides which documents a source gives."""
    keys_named = (source.text_key, *keys_of(source).items())
    return source.name, source.path, source.format, keys_named, source.include, source.exclude


def _check_source(reader: Reader, folder: Path, named: str) -> None:
    source = reader.source
    _check_patterns(source, folder / FILE if named == FILE else named)
    if source.format != "package":
        check_path(source, folder)
    if next(reader.candidates(), None) is None:
        raise empty(reader)
    if source.format != "package":
        _check_content(reader)
    if source.format == "fasta" or source.id_key:
        _check_names(source, list(reader.candidates()))


def _check_names(source: Source, paths: list[str]) -> None:
    """Raises NamesUnclear where records of two files could be called the same: a record of `a` is
    `a:NAME`, and one of `a:b` is `a:b:NAME`."""
    names = {readable(path) for path in paths}
    for name in sorted(names):
        words = name.split(":")
        for count in range(1, len(words)):
            if (other := ":".join(words[:count])) in names:
                exclude = keys.setting(source.name, "exclude", name)
                raise NamesUnclear(source=source.name, path=other, other=name, exclude=exclude)


def _check_patterns(source: Source, named: Path | str) -> None:
    for field in ("include", "exclude"):
        for pattern in getattr(source, field):
            if part := Glob(pattern).empty:
                detail = (
                    f"{pattern} matches no path, as {part} matches no character: begin a range "
                    "at its lower end"
                )
                raise RecipeInvalid(
                    path=named, key=f"data.sources.{source.name}.{field}", detail=detail
                )


def _check_content(reader: Reader) -> None:
    """What the first files are. Raises FormatForeign where all of them are what the
    format's reader does not take."""
    places = list(itertools.islice(reader.places(), _LOOKED_AT))
    kinds = [reader.strange(place) for place in places]
    if all(kinds):
        raise foreign(kinds[0], places[0], reader.source.name)
    if reader.source.format in VALUES:
        fitting = [place for place, kind in zip(places, kinds, strict=True) if not kind]
        if problem := keys.missing(fitting[0], reader.how):
            raise problem


def foreign(kind: str, place: Path, source: str) -> FormatForeign:
    return FormatForeign(
        source=source,
        path=place,
        what=recognise.KINDS[kind].words,
        fix=recognise.fix(kind, place),
    )


def empty(
    reader: Reader, before: Sequence[str] = ()
) -> SourceEmpty | SourceRepeated | TextKeyMissing | FieldMissing:
    """The error of a source that gave no document; before: the sources read before it."""
    source = reader.source
    if before and reader.left.counts["duplicate"]:
        return SourceRepeated(source=source.name, path=source.path, before=", ".join(before))
    if source.format in VALUES and reader.left.counts["no_text"]:
        for place in reader.places():
            if problem := keys.missing(place, reader.how):
                return problem
    dropped, there = describe(reader.left.counts), _wide(reader) or _other_endings(reader)
    return SourceEmpty(
        source=source.name, path=source.path, dropped=dropped, format=source.format, there=there
    )


def _wide(reader: Reader) -> str:
    """The command for the first file that is UTF-16 without saying so, as the end of a message."""
    if not reader.left.counts["binary"] or reader.source.format == "package":
        return ""
    for place in itertools.islice(reader.places(), _LOOKED_AT):
        head = packings.head(place, reader.source.name, recognise.HEAD)
        if name := encodings.unmarked_wide(head):
            program = f"iconv -f {name} -t UTF-8"
            command = recognise.through(program, place, endings.of(place.name) or "txt")
            return (
                f" {place.name} looks like {name} without a byte order mark. Convert it, and give "
                f"the file that this writes: {command}"
            )
    return ""


def _other_endings(reader: Reader) -> str:
    """The setting that takes the files of a folder whose endings the source does
    not, as the end of a message."""
    source = reader.source
    if (
        source.include
        or source.format == "package"
        or reader.alone
        or not reader.left.counts["not_included"]
    ):
        return ""
    names = (PurePath(path).name for path in walk(reader.root, LeftOut(), source.name))
    endings_count = Counter("".join(PurePath(name).suffixes[-1:]) for name in names)
    patterns = [
        f"*{ending}"
        for ending, _ in endings_count.most_common(_TOLD)
        if ending and not set(ending) & set("*?[")
    ]
    if not patterns:
        return ""
    setting = shlex.quote(
        f"data.sources.{source.name}.include={json.dumps(patterns, ensure_ascii=False)}"
    )
    return f" Include the files with other endings: --set {setting}"


def check_path(source: Source, folder: Path) -> None:
    """Raises SourceMissing, NoPermission, and RunInsideData where the
    run would read what it writes."""
    path = folder / source.path
    with packings.named_refusals(path, source.name):
        exists = bool(source.path) and path.exists()
    if not exists:
        raise SourceMissing(
            source=source.name, path=path if source.path else '"" (no path is given)'
        )
    if not path.is_dir() and (detail := file_kinds.unfit(path)):
        raise SourceUnreadable(source=source.name, path=path, detail=detail)
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise NoPermission(action="read", path=path)
    place, run = path.resolve(), folder.resolve()
    own = place.relative_to(run).parts if place.is_relative_to(run) else None
    if run.is_relative_to(place) or (own and own[0] in _OWN):
        raise RunInsideData(source=source.name, path=path, folder=folder)
