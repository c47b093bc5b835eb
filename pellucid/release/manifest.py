"""The manifest: the path, size and SHA-256 of every file of a release, written when it is sealed.

One JSON object a line. The first names the format, the run and its head, the last the SHA-256 of
all lines before it; between them the files, sorted by path: those that store/layout.py names,
and a check passes no other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from pellucid.errors import FileMissing, FormatInvalid, FormatTooNew, PathUnsafe
from pellucid.record.verdict import Problem
from pellucid.release import parts, readme
from pellucid.store import files, layout, sealed


def write(folder: Path, name: str, head: str) -> int:
    """Write the manifest of what folder holds of a release; returns the number of
    files. Same files, same bytes."""
    paths, _ = listed(folder)
    with ThreadPoolExecutor(2) as pool:
        hashes = list(pool.map(lambda path: files.sha256_file(folder / path), paths))
    first = {
        "pellucid": sealed.FORMAT,
        "run": name,
        "head": head,
        "files": len(paths),
        "readme": readme.VERSION,
    }
    lines = [sealed.line_of(first)]
    for path, sha256 in zip(paths, hashes, strict=True):
        lines.append(
            sealed.line_of({"path": path, "size": (folder / path).stat().st_size, "sha256": sha256})
        )
    content = b"".join(lines)
    last = sealed.line_of({"sha256": hashlib.sha256(content).hexdigest()})
    files.write_bytes(folder / layout.MANIFEST, content + last)
    return len(paths)


def listed(folder: Path) -> tuple[list[str], list[str]]:
    """The files that a manifest names, and what else lies there, strays and empty folders too, a
    folder of nothing else as one. Raises PathUnsafe for a link among the former."""
    paths = [path for path in files.walk(folder) if path != layout.MANIFEST]
    own = [path for path in paths if layout.room_of(path)]
    own = sorted({*own} - parts.strays(folder, own), key=os.fsencode)
    for path in own:
        files.inside(folder, path, str(folder))
    used = {parent for path in own for parent in _parents(path)}
    foreign = {
        next((f"{folder_of}/" for folder_of in _parents(path) if folder_of not in used), path)
        for path in {*paths} - {*own}
    }
    within = tuple(path for path in foreign if path.endswith("/"))
    foreign |= {f"{path}/" for path in files.empty_folders(folder) if not path.startswith(within)}
    return own, sorted(foreign, key=os.fsencode)


def _parents(path: str) -> list[str]:
    """Every folder above a '/'-path, the outermost first."""
    return ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]


def check(folder: Path) -> Iterator[Problem]:
    """Every file of a release that is missing, added, or not the one that was sealed."""
    try:
        manifest = sealed.read(folder)
    except (FormatInvalid, FormatTooNew, PathUnsafe) as error:
        yield Problem(error.name, layout.MANIFEST, str(error))
        return
    named = {file.path for file in manifest.files}
    for path in files.walk(folder):
        if path not in named and path != layout.MANIFEST:
            yield Problem("FileAdded", path, "is not in the manifest")
    for path in files.empty_folders(folder):
        yield Problem("FileAdded", path, "is an empty folder")
    foreign = {
        path
        for path in named
        if layout.room_of(path, manifest.version) is None or path == layout.MANIFEST
    }
    strays = parts.strays(folder, named - foreign)
    for path in sorted(foreign | strays, key=str.encode):
        reason = (
            "no manifest of its folder names it"
            if path in strays
            else "a release has no file of that name"
        )
        yield Problem("FileAdded", path, f"is in the manifest, and {reason}")
    # Nothing is hashed that a release does not have.
    expected = [file for file in manifest.files if file.path not in foreign | strays]
    # Nothing is hashed that has another size; and a file that is linked in
    # several places is read once.
    sound: dict[_Place, list[sealed.File]] = {}
    for file in expected:
        try:
            place = _place(folder / file.path)
        except FileMissing:
            yield Problem("FileMissing", file.path, "is in the manifest, but not in the folder")
        except FormatInvalid as error:
            yield Problem(error.name, file.path, str(error.fields["detail"]))
        else:
            if place.size != file.size:
                yield Problem(
                    "FileDiffers",
                    file.path,
                    f"has {place.size} bytes, but had {file.size} when sealed",
                )
            else:
                sound.setdefault(place, []).append(file)
    with ThreadPoolExecutor(2) as pool:
        hashed = pool.map(lambda linked: files.sha256_file(folder / linked[0].path), sound.values())
        for linked, sha256 in zip(sound.values(), hashed, strict=True):
            for file in linked:
                if sha256 != file.sha256:
                    yield Problem(
                        "FileDiffers", file.path, f"has the SHA-256 {sha256}, not {file.sha256}"
                    )


class _Place(NamedTuple):
    """Where a file's bytes lie on disk."""

    device: int
    inode: int
    size: int


def _place(path: Path) -> _Place:
    files.require_file(path)
    about = path.stat()
    return _Place(about.st_dev, about.st_ino, about.st_size)
