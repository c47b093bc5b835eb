"""The site of a release: how long it takes to make, how large it is, and how fast pages open.

    python bench/site.py RELEASE [--texts with] [--loads 20] [--rate 10 1.6] [--slow 4]

Makes the site anew in a temporary folder, in a process of its own. Then opens pages cold in
headless Chromium from a static server on this machine that compresses nothing, with the network
held to --rate Mbit/s and --latency ms a request and the processor slowed --slow times. Prints the
median and the 95th percentile of the largest contentful paint, the bytes and requests of a load,
and how many requests follow each other: each begun when the one before it had ended. Steps and
documents are drawn at random from --seed. Needs chromium."""

from __future__ import annotations

import argparse
from pathlib import Path

import browsing


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release", type=Path)
    browsing.add_arguments(parser)
    given = parser.parse_args()
    browsing.report(given.release, given)


if __name__ == "__main__":
    main()
