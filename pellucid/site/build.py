"""Writing the site of a run into its folder: the shell, and every data file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pellucid.data import stage
from pellucid.site import shell
from pellucid.site.data import Site
from pellucid.site.pack import packed
from pellucid.site.samples import Plan
from pellucid.store import files, layout

_THREADS = 4  # They pack, and wait for the disk.
_WAITING = 16  # Files that are read and not written yet.


def write(
    folder: Path,
    rendered: Mapping[str, bytes],
    texts: bool | None,
    written: Callable[[Plan], list[list[str]]] | None,
    progress: stage.Progress = stage.silent,
) -> None:
    """Write site/ as one whole folder, in place of one that is there.

    rendered: the maker's own pages (site/pages.py); texts: whether it holds the texts of the
    documents; None: unless they are large; written: computes the samples; None: it holds none.
    Raises FormatInvalid, DiskFull, and what `written` raises."""
    site = Site(folder, texts, written)
    names = list(site.names())
    site.read_all()
    meter = stage.Meter(progress, "site", "files", 0, len(names))
    with files.whole_folder(folder / layout.SITE) as partial:
        for name, content in shell.files().items():
            files.write_bytes(partial / name, content)
        for name, content in rendered.items():
            _write(partial / "pages" / name, content)
        for name, content in _made(site, names, partial):
            site.placed(name, content)
            meter.add(1)
    meter.tell()


def _made(site: Site, names: list[str], partial: Path) -> Iterator[tuple[str, bytes]]:
    """Write the data files, and tell of each once it is there. One thread reads and cuts, the
    others pack and write; what follows texts waits for all of them, for it says where they lie."""
    waiting, room = deque[tuple[str, Future[bytes]]](), ""
    with ThreadPoolExecutor(_THREADS) as pool:
        for name in names:
            before, room = room, name.partition("/")[0]
            while len(waiting) > (0 if before == "texts" != room else _WAITING):
                done, future = waiting.popleft()
                yield done, future.result()
            pieces, dictionary = list(site.pieces(name)), site.dictionary(name)
            path = partial / place_of(name)
            waiting.append((name, pool.submit(_pack, path, name, pieces, dictionary)))
        for done, future in waiting:
            yield done, future.result()


def _pack(path: Path, name: str, pieces: list[bytes], dictionary: bytes) -> bytes:
    content = packed(name, pieces, dictionary)
    _write(path, content)
    return content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, content)


def place_of(name: str) -> str:
    """Where a data file lies in site/: a '/'-path."""
    return f"data/{name}.js"
