"""What recording costs: training steps with everything recorded, against the
same steps with nothing recorded.

    python bench/recording.py [--pairs 48] [--preset 1M] [--commitment steps|microbatches] [--view]

One process, two states with the same initial weights and the same batches; a bare step and a
recorded step in turn, the first of each pair alternating. Both are
`pellucid.train.step.training_step`. The bare one is handed its batch ready and hashes nothing. The
recorded one makes its batch from the order and the shards, hashes the whole state (and every
microbatch's gradient, where the commitment is "microbatches"), writes the ledger, the metrics, and
the anchors and checkpoints that the recipe's defaults want.

--view serves the run beside that, as `pellucid run --view` does, and reads it as an open page does.
The page is open for 8 pairs and closed for the next 8, by turns: what recording costs in both, and
how much longer a bare step takes while the page is open."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

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
BLOCK = 8  # Pairs in which the page is open, and then as many in which it is closed.


class Pair(NamedTuple):
    """Seconds of a bare and of a recorded step."""

    bare: float
    recorded: float

    @property
    def ratio(self) -> float:
        return self.recorded / self.bare


def measure(folder: Path, pairs: int, page: Event | None) -> list[Pair]:
    """page: opens and closes the page, if there is one; the first pairs are of a closed one."""
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
            if page and pair > WARMUP and (pair - WARMUP - 1) % BLOCK == 0:
                page.set() if (pair - WARMUP - 1) // BLOCK % 2 else page.clear()
            for who in (0, 1) if pair % 2 else (1, 0):
                one_bare(pair) if who == 0 else one_recorded(record)
    if bare.roots().state != ours.roots().state:
        raise SystemExit("the two states differ: recording has changed a bit")
    return [Pair(*times) for times in zip(*seconds, strict=True)][WARMUP:]


@contextmanager
def viewed(folder: Path) -> Iterator[Event]:
    """With a server beside the run, and a process that stands for a page. Yields what opens it."""
    told, context = queue.SimpleQueue[tuple[str, str]](), multiprocessing.get_context("spawn")
    opened = context.Event()
    with beside(folder, lambda address, fault: told.put((address, fault))):
        address, fault = told.get()
        if fault:
            raise SystemExit(fault)
        page = context.Process(target=watch, args=(address, opened))
        page.start()
        try:
            yield opened
        finally:
            page.terminate()
            page.join()


def watch(address: str, opened: Event) -> None:
    """What an open page asks for: every two seconds whether there is something new, and then it."""

    def read(path: str) -> bytes:
        with urllib.request.urlopen(f"{address}site/{path}", timeout=60) as reply:
            return reply.read()

    mark = ""
    while opened.wait():
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
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--preset", choices=PRESETS, default="1M")
    parser.add_argument("--commitment", choices=("steps", "microbatches"), default="steps")
    parser.add_argument("--view", action="store_true", help="with a page, open and closed in turn")
    arguments = parser.parse_args()
    if arguments.view and arguments.pairs % (2 * BLOCK):
        parser.error(f"--view needs pairs in multiples of {2 * BLOCK}")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        recipe = prepared(folder, arguments.preset, arguments.commitment)
        others = measuring.Others()
        with viewed(folder) if arguments.view else nullcontext() as page:
            pairs = measure(folder, arguments.pairs, page)
        line = others.line()
    tokens = recipe.train.batch * recipe.model.context
    print(
        f"{arguments.preset}, {len(pairs)} interleaved pairs of steps of {tokens:,} tokens "
        f"in microbatches of {recipe.train.microbatch} sequences, "
        f"commitment to {arguments.commitment}"
    )
    if arguments.view:
        in_turn(pairs, tokens)
    else:
        told(pairs, tokens)
    print(f"  {line}")


def told(pairs: list[Pair], tokens: int) -> None:
    """Speeds, and what recording costs."""
    bare, recorded = zip(*pairs, strict=True)
    for name, seconds in (("nothing recorded", [*bare]), ("everything recorded", [*recorded])):
        apart = measuring.quartiles_apart(seconds)
        print(
            f"  {name:<20} {tokens / statistics.median(seconds):>9,.0f} tokens/s   "
            f"(quartiles {apart:.1%} apart)"
        )
    print(f"  recorded / bare      {measuring.with_interval([p.ratio for p in pairs], '.4f')}")


def in_turn(pairs: list[Pair], tokens: int) -> None:
    """The same of the pairs with a closed page and of those with an open one, and how both differ:
    by pairs at the same place of neighbouring blocks."""
    blocks = [pairs[at : at + BLOCK] for at in range(0, len(pairs), BLOCK)]
    closed, opened = blocks[::2], blocks[1::2]
    for name, some in (("closed", closed), ("open", opened)):
        print(f"page {name}")
        told([pair for block in some for pair in block], tokens)
    both = [
        pair for blocks in zip(closed, opened, strict=True) for pair in zip(*blocks, strict=True)
    ]
    print("open / closed")
    for name in ("bare", "recorded", "ratio"):
        ratios = [getattr(now, name) / getattr(before, name) for before, now in both]
        shown = "recorded / bare" if name == "ratio" else f"{name} step"
        print(f"  {shown:<20} {measuring.with_interval(ratios, '.4f')}")


if __name__ == "__main__":
    main()
