"""Search in the browser beside `where`: the same answers, and what they take.

    python bench/search.py RELEASE [--phrases 500] [--timed 50] [--rate 10] [--latency 60]

Serves a published release from a static server on this machine, opens the page "search" in
headless Chromium, and asks it for phrases that are drawn at random from the texts (--seed). Count,
validation, documents, characters and steps of the first ten places are compared with `where`: the
exit code is 1 where anything differs. Prints the median and the 95th percentile of the requests,
bytes and rounds of a search; a round is a request that waits for the answer to another. Of the last
--timed phrases also the seconds, with the network held to --rate Mbit/s and --latency ms a request
and the processor slowed --slow times. A search begins with what an open page keeps: vocabulary,
manifests and top tables. Phrases that read more than a page may are counted, and not compared.
Needs chromium."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # Server and phrases are the tests' own.

from pellucid.data.parquet import Documents
from pellucid.trace.where import Traced
from tests.serving import serving
from tests.site.searching import answered, expected, phrases

SHOWN = 10
_FORGET = """() => {
  for (const [path, file] of search.reader.files) if (!path.endsWith(".top")) file.pages.clear();
  search.finder.packs.clear();
  for (const name of [...cache.keys()]) if (name.startsWith("documents/")) cache.delete(name);
}"""
_TAKEN = "() => [search.reader.requests, search.reader.bytes]"
_REFUSED = "would read more than"


class Rounds:
    """The requests of a page, in time."""

    def __init__(self, driver: Any) -> None:
        self._began: dict[str, float] = {}
        self._spans: list[tuple[float, float]] = []
        driver.send("Network.enable")
        driver.on("Network.requestWillBeSent", self._sent)
        driver.on("Network.loadingFinished", self._finished)

    def _sent(self, event: dict[str, Any]) -> None:
        self._began[event["requestId"]] = event["timestamp"]

    def _finished(self, event: dict[str, Any]) -> None:
        if (began := self._began.pop(event["requestId"], None)) is not None:
            self._spans.append((event["timestamp"], began))

    def taken(self) -> int:
        """How many requests since the last time began after another had ended, at most."""
        rounds, last = 0, 0.0
        for ended, began in sorted(self._spans):
            if began >= last:
                rounds, last = rounds + 1, ended
        self._spans.clear()
        return rounds


def percentiles(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return statistics.median(ordered), ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]


def slow_down(driver: Any, options: argparse.Namespace) -> None:
    speed = options.rate * 1e6 / 8
    network = {"offline": False, "latency": options.latency}
    network |= {"downloadThroughput": speed, "uploadThroughput": speed}
    driver.send("Network.emulateNetworkConditions", network)
    driver.send("Emulation.setCPUThrottlingRate", {"rate": options.slow})


def compare(page: Any, driver: Any, traced: Traced, options: argparse.Namespace) -> int:
    """Ask for every phrase; returns how many answers differ."""
    from playwright.sync_api import Error

    rounds, refused, wrong = Rounds(driver), 0, 0
    rows: dict[str, list[float]] = {name: [] for name in ("requests", "bytes", "rounds", "seconds")}
    documents = Documents.open(options.release)
    answered(page, "the", 0)
    for number, phrase in enumerate(phrases(documents, options.phrases, options.seed)):
        if number == options.phrases - options.timed:
            slow_down(driver, options)
        page.evaluate(_FORGET)
        rounds.taken()
        began = page.evaluate("performance.now()")
        try:
            found = answered(page, phrase, SHOWN)
        except Error as error:
            if _REFUSED not in str(error):
                raise
            refused += 1
            continue
        seconds = (page.evaluate("performance.now()") - began) / 1000
        requests, size = page.evaluate(_TAKEN)
        for name, value in (("requests", requests), ("bytes", size), ("rounds", rounds.taken())):
            rows[name].append(value)
        if number >= options.phrases - options.timed:
            rows["seconds"].append(seconds)
        if found != expected(traced, phrase, SHOWN):
            wrong += 1
            print(f"differs: {phrase!r}")
    for name, values in rows.items():
        if values:
            median, late = percentiles(values)
            print(f"{name:9} median {median:12,.2f}   95% {late:12,.2f}")
    print(f"{options.phrases} phrases, {refused} refused, {wrong} differ")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Search in the browser beside `where`.")
    parser.add_argument("release", type=Path)
    parser.add_argument("--phrases", type=int, default=500)
    parser.add_argument("--timed", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10, help="Mbit/s")
    parser.add_argument("--latency", type=float, default=60, help="milliseconds")
    parser.add_argument("--slow", type=float, default=4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with serving(options.release.absolute().parent) as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.goto(f"{server.url}/{options.release.absolute().name}/site/search.html")
        page.wait_for_selector("h1")
        driver = page.context.new_cdp_session(page)
        wrong = compare(page, driver, Traced(options.release), options)
        browser.close()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
