"""A server of a run in this process, and a run that stands where a test puts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.site.data import Site
from pellucid.site.pack import unpacked
from pellucid.site.view import server
from pellucid.store import layout


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Asks a server, one connection after the other."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """headers: an underscore stands for a hyphen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=named)
            reply = connection.getresponse()
            return Reply(reply.status, dict(reply.getheaders()), reply.read())

    def data(self, name: str) -> Any:
        reply = self.ask(f"/site/data/{name}.js")
        assert reply.status == 200, reply.body
        return json.loads(unpacked(reply.body, name, 1 << 24, name)[0])


@contextlib.contextmanager
def browsing(folder: Path, *others: Path) -> Iterator[Browser]:
    with server(folder, 0, others) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Browser(serving.server_port)
        finally:
            serving.shutdown()
            thread.join()


class Growing:
    """A finished run as if it were in training: its ledger up to any line, and no tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ledger = folder / layout.LEDGER
        self.lines = self._ledger.read_bytes().splitlines(keepends=True)
        (folder / layout.MANIFEST).unlink()
        shutil.rmtree(folder / layout.METRICS)
        self.length = len(self.lines)

    def at(self, length: int) -> None:
        """So many lines of the ledger."""
        self.length = length
        self._ledger.write_bytes(b"".join(self.lines[:length]))

    def add(self) -> None:
        with self._ledger.open("ab") as file:
            file.write(self.lines[self.length])
        self.length += 1

    @property
    def step(self) -> int:
        return json.loads(self.lines[self.length - 1]).get("step", 0)


def contents(folder: Path) -> dict[str, list[bytes]]:
    """Every data file of a run's site."""
    site = Site(folder)
    return {name: list(site.pieces(name)) for name in site.names()}
