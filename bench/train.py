"""Training tokens/s with everything recorded, against a plain PyTorch loop of the same model.

    python bench/train.py [--pairs 60] [--preset 1M]

One process, two models with the same initial weights and the same batches; a plain step and a recorded
step in turn, the first of each pair alternating. The plain loop is what anybody would write: forward,
cross-entropy, backward, clipping, AdamW; it is handed its tokens ready. The recorded step makes its own
batch from the order and the shards, hashes the whole state, writes the ledger, the metrics, and the
anchors and checkpoints that the recipe's defaults want.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pellucid.demo import DATA
from pellucid.new import PRESETS, new
from pellucid.recipe import load
from pellucid.recorder import Recorder
from pellucid.replay import inputs as replay_inputs
from pellucid.run import run
from pellucid.terminal import Terminal
from pellucid.train import loop
from pellucid.train.state import State, initial

WARMUP = 4  # Pairs not counted.


def plain_step(state: State, tokens_BS: torch.Tensor, lr: float, microbatch: int, clip: float) -> float:
    """A step as a plain loop takes it; returns its loss."""
    state.optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for part in tokens_BS.split(microbatch):
        logits = state.model(part[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten()) * (len(part) / len(tokens_BS))
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), clip)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.step()
    return total


def measure(folder: Path, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of every plain and every recorded step."""
    recipe = load(folder)
    inputs = replay_inputs.load(folder, recipe)
    plain, ours = initial(recipe, inputs.vocabulary), initial(recipe, inputs.vocabulary)
    order = loop.Order.of(recipe, inputs.shards)
    recorded = loop.steps(ours, recipe, inputs.shards, recipe.train.steps)
    seconds: tuple[list[float], list[float]] = ([], [])

    def one_plain(step: int) -> None:
        tokens = torch.from_numpy(inputs.shards.sequences_at(order.batch(step)).astype(np.int64))
        started = time.perf_counter()
        plain_step(plain, tokens, recipe.train.lr, recipe.train.microbatch, recipe.train.clip)
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
                one_plain(pair) if who == 0 else one_recorded(record)
    return seconds[0][WARMUP:], seconds[1][WARMUP:]


def interval(values: list[float], draws: int = 10_000) -> tuple[float, float]:
    """The 95% bootstrap interval of the median."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--preset", choices=PRESETS, default="1M")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        new(folder, DATA, arguments.preset, ["train.steps=2000", "train.warmup=100"])
        for stage in ("documents", "tokenizer", "shards"):
            run(folder, Terminal(quiet=True), stage)
        plain, ours = measure(folder, arguments.pairs)
        recipe = load(folder)
    tokens = recipe.train.batch * recipe.model.context
    ratios = [a / b for a, b in zip(plain, ours, strict=True)]
    low, high = interval(ratios)
    threads = torch.get_num_threads()
    print(f"{arguments.preset}, {threads} threads, {len(ratios)} interleaved pairs of steps of {tokens} tokens")
    for name, seconds in (("plain PyTorch", plain), ("pellucid, recorded", ours)):
        lower, _, upper = statistics.quantiles(seconds, n=4)
        spread = (upper - lower) / statistics.median(seconds)
        print(f"  {name:<20} {tokens / statistics.median(seconds):>9,.0f} tokens/s   (quartiles {spread:.1%} apart)")
    print(f"  recorded / plain     {statistics.median(ratios):.4f}   95% interval {low:.4f} to {high:.4f}")


if __name__ == "__main__":
    main()
