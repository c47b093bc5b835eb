"""What recording costs: training steps with everything recorded, against the
same steps with nothing recorded.

    python bench/recording.py [--pairs 40] [--preset 1M] [--commitment steps|microbatches] [--view]

One process, two states with the same initial weights and the same batches; a bare step and a
recorded step in turn, the first of each pair alternating. Both are
`pellucid.train.step.training_step`. The bare one is handed its batch ready and hashes nothing. The
recorded one makes its batch from the order and the shards, hashes the whole state (and every
microbatch's gradient, where the commitment is "microbatches"), writes the ledger, the metrics, and
the anchors and checkpoints that the recipe's defaults want.

--view serves the run beside that, and reads it as an open page does."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import queue
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import measuring

from pellucid.demo import DATA
from pellucid.inputs import Inputs
from pellucid.new import PRESETS, new
from pellucid.recipe import Recipe, load
from pellucid.recorder import Recorder
from pellucid.run import run
from pellucid.site.beside import beside
from pellucid.terminal import Terminal
from pellucid.train import loop
from pellucid.train.state import initial
from pellucid.train.step import training_step

WARMUP = 4  # Pairs not counted.


def measure(folder: Path, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of every bare and every recorded step."""
    recipe = load(folder)
    inputs = Inputs.load(folder, recipe)
    bare, ours = initial(recipe, inputs.vocabulary), initial(recipe, inputs.vocabulary)
    unhashed = without_commitment(recipe)
    recorded = loop.steps(ours, recipe, inputs.batch, recipe.train.steps)
    seconds: tuple[list[float], list[float]] = ([], [])

    def one_bare(step: int) -> None:
        started = time.perf_counter()
        training_step(bare, inputs.batch(step), unhashed)
        seconds[0].append(time.perf_counter() - started)

    def one_recorded(record: Recorder) -> None:
        started = time.perf_counter()
        stepped = next(recorded)
        record.step(stepped, ours.groups())
        record.keep(ours.groups())
        seconds[1].append(time.perf_counter() - started)

    with Recorder(folder, recipe, inputs.identity) as record:
        record.begin(ours.groups())
        record.keep(ours.groups())
        for pair in range(1, pairs + WARMUP + 1):
            for who in (0, 1) if pair % 2 else (1, 0):
                one_bare(pair) if who == 0 else one_recorded(record)
    if bare.roots().state != ours.roots().state:
        raise SystemExit("the two states differ: recording has changed a bit")
    return seconds[0][WARMUP:], seconds[1][WARMUP:]


@contextlib.contextmanager
def viewed(folder: Path) -> Iterator[None]:
    """With the run open in a page, which a process of its own stands for."""
    told = queue.SimpleQueue[str]()
    with beside(folder, lambda address, fault: told.put(address)):
        page = multiprocessing.get_context("spawn").Process(target=watch, args=(told.get(),))
        page.start()
        try:
            yield
        finally:
            page.terminate()
            page.join()


def watch(address: str) -> None:
    """What an open page asks for: every two seconds whether there is something new, and then it."""

    def read(path: str) -> bytes:
        with urllib.request.urlopen(f"{address}site/{path}", timeout=60) as reply:
            return reply.read()

    mark = ""
    while True:
        live = json.loads(read("live"))
        if live["mark"] != mark:
            mark = live["mark"]
            for name in ("overview", "curves/level0/00000", "steps/00000"):
                read(f"data/{name}.js")
        time.sleep(2)


def without_commitment(recipe: Recipe) -> Recipe:
    """The same recipe, with no gradient hashed inside the step."""
    return recipe.model_copy(
        update={"record": recipe.record.model_copy(update={"commitment": "steps"})}
    )


def prepared(folder: Path, preset: str, commitment: str) -> Recipe:
    """A run of the demo's data, ready to train."""
    settings = ["train.steps=2000", "train.warmup=100", f"record.commitment={commitment}"]
    new(folder, DATA, preset, settings)
    for stage in ("documents", "tokenizer", "shards"):
        run(folder, Terminal(quiet=True), stage)
    return load(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--preset", choices=PRESETS, default="1M")
    parser.add_argument("--commitment", choices=("steps", "microbatches"), default="steps")
    parser.add_argument("--view", action="store_true", help="with the run open in a page")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        recipe = prepared(folder, arguments.preset, arguments.commitment)
        others = measuring.Others()
        with viewed(folder) if arguments.view else contextlib.nullcontext():
            bare, recorded = measure(folder, arguments.pairs)
        line = others.line()
    tokens = recipe.train.batch * recipe.model.context
    print(
        f"{arguments.preset}, {len(bare)} interleaved pairs of steps of {tokens:,} tokens "
        f"in microbatches of {recipe.train.microbatch} sequences, "
        f"commitment to {arguments.commitment}" + (", viewed" if arguments.view else "")
    )
    for name, seconds in (("nothing recorded", bare), ("everything recorded", recorded)):
        apart = measuring.quartiles_apart(seconds)
        print(
            f"  {name:<20} {tokens / statistics.median(seconds):>9,.0f} tokens/s   "
            f"(quartiles {apart:.1%} apart)"
        )
    ratios = [a / b for a, b in zip(bare, recorded, strict=True)]
    print(f"  recorded / bare      {measuring.with_interval(ratios, '.4f')}")
    print(f"  {line}")


if __name__ == "__main__":
    main()
