"""Arrays in files: mapped from disk, or read page by page from a release behind a URL."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import DiskFull, FormatInvalid
from pellucid.store import files
from pellucid.store.remote import RemotePath
from pellucid.store.served import PAGE


def mapped(path: Path, dtype: np.dtype | str, columns: int | None = None) -> np.ndarray:
    """A file of little-endian numbers, read-only: shape (N,), or (N / columns, columns).

    Behind a URL a Paged, which has what readers use of an array and fetches what they touch. Raises
    FileMissing, FormatInvalid where the size is no multiple of a row's, NoPermission."""
    files.require_file(path)
    kind = np.dtype(dtype)
    shape = _shape(path, kind, columns)
    if isinstance(path, RemotePath):
        return Paged(path, kind, shape)  # type: ignore[return-value]
    with files.open_file(path) as file:
        # A plain view: memmap objects pay for their bookkeeping at every slice. An
        # empty file cannot be mapped.
        flat = np.memmap(file, kind, "r").view(np.ndarray) if shape[0] else np.zeros(0, kind)
    return flat.reshape(shape)


def part(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The rows [start, stop) of what `mapped` gave, still read only where they are asked for."""
    if isinstance(array, Paged):
        return array.part(start, stop)  # type: ignore[return-value]
    return array[start:stop]


def loaded(path: Path, dtype: np.dtype | str, start: int, stop: int) -> np.ndarray:
    """The numbers [start, stop) of a file, read without mapping it, shape (stop - start,)."""
    if isinstance(path, RemotePath):
        return mapped(path, dtype)[start:stop]
    kind = np.dtype(dtype)
    with files.open_file(path) as file, files.named_errors(path, "read"):
        return np.fromfile(file, kind, stop - start, offset=start * kind.itemsize)


def content(path: Path) -> mmap.mmap:
    """All bytes of a file that is not empty, mapped from disk; from a
    URL by way of a nameless file.

    Raises FileMissing, RemoteDiffers, DiskFull.
    """
    if not isinstance(path, RemotePath):
        with files.open_file(path) as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if shutil.disk_usage(tempfile.gettempdir()).free < path.stat().st_size:
        raise DiskFull(path=tempfile.gettempdir())
    with files.named_errors(tempfile.gettempdir()), tempfile.TemporaryFile() as file:
        for piece in path.served.pieces(path.inner):
            file.write(piece)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _shape(path: Path, kind: np.dtype, columns: int | None) -> tuple[int, ...]:
    size, row = path.stat().st_size, kind.itemsize * (columns or 1)
    if size % row:
        raise FormatInvalid(path=path, detail=f"has {size} bytes, which is not a multiple of {row}")
    return (size // row,) if columns is None else (size // row, columns)


class Paged:
    """An array that lies behind a URL. Every index gives an array in memory, but for one whole
    column of a table, which stays there; searchsorted asks for few pages."""

    def __init__(
        self,
        path: RemotePath,
        dtype: np.dtype,
        shape: tuple[int, ...],
        column: int | None = None,
        first: int = 0,
    ) -> None:
        """first: the file's row that is row 0 here."""
        self._path, self._column, self._stored, self._first = path, column, shape, first
        self.dtype, self.shape = dtype, shape[: 1 if column is not None else 2]
        self._row = dtype.itemsize * (shape[1] if len(shape) > 1 else 1)  # Bytes.

    def part(self, start: int, stop: int) -> Paged:
        """The rows [start, stop) as an array of its own."""
        shape = (stop - start, *self._stored[1:])
        return Paged(self._path, self.dtype, shape, self._column, self._first + start)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._rows(0, len(self)), dtype)

    def __getitem__(self, key: Any) -> Any:
        rows, *columns = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, slice):
            if columns and rows == slice(None) and isinstance(columns[0], int | np.integer):
                return Paged(
                    self._path,
                    self.dtype,
                    self._stored,
                    range(self.shape[1])[columns[0]],
                    self._first,
                )
            low, high, step = rows.indices(len(self))
            values = (
                self._rows(low, high)[::step]
                if step > 0
                else self._scattered(np.arange(low, high, step))
            )
            return values[(slice(None), *columns)] if columns else values
        if isinstance(rows, np.ndarray | list):
            rows = np.asarray(rows)
            rows = np.flatnonzero(rows) if rows.dtype == bool else rows
            values = self._scattered(rows.ravel()).reshape(*rows.shape, *self.shape[1:])
            # A second index of numbers is paired with the first, as numpy does it.
            own = np.arange(rows.size).reshape(rows.shape)
            return (
                values.reshape(rows.size, *self.shape[1:])[(own, *columns)] if columns else values
            )
        # Counts from the end below 0, and knows what is out of bounds.
        row = range(len(self))[rows]
        values = self._rows(row, row + 1)[0]
        return values[tuple(columns)] if columns else values

    def sum(self) -> Any:
        return np.asarray(self).sum()

    def searchsorted(self, values: Any, side: str = "left") -> Any:
        """As numpy's, of a column or flat array. Places are guessed from the values around
        (interpolation search), every second time halved: numbers that grow evenly take few
        pages, and any others not many."""
        flat = np.atleast_1d(np.asarray(values, self.dtype))
        places = np.array([self._place(value, side) for value in flat], np.intp)
        return places if np.ndim(values) else places[0]

    def _place(self, value: Any, side: str) -> int:
        low, high, halve = 0, len(self), False
        below, above = (
            self[0] if high else 0,
            self[-1] if high else 0,
        )  # What stands around [low, high), about.
        while (high - low) * self._row > PAGE:
            share = (
                0.5
                if halve or above <= below
                else (int(value) - int(below)) / (int(above) - int(below))
            )
            rows = self._around(
                low + min(max(int(share * (high - low)), 0), high - low - 1), low, high
            )
            block = self._rows(rows.start, rows.stop)
            place = int(block.searchsorted(value, side))  # type: ignore[call-overload]
            if 0 < place < len(block):
                return rows.start + place
            if place:
                low, below = rows.stop, block[-1]
            else:
                high, above = rows.start, block[0]
            halve = not halve
        block = self._rows(low, high)
        return low + int(block.searchsorted(value, side))  # type: ignore[call-overload]

    def _around(self, row: int, low: int, high: int) -> range:
        """The rows that lie in the page in which this one begins, it among them."""
        page = (self._first + row) * self._row // PAGE
        first, stop = (
            place - self._first
            for place in (-(-page * PAGE // self._row), (page + 1) * PAGE // self._row)
        )
        return range(max(first, low), min(max(stop, row + 1), high))

    def _rows(self, low: int, high: int) -> np.ndarray:
        high = max(low, high)
        begin, end = (self._first + low) * self._row, (self._first + high) * self._row
        return self._shaped(self._path.served.read(self._path.inner, begin, end), high - low)

    def _scattered(self, rows: np.ndarray) -> np.ndarray:
        """Rows in any order, their pages fetched together."""
        rows = np.where(rows < 0, rows + len(self), rows)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"a row outside of the {len(self)} of {self._path}")
        if not rows.size:
            return self._shaped(b"", 0)
        firsts = np.unique((self._first + rows) * self._row // PAGE)
        lasts = np.unique(((self._first + rows + 1) * self._row - 1) // PAGE)
        self._path.served.fetch(self._path.inner, np.union1d(firsts, lasts).tolist())
        values = np.concatenate([self._rows(row, row + 1) for row in rows.ravel().tolist()])
        return values.reshape(*rows.shape, *self.shape[1:])

    def _shaped(self, content: bytes, rows: int) -> np.ndarray:
        array = np.frombuffer(content, self.dtype).reshape(rows, *self._stored[1:])
        return array if self._column is None else array[:, self._column]
