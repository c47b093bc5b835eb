"""The shell of the site: pages, style and scripts that are the same for every run.

A released shell never changes: shells.json holds the SHA-256 of every file of every version, and a
release whose site has any other file is refused. A change of the shell is a new version. A version
that turns out to be wrong stays there, with the reason (`withdrawn`).

A page loads core.js, the overview's data, and one script that is joined of the others, for each
request of a page takes part of the few that a browser sends at once."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from string import Template
from typing import NamedTuple

from pellucid.site import documents, steps

VERSION = 3
# Of what the script of a page is joined, before its own part.
_CURVES = ("draw.js", "curves.js", "runs.js")
SCRIPTS = {
    "index": _CURVES,
    "timeline": _CURVES,
    "step": ("packs.js",),
    "document": ("draw.js", "packs.js"),
    "checkpoints": ("draw.js",),
    "data": ("draw.js", "words.js", "tokens.js"),
    "search": (
        *("packs.js", "ranges.js", "words.js", "pieces.js", "find.js", "seams.js", "hits.js"),
        *("finder.js",),
    ),
    "check": (),
}
_CORE = "core.js"
_FIRST = "data/overview.js"  # What every page's own script reads first.
# Pages that show a pack which their address tells: its folder, and how many steps or documents the
# packs of all but very large runs have.
_PACKS = {"step": ("steps", steps.STEPS), "document": ("documents", documents.DOCUMENTS)}
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
    scripts = {f"{name}.js": _joined(*SCRIPTS[name], f"{name}.js") for name in PAGES}
    return pages | scripts | {name: _read(name) for name in ("style.css", _CORE)}


def _joined(*scripts: str) -> bytes:
    return b"\n".join(map(_read, scripts))


def early() -> str:
    """The one script inside of pages: it asks for their pack before other scripts are there."""
    return _read("early.js").decode("utf-8")


def early_source() -> str:
    """How a policy names that script: by its digest, so that it allows no other."""
    digest = hashlib.sha256(early().encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _page(name: str) -> bytes:
    links = (
        f'<a href="{other}.html"{_CURRENT if other == name else ""}>{title}</a>'
        for other, title in PAGES.items()
    )
    of_page = (_CORE, _FIRST, f"{name}.js")
    asks, source = "", ""
    if name in _PACKS:
        folder, size = _PACKS[name]
        asks = f'<script data-folder="{folder}" data-size="{size}">{early()}</script>\n'
        source = f" {early_source()}"
    # Before they ask for data, nothing is worth drawing.
    scripts = (f'<script src="{script}" defer blocking="render"></script>' for script in of_page)
    filled = template("page.html").substitute(
        title=PAGES[name],
        links="\n".join(links),
        early=asks,
        source=source,
        scripts="\n".join(scripts),
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
