"""A sealed release behind a URL: which files there are, as its manifest says,
and their bytes, page by page.

A file of at most SMALL bytes, and one that is asked for as a whole, is held against the
manifest's SHA-256. What is read by ranges is not: it has the size that the manifest says, and
whatever the ledger or a root binds."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

from pellucid.errors import FileMissing, FormatInvalid, ReleaseMissing, RemoteDiffers
from pellucid.store import layout, sealed
from pellucid.store.transport import Transport

PAGE = 4096  # Bytes: what a random read costs; more would move more, less would ask more often.
SMALL = 32 << 10  # Bytes: a file up to this is read at once.
DIRECT = 1 << 20  # Bytes: a longer read passes the pages by.
PIECE = 8 << 20  # Bytes in one answer.
KEPT = 64 << 20  # Bytes of pages in memory.
MANIFEST = 64 << 20  # Bytes: half a million files.
LARGEST = 1 << 44  # Bytes of a file that anybody would believe.


class Served:
    """Made with the release's address, to name it in errors, and the way to it. Raises
    ReleaseMissing, and what the transport and the manifest raise."""

    def __init__(self, url: str, transport: Transport) -> None:
        self.url = url.rstrip("/")
        self._transport = transport
        self._pages: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._held = 0
        self._lock = threading.RLock()  # Parquet is read from threads of its own.
        self.files, self._folders = {}, {"": set[str]()}
        content = self._manifest()
        for file in sealed.parse(io.BytesIO(content), self.where(layout.MANIFEST)).files:
            self._add(file)
        self._add(sealed.File(layout.MANIFEST, len(content), hashlib.sha256(content).hexdigest()))
        self._keep((layout.MANIFEST, -1), content)

    def _manifest(self) -> bytes:
        try:
            return self._transport.first(layout.MANIFEST, MANIFEST)
        except FileMissing as error:
            raise ReleaseMissing(url=self.url) from error

    def _add(self, file: sealed.File) -> None:
        if not 0 <= file.size <= LARGEST:
            raise FormatInvalid(
                path=self.where(layout.MANIFEST),
                detail=f"says that {file.path} has {file.size} bytes",
            )
        self.files[file.path] = file
        inner = file.path
        while inner:
            folder, _, name = inner.rpartition("/")
            self._folders.setdefault(folder, set()).add(name)
            inner = folder

    def where(self, path: str) -> str:
        """The address of a file, for errors."""
        return f"{self.url}/{path}" if path else self.url

    def folder(self, path: str) -> set[str] | None:
        """The names in a folder; None where there is none."""
        return self._folders.get(path)

    def size(self, path: str) -> int:
        """Raises FileMissing for a path that the manifest does not name."""
        if path not in self.files:
            raise FileMissing(path=self.where(path))
        return self.files[path].size

    def read(self, path: str, start: int, stop: int) -> bytes:
        """The bytes [start, stop) of a file, as many of them as it has. Raises RemoteDiffers,
        and what the transport raises."""
        size = self.size(path)
        start, stop = min(max(start, 0), size), min(stop, size)
        if stop <= start:
            return b""
        if (start, stop) == (0, size) or size <= SMALL:
            return self._whole(path)[start:stop]
        if stop - start > DIRECT:
            return b"".join(self._pieces(path, start, stop))
        low = start // PAGE
        pages = self._ready(path, range(low, (stop - 1) // PAGE + 1))
        return b"".join(pages.values())[start - low * PAGE : stop - low * PAGE]

    def spans(self, path: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several of read's answers, what is missing asked for together."""
        short = [(start, stop) for start, stop in spans if stop - start <= DIRECT]
        self.fetch(
            path,
            [
                number
                for start, stop in short
                for number in range(start // PAGE, (stop - 1) // PAGE + 1)
            ],
        )
        return [self.read(path, start, stop) for start, stop in spans]

    def fetch(self, path: str, numbers: Iterable[int]) -> None:
        """Have those pages of a file ready, for reads that follow."""
        if self.size(path) > SMALL:
            self._ready(path, numbers)

    def _ready(self, path: str, numbers: Iterable[int]) -> dict[int, bytes]:
        """Those pages of a file, the missing ones asked for together."""
        size = self.size(path)
        with self._lock:
            requested = list(numbers)
            pages = {
                number: self._pages[path, number]
                for number in requested
                if (path, number) in self._pages
            }
            runs = list(_runs(sorted({*requested} - pages.keys())))
            spans = [(first * PAGE, min((last + 1) * PAGE, size)) for first, last in runs]
            for (first, _), content in zip(
                runs, self._transport.ranges(path, spans, size), strict=True
            ):
                for offset in range(0, len(content), PAGE):
                    number = first + offset // PAGE
                    pages[number] = content[offset : offset + PAGE]
            for number in requested:
                self._keep((path, number), pages[number])
        return {number: pages[number] for number in requested}

    def pieces(self, path: str) -> Iterator[bytes]:
        """A whole file piece by piece; only when the last is out is it known to be the manifest's.

        Raises RemoteDiffers at the end.
        """
        running = hashlib.sha256()
        for content in self._pieces(path, 0, self.size(path)):
            running.update(content)
            yield content
        if running.hexdigest() != self.files[path].sha256:
            raise RemoteDiffers(
                url=self.where(path), found=running.hexdigest(), expected=self.files[path].sha256
            )

    def _whole(self, path: str) -> bytes:
        with self._lock:
            content = self._pages.get((path, -1))
            if content is None:
                content = b"".join(self.pieces(path))
            self._keep((path, -1), content)
            return content

    def _pieces(self, path: str, start: int, stop: int) -> Iterator[bytes]:
        size = self.size(path)
        for first in range(start, stop, PIECE):
            yield self._transport.ranges(path, [(first, min(first + PIECE, stop))], size)[0]

    def _keep(self, key: tuple[str, int], content: bytes) -> None:
        """Hold content as the one used last; those used longest ago go."""
        self._held += len(content) - len(self._pages.pop(key, b""))
        self._pages[key] = content
        while self._held > KEPT and len(self._pages) > 1:
            _, evicted = self._pages.popitem(last=False)
            self._held -= len(evicted)


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of every run of neighbours, none longer than one direct read."""
    longest, first = DIRECT // PAGE, None
    for place, number in enumerate(numbers):
        first = number if first is None else first
        if (
            place + 1 == len(numbers)
            or numbers[place + 1] != number + 1
            or number + 1 - first == longest
        ):
            yield first, number
            first = None
