"""A server that is never silent and never done, and addresses that are none."""

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
from tests.serving import Answer, Serving


@contextlib.contextmanager
def dripping(
    pieces: Callable[[], Iterator[bytes]], pause: float
) -> Iterator[tuple[str, list[int]]]:
    """A server that sends some pieces with a pause between them; its address,
    and an entry for each request."""
    requests: list[int] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            requests.append(1)
            self.request.recv(65536)
            with contextlib.suppress(OSError):
                for piece in pieces():
                    self.request.sendall(piece)
                    time.sleep(pause)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, block_on_close = True, False

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
        server.shutdown()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize("place", ["headers", "body", "body, quick at first"])
def test_a_server_that_drips_holds_nobody(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Never silent, never done: the whole answer has its time, and is not asked for again."""
    monkeypatch.setattr(http, "ANSWER", 0.4)
    first = {
        "headers": b"HTTP/1.1 200 OK\r\nX: ",
        "body": HEAD,
        "body, quick at first": HEAD + bytes(4000),
    }[place]
    with dripping(lambda: itertools.chain([first], itertools.repeat(b"x", 2000)), 0.02) as (
        url,
        requests,
    ):
        started = time.monotonic()
        with pytest.raises(Unreachable, match="less than 8 KiB a second"):
            http.Http(url).first("file", 1 << 20)
        assert time.monotonic() - started < 10 and len(requests) == 1


def test_a_slow_server_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER", 0.5)
    with dripping(lambda: itertools.chain([HEAD], itertools.repeat(bytes(5000), 20)), 0.05) as (
        url,
        _,
    ):
        assert len(http.Http(url).first("file", 1 << 20)) == 100000


def test_silence_after_a_byte_takes_one_budget_of_all_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "SILENT", 0.4)
    monkeypatch.setattr(http, "ANSWER", 1.0)
    monkeypatch.setattr(http, "PAUSE", 0.001)
    pieces = lambda: itertools.chain([HEAD, b"x"], itertools.repeat(b"", 200))  # noqa: E731
    with dripping(pieces, 0.05) as (url, requests):
        started = time.monotonic()
        with pytest.raises(Unreachable, match="2 times"):
            http.Http(url).first("file", 1 << 20)
        assert time.monotonic() - started < 1.5 and len(requests) == 3  # Four would take 1.6 s.


def test_a_server_that_drips_just_fast_enough_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER", 0.3)
    monkeypatch.setattr(http, "LONGEST", 0.8)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 60000000\r\n\r\n"
    with dripping(lambda: itertools.chain([head], itertools.repeat(bytes(2000), 300)), 0.02) as (
        url,
        requests,
    ):
        with pytest.raises(Unreachable, match="minutes for one answer"):
            http.Http(url).first("file", 64 << 20)
        assert len(requests) == 1


NOT_ADDRESSES = ("a..b", ".a", "xn--a", "xn--", "a" * 70, "127.0.0.1:99999", "[::1", "x:y")


@pytest.mark.parametrize("host", NOT_ADDRESSES)
def test_an_address_that_is_none_is_named(host: str) -> None:
    with pytest.raises(Unreachable, match="address"):
        http.Http(f"http://{host}/").first("file", 100)


@pytest.mark.parametrize(
    "place",
    [
        *(f"http://{host}/" for host in NOT_ADDRESSES),
        *("ht\x1b]0;x\x07tp://\x1b[31m", "http://\xff\xfe/", "http:///x", "data:,\x1b[31m"),
    ],
)
def test_a_redirect_to_no_address_is_named(server: Serving, place: str) -> None:
    server.fault = lambda request, honest: Answer(302, {"Location": place}, b"")
    with pytest.raises(Unreachable) as caught:
        http.Http(server.url).first("file", 100)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("proxy", ["http://[::1", "http://a..b", "http://x:99999", "x"])
def test_a_proxy_that_is_none_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(Unreachable, match="address"):
        http.Http("http://127.0.0.1:1").first("file", 100)


def test_redirects_without_end_are_named(server: Serving) -> None:
    requests: list[str] = []

    def again(request: object, honest: Answer) -> Answer:
        requests.append("")
        return Answer(302, {"Location": "/file"}, b"")

    server.fault = again
    with pytest.raises(Unreachable, match="redirects more than 5 times"):
        http.Http(server.url).first("file", 100)
    assert len(requests) == 6
