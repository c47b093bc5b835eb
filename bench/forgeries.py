"""Forgeries of a small release: what catches each, what it names, and the work that takes.

    python bench/forgeries.py [--only WORDS]

Makes a small run, and from it every forgery of tests/forgery/table.py, each sealed as its maker
would. Seconds are those of verify, or of the audit of the step, on this tiny model: the steps
replayed are what counts elsewhere."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # The forgeries are the tests' own.

from tests.conftest import finish, make_run, write_corpus
from tests.forgery.caught import Forgery, look
from tests.forgery.forge import seal
from tests.forgery.table import FORGERIES


def row(forgery: Forgery, honest: Path, folder: Path) -> tuple[str, bool]:
    """A line of the table, and whether it was caught as the table says."""
    forgery.make(honest, folder)
    forgery.seal(folder)
    caught = look(forgery, honest, folder)
    found = bool(caught.by(forgery))
    named = f"{forgery.error}, {forgery.where}" if found else "NOT CAUGHT"
    words = f"{forgery.name:38} {forgery.by:7} {named:50}"
    return f"{words} {caught.replayed:8} {caught.seconds:8.2f}", found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="forgeries whose name holds this")
    arguments = parser.parse_args()
    wanted = [one for one in FORGERIES if arguments.only in one.name]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.environ["PELLUCID_CACHE"] = str(place / "cache")
        honest = finish(make_run(place / "small", write_corpus(place / "stones")))
        seal(honest)
        print(f"{'forgery':38} {'by':7} {'names':50} {'replayed':>8} {'seconds':>8}")
        caught = 0
        for forgery in wanted:
            line, found = row(forgery, honest, place / "forged")
            caught += found
            print(line, flush=True)
            shutil.rmtree(place / "forged")
    print(f"{caught} of {len(wanted)} caught")
    sys.exit(caught != len(wanted))


if __name__ == "__main__":
    main()
