"""A run killed at a random moment and continued, again and again: always the same head and weights.

    python bench/kills.py [--kills 20] [--seed 1] [--processes 4]

A small model on the sources of SymPy, from raw text to the finished run. Each trial is a
run of its own, killed with SIGKILL at a moment drawn from the whole length of the
undisturbed one, then continued.

With --processes, torchrun starts so many, one of them is killed, and any number from one up
continues; the undisturbed runs are one of one process and one of all."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    "validation.every=40",
    "validation.tokens=4096",
    "checkpoints.every=40",
    "placement.anchors.every=25",
    "placement.threads=1",
]


# Seconds within which the others end when one process is killed; torch's own limit is 30 minutes.
SOON = 30.0


@dataclass(frozen=True)
class Trial:
    number: int
    seconds: float  # From the start to the kill.
    processes: int
    victim: int  # The rank that is killed.
    then: int  # How many processes continue.


def make(folder: Path) -> Path:
    new(folder, ["package:sympy"], "1M", SETTINGS)
    return folder


def start(folder: Path, processes: int) -> subprocess.Popen[bytes]:
    launch = (
        ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    )
    command = [sys.executable, *launch, "-m", "pellucid", "run", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(folder: Path, processes: int) -> None:
    if code := start(folder, processes).wait():
        raise SystemExit(f"{folder}: exit code {code}")


def kill(folder: Path, trial: Trial, seconds: float) -> bool:
    """Start a run and kill it after so many seconds, or one of its
    processes; False: it was done before."""
    process = start(folder, trial.processes)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    while process.poll() is None:
        victim = process.pid if trial.processes == 1 else worker(process.pid, trial.victim)
        if victim is not None:  # torchrun may not have started it yet.
            os.kill(victim, signal.SIGKILL)
            process.wait(SOON)
            return True
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{folder}: exit code {process.returncode}")
    return False


def worker(launcher: int, rank: int) -> int | None:
    """The process that a torchrun started as `rank`, from /proc."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        with contextlib.suppress(OSError):  # It has just ended.
            if f"RANK={rank}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    return None


def stage_of(folder: Path) -> str:
    """Where a killed run stands."""
    if (folder / layout.LEDGER).is_file() and (folder / layout.LEDGER).stat().st_size:
        return "training"
    done = [name for name, finished in status(folder)["stages"].items() if finished]
    return f"data, after {done[-1]}" if done else "data, at its beginning"


def attempt(place: Path, trial: Trial) -> tuple[str, str, str]:
    folder, seconds = make(place / f"run{trial.number}"), trial.seconds
    # It was done before: the machine is faster than it was. Begin again.
    while not kill(folder, trial, seconds):
        shutil.rmtree(folder)
        make(folder)
        seconds *= 0.7
    where = stage_of(folder)
    finish(folder, trial.then)
    about = status(folder)
    who = (
        f"process {trial.victim} of {trial.processes}, then {trial.then}  "
        if trial.processes > 1
        else ""
    )
    print(
        f"  {trial.number:>3}  killed after {seconds:5.2f} s, {where:<28} {who}head {about['head'][:16]}",
        flush=True,
    )
    return where, about["head"], about["weights"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    all_of_them = arguments.processes
    SETTINGS.append(f"train.microbatch={4 if all_of_them == 1 else 1}")
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        # Two at a time, as the trials are, so that the moments fall over the whole length of a run.
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    finish, [make(place / "undisturbed"), make(place / "another")], [1, all_of_them]
                )
            )
        length = time.perf_counter() - started
        whole = status(place / "undisturbed")
        if status(place / "another")["head"] != whole["head"]:
            raise SystemExit("two undisturbed runs have two heads")
        print(
            f"undisturbed: {length:.1f} s, head {whole['head']}, weights {whole['weights']}",
            flush=True,
        )
        moments = [chance.uniform(0.2, length) for _ in range(arguments.kills)]
        trials = [
            Trial(
                number,
                moment,
                all_of_them,
                chance.randrange(all_of_them),
                chance.randint(1, all_of_them),
            )
            for number, moment in enumerate(moments, 1)
        ]
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda trial: attempt(place, trial), trials))
    training = sum(one[0] == "training" for one in found)
    equal = sum(one[1:] == (whole["head"], whole["weights"]) for one in found)
    print(f"{len(found)} killed, {training} of them in training")
    print(f"{equal} of {len(found)} ended with the undisturbed head and weights")
    sys.exit(equal != len(found))


if __name__ == "__main__":
    main()
