"""A page that stays open for hours: what the server keeps does not grow with the questions."""

from __future__ import annotations

import contextlib
import gc
import http.client
import itertools
import json
import statistics
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pellucid.site import view
from tests.site.viewing import Browser, Growing, browsing

POLLS = 2000  # At one in two seconds, more than an hour. Each finds that the run has gone on.
PART = 200  # Polls between two looks at what the server holds.
_NAMES = ("overview", "curves/level0/00000", "steps/00000", "documents/00000")


class Held(NamedTuple):
    """What this process holds."""

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
    run, held, last, changes = Growing(release), list[Held](), "", 0
    with browsing(release) as browser, polling(browser) as poll, traced():
        for number in range(POLLS + 1):
            run.at(4 + number % (len(run.lines) - 4))
            changes += (mark := poll()) != last
            last = mark
            for name in _NAMES if number % 5 == 0 else ():
                assert browser.ask(f"/site/data/{name}.js").status == 200
            if number % PART == 0:
                held.append(Held.now())
    assert changes > POLLS
    # Of all parts, for the interpreter's own tables grow by leaps, and seldom.
    grown = [after.memory - before.memory for before, after in itertools.pairwise(held)]
    assert statistics.median(grown) < 256 * PART, held
    assert held[-1].files <= held[1].files and held[-1].threads <= held[1].threads, held


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
