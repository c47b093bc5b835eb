"""One small run, made once for each test process: real stages, a tiny
model, a corpus made from a seed."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings

from pellucid import philox
from pellucid.new import new
from pellucid.terminal import Terminal

settings.register_profile("untimed", deadline=None)  # A busy machine is no fault of an example's.
settings.load_profile("untimed")

# Two test processes on two cores: more threads than that only wait for each other.
SETTINGS = [
    "model.layers=2",
    "model.width=32",
    "model.heads=4",
    "model.kv_heads=2",
    "model.mlp_width=64",
    "model.context=32",
    "tokenizer.vocabulary=300",
    "data.validation_per_10000=1500",
    "train.steps=13",
    "train.batch=4",
    "train.microbatch=2",
    "train.warmup=2",
    "validation.every=5",
    "validation.tokens=200",
    "checkpoints.every=6",
    "placement.threads=1",
    "placement.anchors={every = 5, powers_of_two = true}",
]
WORDS = [
    "light",
    "through",
    "clear",
    "water",
    "shows",
    "every",
    "stone",
    "on",
    "the",
    "bed",
    "of",
    "the",
    "river",
    "where",
    "it",
    "bends",
]


def prose(seed: int, words: int) -> str:
    """Made-up sentences; the same for the same seed."""
    draws = philox.draws(philox.key_of(seed, "test prose"), 0, words)
    return (
        " ".join(WORDS[draw % len(WORDS)] + "." * (draw % 11 == 0) for draw in draws.tolist())
        + "\n"
    )


def write_corpus(folder: Path, documents: int = 40, words: int = 60) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(documents):
        text = prose(number, words)
        (folder / f"{number:03}.txt").write_text(
            text + "naïve café 東京 " * (number % 3), encoding="utf-8"
        )
    return folder


def make_run(folder: Path, corpus: Path, settings: list[str] | None = None) -> Path:
    """A run folder with its recipe, nothing done yet."""
    new(folder, [str(corpus)], "1M", [*SETTINGS, *(settings or [])])
    return folder


def finish(folder: Path, only: str | None = None) -> Path:
    from pellucid.run import run

    run(folder, Terminal(quiet=True), only)
    return folder


class Numbers:
    """Which batch of the order each one is, by when it first came: one that is taken
    again has the number it had."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, ...], int] = {}

    def of(self, batch: Any) -> int:
        key = tuple(one.tobytes() for one in (batch.epochs_B, batch.blocks_B, batch.starts_B))
        return self._known.setdefault(key, max(self._known.values(), default=batch.step - 1) + 1)


def spiking(training_step: Callable[..., Any], *batches: int) -> Callable[..., Any]:
    """The training step, but on these batches of the order every loss is
    a hundred times what it is."""
    numbers = Numbers()

    def taken(state: Any, batch: Any, *rest: Any) -> Any:
        stepped = training_step(state, batch, *rest)
        stepped.losses_BT[:] *= 100 if numbers.of(batch) in batches else 1
        return stepped

    return taken


def pellucid(
    *words: object, check: int | None = 0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; check is the exit code expected (None: any)."""
    command = [sys.executable, "-m", "pellucid", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **(env or {})}
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment
    )
    if check is not None:
        assert done.returncode == check, done.stdout + done.stderr
    return done


def lacks(what: str) -> NoReturn:
    """This machine cannot take the test: skipped, but for CI, where that is a failure."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)
    raise AssertionError("both of them raise")


@contextlib.contextmanager
def memory_as_it_was() -> Iterator[None]:
    """Whatever is done inside, this process may have as much memory behind it as before."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    try:
        yield
    finally:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]  # Which nobody can raise again.
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@pytest.fixture(autouse=True)
def own_memory() -> Iterator[None]:
    """The bound that a verb sets for its process ends with the test that called the verb."""
    with memory_as_it_was():
        yield


@pytest.fixture
def interruptible() -> Iterator[None]:
    """This process hears SIGINT, which whatever a shell starts in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's replayed states are kept: what one leaves must
    not spare another its replay."""
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "states"


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "stones")


@pytest.fixture(scope="session")
def rolled_back(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A finished run that went from step 11 back to step 8. Only to be read."""
    from pellucid.store.ledger import LedgerFile
    from pellucid.train import loop

    settings = ["guards.window=8", "guards.back=3", 'guards.loss.action="rollback"']
    folder = make_run(tmp_path_factory.mktemp("runs") / "back", corpus, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "training_step", spiking(loop.training_step, 11))
        finish(folder)
    assert [(one["step"], one["to"]) for one in LedgerFile(folder).rollbacks] == [(11, 8)]
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A finished and sealed run. Only to be read: take `release` to change things."""
    from pellucid.release.publish import publish

    folder = finish(make_run(tmp_path_factory.mktemp("runs") / "small", corpus))
    publish(folder)
    return folder


@pytest.fixture
def release(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "release"))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed run of texts, names, and a licence that would run or break a careless page."""
    from pellucid.release.publish import publish
    from tests.site.conftest import HOSTILE, LONG

    corpus = write_corpus(tmp_path_factory.mktemp("corpus") / "bold", documents=30)
    for number, text in enumerate(HOSTILE):
        (corpus / f"<img src=x onerror=alert({number})>'\".txt").write_text(
            (text + "\n") * 20, encoding="utf-8"
        )
    (corpus / "long.txt").write_text(LONG, encoding="utf-8")
    settings = [
        "data.max_document_characters=100000",
        "data.split=parts",
        "data.sources.bold.licence=</script><script>document.title='hacked'</script>",
    ]
    folder = tmp_path_factory.mktemp("runs") / "hostile"
    run = finish(make_run(folder, corpus, settings))
    publish(run)
    return run


def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    return path or lacks("chromium is not installed")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()
