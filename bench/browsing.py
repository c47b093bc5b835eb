"""What the benches of the site share: making a site in a process of its own, its sizes, and cold
loads of its pages in Chromium."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import measuring

sys.path.insert(0, str(Path(__file__).parents[1]))  # The server is the tests' own.

from pellucid.site import shell
from pellucid.site.build import write
from pellucid.site.data import Site
from pellucid.store import files, layout
from tests.serving import serving

INDEX = 4.6  # Bytes a token: of a release without an index, for what it is held against.
PAINTING = 500  # Milliseconds in which what is there is painted.
LEAST = 3  # Milliseconds that a request waits for another at least, to count as asked by it.
PAINTED = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.painted = entry.startTime;
}).observe({type: "largest-contentful-paint", buffered: true});"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    words = "a site with the texts or without; by default with at most 200 MB of them"
    parser.add_argument("--texts", choices=("with", "without"), help=words)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--rate", type=float, nargs="+", default=[10.0], help="Mbit/s")
    parser.add_argument("--latency", type=float, default=60.0, help="ms a request")
    parser.add_argument("--slow", type=float, default=4.0, help="times the processor is slowed")
    parser.add_argument("--seed", type=int, default=1)


def report(release: Path, given: argparse.Namespace) -> None:
    """Make a site of a release in a temporary folder beside it, and print what it is like."""
    others = measuring.Others()
    with tempfile.TemporaryDirectory(dir=release.parent) as folder:
        linked = Path(folder) / "release"
        own = shutil.ignore_patterns(layout.SITE)
        shutil.copytree(release, linked, copy_function=os.link, ignore=own)
        words = [sys.executable, __file__, str(linked), given.texts or ""]
        took = measuring.watched(words)
        print(f"made in {took.seconds:.1f} s, {took.cpu:.1f} s of processor time, ", end="")
        print(f"peak memory {took.peak / 1e6:,.0f} MB")
        print(others.line())
        sizes(release, linked / layout.SITE)
        for rate in given.rate if given.loads else []:
            loads(linked / layout.SITE, release, rate, given)


def size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def sizes(release: Path, place: Path) -> None:
    """Bytes of every kind of data, and what they are of the release."""
    data = place / "data"
    texts = size(data / "texts")
    others = size(place) - texts
    base = sum(size(release / name) for name in ("data", "metrics", "trace"))
    said = "data, metrics and index"
    if not (release / layout.TRACE).exists():
        streams = files.read_json(release / layout.DATA_MANIFEST)["streams"]
        base += int(INDEX * sum(int(stream["tokens"]) for stream in streams))
        said += f" (of {INDEX} bytes a token)"
    manifest = files.read_json(release / "data/documents/manifest.json")
    print(f"shell                {sum(map(len, shell.files().values())):>14,} bytes")
    for path in sorted(data.iterdir()):
        own = list(path.rglob("*.js")) if path.is_dir() else [path]
        most = f"{len(own):,} files, the largest {max(one.stat().st_size for one in own):,} bytes"
        print(f"{path.name:<20} {sum(one.stat().st_size for one in own):>14,} bytes, {most}")
    print(f"all but texts        {others:>14,} bytes, {others / base:.1%} of {said}: {base:,}")
    whole = int(manifest["bytes"])
    print(f"texts                {texts:>14,} bytes, {texts / whole:.1%} of {whole:,}")


class Load(NamedTuple):
    """A cold load of a page."""

    painted: float  # Milliseconds to the largest contentful paint.
    sent: int  # Bytes, headers included.
    requests: int
    behind: int  # Requests one after the other: each begun when the one before it had ended.


def load(browser: Any, address: str, rate: float, given: argparse.Namespace) -> Load:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
    page = context.new_page()
    session, spans, sent = context.new_cdp_session(page), dict[str, list[float]](), [0]

    def finished(event: dict[str, Any]) -> None:
        sent[0] += int(event["encodedDataLength"])
        spans[event["requestId"]].append(event["timestamp"])

    def begun(event: dict[str, Any]) -> None:
        if event["request"]["url"].startswith("http"):
            spans[event["requestId"]] = [event["timestamp"]]

    session.on("Network.requestWillBeSent", begun)
    session.on(
        "Network.loadingFinished", lambda event: event["requestId"] in spans and finished(event)
    )
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    network = {"offline": False, "latency": given.latency}
    speed = dict.fromkeys(("downloadThroughput", "uploadThroughput"), rate * 1000000.0 / 8)
    session.send("Network.emulateNetworkConditions", network | speed)
    session.send("Emulation.setCPUThrottlingRate", {"rate": given.slow})
    page.add_init_script(PAINTED)
    page.goto(address)
    page.wait_for_load_state("networkidle")  # Looking for elements would slow the page down.
    page.wait_for_selector("main h1", timeout=60_000)
    page.wait_for_timeout(PAINTING)
    painted = float(page.evaluate("window.painted"))
    context.close()
    return Load(painted, sent[0], len(spans), behind([(one[0], one[-1]) for one in spans.values()]))


def behind(spans: list[tuple[float, float]]) -> int:
    """The longest chain of requests of which each was sent when the one before it had arrived."""
    longest: list[tuple[float, int]] = []  # When a request ends, and the chain that ends with it.
    for start, end in sorted(spans):
        before = max((length for done, length in longest if done <= start), default=0)
        longest.append((end, before + 1))
    return max(length for _, length in longest)


def addresses(release: Path, draws: random.Random) -> dict[str, list[str]]:
    about = Site(release).overview
    steps = [draws.randint(about["first"] + 1, about["steps_done"]) for _ in range(100)]
    documents = [draws.randrange(about["documents"]) for _ in range(100)]
    return {
        "overview": ["index.html"] * 100,
        "timeline": ["timeline.html"] * 100,
        "step": [f"step.html#{step}" for step in steps],
        "document": [f"document.html#{number}" for number in documents],
    }


def loads(place: Path, release: Path, rate: float, given: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    pages = addresses(release, random.Random(given.seed))
    network = f"{rate:g} Mbit/s, {given.latency:g} ms, processor {given.slow:g} times slower"
    print(f"\n{given.loads} cold loads, {network}: largest contentful paint")
    print(
        f"{'page':<10} {'median':>9} {'95%':>9} {'bytes (most)':>14} {'requests':>9} {'chain':>6}"
    )
    with sync_playwright() as driver, serving(place) as server:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, own in pages.items():
            print(_line(name, list(_loaded(browser, server.url, own, rate, given))), flush=True)
        browser.close()


def _loaded(
    browser: Any, url: str, own: list[str], rate: float, given: argparse.Namespace
) -> Iterator[Load]:
    for address in own[: given.loads]:
        yield load(browser, f"{url}/{address}", rate, given)


def _line(name: str, made: list[Load]) -> str:
    painted, sent, requests, chains = zip(*made, strict=True)
    late = sorted(painted)[-(-95 * len(painted) // 100) - 1]
    times = f"{statistics.median(painted):>6.0f} ms {late:>6.0f} ms"
    return f"{name:<10} {times} {max(sent):>14,} {max(requests):>9} {max(chains):>6}"


if __name__ == "__main__":  # A process of its own, whose memory is watched.
    write(Path(sys.argv[1]), {}, {"with": True, "without": False}.get(sys.argv[2]), None)
