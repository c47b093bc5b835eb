"""The site of a release: how long it takes to make, how large it is, and how fast pages open.

    python bench/site.py RELEASE [--loads 20] [--rate 10] [--latency 60] [--slow 4]

Makes the site anew in a temporary folder, in a process of its own. Then opens pages cold in
headless Chromium from a static server on this machine that compresses nothing, with the network
held to --rate Mbit/s and --latency ms a request and the processor slowed --slow times. Prints the
median and the 95th percentile of the largest contentful paint, and the bytes and requests of a
load. Steps and documents are drawn at random from --seed. Needs chromium."""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # The server is the tests' own.

from pellucid.site import shell
from pellucid.site.build import place_of
from pellucid.site.data import Site
from pellucid.site.pack import packed
from tests.serving import serving

PAINTED = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.painted = entry.startTime;
}).observe({type: "largest-contentful-paint", buffered: true});"""


def made(release: Path, place: Path) -> dict[str, float]:
    """Make a site; seconds and peak memory of the process that does."""
    words = [sys.executable, __file__, str(release), "--only-make", str(place)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def make(release: Path, place: Path) -> None:
    started = time.perf_counter()
    site = Site(release)
    names = list(site.names())
    site.read_all()
    for name in names:
        path = place / place_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = packed(name, site.pieces(name))
        path.write_bytes(content)
        site.placed(name, content)
    for name, content in shell.files().items():
        (place / name).write_bytes(content)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.perf_counter() - started, "peak": peak}))


def size(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def sizes(release: Path, place: Path) -> None:
    data = place / "data"
    texts = size(data / "texts")
    others = size(place) - texts
    base = sum(size(release / name) for name in ("data", "metrics", "trace"))
    manifest = json.loads((release / "data/documents/manifest.json").read_bytes())
    print(f"shell                {sum(map(len, shell.files().values())):>14,} bytes")
    for path in sorted(data.iterdir()):
        print(f"{path.name:<20} {size(path) if path.is_dir() else path.stat().st_size:>14,} bytes")
    share = f"{others / base:.1%} of data, metrics and index ({base:,} bytes)"
    print(f"all but texts        {others:>14,} bytes, {share}")
    said = int(manifest["bytes"])
    print(f"texts                {texts:>14,} bytes, {texts / said:.1%} of {said:,}")


def load(browser: Any, address: str, given: argparse.Namespace) -> tuple[float, int, int]:
    """One cold load: milliseconds to the largest paint, bytes, requests."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, bypass_csp=True)
    page = context.new_page()
    session, got = context.new_cdp_session(page), [0, 0]

    def finished(event: dict[str, Any]) -> None:
        got[0] += int(event["encodedDataLength"])
        got[1] += 1

    session.send("Network.enable")
    session.on("Network.loadingFinished", finished)
    rate = given.rate * 1e6 / 8
    session.send(
        "Network.emulateNetworkConditions",
        {
            "offline": False,
            "latency": given.latency,
            "downloadThroughput": rate,
            "uploadThroughput": rate,
        },
    )
    session.send("Emulation.setCPUThrottlingRate", {"rate": given.slow})
    page.add_init_script(PAINTED)
    page.goto(address)
    page.wait_for_selector("main h1", timeout=60_000)
    page.wait_for_load_state("networkidle")
    painted = float(page.evaluate("window.painted"))
    context.close()
    return painted, got[0], got[1]


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


def loads(place: Path, release: Path, given: argparse.Namespace) -> None:
    from playwright.sync_api import sync_playwright

    pages = addresses(release, random.Random(given.seed))
    network = f"{given.rate:g} Mbit/s, {given.latency:g} ms, processor {given.slow:g} times slower"
    print(f"\n{given.loads} cold loads, {network}: largest contentful paint")
    print(f"{'page':<10} {'median':>9} {'95%':>9} {'bytes (most)':>14} {'requests':>9}")
    with sync_playwright() as driver, serving(place) as server:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, own in pages.items():
            found = [
                load(browser, f"{server.url}/{address}", given) for address in own[: given.loads]
            ]
            painted, sent, asked = zip(*found, strict=True)
            late = sorted(painted)[-(-95 * len(painted) // 100) - 1]
            print(
                f"{name:<10} {statistics.median(painted):>6.0f} ms {late:>6.0f} ms"
                f" {max(sent):>14,} {max(asked):>9}"
            )
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--rate", type=float, default=10.0, help="Mbit/s")
    parser.add_argument("--latency", type=float, default=60.0, help="ms a request")
    parser.add_argument("--slow", type=float, default=4.0, help="times the processor is slowed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-make", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only_make:
        make(given.release, given.only_make)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        took = made(given.release, place)
        print(f"made in {took['seconds']:.1f} s, peak memory {took['peak'] / 1e6:,.0f} MB")
        sizes(given.release, place)
        loads(place, given.release, given)


if __name__ == "__main__":
    main()
