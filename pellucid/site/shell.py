"""The shell of the site: pages, style and scripts that are the same for every run.

A released shell never changes: shells.json holds the SHA-256 of every file of every version, and a
release whose site has any other file is refused. A change of the shell is a new version. A version
that turns out to be wrong stays there, with the reason (`withdrawn`)."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import resources
from string import Template
from typing import NamedTuple

VERSION = 1
# What a page needs besides its own script, which comes last.
_CURVES = ("core.js", "draw.js", "curves.js", "runs.js")
SCRIPTS = {
    "index": _CURVES,
    "timeline": _CURVES,
    "step": ("core.js", "packs.js"),
    "document": ("core.js", "draw.js", "packs.js"),
    "checkpoints": ("core.js", "draw.js"),
    "data": ("core.js", "draw.js", "words.js", "tokens.js"),
    "search": (
        *("core.js", "packs.js", "ranges.js", "words.js", "pieces.js", "find.js", "seams.js"),
        *("hits.js", "finder.js"),
    ),
    "check": ("core.js",),
}
_FIRST = "data/overview.js"  # What every page's own script reads first.
_CURRENT = ' aria-current="page"'
PAGES = {
    "index": "Overview",
    "timeline": "Timeline",
    "step": "Steps",
    "document": "Documents",
    "checkpoints": "Checkpoints",
    "data": "Data",
    "search": "Search",
    "check": "How to check",
}


@cache
def files() -> dict[str, bytes]:
    """Every file of the shell of this version, by its name in site/."""
    pages = {f"{name}.html": _page(name) for name in PAGES}
    own = [f"{name}.js" for name in PAGES]
    shared = [script for scripts in SCRIPTS.values() for script in scripts]
    return pages | {name: _read(name) for name in ("style.css", *shared, *own)}


def _page(name: str) -> bytes:
    links = (
        f'<a href="{other}.html"{_CURRENT if other == name else ""}>{title}</a>'
        for other, title in PAGES.items()
    )
    core, *others = SCRIPTS[name]
    of_page = (core, _FIRST, *others, f"{name}.js")
    # Before they ask for data, nothing is worth drawing.
    scripts = (f'<script src="{script}" defer blocking="render"></script>' for script in of_page)
    filled = template("page.html").substitute(
        title=PAGES[name], links="\n".join(links), scripts="\n".join(scripts)
    )
    return filled.encode("utf-8")


def template(name: str) -> Template:
    return Template(_read(name).decode("utf-8"))


def _read(name: str) -> bytes:
    return resources.files("pellucid.site").joinpath("shell", name).read_bytes()


def digests() -> dict[str, str]:
    """The SHA-256 of every file of this version."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files().items())}


class Version(NamedTuple):
    """A released shell."""

    schema: int  # Of the data that its scripts read.
    files: dict[str, str]  # The SHA-256 of each.
    withdrawn: str = ""  # Why nobody should read its pages; empty for most.


@cache
def known() -> dict[int, Version]:
    """Every version that was ever released."""
    versions = json.loads(_read("shells.json"))
    return {int(number): Version(**version) for number, version in versions.items()}
