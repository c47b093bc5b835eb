"""A folder over HTTP with byte ranges, on this machine: it counts what it sends,
and lies where it is told to."""

from __future__ import annotations

import contextlib
import mimetypes
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote


class Answer(NamedTuple):
    """What the server is about to send. A fault makes another of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int = 0  # Bytes of the body that are announced and never sent.


class Request(NamedTuple):
    path: str  # Below the folder.
    start: int
    stop: int  # Behind the last byte asked for.
    ranged: bool


Fault = Callable[[Request, Answer], Answer]


class Serving(ThreadingHTTPServer):
    """Serves a folder; `requests` and `sent` (bytes of bodies) count
    what was asked since `forget`."""

    daemon_threads = True
    request_queue_size = 64  # A browser connects several times at once.

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.requests: list[Request] = []
        self.sent = 0
        self.fault: Fault = lambda request, answer: answer
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._count = threading.Lock()

    def forget(self) -> None:
        self.requests, self.sent = [], 0

    def count(self, request: Request, sent: int) -> None:
        with self._count:
            self.requests.append(request)
            self.sent += sent


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Serving  # type: ignore[assignment]

    def do_GET(self) -> None:
        path = self.server.folder / unquote(self.path).lstrip("/")
        size = path.stat().st_size if path.is_file() else 0
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(match[1]), min(int(match[2]) + 1, size)) if match else (0, size)
        request = Request(
            path.relative_to(self.server.folder).as_posix(), start, stop, match is not None
        )
        answer = self.server.fault(request, _honest(path, request, size))
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        body = answer.body[: len(answer.body) - answer.cut]
        self.server.count(request, len(body))
        with contextlib.suppress(ConnectionError):  # Whoever asked has heard enough.
            self.wfile.write(body)
        self.close_connection = answer.cut > 0

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def _honest(path: Path, request: Request, size: int) -> Answer:
    if not path.is_file():
        return Answer(404, {}, b"")
    if request.start >= size > 0:
        return Answer(416, {"Content-Range": f"bytes */{size}"}, b"")
    with path.open("rb") as file:
        file.seek(request.start)
        body = file.read(request.stop - request.start)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    about = {"ETag": f'"{path.stat().st_mtime_ns:x}"', "Content-Type": kind}
    if request.ranged:
        return Answer(
            206, about | {"Content-Range": f"bytes {request.start}-{request.stop - 1}/{size}"}, body
        )
    return Answer(200, about, body)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Serving]:
    """The server, running until the block ends."""
    with Serving(folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
