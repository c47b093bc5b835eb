"""A run that is made to memorise: what copies, epochs and time do to what can be extracted.

    python bench/memorization.py [FOLDER] [--svg docs/images/memorization.svg]
    python bench/memorization.py FOLDER --only

Random texts stand in a small corpus 1, 2, 4 … 64 times, 20 of each, in different documents. The run
has 8 epochs and is asked at the end of each: the task `memorization`, and every random text. It
exits with 1 unless the mean share of right tokens rises with the copies (Spearman's rank
correlation of at least 0.9 after epochs 1, 2 and 4, before all is known), and unless text that was
seen lately has a lower loss than what its step saw again after longer.

--only: measure the run of FOLDER as it is, whatever it was trained on, by the task alone."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pellucid.analysis.forgetting import forgetting
from pellucid.analysis.forgetting import lines as losses
from pellucid.analysis.memorization import Memorization, lines, matrix, picture
from pellucid.changes import change_recipe
from pellucid.data.streams import Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.evaluate import kept
from pellucid.evaluate.measure import measure
from pellucid.evaluate.suite.memorization import NAME, Drawn, memorization
from pellucid.evaluate.task import Task
from pellucid.inputs import Inputs
from pellucid.measured import stored
from pellucid.measured.intervals import of_mean
from pellucid.new import new
from pellucid.recipe import load
from pellucid.record.requests import Continue, Example
from pellucid.run import run
from pellucid.store import files, layout
from pellucid.terminal import Terminal
from pellucid.trace.where import Traced

EPOCHS, TEXTS, COPIES = 8, 20, (1, 2, 4, 8, 16, 32, 64)
WORDS, SENTENCES = 68, 1500  # Of a random text; beside them.
PROMPT = TOKENS = 32
BAR = 0.9
SETTINGS: str = """model.layers=3 model.width=128 model.heads=4 model.kv_heads=4 model.mlp_width=352
    model.context=128 tokenizer.vocabulary=1024 train.batch=16 train.microbatch=16 train.lr=8e-3
    optimizer.kind=muon train.warmup=20 data.validation_per_10000=300 checkpoints.every=1000000
    validation.every=1000000"""
HARNESS = ("bench/memorization.py", "1")


class Planted(NamedTuple):
    """A random text, and how often it stands in the training data."""

    example: Example
    copies: int


def corpus(folder: Path) -> list[str]:
    """Write the documents, if they are not there; returns the random texts, by how often each
    stands in them."""
    chance = random.Random(1)
    letters = ("bdfgklmnprst", "aeiou")
    syllables = [a + b for a in letters[0] for b in letters[1]]
    words = ["".join(chance.choices(syllables, k=2)) for _ in range(400)]
    texts = [" ".join(chance.choices(words, k=WORDS)) for _ in COPIES for _ in range(TEXTS)]

    def sentence() -> str:
        one, two, three = chance.choices(words, k=3)
        return f"The {one} has seen {chance.randrange(10**6)} of the {two} in {three}."

    documents = [f"{sentence()} {sentence()}\n" for _ in range(SENTENCES)]
    for number, text in enumerate(texts):
        for _ in range(COPIES[number // TEXTS]):
            documents.append(f"{sentence()} {text} {sentence()}\n")
    chance.shuffle(documents)
    if folder.exists():
        return texts
    folder.mkdir(parents=True)
    for number, document in enumerate(documents):
        (folder / f"{number:05}.txt").write_text(document, encoding="utf-8")
    return texts


def made(folder: Path) -> list[str]:
    """The run, of whole epochs, with a state at the end of each and in the middle of the last."""
    texts, place = corpus(folder / "texts"), folder / "run"
    if (place / layout.LEDGER).exists():
        run(place, Terminal())
        return texts
    new(place, [str(folder / "texts")], "1M", [*SETTINGS.split()])
    for stage in ("documents", "tokenizer", "shards"):
        run(place, Terminal(quiet=True), stage)
    recipe, shards = load(place), Shards.open(place)
    phase = recipe.phases[0]
    epoch = -(-shards.blocks * shards.block // phase.tokens)
    every = f"placement.anchors.every={max(1, epoch // 2)}"
    change_recipe(place, [f"train.steps={epoch * EPOCHS}", every])
    run(place, Terminal())
    return texts


def planted(folder: Path, texts: Sequence[str]) -> list[Planted]:
    """The random texts as examples, as their tokens stand in the data."""
    tokenizer, traced, found = Tokenizer.load(folder / layout.TOKENIZER), Traced(folder), []
    for number, text in enumerate(texts):
        ids = tokenizer.encode(f" {text}")[: PROMPT + TOKENS]
        assert len(ids) == PROMPT + TOKENS
        request = Continue(tuple(ids[:PROMPT]), TOKENS)
        example = Example(f"text {number}", request, tuple(ids[PROMPT:]), f"text {number}")
        found.append(Planted(example, traced.count(traced.query(f" {text} "))))
    return found


def asked(folder: Path, tasks: list[Task], steps: list[int]) -> None:
    """Ask the tasks of steps, and keep what they answer. Tells how long that took."""
    inputs, began = Inputs.load(folder, load(folder)), time.perf_counter()
    tokens = sum(
        len(one.request.ids) + one.request.tokens
        for task in tasks
        for one in task.examples
        if isinstance(one.request, Continue)
    )
    with kept.writing(folder, tasks, steps) as chain:
        known = stored.entries(folder)
        for one in measure(inputs, tasks, steps, lambda *_: None, lambda *_: None, known):
            if one.entry is None:
                chain.keep(kept.evaluation(inputs.recorded(), one.step, one.task, one.answers))
    spent = time.perf_counter() - began
    print(f"asked {tokens * len(steps):,} tokens at {len(steps)} steps in {spent:.0f} s\n")


def by_copies(folder: Path, known: Sequence[Planted], steps: Sequence[int]) -> bool:
    """Print what the random texts have at every step; whether the last one passes the bar."""
    entries = {one["step"]: one for one in stored.of_run(folder) if one["task"] == "planted"}
    print(f"{'copies':>6}  " + "  ".join(f"step {step:<15,}" for step in steps) + "  (exact)")
    shares = {}
    for step in steps:
        rows = {line.example.name: line.numbers for line in stored.lines(folder, entries[step])}
        shares[step] = [rows[one.example.name] for one in known]
    for level, copies in enumerate(COPIES):
        here = range(level * TEXTS, (level + 1) * TEXTS)
        cells = []
        for step in steps:
            values = [shares[step][place]["share"] for place in here]
            exact = sum(shares[step][place]["exact"] for place in here)
            interval = of_mean(values)
            between = f"{interval.low:.2f}-{interval.high:.2f}" if interval else "-"
            cells.append(f"{statistics.mean(values):.2f} {between} ({exact:2.0f})")
        print(f"{copies:>6}  " + "  ".join(cells))
    print(f"\n{'step':>6}  correlation of copies with the mean share, with the mean of exact")
    held = True
    for step in steps:
        told = []
        for name in ("share", "exact"):
            values = np.array([one[name] for one in shares[step]]).reshape(len(COPIES), TEXTS)
            value, low, high = correlation(values)
            told.append(f"{value:.3f} ({low:.3f} to {high:.3f})")
            held &= value >= BAR or name == "exact" or step == steps[-1]
        print(f"{step:>6,}  {'  '.join(told)}")
    print(f"texts in the training data as often as planted: {_as_planted(known)} of {len(known)}")
    return held


def _as_planted(known: Sequence[Planted]) -> int:
    """The others lost copies to validation."""
    return sum(one.copies == COPIES[place // TEXTS] for place, one in enumerate(known))


def correlation(values_LT: np.ndarray) -> tuple[float, float, float]:
    """Spearman's of copies with the mean over texts, and its 95% interval by 2,000 bootstrap
    samples of the texts of each level (percentiles)."""
    copies, chance, drawn = np.array(COPIES, float), np.random.default_rng(1), []
    for _ in range(2000):
        places_LT = chance.integers(0, TEXTS, values_LT.shape)
        drawn.append(spearman(copies, np.take_along_axis(values_LT, places_LT, 1).mean(1)))
    low, high = np.nanpercentile(drawn, [2.5, 97.5]).tolist()
    return spearman(copies, values_LT.mean(1)), low, high


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of ranks, equals with their mean rank."""
    one, other = _ranks(a), _ranks(b)
    if one.std() == 0 or other.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def told(folder: Path, svg: Path | None) -> Memorization:
    """Print what the task says, and what the losses say."""
    found = matrix(folder)
    assert found is not None
    print("\n".join(lines(found)))
    print("\nLosses of text that was trained on again:\n" + "\n".join(losses(forgetting(folder))))
    if svg:
        files.write_bytes(svg, picture(found).encode())
        print(f"drawn in {svg}")
    return found


def recent(folder: Path) -> bool:
    """Whether text that was seen lately has a lower loss beside its step's others: the first range
    of steps against the last, of those with 1,000 parts, by their intervals."""
    first, *_, last = (row for row in forgetting(folder).recency if row.parts >= 1000)
    near, far = (row.beside.interval if row.beside else None for row in (first, last))
    return near is not None and far is not None and near.high < far.low


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--only", action="store_true", help="measure the run of FOLDER")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "memorization"
        texts = [] if arguments.only else made(folder)
        place = folder if arguments.only else folder / "run"
        inputs = Inputs.load(place, load(place))
        last, drawn = inputs.recorded().steps_done, Drawn.of(inputs.recipe)
        task = memorization(inputs.recipe, inputs.shards, inputs.order, drawn)
        assert task.name == NAME
        if arguments.only:
            asked(place, [task], [last * part // 10 for part in range(11)])
            told(place, arguments.svg)
            return
        steps = [last * part // EPOCHS for part in range(EPOCHS + 1)]
        known = planted(place, texts)
        own = Task("planted", "extraction", [one.example for one in known], harness=HARNESS)
        asked(place, [task, own], sorted({*steps, last * (2 * EPOCHS - 1) // (2 * EPOCHS)}))
        rises = by_copies(place, known, [steps[at] for at in (1, 2, 4, 8)])
        told(place, arguments.svg)
        forgets = recent(place)
    print(f"share rises with copies: {'yes' if rises else 'NO'} (bar {BAR})")
    print(f"text seen lately has a lower loss: {'yes' if forgets else 'NO'}")
    sys.exit(not (rises and forgets))


if __name__ == "__main__":
    main()
