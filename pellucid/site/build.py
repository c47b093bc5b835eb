"""Writing the site of a run into its folder: the shell, and every data file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pellucid.data import stage
from pellucid.site import shell
from pellucid.site.data import Site
from pellucid.site.pack import packed
from pellucid.store import files, layout


def write(
    folder: Path,
    rendered: Mapping[str, bytes],
    texts: bool | None,
    progress: stage.Progress = stage.silent,
) -> None:
    """Write site/ as one whole folder, in place of one that is there.

    rendered: the maker's own pages (site/pages.py); texts: whether it holds the texts of the
    documents; None: unless they are large. Raises FormatInvalid, DiskFull."""
    site = Site(folder, texts)
    names = list(site.names())
    site.read_all()
    meter = stage.Meter(progress, "site", "files", 0, len(names))
    with files.whole_folder(folder / layout.SITE) as partial:
        for name, content in shell.files().items():
            files.write_bytes(partial / name, content)
        for name, content in rendered.items():
            _write(partial / "pages" / name, content)
        for name in names:
            content = packed(name, site.pieces(name), site.dictionary(name))
            _write(partial / place_of(name), content)
            site.placed(name, content)
            meter.add(1)
    meter.tell()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, content)


def place_of(name: str) -> str:
    """Where a data file lies in site/: a '/'-path."""
    return f"data/{name}.js"
