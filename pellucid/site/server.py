"""A server for the browser of this computer alone: which requests it takes, and how it answers.

Any page on the web can send requests to 127.0.0.1. So a request is refused that names another host
(a name that was pointed here) or comes from another page. RFC 9110; Fetch Metadata."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, NamedTuple

from pellucid.errors import FileMissing, PellucidError, PortUnusable
from pellucid.site import shell

ADDRESS = "127.0.0.1"
JSON = "application/json"
_NAMES = (ADDRESS, "localhost")
_AT_ONCE = 128  # Connections: each has a thread.
_MOMENT = 0.05  # Seconds that a connection beyond those may take of the thread that accepts them.
_HEAD = 10.0  # Seconds until a request's head is there: a byte now and then keeps no thread busy.
_SILENT = 30.0  # Seconds that a connection may take nothing of an answer.
_PIECE = 1 << 18
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; "
    f"script-src 'self' {shell.early_source()}; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Accept-Ranges": "bytes",
}


def _busy() -> bytes:
    body = json.dumps({"error": "too many connections: close some pages of this run"})
    headers = _HEADERS | {
        "Retry-After": "2",
        "Content-Type": JSON,
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(["HTTP/1.1 503 Service Unavailable", *lines, "", body]).encode("ascii")


_BUSY = _busy()


class Answer(NamedTuple):
    """What a path holds."""

    body: BinaryIO
    kind: str  # Of the content, as HTTP names it.
    status: HTTPStatus = HTTPStatus.OK
    location: str = ""


class Refused(Exception):
    """A request without an answer: its status, and why in words."""

    def __init__(self, status: HTTPStatus, words: str) -> None:
        super().__init__(words)
        self.status = status


def as_json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(io.BytesIO(json.dumps(value).encode("ascii")), JSON, status)


Answers = Callable[[str], Answer]  # Of a path, as it was sent.


class Server(ThreadingHTTPServer):
    """Made with a port, 0 for a free one, and what answers. Raises PortUnusable."""

    request_queue_size = _AT_ONCE
    daemon_threads = True
    block_on_close = False  # A connection that waits for a browser keeps no command waiting.

    def __init__(self, port: int, answers: Answers) -> None:
        self.answers = answers
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        try:
            super().__init__((ADDRESS, port), _Request)
        except OSError as error:
            raise PortUnusable(port=port, detail=error.strerror) from error
        own = [name for name in _NAMES if self.server_port == 80]
        self.hosts = {*own, *(f"{name}:{self.server_port}" for name in _NAMES)}
        self.address = f"http://{ADDRESS}:{self.server_port}/"

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer asks the network for a name.
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self._refuse(request)
            return
        try:
            super().process_request(request, client_address)
        except Exception:  # No thread could be started. At Ctrl-C one may have been.
            self._room.release()
            raise

    def _refuse(self, connection: socket.socket) -> None:
        """Answer a connection that is too many, if it asks at once. Its request is read, for to
        close with bytes unread would take the answer back."""
        with contextlib.suppress(OSError):
            connection.settimeout(_MOMENT)
            if connection.recv(_PIECE):
                connection.sendall(_BUSY)
        self.shutdown_request(connection)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if isinstance(error, PellucidError):  # In the middle of a file.
            print(f"pellucid: {str(error)!a}", file=sys.stderr)
        elif not isinstance(error, ConnectionError):  # The browser went away.
            super().handle_error(request, client_address)


class _Incoming(io.RawIOBase):
    """The bytes that a connection sends, until a deadline by the clock. Raises TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if (left := self.deadline - time.monotonic()) <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Request(BaseHTTPRequestHandler):
    """A connection, and its requests one after the other."""

    server: Server  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "pellucid", ""
    timeout = _SILENT
    disable_nagle_algorithm = True  # A small answer is not held back.

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._incoming = _Incoming(self.connection)
        self.rfile = io.BufferedReader(self._incoming)

    def handle_one_request(self) -> None:
        self._incoming.deadline = time.monotonic() + _HEAD
        super().handle_one_request()

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        self.connection.settimeout(_SILENT)
        return parsed

    def do_GET(self) -> None:
        try:
            self._refuse_strangers()
            answer = self.server.answers(self.path.partition("?")[0])
        except Refused as refused:
            answer = as_json({"error": str(refused)}, refused.status)
        except PellucidError as error:
            missing = isinstance(error, FileMissing)
            status = HTTPStatus.NOT_FOUND if missing else HTTPStatus.CONFLICT
            answer = as_json({"error": str(error), "name": error.name}, status)
        except Exception:
            self._send(_failed())
            raise
        self._send(answer)

    do_HEAD = do_GET

    def _not_allowed(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are answered")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _not_allowed

    def _refuse_strangers(self) -> None:
        """Raises Refused for a request that comes from no page of ours and no address bar."""
        # What follows a refused request may be its content: nothing more is read.
        last, self.close_connection = self.close_connection, True
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            raise Refused(HTTPStatus.FORBIDDEN, f"open {self.server.address} by that address")
        origins = self.headers.get_all("Origin") or []
        sites = self.headers.get_all("Sec-Fetch-Site") or []
        foreign = any(origin != f"http://{hosts[0]}" for origin in origins)
        if foreign or any(site not in ("same-origin", "none") for site in sites):
            raise Refused(HTTPStatus.FORBIDDEN, "another page sent this request: type the address")
        sizes = self.headers.get_all("Content-Length") or []
        if "Transfer-Encoding" in self.headers or any(size != "0" for size in sizes):
            raise Refused(HTTPStatus.BAD_REQUEST, "a request to read has no content")
        self.close_connection = last

    def _send(self, answer: Answer) -> None:
        with answer.body as body:
            size = body.seek(0, io.SEEK_END)
            start, stop, status = 0, size, answer.status
            if status == HTTPStatus.OK and (span := _span(self.headers.get("Range", ""), size)):
                start, stop = span
                status = HTTPStatus.PARTIAL_CONTENT
                if start >= stop:
                    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            if status == HTTPStatus.PARTIAL_CONTENT:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            elif status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self.send_header("Content-Range", f"bytes */{size}")
            if answer.location:
                self.send_header("Location", answer.location)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(stop - start))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self._copy(body, start, stop)

    def _copy(self, body: BinaryIO, start: int, stop: int) -> None:
        body.seek(start)
        while start < stop:
            piece = body.read(min(_PIECE, stop - start))
            if not piece:  # A file that has become shorter.
                self.close_connection = True
                return
            self.wfile.write(piece)
            start += len(piece)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What is wrong with a request as a whole. Nothing more is read from its connection."""
        self.close_connection = True
        words = (message or HTTPStatus(code).phrase).encode("ascii", "backslashreplace")
        self.send_response(code)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(words)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(words)

    def log_message(self, format: str, *args: Any) -> None:
        """No line for each request."""


def _failed() -> Answer:
    words = "an error in pellucid: see the terminal"
    return as_json({"error": words}, HTTPStatus.INTERNAL_SERVER_ERROR)


def _span(header: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) that a Range asks for, none where it asks for none that are there.
    None for the whole: also of several ranges, which a server need not know."""
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return start, max(start, min(int(last) + 1, size) if last else size)
