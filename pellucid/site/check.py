"""Checking the site of a release: its shell is one that Pellucid released, and its data are what
the record gives. A page that somebody edited could show anything."""

from __future__ import annotations

import hashlib
import itertools
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pellucid.errors import FormatInvalid
from pellucid.measured import stored
from pellucid.record.verdict import Problem
from pellucid.site import baselines, pages, samples, shell
from pellucid.site.build import place_of
from pellucid.site.data import Site
from pellucid.site.pack import unpacked
from pellucid.store import files, layout

_SHELL_BYTES = 1 << 20  # Of a file.
_TOLD = 100  # Problems that are named each.


class _Way(NamedTuple):
    """How a data file is compared: by how many bytes it may be larger than what is made here."""

    more: int
    agrees: Callable[[list[bytes], list[bytes]], bool]


_EXACT = _Way(0, operator.eq)
_OWN = {  # Of what the record alone does not give to the last bit.
    baselines.NAME: _Way(baselines.MORE, baselines.agrees),
    samples.NAME: _Way(samples.MOST, samples.agrees),
}


def check(folder: Path, sound: bool = True) -> Iterator[Problem]:
    """Every file of the site that is missing, added, edited or not what the record gives. Raises
    FormatInvalid.

    sound: whether data, tables and steps were found right. Else the site's data are not made again,
    which a hostile record can make as long as it likes."""
    place = folder / layout.SITE
    there = set(files.walk(place))
    data = {name for name in there if name.startswith("data/")}
    own = {name for name in there if name.startswith("pages/")}
    digests = {name: _digest(place / name) for name in there - data - own}
    number, version = _most_like(digests)
    problems = itertools.chain(
        _withdrawn(folder, version.schema),
        _shell(digests, number, version),
        _data(folder, data, version.schema) if sound else (),
    )
    yield from itertools.islice(problems, _TOLD)
    if more := sum(1 for _ in problems):
        yield Problem("FileDiffers", layout.SITE, f"has {more:,} more such problems")


def _withdrawn(folder: Path, schema: int) -> Iterator[Problem]:
    """Pages of schema 1 count equal questions of an evaluation as many: with evaluations nobody
    should read them, however old the release says that it is."""
    if schema == 1 and stored.is_there(folder):
        detail = "counts equal questions of evaluations as many, which version 2 does not"
        yield Problem("ShellWithdrawn", layout.SITE, detail)


def _data(folder: Path, data: set[str], schema: int) -> Iterator[Problem]:
    """What differs between the data files and what the record gives for the shell beside them."""
    place = folder / layout.SITE
    # Texts of samples are said: an audit computes them again, and here any fit.
    written = samples.blank if place_of(samples.NAME) in data else None
    site = Site(folder, place_of("texts/00000") in data, written, schema)
    names = {place_of(name): name for name in site.names()}
    site.read_all()
    for path in sorted(data - names.keys()):
        yield Problem("FileAdded", f"{layout.SITE}/{path}", "the record gives no such data file")
    for path, name in names.items():
        if path not in data:
            yield Problem("FileMissing", f"{layout.SITE}/{path}", "is missing from the site")
        elif detail := _wrong(place / path, name, site):
            yield Problem("FileDiffers", f"{layout.SITE}/{path}", detail)


def check_pages(folder: Path) -> Iterator[Problem]:
    """What is invalid in pages/, and every page of the site that is not what pages/ gives. Raises
    PageInvalid."""
    own, place = pages.Pages(folder), folder / layout.SITE_PAGES
    expected = {f"{name}.html": name for name in own.names()}
    if not (folder / layout.SITE).exists():
        for name in expected.values():
            own.render(name)
        return
    there = set(files.walk(place))
    for name in sorted(there | expected.keys()):
        where = f"{layout.SITE_PAGES}/{name}"
        if name not in expected:
            yield Problem("FileAdded", where, f"nothing in {layout.PAGES}/ gives this page")
        elif name not in there:
            yield Problem("FileMissing", where, "is missing from the site")
        elif not _holds(place / name, own.render(expected[name])):
            yield Problem("FileDiffers", where, f"is not what {layout.PAGES}/ gives")


def _holds(path: Path, content: bytes) -> bool:
    files.require_file(path)
    size = path.stat().st_size
    return size == len(content) and files.read_bytes(path, size) == content


def _most_like(digests: dict[str, str]) -> tuple[int, shell.Version]:
    """The released shell that has most of these files."""

    def alike(number: int) -> int:
        return len(digests.items() & shell.known()[number].files.items())

    number = max(shell.known(), key=alike)
    return number, shell.known()[number]


def _shell(digests: dict[str, str], number: int, version: shell.Version) -> Iterator[Problem]:
    """What differs from a version of the shell, and whether nobody should read its pages."""
    if version.withdrawn and digests.items() & version.files.items():
        detail = f"is version {number}, which was withdrawn: {version.withdrawn}"
        yield Problem("ShellWithdrawn", layout.SITE, detail)
    for name in sorted(digests.keys() | version.files.keys()):
        where = f"{layout.SITE}/{name}"
        if name not in digests:
            yield Problem("FileMissing", where, "is missing from the site")
        elif name not in version.files:
            yield Problem("FileAdded", where, f"version {number} of the site has no such file")
        elif digests[name] != version.files[name]:
            detail = f"is not that of version {number}, the most like it that this pellucid knows"
            yield Problem("FileDiffers", where, detail)


def _digest(path: Path) -> str:
    return hashlib.sha256(files.read_bytes(path, _SHELL_BYTES)).hexdigest()


def _wrong(path: Path, name: str, site: Site) -> str:
    """How a data file differs from the pieces that the record gives; empty if it does not."""
    expected = list(site.pieces(name))
    own = _OWN.get(name, _EXACT)
    size = sum(map(len, expected)) + own.more
    try:
        # Base64 of what DEFLATE cannot make smaller, and what stands around each piece.
        content = files.read_bytes(path, 2 * size + 64 * (len(expected) + 2))
        pieces = unpacked(content, name, size, path, site.dictionary(name))
    except FormatInvalid as error:
        return str(error.fields["detail"])
    site.placed(name, content)
    return "" if own.agrees(pieces, expected) else "does not hold what the record gives"
