"""Writing the site of a run into its folder: the shell, and every data file."""

from __future__ import annotations

from pathlib import Path

from pellucid.data import stage
from pellucid.site import pages, shell
from pellucid.site.data import Site
from pellucid.site.pack import packed
from pellucid.store import files, layout


def write(folder: Path, texts: bool | None, progress: stage.Progress = stage.silent) -> None:
    """Write site/ as one whole folder, in place of one that is there. texts: whether it holds the
    texts; None: unless they are large. Raises FormatInvalid, PageInvalid, DiskFull."""
    site = Site(folder, texts)
    names = list(site.names())
    site.read_all()
    meter = stage.Meter(progress, "site", "files", 0, len(names))
    with files.whole_folder(folder / layout.SITE) as partial:
        for name, content in shell.files().items():
            files.write_bytes(partial / name, content)
        for name in names:
            path = partial / place_of(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            content = packed(name, site.pieces(name))
            files.write_bytes(path, content)
            site.placed(name, content)
            meter.add(1)
        for name, content in pages.rendered(folder):
            path = partial / "pages" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, content)
    meter.tell()


def place_of(name: str) -> str:
    """Where a data file lies in site/: a '/'-path."""
    return f"data/{name}.js"
