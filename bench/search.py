"""Search in the browser beside `where`: the same answers, and what they take.

    python bench/search.py RELEASE [--phrases 500] [--timed 50] [--rate 10] [--latency 60]

Serves a published release from a static server on this machine, opens the page "search" in
headless Chromium, and asks it for phrases that are drawn at random from the texts (--seed). Count,
validation, documents, characters and steps of the first ten places are compared with `where`: the
exit code is 1 where anything differs. Prints the median, the 95th percentile and the most of the
requests, bytes and rounds of a search, of all phrases and of those of --long characters and more. A
round is a request that waits for the answer to another: answers are held back until all that were
asked for are there. Of the last --timed phrases also the seconds, with the network held to --rate
Mbit/s and --latency ms a request and the processor slowed --slow times; their answers are not held
back, and their rounds not counted. A search begins with what an open page keeps: vocabulary,
manifests and top tables. Phrases that read more than a page may are counted, and not compared.
Needs chromium."""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # Server and phrases are the tests' own.

from pellucid.data.parquet import Documents
from pellucid.trace.where import Traced
from tests.serving import serving
from tests.site.searching import HOLD, answered, expected, phrases

SHOWN = 10
_FORGET = """() => {
  held.rounds = 0;
  for (const [path, file] of search.reader.files) if (!path.endsWith(".top")) file.pages.clear();
  search.finder.packs.clear();
  for (const name of [...cache.keys()]) if (name.startsWith("documents/")) cache.delete(name);
}"""
_TAKEN = "() => [search.reader.requests, search.reader.bytes, held.rounds]"
_REFUSED = "would read more than"


class Taken(NamedTuple):
    """What a search took; None where it is not measured of this one."""

    phrase: str
    requests: float
    bytes: float
    rounds: float | None
    seconds: float | None


def table(name: str, rows: list[Taken]) -> None:
    print(f"{len(rows)} {name}")
    for column in ("requests", "bytes", "rounds", "seconds"):
        values = sorted(value for row in rows if (value := getattr(row, column)) is not None)
        if values:
            late = values[min(int(len(values) * 0.95), len(values) - 1)]
            told = (statistics.median(values), late, values[-1])
            print("  {:9} median {:12,.2f}   95% {:12,.2f}   most {:12,.2f}".format(column, *told))


def slow_down(driver: Any, options: argparse.Namespace) -> None:
    speed = options.rate * 1e6 / 8
    network = {"offline": False, "latency": options.latency}
    network |= {"downloadThroughput": speed, "uploadThroughput": speed}
    driver.send("Network.emulateNetworkConditions", network)
    driver.send("Emulation.setCPUThrottlingRate", {"rate": options.slow})


def compare(page: Any, driver: Any, traced: Traced, options: argparse.Namespace) -> int:
    """Ask for every phrase; returns how many answers differ."""
    from playwright.sync_api import Error

    refused, wrong, rows = 0, 0, list[Taken]()
    documents = Documents.open(options.release)
    page.evaluate(HOLD)
    answered(page, "the", 0)
    for number, phrase in enumerate(phrases(documents, options.phrases, options.seed)):
        timed = number >= options.phrases - options.timed
        if number == options.phrases - options.timed:
            page.evaluate("held.free = true")
            slow_down(driver, options)
        page.evaluate(_FORGET)
        began = page.evaluate("performance.now()")
        try:
            found = answered(page, phrase, SHOWN)
        except Error as error:
            if _REFUSED not in str(error):
                raise
            refused += 1
            continue
        seconds = (page.evaluate("performance.now()") - began) / 1000
        requests, size, rounds = page.evaluate(_TAKEN)
        own = (None, seconds) if timed else (rounds, None)
        rows.append(Taken(phrase, requests, size, *own))
        if found != expected(traced, phrase, SHOWN):
            wrong += 1
            print(f"differs: {phrase!r}")
    table("phrases", rows)
    long = [row for row in rows if len(row.phrase) >= options.long]
    table(f"phrases of {options.long} characters and more", long)
    print(f"{options.phrases} phrases, {refused} refused, {wrong} differ")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description="Search in the browser beside `where`.")
    parser.add_argument("release", type=Path)
    parser.add_argument("--phrases", type=int, default=500)
    parser.add_argument("--long", type=int, default=8, help="characters")
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
