"""Byte ranges over HTTP, each answer held against what was asked. RFC 9110, section 14.

One session a folder, on fsspec's event loop: its thread serves a notebook as well as a script.
Nothing is read beyond what was asked for, whatever the server sends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import re
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
from fsspec import asyn

from pellucid.errors import (
    AnswerInvalid,
    FileMissing,
    FormatInvalid,
    RangesMissing,
    RemoteChanged,
    Unreachable,
)
from pellucid.store.transport import exactly

ATTEMPTS = 4
PAUSE = 0.25  # Seconds before the second attempt; doubled for each further one.
CONNECT = 10.0  # Seconds.
SILENT = 20.0  # Seconds without a byte.
ANSWER = 30.0  # Seconds that all attempts of a request have together, and one more for every …
SLOWEST = 8192.0  # … so many bytes that came.
LONGEST = 300.0  # Seconds of a request, however much comes: a server may drip a large manifest.
AT_ONCE = 8  # Requests on their way.
REDIRECTS = 5
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # Statuses worth another attempt.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class _Passing(Exception):
    """A fault that may be gone at the next attempt."""


class _Patience:
    """The time of one request, over all its attempts: ANSWER seconds, more with every byte that
    comes, and never more than LONGEST. Waiting for a turn does not count."""

    fault = ""  # Of the attempt before.

    def __init__(self) -> None:
        self._spent, self._taken, self._began = 0.0, 0, 0.0
        self._clock = asyncio.Timeout(None)

    def left(self) -> float:
        return min(ANSWER + self._taken / SLOWEST, LONGEST) - self._spent

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """An attempt. Raises TimeoutError."""
        time = asyncio.get_running_loop().time
        self._began = time()
        self._clock = asyncio.timeout_at(self._began + self.left())
        try:
            async with self._clock:
                yield
        finally:
            self._spent += time() - self._began

    def took(self, count: int) -> None:
        self._taken += count
        self._clock.reschedule(self._began + self.left())

    def expired(self) -> bool:
        return self._clock.expired()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._spent += seconds

    def words(self) -> str:
        """Why there is no time left."""
        if ANSWER + self._taken / SLOWEST >= LONGEST:
            return f"it needs more than {LONGEST / 60:g} minutes for one answer"
        return self.fault or f"the server sends less than {SLOWEST / 1024:g} KiB a second"


class Http:
    """A folder behind http:// or https://."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._validators: dict[str, str | None] = {}  # Of each file, as first answered.
        self._session = _awaited(_session)
        # Not the session's own: whoever waits here asks nothing yet.
        self._at_once = asyncio.Semaphore(AT_ONCE)
        weakref.finalize(self, _close, self._session)

    def first(self, path: str, limit: int) -> bytes:
        return _awaited(self._tried, path, None, limit)

    def ranges(self, path: str, spans: Sequence[tuple[int, int]], size: int) -> list[bytes]:
        return _awaited(self._all, path, spans, size)

    async def _all(self, path: str, spans: Sequence[tuple[int, int]], size: int) -> list[bytes]:
        tasks = [asyncio.ensure_future(self._tried(path, span, size)) for span in spans]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # One failed: nobody waits for the others.
                task.cancel()

    async def _tried(self, path: str, span: tuple[int, int] | None, size: int) -> bytes:
        """One answer, asked for several times where that may help. Without a
        span size is the most to take."""
        url, patience = f"{self._url}/{quote(path)}", _Patience()
        for attempt in itertools.count(1):
            try:
                return await self._asked(path, url, span, size, patience)
            except (
                _Passing,
                aiohttp.ClientConnectionError,
                aiohttp.ClientPayloadError,
                TimeoutError,
            ) as error:
                pause = PAUSE * 2 ** (attempt - 1)
                patience.fault = f"{_reason(error)}, {_times(attempt)}"
                if attempt == ATTEMPTS or patience.left() <= pause:
                    raise Unreachable(url=url, detail=patience.fault) from error
            # Redirects without end; an address, of a proxy too, that no library can take apart: of
            # those some raise ValueError and its kinds, UnicodeError for one.
            except (aiohttp.ClientError, ValueError, OSError) as error:
                raise Unreachable(url=url, detail=_reason(error)) from error
            await patience.sleep(pause)
        raise AssertionError  # The last attempt returns or raises.

    async def _asked(
        self, path: str, url: str, span: tuple[int, int] | None, size: int, patience: _Patience
    ) -> bytes:
        async with self._at_once:
            try:
                async with patience.running():
                    return await self._answered(path, url, span, size, patience)
            except TimeoutError as error:
                if not patience.expired():
                    raise  # Silent for a while: it may be the network.
                raise Unreachable(url=url, detail=patience.words()) from error

    async def _answered(
        self, path: str, url: str, span: tuple[int, int] | None, size: int, patience: _Patience
    ) -> bytes:
        headers = {"Range": f"bytes={span[0]}-{span[1] - 1}"} if span else {}
        async with self._session.get(url, headers=headers, max_redirects=REDIRECTS + 1) as answer:
            if answer.status in _PASSING:
                raise _Passing(f"it answers {answer.status}")
            if url.startswith("https:") and answer.url.scheme != "https":
                raise AnswerInvalid(url=url, detail="redirects to an address without encryption")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise AnswerInvalid(
                    url=url, detail="answered in an encoding that the request did not allow"
                )
            if span is None:
                return await self._whole(url, answer, size, patience)
            self._check(path, url, span, size, answer)
            return exactly(await _taken(answer, span[1] - span[0], patience), span, url)

    async def _whole(
        self, url: str, answer: aiohttp.ClientResponse, limit: int, patience: _Patience
    ) -> bytes:
        _check_status(url, answer, 200)
        content = await _taken(answer, limit, patience)
        if len(content) > limit:
            raise FormatInvalid(path=url, detail=f"is larger than {limit} bytes")
        return content

    def _check(
        self, path: str, url: str, span: tuple[int, int], size: int, answer: aiohttp.ClientResponse
    ) -> None:
        """Whether an answer is the range that was asked for, of the file that was asked before."""
        if answer.status == 416:
            raise RemoteChanged(url=url, detail=f"it has no bytes {span[0]} to {span[1]}")
        if answer.status == 200 and span != (0, size):
            raise RangesMissing(url=url, detail="the server sends the whole file instead")
        _check_status(url, answer, 206, 200)
        if answer.status == 206:
            match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if not match or (int(match[1]), int(match[2]) + 1) != span:
                raise AnswerInvalid(url=url, detail="answered with another range than requested")
            if match[3] not in ("*", str(size)):
                detail = f"it has {match[3]} bytes, but {size} in the manifest"
                raise RemoteChanged(url=url, detail=detail)
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if self._validators.setdefault(path, validator) != validator:
            raise RemoteChanged(url=url, detail="its ETag or date changed during the reading")


def _check_status(url: str, answer: aiohttp.ClientResponse, *expected: int) -> None:
    if answer.status in (404, 410):
        raise FileMissing(path=url)
    if answer.status not in expected:
        raise Unreachable(url=url, detail=f"the server answers {answer.status}")


async def _taken(answer: aiohttp.ClientResponse, most: int, patience: _Patience) -> bytes:
    """The body, or a byte more than most of it."""
    content = bytearray()
    while len(content) <= most and (piece := await answer.content.read(most + 1 - len(content))):
        content += piece
        patience.took(len(piece))
    return bytes(content)


def _awaited(coroutine: Callable[..., Any], *arguments: Any) -> Any:
    """What a coroutine returns, run on fsspec's loop."""
    return asyn.sync(asyn.get_loop(), coroutine, *arguments)


def _close(session: aiohttp.ClientSession) -> None:
    """Close a session nobody has any more, from whatever thread its last holder went."""
    closing = asyncio.run_coroutine_threadsafe(session.close(), asyn.get_loop())
    if threading.current_thread() is not asyn.iothread[0]:  # There, waiting would be for ever.
        closing.result(CONNECT)


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=AT_ONCE),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENT),
        headers={"Accept-Encoding": "identity", "User-Agent": "pellucid"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=True,  # Proxies.
    )


def _reason(error: BaseException) -> str:
    """What went wrong, in one line without controls: some of it a server wrote."""
    text = str(error).partition("\n")[0]
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        own = error.certificate_error
        text = f"{error.host} has no valid certificate ({getattr(own, 'verify_message', own)})"
    elif isinstance(error, aiohttp.ClientConnectorError):  # Its own words name our settings too.
        own = error.os_error
        refused = isinstance(own, ConnectionRefusedError)
        known = os.strerror(errno.ECONNREFUSED) if refused else own.strerror
        text = f"no connection to {error.host}:{error.port} ({known or own})"
    elif isinstance(error, aiohttp.TooManyRedirects):
        text = f"it redirects more than {REDIRECTS} times"
    elif isinstance(error, aiohttp.NonHttpUrlRedirectClientError):
        text = f"it redirects to {text}"
    elif isinstance(error, aiohttp.InvalidURL) and not isinstance(
        error, aiohttp.RedirectClientError
    ):
        text = "this is no address"
    elif isinstance(error, ValueError):
        text = f"the address, or that of a redirect or a proxy, is none ({text})"
    shown = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return shown[:200] or type(error).__name__


def _times(attempt: int) -> str:
    return "once" if attempt == 1 else f"{attempt} times"
