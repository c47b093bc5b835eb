"""The site of a large release, which is simulated: nothing is trained.

    python bench/large.py FOLDER [--steps 100000] [--documents 1000000] [--texts with] [--keep]

Makes a release of --steps steps of 16 x 512 tokens over --documents made-up texts of 3 KB in the
median: data through the stages of Pellucid, then a ledger and tables of the right shape whose
digests and losses are made up. No audit would pass, and a site shows it as it shows any release. A
release that is in FOLDER already is taken as it is; without --keep it is removed at the end. With
--texts with, the site has the texts, which it leaves out by default if it is this large. The texts
follow the pairs of words in the reference of the Python language, so they are plausible word by
word and say nothing. Prints what bench/site.py prints."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import pydoc_data.topics
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import browsing
import numpy as np
import pyarrow as pa

from pellucid import recipe as recipes
from pellucid.data import documents, shards, stage, tokenizer
from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.recipe import Recipe
from pellucid.record import chain, digests
from pellucid.record.entries import DIGEST, FLOAT, STEP
from pellucid.store import files, layout, metrics

MEDIAN, SPREAD = (
    2_870,
    0.5,
)  # Characters of a text: log-normal; the longest texts are many times that.
CHAINS = 512  # Texts that are written at the same time.
AT_ONCE = 256  # Steps.
SOURCE = "words"
DONE = "texts.jsonl"
_WORD = re.compile(" ?[^ ]+| ")

RECIPE = """name = "simulated"
[[data.sources]]
name = "{source}"
format = "jsonl"
path = "{path}"
licence = "PSF-2.0"
[tokenizer]
vocabulary = 4096
sample_characters = 4000000
[model]
layers = 1
width = 32
heads = 2
kv_heads = 2
mlp_width = 64
context = 512
[train]
steps = {steps}
batch = 16
microbatch = 16
warmup = {warmup}
[validation]
every = {every}
[checkpoints]
every = {every}
[placement]
trace = false
"""


class Words:
    """A model of pairs of words: what follows a word is what follows one of its occurrences."""

    def __init__(self) -> None:
        said = "\n".join(pydoc_data.topics.topics.values())
        spelled = re.findall(r"[\w.,;:'()-]+\s?", said)
        number = {word: place for place, word in enumerate(dict.fromkeys(spelled))}
        self.words = list(number)
        self._said = np.array([number[word] for word in spelled])
        self._order = np.argsort(self._said, kind="stable")
        self._counts = np.bincount(self._said)
        self._first = np.cumsum(self._counts) - self._counts

    def follow(self, words_N: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """A word behind each of some words, shape (N,)."""
        place = (draws.random(len(words_N)) * self._counts[words_N]).astype(np.int64)
        behind = self._order[self._first[words_N] + place] + 1
        return self._said[behind % len(self._said)]

    def texts(self, count: int, draws: np.random.Generator) -> Iterator[str]:
        words_N = self._said[draws.integers(0, len(self._said), CHAINS)]
        while count > 0:
            sizes = np.exp(draws.normal(np.log(MEDIAN), SPREAD, CHAINS)).astype(np.int64) + 1
            columns = []
            for _ in range(int(sizes.max()) // 5):
                columns.append(words_N)
                words_N = self.follow(words_N, draws)
            for row, size in zip(np.stack(columns, 1)[:count], sizes.tolist(), strict=False):
                yield "".join(map(self.words.__getitem__, row[: size // 4].tolist()))[:size]
            count -= CHAINS


def write_texts(path: Path, count: int) -> None:
    draws = np.random.default_rng(1)
    with files.whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in Words().texts(count, draws))


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Texts of few words are encoded word by word: no token goes beyond the blank before a word."""
    encode, known = Tokenizer.encode_batch, dict[str, list[int]]()

    def from_cache(self: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
        made = [_WORD.findall(text) for text in texts]
        new = [word for word in {word for words in made for word in words} if word not in known]
        known.update(zip(new, (ids.tolist() for ids in encode(self, new)), strict=True))
        flat = itertools.chain.from_iterable
        return [np.fromiter(flat(map(known.__getitem__, words)), np.uint32) for words in made]

    Tokenizer.encode_batch = from_cache
    try:
        yield
    finally:
        Tokenizer.encode_batch = encode


def release(folder: Path, steps: int, count: int) -> None:
    """Make what is missing of the simulated release."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = folder.parent / f"{folder.name}-{DONE}"
    every = max(steps // 100, 1)
    text = RECIPE.format(source=SOURCE, path=texts, steps=steps, warmup=every, every=every)
    (folder / recipes.FILE).write_text(text)
    recipe = recipes.load(folder)
    if not (folder / layout.DATA_MANIFEST).is_file():
        if not (folder / stage.DOCUMENTS / stage.MANIFEST).is_file() and not texts.is_file():
            write_texts(texts, count)
        documents.prepare(recipe, folder)
        texts.unlink(missing_ok=True)
        tokenizer.prepare(recipe, folder)
        with cached():
            shards.prepare(recipe, folder)
    if not (folder / layout.LEDGER).is_file():
        write_tables(folder, recipe)
        write_ledger(folder, recipe)
    for step in range(0, steps + 1, every):
        layout.checkpoint(folder, step).mkdir(parents=True, exist_ok=True)


def loss(step: int | np.ndarray, steps: int) -> np.ndarray:
    return 2.5 + 5.5 * np.exp(-np.asarray(step) / (steps / 12))


def write_tables(folder: Path, recipe: Recipe) -> None:
    """The tables of metrics/, made in parts of some steps."""
    opened, draws = Shards.open(folder), np.random.default_rng(2)
    order, written = Order.of(folder, recipe, opened), metrics.Metrics(folder)
    targets, steps = recipe.model.context, recipe.train.steps
    for first in range(1, steps + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, steps)
        rows = list(order.each(first, last))
        epochs, blocks, starts = (
            np.concatenate([getattr(row, name) for row in rows])
            for name in ("epochs", "blocks", "starts")
        )
        batch = len(rows[0].blocks)
        step, row = (
            np.repeat(np.arange(first, last + 1), batch),
            np.tile(np.arange(batch), len(rows)),
        )
        held_BT = opened.documents_of(blocks, starts, targets)[0][:, 1:]
        begins_BT = np.ones(held_BT.shape, bool)
        begins_BT[:, 1:] = held_BT[:, 1:] != held_BT[:, :-1]
        at = np.flatnonzero(begins_BT)
        tokens = np.diff(at, append=begins_BT.size)
        which = at // targets
        noise = draws.normal(1, 0.15, len(at)) * (1 + draws.normal(0, 1, len(at)) / 40)
        sums = np.abs(loss(step[which], steps) * noise) * tokens
        segments = (step[which], row[which], held_BT.ravel()[at], at % targets, tokens)
        ones = np.ones(len(at), np.int64)
        total = np.bincount(which, sums, len(step))
        names, filled = np.full(len(step), SOURCE), np.full(len(step), targets)
        tables = {
            "segments": (*segments, ones, sums),
            "sequences": (step, row, epochs, names, blocks, starts, filled, total),
            "sources": _sources(step, total, targets),
            "steps": _steps(recipe, np.arange(first, last + 1), total.reshape(-1, batch), draws),
        }
        written.write_part(last, {name: _table(name, own) for name, own in tables.items()})
    every = recipe.validation.every
    due = np.arange(0, steps + 1, every)
    nats = loss(due, steps)
    size, ones = np.full(len(due), 65_536), np.ones(len(due), np.int64)
    columns = (due, np.full(len(due), SOURCE), size * ones, 4 * size, nats * size, nats, nats / 2.8)
    written.write_part(steps, {"validation": _table("validation", columns)})
    written.join()


def _sources(step: np.ndarray, total: np.ndarray, targets: int) -> tuple[np.ndarray, ...]:
    steps, rows = np.unique(step, return_counts=True)
    sums = np.add.reduceat(total, np.flatnonzero(np.diff(step, prepend=-1)))
    return steps, np.full(len(steps), SOURCE), rows * targets, sums


def _steps(
    recipe: Recipe, steps: np.ndarray, total: np.ndarray, draws: np.random.Generator
) -> tuple[np.ndarray, ...]:
    mean = total.sum(1) / (total.shape[1] * recipe.model.context)
    tokens = np.array([recipe.schedule.tokens(step) for step in steps.tolist()])
    rates = np.array([recipe.schedule.learning_rate(step) for step in steps.tolist()])
    phase = np.full(len(steps), recipe.schedule.phases[0].name)
    size = len(steps)
    norms = np.exp(draws.normal(0, 0.2, size)), 30 + np.sqrt(steps) / 10
    seconds = 1 + np.abs(draws.normal(0, 0.02, size))
    memory = np.full(size, 1 << 30)
    return (steps, phase, tokens, mean, mean, rates, *norms, seconds, 8192 / seconds, memory)


def _table(name: str, columns: tuple[np.ndarray, ...]) -> pa.Table:
    schema = metrics.TABLES[name]
    arrays = [pa.array(own.tolist(), kind.type) for own, kind in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def write_ledger(folder: Path, recipe: Recipe) -> None:
    path = folder / layout.LEDGER
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole_file(path) as partial, partial.open("wb") as file:
        file.writelines(chain.lines_of(_bodies(folder, recipe), chain.LedgerTip()))


def _bodies(folder: Path, recipe: Recipe) -> Iterator[dict[str, object]]:
    about = {"format": 1, "arithmetic": "portable 1", "pipeline": 2}
    data = files.read_json(folder / layout.DATA_MANIFEST)
    known = {"data": data["root"], "tokenizer": data["tokenizer"]}
    roots = {name: _digest(0, name) for name in ("weights", "state")}
    follows = {"recipe": recipe.digest().hex(), **known, **roots}
    yield {"kind": "genesis", **about, "recipe_version": 4, **follows}
    steps, every = recipe.train.steps, recipe.validation.every
    yield from _stored(0, steps)
    for batch in metrics.rows(folder, "steps"):
        for row in batch.to_pylist():
            step = row["step"]
            fields = {name: _field(row, name, written) for name, written in STEP.items()}
            yield {"kind": "step", "step": step, **fields}
            if step % every == 0:
                yield from _stored(step, steps)
    yield {"kind": "end", "step": steps}


def _field(row: dict[str, Any], name: str, written: str) -> str:
    if written == DIGEST:
        return _digest(row["step"], name)
    return digests.float_bits(row[name]) if written == FLOAT else str(row[name])


def _stored(step: int, steps: int) -> Iterator[dict[str, object]]:
    """The validation and the checkpoint of a step."""
    size = 65_536
    nats = digests.float_bits(float(loss(step, steps)) * size)
    source = {"source": SOURCE, "loss_sum": nats, "tokens": str(size), "bytes": str(4 * size)}
    yield {"kind": "validation", "step": step, "sources": [source]}
    yield {"kind": "checkpoint", "step": step, "root": _digest(step, "root")}


def _digest(step: int, name: str) -> str:
    return hashlib.sha256(f"{step} {name}".encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true", help="the release, for another time")
    browsing.add_arguments(parser)
    given = parser.parse_args()
    release(given.folder, given.steps, given.documents)
    browsing.report(given.folder, given)
    if not given.keep:
        shutil.rmtree(given.folder)


if __name__ == "__main__":
    main()
