"""What `pellucid plan` predicts beside what is measured: memory, seconds a
step, and the bytes of a release.

    python bench/plan.py [--shapes 1M:16:16 10M:8:4 …] [--arithmetic portable native]
    [--threads 2] [--release demo]

A shape is PRESET:BATCH:MICROBATCH. Each is trained for three steps on generated tokens in a process
of its own, with nothing recorded, so the copy of a state that is written is left out of what is
predicted. Memory is the process's peak; the time is the last step's, beside what a calibration in
another process predicts. A release is a finished run."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import measuring

from pellucid import counts
from pellucid.new import PRESETS
from pellucid.plan.facts import facts
from pellucid.plan.sizes import shape_of
from pellucid.plan.storage import Storage
from pellucid.recipe import Data, Recipe, Source, Train, load
from pellucid.store import layout


def recipe_of(shape: str, arithmetic: str) -> tuple[Recipe, int]:
    preset, batch, microbatch = shape.split(":")
    model = shape_of(PRESETS[preset])
    train = Train.model_validate(
        {
            "arithmetic": arithmetic,
            "batch": int(batch),
            "microbatch": int(microbatch),
            "steps": 1000,
        }
    )
    data = Data(sources=(Source(name="generated"),))
    return Recipe(name="bench", data=data, model=model, train=train), PRESETS[preset].vocabulary


def trained(shape: str, arithmetic: str, threads: int) -> None:
    """In a process of its own: three steps; prints bytes before the model, bytes at
    the peak, seconds of the last."""
    import pyarrow.parquet  # noqa: F401 - what a run has loaded.

    from pellucid import operations
    from pellucid.plan.calibrate import generated
    from pellucid.train.state import initial
    from pellucid.train.step import training_step

    recipe, vocabulary = recipe_of(shape, arithmetic)
    operations.of(arithmetic, "cpu").configure("cpu", threads)
    libraries = measuring.memory("VmRSS")
    state, seconds = initial(recipe, vocabulary), 0.0
    for batch in generated(recipe, vocabulary, 3):
        seconds = training_step(state, batch, recipe).seconds
    print(libraries, measuring.memory("VmHWM"), seconds)


def calibrated(shape: str, arithmetic: str, threads: int) -> None:
    """In a process of its own: seconds of a step, as a plan predicts them."""
    from pellucid.plan.calibrate import calibrate

    recipe, vocabulary = recipe_of(shape, arithmetic)
    placement = recipe.placement.model_copy(update={"threads": threads})
    speed = calibrate(recipe.model_copy(update={"placement": placement}), vocabulary)
    if speed is None:
        raise SystemExit(f"{shape} does not fit in this machine's memory")
    print(speed.step(recipe.train.batch // recipe.train.microbatch), speed.took)


def process(what: str, shape: str, arithmetic: str, threads: int) -> list[float]:
    command = [
        sys.executable,
        __file__,
        "--one",
        what,
        "--shapes",
        shape,
        "--arithmetic",
        arithmetic,
    ]
    done = subprocess.run(
        [*command, "--threads", str(threads)], check=True, capture_output=True, text=True
    )
    return [float(word) for word in done.stdout.split()]


def compare(shape: str, arithmetic: str, threads: int) -> None:
    libraries, peak, seconds = process("trained", shape, arithmetic, threads)
    expected, took = process("calibrated", shape, arithmetic, threads)
    recipe, vocabulary = recipe_of(shape, arithmetic)
    found = counts.memory(recipe, vocabulary, threads, int(libraries))
    predicted = found.peak - found.writing - found.rows
    ratios = f"{predicted / peak:>5.2f}", f"{expected / seconds:>5.2f}"
    print(f"{shape:<10} {arithmetic:<9}", end="")
    print(
        f" memory {predicted / 1e6:>7,.0f} MB predicted {peak / 1e6:>7,.0f} measured {ratios[0]}",
        end="",
    )
    print(f"   step {expected:>6.2f} s predicted {seconds:>6.2f} measured {ratios[1]}", end="")
    print(f"   (calibrated in {took:.1f} s)", flush=True)


def release(folder: Path) -> None:
    recipe = load(folder)
    storage = Storage(recipe, facts(folder, recipe))
    real: dict[str, dict[int, int]] = {}
    # Weights that a checkpoint and an anchor share are predicted as the
    # checkpoint's, so those come first.
    paths = sorted(
        (path for path in folder.rglob("*") if path.is_file()),
        key=lambda p: (layout.ANCHORS in p.parts, p),
    )
    for path in paths:
        about, names = path.stat(), path.relative_to(folder).parts
        what = (
            "checkpoints"
            if len(names) == 1
            else Path(*names[:2]).as_posix()
            if names[0] == "data"
            else names[0]
        )
        if path == folder / layout.LEDGER:
            what = "ledger"
        if not any(about.st_ino in files for files in real.values()):  # Linked files count once.
            real.setdefault(what, {})[about.st_ino] = about.st_size
    names = {"documents": "data/documents", "shards": "data/shards", "tokenizer": "data/tokenizer"}
    for name, predicted in storage.total().items():
        measured = sum(real.get(names.get(name, name), {}).values())
        print(
            f"{name:<12} {predicted:>15,} bytes predicted {measured:>15,} measured "
            f"{predicted / measured:>7.4f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--shapes",
        nargs="*",
        help="none: the release alone",
        default=["1M:16:16", "10M:8:8", "10M:8:2", "30M:4:4", "30M:4:1"],
    )
    parser.add_argument(
        "--arithmetic", nargs="+", choices=("portable", "native"), default=["portable", "native"]
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--release", type=Path, help="a finished run")
    parser.add_argument("--one", choices=("trained", "calibrated"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one = trained if arguments.one == "trained" else calibrated
        one(arguments.shapes[0], arguments.arithmetic[0], arguments.threads)
        return
    others = measuring.Others()
    for shape in arguments.shapes:
        for arithmetic in arguments.arithmetic:
            compare(shape, arithmetic, arguments.threads)
    if arguments.shapes:
        print(others.line())
    if arguments.release:
        release(arguments.release)


if __name__ == "__main__":
    main()
