"""What an audit costs: steps replayed and compared, against the same steps
trained; and one microbatch of a step.

    python bench/audit.py [--pairs 20] [--preset 1M] [--microbatch 1] [--fifths 10]

Of the demo's data a run is trained with microbatches of so many sequences and a commitment to each
of them. In one process a state is trained, everything recorded, and another replays: each step is
taken once by either, in turn, and the replay compares every field with the ledger that the training
has just written. Bar: a replayed step costs at most 1.15 of the time that the step took in training
(`seconds` in metrics/steps, in which no recording is counted).

Then one microbatch of a step, against the whole step replayed from the same state: under a
fifth, where a step has 16. What it takes to have the state before it is shown beside it:
reading and hashing an anchor."""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import measuring

from pellucid.demo import DATA
from pellucid.inputs import Inputs, anchored_state
from pellucid.new import PRESETS, new
from pellucid.recipe import load
from pellucid.recorder import Recorder
from pellucid.replay.materialise import replay
from pellucid.replay.microbatch import count_of, taken_again
from pellucid.run import run
from pellucid.store.ledger import LedgerFile
from pellucid.terminal import Terminal
from pellucid.train import loop
from pellucid.train.state import State, initial

WARMUP = 3  # Pairs not counted.


def pairs(inputs: Inputs, count: int) -> tuple[list[float], list[float]]:
    """Seconds of every step in training, and of the same step replayed and compared."""
    recipe, folder = inputs.recipe, inputs.folder
    trained, again = initial(recipe, inputs.vocabulary), initial(recipe, inputs.vocabulary)
    training, replaying = [], []
    with Recorder(folder, recipe, inputs.identity) as record:
        record.begin(trained.groups())
        record.keep(trained.groups())
        for stepped in loop.steps(trained, recipe, inputs.batch, WARMUP + count):
            record.step(stepped, trained.groups())
            record.keep(trained.groups(), force=stepped.batch.step == WARMUP + count)
            training.append(stepped.seconds)
            replaying.append(replayed(inputs, again))
    return training[WARMUP:], replaying[WARMUP:]


def replayed(inputs: Inputs, state: State) -> float:
    """Seconds of one more step replayed and compared."""
    opened = dataclasses.replace(inputs, ledger=LedgerFile(inputs.folder))
    started = time.perf_counter()
    for one in replay(opened, state, state.step + 1):
        if one.differing():
            raise SystemExit(f"step {state.step} differs: {one.differing()}")
    return time.perf_counter() - started


def microbatches(inputs: Inputs, count: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds to load a state, of one microbatch of the step behind it, and
    of that whole step; in turn."""
    opened = dataclasses.replace(inputs, ledger=LedgerFile(inputs.folder))
    loading, single, whole = [], [], []
    for number in range(count + 1):
        started = time.perf_counter()
        state = anchored_state(opened, 0)
        loaded = time.perf_counter()
        taken_again(opened, state, number % count_of(opened, 1))
        done = time.perf_counter()
        loading.append(loaded - started)
        single.append(done - loaded)
        whole.append(replayed(inputs, state))
    return loading[1:], single[1:], whole[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--fifths", type=int, default=10, help="microbatches and whole steps")
    parser.add_argument("--preset", choices=PRESETS, default="1M")
    parser.add_argument("--microbatch", type=int, default=1, help="sequences")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        settings = [f"train.microbatch={arguments.microbatch}", "record.commitment=microbatches"]
        new(folder, DATA, arguments.preset, settings)
        for stage in ("documents", "tokenizer", "shards"):
            run(folder, Terminal(quiet=True), stage)
        inputs = Inputs.load(folder, load(folder))
        others = measuring.Others()
        trained, again = pairs(inputs, arguments.pairs)
        loading, single, whole = microbatches(inputs, arguments.fifths)
        line = others.line()
    train = inputs.recipe.train
    print(
        f"{arguments.preset}, steps of {train.batch} sequences in microbatches of "
        f"{train.microbatch}, each committed to"
    )
    print(
        f"  trained              {statistics.median(trained):.4f} s a step, recording not counted"
    )
    print(f"  replayed, compared   {statistics.median(again):.4f} s a step")
    ratios = [b / a for a, b in zip(trained, again, strict=True)]
    print(
        f"  replayed / trained   {measuring.with_interval(ratios, '.3f')}, {len(ratios)} pairs; "
        "at most 1.15"
    )
    print(f"  state loaded         {statistics.median(loading):.4f} s")
    print(f"  one microbatch       {statistics.median(single):.4f} s")
    parts = [a / b for a, b in zip(single, whole, strict=True)]
    print(
        f"  microbatch / step    {measuring.with_interval(parts, '.3f')}, {len(parts)} pairs; "
        "under 0.2 for 1 in 16"
    )
    print(f"  {line}")


if __name__ == "__main__":
    main()
