"""A page that stays open for a day: what the server keeps does not grow with the questions."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pellucid.site import view
from tests.site.viewing import Browser, Growing, browsing

POLLS = 2000  # At one in two seconds, more than an hour; each finds that the run has gone on.
_WARM = 200  # Polls after which everything that is kept once is there.
_NAMES = ("overview", "curves/level0/00000", "steps/00000", "documents/00000")


class Held(NamedTuple):
    """What a process holds."""

    memory: int
    files: int
    threads: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        memory, _ = tracemalloc.get_traced_memory()
        return cls(memory, len([*Path("/proc/self/fd").iterdir()]), threading.active_count())


@pytest.mark.slow
def test_a_page_left_open_costs_the_server_nothing(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_SHARE", 0)  # Each poll may read the run again.
    run = Growing(release)
    marks = set[str]()
    with browsing(release) as browser, polling(browser) as poll, traced():
        held = list[Held]()
        for number in range(_WARM + POLLS):
            run.at(4 + number % (len(run.lines) - 4))
            marks.add(poll())
            for name in _NAMES if number % 5 == 0 else ():
                assert browser.ask(f"/site/data/{name}.js").status == 200
            if number in (_WARM, _WARM + POLLS - 1):
                held.append(Held.now())
                print(held[-1])
    before, after = held
    assert len(marks) > POLLS
    assert after.memory < before.memory + (1 << 20), held
    assert after.files <= before.files and after.threads <= before.threads, held


@contextlib.contextmanager
def polling(browser: Browser) -> Iterator[Callable[[], str]]:
    """Asks whether the run has gone on, as a page does: on one connection. Returns the mark."""
    connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=60)

    def ask() -> str:
        connection.request("GET", "/site/live")
        reply = connection.getresponse()
        assert reply.status == 200
        return json.loads(reply.read())["mark"]

    with contextlib.closing(connection):
        yield ask


@contextlib.contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
