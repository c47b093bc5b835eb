"""The manifest of a sealed release, read: the path, size and SHA-256 of every file in it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from pellucid.errors import FormatInvalid, FormatTooNew
from pellucid.store import files, layout

FORMAT = layout.VERSION
MAX_LINE = 16 << 10


class File(NamedTuple):
    path: str
    size: int
    sha256: str


class Manifest(NamedTuple):
    version: int
    run: str
    head: str
    readme: int  # The version of the template that our part of README.md was made by.
    files: list[File]


_FIRST = ["pellucid", "run", "head", "files", "readme"]


def line_of(value: dict[str, Any]) -> bytes:
    """The one spelling of a line."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def read(folder: Path) -> Manifest:
    """The manifest of a release. Raises FormatInvalid, FormatTooNew, PathUnsafe."""
    path = folder / layout.MANIFEST
    with files.open_file(path) as file:
        manifest = parse(file, path)
    for entry in manifest.files:
        files.inside(folder, entry.path, str(path))
    return manifest


def parse(file: BinaryIO, path: Path | str) -> Manifest:
    """A manifest from its lines; path names it in errors. Raises
    FormatInvalid, FormatTooNew, PathUnsafe."""
    running, named, first = hashlib.sha256(), [], None
    line = file.readline(MAX_LINE)
    while following := file.readline(MAX_LINE):
        value = _value(path, line)
        if first is None:
            first = _first(path, value)
        else:
            named.append(_file(path, value))
        running.update(line)
        line = following
    if first is None or _value(path, line) != {"sha256": running.hexdigest()}:
        raise FormatInvalid(path=path, detail="does not end with the SHA-256 of its own lines")
    if [entry.path for entry in named] != sorted({entry.path for entry in named}, key=str.encode):
        raise FormatInvalid(path=path, detail="names a file twice, or out of order")
    if len(named) != first["files"]:
        raise FormatInvalid(
            path=path, detail=f"announces {first['files']} files, but names {len(named)}"
        )
    return Manifest(first["pellucid"], first["run"], first["head"], first["readme"], named)


def _value(path: Path | str, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or line_of(value) != line:  # Nor does a key stand twice.
        raise FormatInvalid(
            path=path, detail="has a line that is not a JSON object in the spelling of a manifest"
        )
    return value


def _first(path: Path | str, value: dict[str, Any]) -> dict[str, Any]:
    version = value.get("pellucid")
    if type(version) is int and version > FORMAT:
        raise FormatTooNew(path=path, found=version, known=FORMAT)
    kinds = [(name, type(field)) for name, field in value.items()]
    if kinds != list(zip(_FIRST, (int, str, str, int, int), strict=True)):
        raise FormatInvalid(path=path, detail=f"does not begin with {', '.join(_FIRST)}")
    if version not in layout.ROOMS:
        raise FormatInvalid(path=path, detail=f"names the format {version}, which does not exist")
    return value


def _file(path: Path | str, value: dict[str, Any]) -> File:
    name, size, sha256 = value.get("path"), value.get("size"), value.get("sha256")
    sound = list(value) == ["path", "size", "sha256"]
    if (
        not sound
        or not isinstance(name, str)
        or type(size) is not int
        or not isinstance(sha256, str)
    ):
        raise FormatInvalid(path=path, detail="has a line whose keys are not path, size and sha256")
    files.parts_of(name, str(path))
    return File(name, size, sha256)
