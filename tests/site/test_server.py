"""The server behind `pellucid view`: connections, heads, and what is no request."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.site import server
from tests.site.viewing import Browser, browsing


@pytest.fixture
def browser(finished: Path) -> Iterator[Browser]:
    with browsing(finished) as browser:
        yield browser


@pytest.mark.parametrize(
    "request_line", ["GET / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"]
)
def test_a_request_without_a_host_gets_nothing(browser: Browser, request_line: str) -> None:
    assert b"302" not in raw(browser, request_line) + b"."


def test_two_hosts_are_refused(browser: Browser) -> None:
    host = f"Host: 127.0.0.1:{browser.port}\r\n"
    assert b"302 Found" in raw(browser, f"GET / HTTP/1.1\r\n{host}Connection: close\r\n\r\n")
    assert b"403 Forb" in raw(browser, f"GET / HTTP/1.1\r\n{host}{host}Connection: close\r\n\r\n")


def test_a_connection_that_is_too_many_is_told_to_come_again(browser: Browser) -> None:
    address = ("127.0.0.1", browser.port)
    idle = [socket.create_connection(address, timeout=20) for _ in range(server._AT_ONCE)]
    for _ in range(20):  # Each ends, and takes no place.
        reply = browser.ask("/site/live")
        assert (reply.status, reply.headers["Retry-After"]) == (503, "2")
        assert reply.json == {"error": "too many connections: close some pages of this run"}
        assert reply.headers["Content-Security-Policy"] and reply.headers["Connection"] == "close"
    with socket.create_connection(address, timeout=20) as silent:
        assert silent.recv(1) == b""
    for connection in idle:
        connection.close()
    until = time.monotonic() + 20
    while browser.ask("/site/live").status != 200:
        assert time.monotonic() < until


def test_a_head_that_never_ends_keeps_no_thread_busy(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that goes on, byte by byte, without a pause that is long."""
    monkeypatch.setattr(server, "_HEAD", 0.5)
    with socket.create_connection(("127.0.0.1", browser.port), timeout=20) as connection:
        connection.sendall(b"GET /site/live HTTP/1.1\r\nX: ")
        connection.settimeout(0.05)
        for _ in range(400):
            try:
                connection.sendall(b"y")
                assert connection.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                pass
            break
        else:
            raise AssertionError("it is still read")
    assert browser.ask("/site/live").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        "Host: evil.example\r\nContent-Length: {size}\r\n",
        "Host: {own}\r\nOrigin: null\r\nContent-Length: {size}\r\n",
        "Host: {own}\r\nContent-Length: 0\r\nContent-Length: {size}\r\n",
        "Host: {own}\r\nTransfer-Encoding:\r\n",
        "Host: {own}\r\nTransfer-Encoding: chunked\r\n",
    ],
)
def test_the_content_of_a_refused_request_is_no_request(browser: Browser, headers: str) -> None:
    own = f"127.0.0.1:{browser.port}"
    inner = f"GET /recipe.toml HTTP/1.1\r\nHost: {own}\r\nConnection: close\r\n\r\n"
    head = headers.format(own=own, size=len(inner))
    answer = raw(browser, f"GET /site/live HTTP/1.1\r\n{head}\r\n{inner}")
    assert answer.count(b"HTTP/1.1 ") == 1 and answer.startswith(b"HTTP/1.1 40")
    assert b"Connection: close" in answer


def raw(browser: Browser, text: str) -> bytes:
    """The answer to bytes of any kind, up to the end of the connection."""
    with socket.create_connection(("127.0.0.1", browser.port), timeout=20) as connection:
        connection.sendall(text.encode("ascii"))
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))
