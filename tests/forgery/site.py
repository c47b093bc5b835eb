"""Forgeries of a release's site: the record is right, and what a browser shows of it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pellucid.release.publish import publish
from pellucid.site.data import Site
from pellucid.site.pack import canonical, packed, unpacked
from pellucid.store import layout

Make = Callable[[Path, Path], None]
Change = Callable[[bytes], bytes]
_MOST = 1 << 24  # Bytes of a data file's pieces.
_PAGE = "---\ntitle: About\n---\nWe trained it on public texts.\n"


def file(name: str, change: Change) -> Make:
    """A file of the site changed, of a release with a page of its maker."""

    def make(honest: Path, folder: Path) -> None:
        shutil.copytree(honest, folder)
        (folder / layout.PAGES).mkdir()
        (folder / layout.PAGES / "about.md").write_text(_PAGE, encoding="utf-8")
        publish(folder)
        path = folder / layout.SITE / name
        content = path.read_bytes() if path.exists() else b""
        changed = change(content)
        assert changed != content
        path.write_bytes(changed)

    return make


def replaced(before: bytes, after: bytes) -> Change:
    return lambda content: content.replace(before, after)


def pieces(name: str, change: Change) -> Make:
    """The first piece of a data file changed, in the one form of such a file."""

    def make(honest: Path, folder: Path) -> None:
        behind = Site(honest).dictionary(name)

        def changed(content: bytes) -> bytes:
            first, *others = unpacked(content, name, _MOST, name, behind)
            return packed(name, [change(first), *others], behind)

        file(f"data/{name}.js", changed)(honest, folder)

    return make


def value(name: str, change: Callable[[Any], object]) -> Make:
    """The JSON of a data file changed in place."""

    def changed(piece: bytes) -> bytes:
        held = json.loads(piece)
        change(held)
        return canonical(held)

    return pieces(name, changed)


def better_loss(curve: Any) -> None:
    curve["series"]["loss"][6] *= 0.9


def more_tokens(overview: Any) -> None:
    overview["tokens"] = str(10 * int(overview["tokens"]))


def worse_gzip(baselines: Any) -> None:
    baselines["gzip"] = baselines["gzip"] * 11 // 10
