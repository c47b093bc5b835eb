"""What asking a release behind a URL moves: bytes of bodies and requests,
against a server on this machine.

    python bench/remote.py RELEASE [--steps 5] [--text "some text"]

Every question is asked by a process of its own, which knows nothing yet. `where` is asked where the
release has a trace index, of the text given or of the longest line of a step. Issue 5 asks for less
than 2 MB for `show` of a step of a release of 1 GB, and less than 5 MB for `where`."""

from __future__ import annotations

import argparse
import collections
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # The server is the tests' own.

from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.store.home import home
from pellucid.trace.where import Traced
from tests.serving import Serving, serving

MOST = {"show": 2_000_000, "where": 5_000_000}  # Bytes.


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release", type=Path)
    parser.add_argument("--steps", type=int, default=5, help="how many steps to show")
    parser.add_argument("--text", default="", help="what where looks for")
    arguments = parser.parse_args()
    folder = arguments.release
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    last = status(folder)["steps_done"]
    print(f"{folder.name}: {size / 1e6:,.0f} MB, {last} steps")
    print(f"{'question':<24}{'bytes':>12}{'requests':>10}{'seconds':>9}  most of it")
    with serving(folder) as server:
        ask(server, "status")
        for number in range(1, arguments.steps + 1):
            ask(server, "show", "step", str(max(1, last * number // arguments.steps)))
        if (folder / "trace/manifest.json").is_file():
            where(server, arguments.text or middle(folder, max(1, last // 2)))


def ask(server: Serving, verb: str, *words: str) -> None:
    """One question by the command line."""
    server.forget()
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pellucid", verb, server.url, *words],
        check=True,
        capture_output=True,
    )
    tell(server, " ".join([verb, *words]), time.perf_counter() - started, MOST.get(verb))


def where(server: Serving, text: str) -> None:
    """One search in this process."""
    server.forget()
    started = time.perf_counter()
    Traced(home(server.url)).where(text, limit=10)
    tell(server, f"where {text[:12]!r}…", time.perf_counter() - started, MOST["where"])


def middle(folder: Path, step: int) -> str:
    """Up to forty characters of the longest line that a step trained on."""
    texts = [piece["text"] for row in Shown(folder).step(step)["rows"] for piece in row["segments"]]
    return max((line.strip() for text in texts for line in text.splitlines()), key=len)[:40]


def tell(server: Serving, question: str, seconds: float, most: int | None) -> None:
    of: collections.Counter[str] = collections.Counter()
    for request in server.requests:
        of[request.path] += request.stop - request.start
    main = ", ".join(f"{path} {count:,}" for path, count in of.most_common(3))
    over = f"  MORE THAN {most:,}" if most and server.sent > most else ""
    print(
        f"{question:<24}{server.sent:>12,}{len(server.requests):>10}{seconds:>9.2f}  {main}{over}"
    )


if __name__ == "__main__":
    main()
