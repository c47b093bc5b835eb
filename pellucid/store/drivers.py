"""Byte ranges through fsspec's drivers: S3, Google Cloud, Azure and what else is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fsspec

from pellucid.errors import (
    DriverMissing,
    FileMissing,
    FormatInvalid,
    RemoteChanged,
    Unreachable,
    UrlInvalid,
)
from pellucid.store.transport import exactly, scheme


class Driver:
    """A folder behind one of fsspec's drivers, which know their own credentials: `system`, and the
    folder's name there, `root`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        try:
            self.system, self.root = fsspec.url_to_fs(self._url)
        except ImportError as error:
            raise DriverMissing(scheme=scheme(url), detail=error) from error
        except ValueError as error:
            raise UrlInvalid(url=url, detail=error) from error

    def first(self, path: str, limit: int) -> bytes:
        size = self._asked(path, lambda place: self.system.info(place)["size"])
        if type(size) is not int or size > limit:
            raise FormatInvalid(path=f"{self._url}/{path}", detail=f"is larger than {limit} bytes")
        return self.ranges(path, [(0, size)], size)[0] if size else b""

    def ranges(self, path: str, spans: Sequence[tuple[int, int]], size: int) -> list[bytes]:
        return [self._range(path, span) for span in spans]

    def _range(self, path: str, span: tuple[int, int]) -> bytes:
        content = self._asked(
            path, lambda place: self.system.cat_file(place, start=span[0], end=span[1])
        )
        if len(content) < span[1] - span[0]:
            raise RemoteChanged(
                url=f"{self._url}/{path}", detail=f"it has no bytes {span[0]} to {span[1]}"
            )
        return exactly(content, span, f"{self._url}/{path}")

    def _asked(self, path: str, question: Callable[[str], Any]) -> Any:
        address = f"{self._url}/{path}"
        try:
            return question(f"{self.root.rstrip('/')}/{path}")
        except FileNotFoundError as error:
            raise FileMissing(path=address) from error
        except Exception as error:  # Every driver has its own: none of them is known here.
            raise Unreachable(
                url=address, detail=str(error).partition("\n")[0][:200] or type(error).__name__
            ) from error
