"""A server that is never silent and never done."""

from __future__ import annotations

import contextlib
import itertools
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pellucid.errors import Unreachable
from pellucid.store import http


@contextlib.contextmanager
def dripping(
    pieces: Callable[[], Iterator[bytes]], pause: float
) -> Iterator[tuple[str, list[int]]]:
    """A server that sends some pieces with a pause between them; its address,
    and an entry for each request."""
    asked: list[int] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked.append(1)
            self.request.recv(65536)
            with contextlib.suppress(OSError):
                for piece in pieces():
                    self.request.sendall(piece)
                    time.sleep(pause)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, block_on_close = True, False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize("where", ["headers", "body", "body, quick at first"])
def test_a_server_that_drips_holds_nobody(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Never silent, never done: the whole answer has its time, and is not asked for again."""
    monkeypatch.setattr(http, "ANSWER", 0.4)
    first = {
        "headers": b"HTTP/1.1 200 OK\r\nX: ",
        "body": HEAD,
        "body, quick at first": HEAD + bytes(4000),
    }[where]
    with dripping(lambda: itertools.chain([first], itertools.repeat(b"x", 2000)), 0.02) as (
        url,
        asked,
    ):
        started = time.monotonic()
        with pytest.raises(Unreachable, match="less than 8 KiB a second"):
            http.Http(url).first("file", 1 << 20)
        assert time.monotonic() - started < 10 and len(asked) == 1


def test_a_slow_server_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER", 0.5)
    with dripping(lambda: itertools.chain([HEAD], itertools.repeat(bytes(5000), 20)), 0.05) as (
        url,
        _,
    ):
        assert len(http.Http(url).first("file", 1 << 20)) == 100000
