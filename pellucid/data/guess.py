"""Sources from the command line's words: name, format and path, by endings
and by what is in the files."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pellucid.data import endings, keys, packages, packings, recognise, shown, sources
from pellucid.data.readers import READERS
from pellucid.data.reasons import LeftOut
from pellucid.data.tables import VALUES
from pellucid.errors import CommandInvalid, FormatForeign
from pellucid.recipe import Source
from pellucid.store.home import is_url

# Files of a folder whose content is looked at, where their endings leave their format open.
_LOOKED_AT = 200
_OPEN = ("json", "txt", "")  # Endings of several formats.
_LEAST_SHARE, _LEAST_BYTES = 0.01, 16 << 10  # Of a folder that a format must have to be a source.
_BY_ENDING = {
    "jsonl": "jsonl", "ndjson": "jsonl", "smi": "lines", "smiles": "lines", "lines": "lines",
    **dict.fromkeys(endings.WORDS["fasta"].split(), "fasta"),
}  # fmt: skip


_UNPACK_FIX, _CONVERT_FIX = (
    "Unpack it and give the folder.",
    "Convert it to text and give the new file.",
)
_CLOSED = {  # Endings of files that hold texts in a way that no reader takes, or none.
    **dict.fromkeys(("zip", "tar", "tgz", "7z", "rar"), ("an archive", _UNPACK_FIX)),
    **dict.fromkeys(
        ("pdf", "doc", "docx", "odt", "epub", "rtf", "pptx", "xlsx"),
        ("a formatted document", _CONVERT_FIX),
    ),
    **dict.fromkeys(("png", "jpg", "jpeg", "gif", "webp", "tiff"), ("a picture", _CONVERT_FIX)),
}


class Guess(NamedTuple):
    name: str
    format: str
    path: str
    text_key: str = ""  # Of records, where it is not "text".


def guess(word: str) -> list[Guess]:
    """The sources that a word means: "package:NAME[==VERSION]", "FORMAT:PATH", or a path. A folder
    with files of several formats is one source for each.

    Raises CommandInvalid, RecipeInvalid, SourceUnreadable, NoPermission, and FormatForeign where
    nothing but files of formats that no reader takes is there."""
    if word.startswith(packages.PREFIX):
        name, _ = packages.spelling(word, word)
        return [Guess(clean(name), "package", word)]
    prefix, colon, rest = word.partition(":")
    if (is_url(word) or is_url(rest)) and not Path(word).exists():
        raise CommandInvalid(
            verb="new",
            word=word,
            detail="addresses are not read: download the file, and give its path",
        )
    path = Path(rest if colon and prefix in READERS else word)
    name = clean(path.name)
    with packings.named_refusals(path, name):
        name = clean(path.resolve().name)
        is_prefix = colon and path == Path(word) and re.fullmatch("[A-Za-z_]{2,12}", prefix)
        if is_prefix and not path.exists() and Path(rest).exists():
            known = ", ".join(READERS)
            raise CommandInvalid(
                verb="new", word=word, detail=f"{prefix} is not a format of pellucid; use {known}"
            )
        path.is_dir()
    if path != Path(word):
        return [_with_key(Guess(name, prefix, str(rest)), path)]
    if not path.is_dir():
        return [_with_key(Guess(name, _format_of_file(path, name), word), path)]
    formats = _formats_of_folder(path, name)
    names = [name] + [f"{name}-{format}"[:64] for format in formats[1:]]
    named = zip(names, formats, strict=True)
    return [_with_key(Guess(its_name, format, word), path) for its_name, format in named]


def _format_of_file(path: Path, name: str) -> str:
    """By what is in it, else by its ending; text in doubt. Raises
    FormatForeign, SourceUnreadable."""
    if path.is_file() and (ending := endings.of(path.name)) in _CLOSED:
        what, fix = _CLOSED[ending]
        raise FormatForeign(source=name, path=path, what=what, fix=fix)
    kind = recognise.kind_of(path, name) if path.is_file() else ""
    if kind in recognise.READ_AS:
        return recognise.READ_AS[kind]
    if kind and kind != "json_object":
        raise sources.foreign(kind, path, name)
    return _BY_ENDING.get(endings.of(path.name), "text")


def _formats_of_folder(path: Path, name: str) -> list[str]:
    """The formats of the folder's files, the one with the most bytes first."""
    sizes, foreign = look(path, name)
    if foreign and not sizes:
        kind, place = foreign[0]
        if kind in recognise.TABLES:
            return [recognise.READ_AS[kind]]
        raise sources.foreign(kind, place, name)
    total = sum(sizes.values())
    ordered = [format for format, _ in sizes.most_common()] or ["text"]
    return [
        format
        for place, format in enumerate(ordered)
        if not place or (sizes[format] >= _LEAST_BYTES and sizes[format] >= _LEAST_SHARE * total)
    ]


def look(path: Path, name: str) -> tuple[Counter[str], list[tuple[str, Path]]]:
    """A folder's bytes by format, and the kinds and places of what no reader takes, or the one of
    its ending does not. Raises SourceUnreadable."""
    sizes, looked = Counter[str](), 0
    foreign: list[tuple[str, Path]] = []
    for inner in sources.walk(path, LeftOut(), name):
        place, ending = path / inner, endings.of(inner)
        format = _BY_ENDING.get(ending, "text" if endings.fits(inner, "text") else "")
        if looked < _LOOKED_AT and (ending in _OPEN or not format or ending in ("csv", "tsv")):
            looked += 1
            kind = recognise.kind_of(place, name)
            if kind == "json_lines" and ending == "json":
                format = "jsonl"
            elif recognise.could_be_read(kind) or (
                kind and format == "text" and recognise.strange(kind, format, False)
            ):
                foreign.append((kind, place))
                continue
        if format:
            sizes[format] += place.stat().st_size
    return sizes, foreign


def _with_key(one: Guess, path: Path) -> Guess:
    """The key of records whose text stands elsewhere, where its name tells it."""
    if one.format not in VALUES or not path.exists():
        return one
    source = Source.model_validate({"name": one.name, "path": str(path), "format": one.format})
    reader = sources.Reader(source, "replace", 10**6, Path())
    place = next((place for place in reader.places() if not reader.strange(place)), None)
    there = shown.found(place, reader.how) if place else None
    key = "" if there is None or there.counts["text"] else keys.usual_of(there)
    return one._replace(text_key=key)


def clean(name: str) -> str:
    """The nearest name that a recipe takes: its first letters up to a
    dot, without odd characters."""
    stem = name.split(".", 1)[0] or name
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:64] or "source"
