"""Sources: folders, files and packages, read as documents in one fixed order, from any place on.

Every stream yields (document, cursor); reading again from a cursor gives the documents that follow it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pellucid.data import formats, packages, tokenizer
from pellucid.errors import NoPermission, SourceEmpty, SourceMissing
from pellucid.recipe import Recipe, Source


@dataclass(frozen=True, slots=True)
class Document:
    """A text with a stable id, and where it came from. `origin` never holds an absolute path."""

    id: str
    source: str
    licence: str
    origin: str
    text: str


class Cursor(NamedTuple):
    """The place right behind one document: its file, its record's line, its part (0 where uncut)."""

    file: str
    record: int
    part: int


class Patterns:
    """Which '/'-paths a source takes.

    `*`, `?` and `[…]` stay within one name, `**` crosses folders; a pattern without "/" is compared
    with the last name of the path alone. Upper and lower case differ on every system.
    """

    def __init__(self, source: Source) -> None:
        exclude = source.exclude or (packages.EXCLUDED if source.format == "package" else ())
        self._endings = formats.ENDINGS[source.format]
        self._include = [_compiled(pattern) for pattern in source.include]
        self._exclude = [_compiled(pattern) for pattern in exclude]

    def refused(self, path: str) -> str:
        """Why the path is not taken: "not_included", "excluded", or "" where it is."""
        if self._include:
            if not any(pattern.fullmatch(path) for pattern in self._include):
                return "not_included"
        elif not path.endswith(self._endings):
            return "not_included"
        return "excluded" if any(pattern.fullmatch(path) for pattern in self._exclude) else ""


def _compiled(pattern: str) -> re.Pattern[str]:
    if "/" not in pattern:
        pattern = f"**/{pattern}"
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    special = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(special.get(token) or _character(token) for token in tokens), re.DOTALL)


def _character(token: str) -> str:
    if len(token) == 1:
        return re.escape(token)
    inner = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
    return f"(?!/)[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"


class Reader:
    """One source. `dropped` counts, by reason, what lies before the last cursor that was given out."""

    def __init__(self, source: Source, policy: str, longest: int, folder: Path) -> None:
        self.source, self.dropped = source, Counter[str]()
        self._policy, self._longest = policy, longest
        self._patterns = Patterns(source)
        self._package = packages.Package(source) if source.format == "package" else None
        self._root = folder / source.path
        self.licence = source.licence
        if self._package and source.licence == "unknown":
            self.licence = self._package.licence

    def documents(self, after: Cursor | None = None) -> Iterator[tuple[Document, Cursor]]:
        """The documents behind the cursor, all of them where it is None."""
        for path, place in self._files(after):
            within = after if after and path == after.file else None
            for record in self._records(path, place, within.record if within else 0):
                yield from self._parts(path, record, within)

    def candidates(self) -> Iterator[str]:
        """The '/'-paths that would be read. Counts what is left out."""
        return (path for path, _ in self._files(None))

    def _parts(self, path: str, record: formats.Record, within: Cursor | None) -> Iterator[tuple[Document, Cursor]]:
        begun = within is not None and record.number == within.record
        if record.dropped:
            self.dropped[record.dropped] += 1
            return
        if record.replaced and not begun:
            self.dropped["invalid_utf8_replaced"] += 1
        name = _readable(path) + record.name
        done = within.part if within and begun else -1
        for part, suffix, text in cut(name, record.text, self._longest):
            if part > done:
                yield self._document(name, suffix, text), Cursor(path, record.number, part)

    def _document(self, name: str, suffix: str, text: str) -> Document:
        source = self.source.name
        origin = f"{self._package.url}#{name}" if self._package else name
        return Document(f"{source}/{name}{suffix}", source, self.licence, origin, text)

    def _records(self, path: str, place: Path | packages.Entry, after: int) -> Iterator[formats.Record]:
        if isinstance(place, packages.Entry):
            assert self._package is not None
            records = self._package.read(place, self._policy)
        else:
            records = formats.READERS[self.source.format](place, self.source, self._policy, after)
        return (record for record in records if record.number >= after)

    def _files(self, after: Cursor | None) -> Iterator[tuple[str, Path | packages.Entry]]:
        """The files that are read, in the order of their paths as UTF-8 bytes, from the cursor's on.

        What the walk leaves out counts as lying before the first file.
        """
        if self._package:
            entries = [(entry.path, entry) for entry in self._package.entries()]
        elif not self._root.is_dir():
            yield self._root.name, self._root  # A file named by itself is read whatever its ending.
            return
        else:
            left_out = self.dropped if after is None else Counter[str]()
            entries = [(path, self._root / path) for path in _walk(self._root, left_out)]
        begin = os.fsencode(after.file) if after else b""
        for path, place in entries:
            if os.fsencode(path) < begin:
                continue
            reason = self._patterns.refused(path)
            if reason:
                self.dropped[reason] += 1
            else:
                yield path, place


def cut(name: str, text: str, longest: int) -> Iterator[tuple[int, str, str]]:
    """(part, suffix of the id, text) of a document: whole as part 0, or in parts 1, 2, … of so many
    characters. A name that already ends like a part's is numbered too, so that ids stay unique.
    """
    if len(text) <= longest and not re.search(r"#[0-9]+\Z", name):
        yield 0, "", text
        return
    for part, start in enumerate(range(0, len(text), longest), 1):
        yield part, f"#{part}", text[start : start + longest]


def _walk(root: Path, left_out: Counter[str]) -> list[str]:
    """Every file below root as a '/'-path, sorted by its bytes; links and hidden names are counted."""
    found: list[str] = []
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            with os.scandir(root / prefix) as listing:
                for entry in listing:
                    _sort_in(entry, prefix + entry.name, found, folders, left_out)
        except PermissionError as error:
            raise NoPermission(action="read", path=root / prefix) from error
    return sorted(found, key=os.fsencode)


def _sort_in(entry: os.DirEntry[str], path: str, found: list[str], folders: list[str], left_out: Counter[str]) -> None:
    if entry.name.startswith("."):
        left_out["hidden"] += 1
    elif entry.is_symlink():
        left_out["link"] += 1
    elif entry.is_dir(follow_symlinks=False):
        folders.append(path + "/")
    elif entry.is_file(follow_symlinks=False):
        found.append(path)
    else:
        left_out["not_a_file"] += 1


def _readable(path: str) -> str:
    """The path as valid Unicode, one to one: bytes that are not UTF-8 as \\xff, a backslash doubled."""
    return os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def readers(recipe: Recipe, folder: Path) -> list[Reader]:
    """One reader per source, in the recipe's order. Relative paths begin at the run folder."""
    data = recipe.data
    return [Reader(source, data.invalid_utf8, data.max_document_characters, folder) for source in data.sources]


def describe(dropped: Counter[str]) -> str:
    """The drops for a reader: "binary: 2, empty: 1"."""
    return ", ".join(f"{reason}: {dropped[reason]}" for reason in sorted(dropped)) or "nothing was found"


def check(recipe: Recipe, folder: Path) -> None:
    """Everything about the data that can be known before long work.

    Raises SourceMissing, SourceEmpty, NoPermission, PackageMissing, PackageDiffers, and for an
    existing tokenizer TokenizerInvalid and VocabularyTooLarge.
    """
    tokenizer.check(recipe, folder)
    for reader in readers(recipe, folder):
        source = reader.source
        if source.format != "package":
            _check_path(source, folder / source.path)
        if next(reader.candidates(), None) is None:
            dropped = describe(reader.dropped)
            raise SourceEmpty(source=source.name, path=source.path, dropped=dropped, format=source.format)


def _check_path(source: Source, path: Path) -> None:
    try:
        exists = bool(source.path) and path.exists()
    except PermissionError as error:
        raise NoPermission(action="read", path=path) from error
    if not exists:
        raise SourceMissing(source=source.name, path=path if source.path else '"" (no path is given)')
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise NoPermission(action="read", path=path)


def guess(path: str) -> dict[str, str]:
    """Name, format and path of a source from the command line's word for it.

    "package:NAME[==VERSION]", "FORMAT:PATH", or a path whose endings tell the format.
    """
    if path.startswith(packages.PREFIX):
        name, _ = packages.spelling(path, path)
        return {"name": _clean(name), "format": "package", "path": path}
    prefix, colon, rest = path.partition(":")
    if colon and prefix in formats.READERS:
        return {"name": _clean(Path(rest).resolve().name), "format": prefix, "path": rest}
    return {"name": _clean(Path(path).resolve().name), "format": _format_of(Path(path)), "path": path}


def _format_of(path: Path) -> str:
    """By a file's ending, or by what most of a folder's first thousand files end in; text in doubt."""
    names = [path.name]
    if path.is_dir():
        names = [name.rsplit("/", 1)[-1] for name in _walk(path, Counter())[:1000]]
    votes = Counter(_format_of_name(name) for name in names)
    return max(("text", "jsonl", "fasta", "lines"), key=lambda format: votes[format])


def _format_of_name(name: str) -> str:
    if name.endswith((".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".json.zst", ".ndjson.gz")):
        return "jsonl"
    if name.endswith((".smi", ".smiles", ".lines", ".txt.gz", ".txt.zst", ".smi.gz", ".smi.zst")):
        return "lines"
    return "fasta" if name.endswith(formats.ENDINGS["fasta"]) else "text"


def _clean(name: str) -> str:
    """The nearest name that a recipe takes: its first letters up to a dot, without odd characters."""
    stem = name.split(".", 1)[0] or name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64] or "source"
