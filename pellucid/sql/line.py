"""What a question's process and whoever asked it say to each other: frames of a
kind and bytes, over two pipes."""

from __future__ import annotations

import struct
import threading
from typing import BinaryIO

from pellucid import errors
from pellucid.errors import PellucidError, QueryLost

JOB = b"J"  # The question, as JSON.
# Bytes of a release behind a URL, which the process itself cannot
# reach: a path and spans, as JSON …
ASKED = b"R"
SERVED = b"C"  # … and those bytes, one span behind the other.
SCHEMA = b"S"  # The answer's columns.
ROWS = b"B"  # Some of its rows, as an Arrow stream.
DONE = b"D"  # How many rows there were, as JSON.
FAULT = b"F"  # A named error, as JSON.
LONGEST = 1 << 30  # Bytes of a frame.

_HEAD = struct.Struct("<cQ")


class Line:
    """One end. Frames may be sent from several threads."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing, self._lock = incoming, outgoing, threading.Lock()

    def send(self, kind: bytes, content: bytes | memoryview) -> None:
        with self._lock:
            self._outgoing.write(_HEAD.pack(kind, len(content)))
            self._outgoing.write(content)
            self._outgoing.flush()

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame. Raises EOFError where the other end is gone, or sends what is none."""
        kind, length = _HEAD.unpack(self._exactly(_HEAD.size))
        if length > LONGEST:
            raise EOFError
        return kind, self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        content = self._incoming.read(length)
        if len(content) < length:
            raise EOFError
        return content


def told(error: PellucidError) -> dict[str, object]:
    """A named error as JSON has it."""
    fields = {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in error.fields.items()
    }
    return {"error": error.name, "fields": fields}


def untold(about: dict[str, object]) -> PellucidError:
    """The error that the other end told of."""
    kind = getattr(errors, str(about.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, PellucidError)):
        return QueryLost(detail=f"it reported {about.get('error')}")
    return kind(**about["fields"])  # type: ignore[arg-type]
