"""Servers of releases: of a finished run, and of a few files with their manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.store import http, layout, sealed
from pellucid.store.home import home
from pellucid.store.remote import RemotePath
from tests.serving import Answer, Request, Serving, serving

SHARD = "data/shards/00000.train.bin"


@pytest.fixture
def server(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setattr(http, "PAUSE", 0.001)
    with serving(finished) as running:
        yield running


def seal(folder: Path, contents: dict[str, bytes]) -> Path:
    """A folder with these files and their manifest: no run, but all
    that a reader of files needs."""
    lines: list[dict[str, Any]] = [
        {"pellucid": 1, "run": "made", "head": "0" * 64, "files": len(contents), "readme": 1}
    ]
    for name, content in sorted(contents.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        about = {"path": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        lines.append(about)
    (folder / layout.MANIFEST).write_bytes(spelled(lines))
    return folder


def spelled(lines: list[dict[str, Any]]) -> bytes:
    """A manifest of these lines, with its last."""
    content = b"".join(map(sealed.line_of, lines))
    return content + sealed.line_of({"sha256": hashlib.sha256(content).hexdigest()})


@pytest.fixture
def serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[RemotePath, Serving]]]:
    """Makes a served release of some files, and gives the path to it and the server."""
    monkeypatch.setattr(http, "PAUSE", 0.001)
    running = []

    def make(**contents: bytes) -> tuple[RemotePath, Serving]:
        context = serving(seal(tmp_path / f"made{len(running)}", contents))
        server = context.__enter__()
        running.append(context)
        place = home(server.url)
        assert isinstance(place, RemotePath)
        server.forget()
        return place, server

    yield make
    for context in running:
        context.__exit__(None, None, None)


def noise(size: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def lying(
    answer: Callable[[Request, Answer], Answer], path: str = SHARD
) -> Callable[[Request, Answer], Answer]:
    return lambda request, honest: answer(request, honest) if request.path == path else honest
