"""The numbered files of a release, whose names are on the list by their form alone:
which of them there should be.

A reader that takes all of a folder, as pyarrow.dataset does, would take a stray
one for a part of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data import salts, stage
from pellucid.errors import DataError, FileMissing
from pellucid.release import evaluations
from pellucid.store import layout
from pellucid.trace import build


def strays(folder: Path, paths: Iterable[str]) -> set[str]:
    """Those of a release's files that lie in a folder of parts and that its manifest does not name.

    A folder without a manifest holds nothing but strays. Of one whose manifest cannot be read
    nothing is said: the check that reads it names it."""
    names, unnamed = list(paths), set[str]()
    for place, manifest in _MANIFESTS.items():
        inside = {path for path in names if path.startswith(f"{place}/")}
        try:
            unnamed |= inside - (_named(folder, place, manifest) if inside else set())
        except FileMissing:
            unnamed |= inside
        except DataError:
            continue
    inside = {path for path in names if layout.room_of(path) in _OF_EVALUATIONS}
    return unnamed | evaluations.strays(folder, inside)


class _Manifest(NamedTuple):
    """The kind of a folder's manifest, the key of its list of parts, and the
    files that one of these names."""

    kind: str
    key: str
    files_of: Callable[[Any, Path], Iterator[str]]


def _named(folder: Path, place: str, about: _Manifest) -> set[str]:
    path = folder / place / stage.MANIFEST
    entries = stage.list_in(stage.read_manifest(path, about.kind), about.key, path)
    return {f"{place}/{name}" for entry in entries for name in about.files_of(entry, path)} | {
        f"{place}/{path.name}"
    }


def _documents(entry: Any, path: Path) -> Iterator[str]:
    name = stage.text_in(entry, "file", path)
    yield from (name, salts.name_of(name))  # If the recipe draws them: data/roots.py.


def _shards(entry: Any, path: Path) -> Iterator[str]:
    for key in ("file", "documents_file"):
        yield stage.text_in(entry, key, path)


def _index(entry: Any, path: Path) -> Iterator[str]:
    number, kind = stage.count_in(entry, "number", path), stage.text_in(entry, "kind", path)
    for ending in build.FILES.get(kind, ()):
        yield build.path(path.parent, number, ending).name


_OF_EVALUATIONS = [layout.room_of(path) for path in (layout.EVALUATIONS, layout.examples(1))]
_MANIFESTS = {
    stage.DOCUMENTS: _Manifest("documents", "parts", _documents),
    stage.SHARDS: _Manifest("shards", "parts", _shards),
    layout.TRACE: _Manifest("index", "pieces", _index),
}
