"""A run killed at a random moment and continued, again and again: always the same head and weights.

    python bench/kills.py [--kills 20] [--seed 1]

A small model on the sources of SymPy, from raw text to the finished run. Each trial is a run of its own,
killed with SIGKILL at a moment drawn from the whole length of the undisturbed one, then continued.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pellucid.look.status import status
from pellucid.new import new
from pellucid.store import layout

SETTINGS = [
    "model.layers=2",
    "model.width=64",
    "model.mlp_width=176",
    "tokenizer.vocabulary=1024",
    "train.steps=80",
    "train.warmup=10",
    "train.batch=8",
    "train.microbatch=4",
    "validation.every=40",
    "validation.tokens=4096",
    "checkpoints.every=40",
    "placement.anchors.every=25",
    "placement.threads=1",
]


def make(folder: Path) -> Path:
    new(folder, ["package:sympy"], "1M", SETTINGS)
    return folder


def run(folder: Path, seconds: float | None = None) -> bool:
    """Run to the end, or kill it after so many seconds; whether it was killed."""
    command = [sys.executable, "-m", "pellucid", "run", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    if process.returncode:
        raise SystemExit(f"{folder}: exit code {process.returncode}")
    return False


def stage_of(folder: Path) -> str:
    """Where a killed run stands."""
    if (folder / layout.LEDGER).is_file() and (folder / layout.LEDGER).stat().st_size:
        return "training"
    done = [name for name, finished in status(folder)["stages"].items() if finished]
    return f"data, after {done[-1]}" if done else "data, at its beginning"


def trial(place: Path, number: int, seconds: float) -> tuple[str, str, str]:
    folder = make(place / f"run{number}")
    while not run(folder, seconds):  # It was done before: the machine is faster than it was. Begin again.
        shutil.rmtree(folder)
        make(folder)
        seconds *= 0.7
    where = stage_of(folder)
    run(folder)
    about = status(folder)
    print(f"  {number:>3}  killed after {seconds:5.2f} s, {where:<28} head {about['head'][:16]}", flush=True)
    return where, about["head"], about["weights"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        # Two at a time, as the trials are, so that the moments fall over the whole length of a run.
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run, [make(place / "undisturbed"), make(place / "another")]))
        length = time.perf_counter() - started
        whole = status(place / "undisturbed")
        if status(place / "another")["head"] != whole["head"]:
            raise SystemExit("two undisturbed runs have two heads")
        print(f"undisturbed: {length:.1f} s, head {whole['head']}, weights {whole['weights']}", flush=True)
        moments = [chance.uniform(0.2, length) for _ in range(arguments.kills)]
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda job: trial(place, *job), enumerate(moments, 1)))
    training = sum(one[0] == "training" for one in found)
    equal = sum(one[1:] == (whole["head"], whole["weights"]) for one in found)
    print(f"{len(found)} killed, {training} of them in training")
    print(f"{equal} of {len(found)} ended with the undisturbed head and weights")
    sys.exit(equal != len(found))


if __name__ == "__main__":
    main()
