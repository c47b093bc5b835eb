"""The verb view and `run --view`: processes of their own, and how they end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pellucid.store.ledger import LedgerFile
from tests.conftest import make_run
from tests.serving import serving
from tests.site.viewing import Browser

PATIENCE = 60.0  # Seconds.


@contextmanager
def started(*words: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The command line, with a browser that does nothing unless a variable names another."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pellucid", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "BROWSER": "true", **variables},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def port_in(lines: Iterator[str]) -> int:
    return next(int(match[1]) for line in lines if (match := re.search(r"1:([0-9]+)/", line)))


def is_served(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def until_gone(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while is_served(port):
        assert time.monotonic() < deadline, "it is still served"
        time.sleep(0.05)


@pytest.mark.parametrize("words", [("--no-open",), ("--json",)])
def test_ctrl_c_ends_it_well(finished: Path, interruptible: None, words: tuple[str, ...]) -> None:
    with started("view", finished, *words) as process:
        assert process.stdout
        port = port_in(iter(process.stdout.readline, ""))
        assert Browser(port).ask("/site/live").json["done"] == 13
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=PATIENCE)
        assert (process.returncode, rest[1]) == (0, "")
        assert not is_served(port)


@pytest.mark.parametrize("words", [(), ("--no-open",)])
def test_a_browser_that_stays_open_keeps_nothing_waiting(
    finished: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    browser, opened = tmp_path / "browser", tmp_path / "opened"
    browser.write_text(
        f'#!/bin/sh\necho "$1" > {opened}.partial\nmv {opened}.partial {opened}\nexec sleep 20\n'
    )
    browser.chmod(0o755)
    with started("view", finished, *words, BROWSER=f"{browser} %s", DISPLAY=":0") as process:
        assert process.stdout
        port = port_in(iter(process.stdout.readline, ""))
        assert Browser(port).ask("/site/live").status == 200
        deadline = time.monotonic() + (PATIENCE if not words else 1)
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert opened.exists() == (not words)
        assert words or opened.read_text() == f"http://127.0.0.1:{port}/\n"


def test_the_port_that_was_named(finished: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with started("view", finished, "--port", port, "--no-open") as process:
        assert process.stdout and port_in(iter(process.stdout.readline, "")) == port
        again = started("view", finished, "--port", port, "--no-open")
        with again as second:
            _, told = second.communicate(timeout=PATIENCE)
        assert second.returncode == 3 and "PortUnusable" in told


def test_a_release_behind_a_url(finished: Path) -> None:
    with serving(finished) as served, started("view", served.url, "--no-open") as process:
        assert process.stdout
        port = port_in(iter(process.stdout.readline, ""))
        assert Browser(port).ask("/site/live").json["ended"] is True
        browser = Browser(port)
        for path in ("/site/data/overview.js", "/site/data/steps/00000.js", "/trace/00000.top"):
            assert browser.ask(path).status == 200
        whole = (finished / "recipe.toml").read_bytes()
        assert browser.ask("/recipe.toml", Range="bytes=3-8").body == whole[3:9]


def test_a_run_is_served_while_it_trains(finished: Path, corpus: Path, tmp_path: Path) -> None:
    """The same head as without, and no server is left."""
    folder = make_run(tmp_path / "small", corpus)
    with started("run", folder, "--view") as process:
        assert process.stderr
        port = port_in(iter(process.stderr.readline, ""))
        process.communicate(timeout=5 * PATIENCE)
        assert process.returncode == 0
        assert not is_served(port)
    assert LedgerFile(folder).head == LedgerFile(finished).head


def test_a_killed_training_leaves_no_server(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "small", corpus, ["train.steps=100000"])
    with started("run", folder, "--view") as process:
        assert process.stderr
        port = port_in(iter(process.stderr.readline, ""))
        deadline = time.monotonic() + PATIENCE
        while not Browser(port).ask("/site/live").json["done"]:
            assert time.monotonic() < deadline, "no step is shown"
            time.sleep(0.1)
        process.kill()
        until_gone(port)
