"""How long `pellucid verify` of a release takes, start of the process included.

    python bench/verify.py RELEASE [--runs 10]

Run it with the interpreter of an environment without torch to see that none is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("release")
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    seconds = []
    for _ in range(arguments.runs):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pellucid", "verify", arguments.release],
            check=True,
            capture_output=True,
        )
        seconds.append(time.perf_counter() - started)
    torch = "with" if importlib.util.find_spec("torch") else "without"
    rest = (
        f"then {min(seconds[1:]):.2f} to {max(seconds[1:]):.2f} s, median "
        f"{statistics.median(seconds[1:]):.2f} s"
    )
    print(
        f"verify {arguments.release} {torch} torch installed: first {seconds[0]:.2f} s, {rest} "
        f"({len(seconds)} runs)"
    )


if __name__ == "__main__":
    main()
