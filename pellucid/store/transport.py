"""How the bytes of a remote folder are asked for: what every way of getting them has in common."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from pellucid.errors import AnswerInvalid

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://[^/\s]+.*", re.DOTALL)


class Transport(Protocol):
    """A remote folder. Paths are relative, with '/'. What it answers is
    not trusted by those who ask."""

    def first(self, path: str, limit: int) -> bytes:
        """A whole file whose size nobody knows yet. Raises FileMissing,
        FormatInvalid over limit, Unreachable."""
        ...

    def ranges(self, path: str, spans: Sequence[tuple[int, int]], size: int) -> list[bytes]:
        """The bytes [start, stop) of a file of `size` bytes, for each span
        exactly as many as it is long.

        Raises FileMissing, RangesMissing, RemoteChanged, AnswerInvalid, Unreachable.
        """
        ...


def scheme(text: str) -> str | None:
    """ "https" of a URL; None for a path."""
    match = _URL.fullmatch(text)
    return match.group(1) if match else None


def exactly(content: bytes, span: tuple[int, int], where: str) -> bytes:
    """The content, if it is as long as the span asked for. Raises AnswerInvalid."""
    if len(content) != span[1] - span[0]:
        detail = f"sends not as many bytes as asked for ({span[0]} to {span[1]})"
        raise AnswerInvalid(url=where, detail=detail)
    return content
