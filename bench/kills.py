"""A run killed at a random moment and continued, again and again: always the same head and weights.

    python bench/kills.py [--kills 20] [--seed 1] [--processes 4] [--phases]

A small model on the sources of SymPy, from raw text to the finished run. Each trial is a
run of its own, killed with SIGKILL at a moment drawn from the whole length of the
undisturbed one, then continued.

With --processes, torchrun starts so many, one of them is killed, and any number from one up
continues; the undisturbed runs are one of one process and one of all.

With --phases the run has two sources and 32 phases of five steps, which differ in mixture, batch,
context, objective, learning rate and frozen weights. The data are made before, so that every
kill falls into training; a state is stored every 40 steps, so that most kills lose steps of
several phases."""

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

# Every fifth step another of these begins.
KINDS = (
    "shares = {sympy = 1}, batch = 8, microbatch = 4",
    "shares = {sympy = 3, pydantic = 1}, batch = 16, context = 64, objective = {z_loss = 1e-3}",
    'weights = {sympy = 1, pydantic = 9}, batch = 4, lr = 1e-3, schedule = "linear", warmup = 1',
    'shares = {pydantic = 1}, frozen = ["model.embed_tokens.weight"], rope_theta = 5e4',
)
PHASES = [f'{{name = "p{at}", steps = 5, {KINDS[at % 4]}}}' for at in range(32)]
PHASED = [
    "train.steps=160",
    "train.warmup=0",
    f"phase=[{', '.join(PHASES)}]",
    "placement.anchors.every=40",
    "placement.anchors.powers_of_two=false",
]

TRAINING = "training"

# Seconds within which the others end when one process is killed; torch's own limit is 30 minutes.
SOON = 30.0


@dataclass(frozen=True)
class Trial:
    number: int
    seconds: float  # From the start to the kill.
    processes: int
    victim: int  # The rank that is killed.
    then: int  # How many processes continue.


def template(folder: Path, phases: bool) -> Path:
    """The run that every trial is a copy of: a recipe, and with phases its data."""
    sources = ["package:sympy", *(["package:pydantic"] if phases else [])]
    new(folder, sources, "1M", [*SETTINGS, *(PHASED if phases else [])])
    for stage in ("documents", "tokenizer", "shards", "index") if phases else ():
        command = [sys.executable, "-m", "pellucid", "run", str(folder), "--only", stage]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def copy(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to


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


def phase_of(step: int) -> int:
    return (step - 1) // 5


@dataclass(frozen=True)
class Outcome:
    """What became of a trial."""

    training: bool  # Killed there, and not in the preparation of data.
    crossed: int  # Boundaries of phases between the first and the last step that the kill lost.
    head: str
    weights: str


def stage_of(folder: Path) -> str:
    """Where a killed run stands: TRAINING, or how far its data are."""
    if (folder / layout.LEDGER).is_file() and (folder / layout.LEDGER).stat().st_size:
        return TRAINING
    done = [name for name, finished in status(folder)["stages"].items() if finished]
    return f"data, after {done[-1]}" if done else "data, at its beginning"


def lost(folder: Path) -> tuple[int, int]:
    """The stored state that a killed run goes on from, and the last step in its ledger."""
    about = status(folder)
    return max((0, *about["anchors"])), about["steps_done"]


def crossed(state: int, last: int) -> int:
    """Boundaries of phases among the steps after a stored state, up to the last."""
    return phase_of(last) - phase_of(state + 1) if last > state else 0


def attempt(run: Path, trial: Trial, phases: bool) -> Outcome:
    folder, seconds = copy(run, run.parent / f"run{trial.number}"), trial.seconds
    # The machine is faster than it was, and the run had ended; or slower. Begin again.
    while not (killed := kill(folder, trial, seconds)) or (phases and stage_of(folder) != TRAINING):
        shutil.rmtree(folder)
        copy(run, folder)
        seconds *= 1.2 if killed else 0.7
    stage, boundaries = stage_of(folder), 0
    where = stage
    if phases:
        state, last = lost(folder)
        boundaries = crossed(state, last)
        where = f"at step {last}, state of step {state}: {boundaries} boundaries"
    finish(folder, trial.then)
    about = status(folder)
    who = f"process {trial.victim} of {trial.processes}, then {trial.then}  "
    print(
        f"  {trial.number:>3}  killed after {seconds:5.2f} s, {where:<28} "
        f"{who if trial.processes > 1 else ''}head {about['head'][:16]}",
        flush=True,
    )
    shutil.rmtree(folder)
    return Outcome(stage == TRAINING, boundaries, about["head"], about["weights"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--phases", action="store_true")
    arguments = parser.parse_args()
    count = arguments.processes
    SETTINGS.append(f"train.microbatch={4 if count == 1 else 1}")
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        run = template(Path(name) / "template", arguments.phases)
        # Two at a time, as the trials are, so that the moments fall over the whole length of a run.
        undisturbed = [copy(run, Path(name) / other) for other in ("undisturbed", "another")]
        started = time.perf_counter()
        list(pool.map(finish, undisturbed, [1, count]))
        length = time.perf_counter() - started
        whole, another = map(status, undisturbed)
        if another["head"] != whole["head"]:
            raise SystemExit("two undisturbed runs have two heads")
        print(
            f"undisturbed: {length:.1f} s, head {whole['head']}, weights {whole['weights']}",
            flush=True,
        )
        moments = [chance.uniform(0.2, length) for _ in range(arguments.kills)]
        trials = [
            Trial(number, moment, count, chance.randrange(count), chance.randint(1, count))
            for number, moment in enumerate(moments, 1)
        ]
        outcomes = list(pool.map(lambda trial: attempt(run, trial, arguments.phases), trials))
    training = sum(outcome.training for outcome in outcomes)
    equal = sum(
        (outcome.head, outcome.weights) == (whole["head"], whole["weights"]) for outcome in outcomes
    )
    print(f"{len(outcomes)} killed, {training} of them in training")
    if arguments.phases:
        across = sum(outcome.crossed > 0 for outcome in outcomes)
        print(f"{across} of {len(outcomes)} lost steps of more than one phase")
    print(f"{equal} of {len(outcomes)} ended with the undisturbed head and weights")
    sys.exit(equal != len(outcomes))


if __name__ == "__main__":
    main()
