"""The manifest: the path, size and SHA-256 of every file of a release, written when it is sealed.

One JSON object a line. The first names the format, the run and its head, the last the SHA-256 of all
lines before it; between them the files, sorted by path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import FormatInvalid, FormatTooNew, PathUnsafe
from pellucid.record.verdict import Problem
from pellucid.store import files, layout

FORMAT = 1
MAX_LINE = 16 << 10


class File(NamedTuple):
    path: str
    size: int
    sha256: str


class Manifest(NamedTuple):
    head: str
    files: list[File]


def write(folder: Path, name: str, head: str) -> int:
    """Write the manifest of everything in folder; returns the number of files. Same files, same bytes."""
    paths = listed(folder)
    with ThreadPoolExecutor(2) as pool:
        hashes = list(pool.map(lambda path: files.sha256_file(folder / path), paths))
    lines = [_line({"pellucid": FORMAT, "run": name, "head": head, "files": len(paths)})]
    for path, sha256 in zip(paths, hashes, strict=True):
        lines.append(_line({"path": path, "size": (folder / path).stat().st_size, "sha256": sha256}))
    content = b"".join(lines)
    files.write_bytes(folder / layout.MANIFEST, content + _line({"sha256": hashlib.sha256(content).hexdigest()}))
    return len(paths)


def listed(folder: Path) -> list[str]:
    """The files a manifest would name. Raises PathUnsafe for a link or a name that no reader would take."""
    paths = [path for path in files.walk(folder) if path != layout.MANIFEST]
    for path in paths:
        files.inside(folder, path, str(folder))
    return paths


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def read(folder: Path) -> Manifest:
    """The manifest of a release. Raises FormatInvalid, FormatTooNew, PathUnsafe."""
    path = folder / layout.MANIFEST
    running, named, first = hashlib.sha256(), [], None
    with files.open_file(path) as file:
        line = file.readline(MAX_LINE)
        while following := file.readline(MAX_LINE):
            value = _value(path, line)
            if first is None:
                first = _first(path, value)
            else:
                named.append(_file(folder, path, value))
            running.update(line)
            line = following
    if first is None or _value(path, line) != {"sha256": running.hexdigest()}:
        raise FormatInvalid(path=path, detail="does not end with the SHA-256 of its own lines")
    if [one.path for one in named] != sorted({one.path for one in named}, key=str.encode):
        raise FormatInvalid(path=path, detail="names a file twice, or out of order")
    if len(named) != first["files"]:
        raise FormatInvalid(path=path, detail=f"announces {first['files']} files and names {len(named)}")
    return Manifest(first["head"], named)


def _value(path: Path, line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not line.endswith(b"\n"):
        raise FormatInvalid(path=path, detail="has a line that is not a JSON object")
    return value


def _first(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    version = value.get("pellucid")
    if type(version) is not int or type(value.get("files")) is not int or not isinstance(value.get("head"), str):
        raise FormatInvalid(path=path, detail="does not begin with its format, head and number of files")
    if version > FORMAT:
        raise FormatTooNew(path=path, found=version, known=FORMAT)
    return value


def _file(folder: Path, path: Path, value: dict[str, Any]) -> File:
    name, size, sha256 = value.get("path"), value.get("size"), value.get("sha256")
    if not isinstance(name, str) or type(size) is not int or not isinstance(sha256, str):
        raise FormatInvalid(path=path, detail="has a line without path, size and sha256")
    files.inside(folder, name, str(path))
    return File(name, size, sha256)


def check(folder: Path) -> Iterator[Problem]:
    """Every file of a release that is missing, added, or not the one that was sealed."""
    try:
        manifest = read(folder)
    except (FormatInvalid, FormatTooNew, PathUnsafe) as error:
        yield Problem(error.name, layout.MANIFEST, str(error))
        return
    named = {one.path for one in manifest.files}
    for path in files.walk(folder):
        if path not in named and path != layout.MANIFEST:
            yield Problem("FileAdded", path, "is not in the manifest")
    # A file that is linked in several places is read once.
    places = {one.path: _place(folder / one.path) for one in manifest.files}
    unique = {place: path for path, place in places.items() if place}
    with ThreadPoolExecutor(2) as pool:
        hashed = pool.map(lambda path: files.sha256_file(folder / path), unique.values())
        sha256 = dict(zip(unique, hashed, strict=True))
    for one in manifest.files:
        place = places[one.path]
        if place is None:
            yield Problem("FileMissing", one.path, "is in the manifest and not in the folder")
        elif place.size != one.size:
            yield Problem("FileDiffers", one.path, f"is {place.size} bytes long, and was {one.size} when sealed")
        elif sha256[place] != one.sha256:
            yield Problem("FileDiffers", one.path, f"has the SHA-256 {sha256[place]}, not {one.sha256}")


class _Place(NamedTuple):
    """Where a file's bytes lie on disk."""

    device: int
    inode: int
    size: int


def _place(path: Path) -> _Place | None:
    if not path.is_file():
        return None
    about = path.stat()
    return _Place(about.st_dev, about.st_ino, about.st_size)
