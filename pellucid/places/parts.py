"""A part of a release, by the names that people give: a file, a folder, or all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pellucid.errors import PartUnknown
from pellucid.store import layout
from pellucid.store.sealed import File


def chosen(files: Iterable[File], only: Sequence[str], url: str) -> list[File]:
    """The files of these names, and those in folders of these names; without a name all. Raises
    PartUnknown for a name of nothing."""
    listed = [file for file in files if file.path != layout.MANIFEST]
    names = [name.strip("/") for name in only]
    for name in names:
        if not any(_is_in(file.path, name) for file in listed):
            raise PartUnknown(name=name, url=url, known=", ".join(tops(listed)))
    return [one for one in listed if not names or any(_is_in(one.path, name) for name in names)]


def tops(files: Iterable[File]) -> list[str]:
    """The folders and files at the top, folders with a slash behind them."""
    return sorted({f"{top}/" if rest else top for top, _, rest in _split(files)})


def _split(files: Iterable[File]) -> Iterable[tuple[str, str, str]]:
    return (file.path.partition("/") for file in files)


def _is_in(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/")
