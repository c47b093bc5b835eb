"""Bits per byte of recipes beside each other, over seeds: runs, a table and a picture.

    python bench/curves.py demo [--seeds 1 2 3] [--work bench/out/curves] [--png FILE]

COMPARED below holds the comparisons by name; each of its lines is one recipe, as settings of the
demo's texts. A run that is finished in WORK is not made again, and one that was killed goes on. The
table has the bits per byte of the validation texts at quarters of the run, and the processor time
of all threads, where the run was made in one go. Without --png nothing is drawn."""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from pellucid import demo
from pellucid.look.plot import figure, save
from pellucid.look.status import status
from pellucid.recipe import FILE
from pellucid.recipe import load as load_recipe

ALWAYS = """data.sources.sympy.licence=BSD-3-Clause placement.trace=false checkpoints.every=1000000
    placement.anchors.every=1000000 placement.anchors.powers_of_two=false"""
COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:purple", "tab:orange", "tab:brown", "tab:grey")


class Compared(NamedTuple):
    title: str
    common: str  # Settings of all lines; a line's own come after them.
    lines: dict[str, str]


# What the demo was until Muon: written out, so that a later change of presets moves nothing here.
_ADAMW = """optimizer.kind=adamw train.lr=4e-3 train.batch=16 train.microbatch=16 train.steps=600
    model.family=llama model.layers=4 model.width=128 model.heads=4 model.kv_heads=4
    model.mlp_width=352 model.context=256 tokenizer.vocabulary=2048 tokenizer.pattern=llama3"""
_MUON = "optimizer.kind=muon train.lr=8e-3"
_TOKENS = f"{_ADAMW} {_MUON} train.batch=8 train.microbatch=8 validation.every=300"
_LARGER = """model.layers=6 model.width=256 model.mlp_width=672 model.tied=false
    tokenizer.vocabulary=4096"""
_ROWS_128 = "model.context=128 train.batch=16 train.microbatch=16"
_ROWS_64 = "model.context=64 train.batch=32 train.microbatch=32"
_NEW = f"""{_MUON} {_ROWS_128} tokenizer.vocabulary=4096 train.steps=900 validation.every=90
    model.family=qwen3"""
COMPARED = {
    "demo": Compared(
        "The demo's texts: another optimizer alone, and another recipe of the same minutes",
        f"{_ADAMW} validation.every=60",
        {
            "AdamW, 4e-3": "",
            "Muon, 8e-3": _MUON,
            "Muon, new recipe": _NEW,
        },
    ),
    "6.8M": Compared(
        "6.8 million parameters, steps of 4,096 tokens",
        f"{_ADAMW} {_LARGER} train.steps=60 validation.every=15",
        {"AdamW, 1e-3": "train.lr=1e-3", "Muon, 8e-3": _MUON},
    ),
    "6.8M-rates": Compared(
        "Learning rates, 60 steps of 6.8 million parameters",
        f"{_ADAMW} {_LARGER} train.steps=60 validation.every=15",
        {
            "AdamW, 1e-3": "train.lr=1e-3",
            "AdamW, 2e-3": "train.lr=2e-3",
            "AdamW, 4e-3": "",
            "Muon, 4e-3": "optimizer.kind=muon train.lr=4e-3",
            "Muon, 8e-3": _MUON,
        },
    ),
    "demo-rates": Compared(
        "Learning rates, 300 steps of the demo",
        f"{_ADAMW} train.steps=300 validation.every=150",
        {
            "AdamW, 2e-3": "train.lr=2e-3",
            "AdamW, 4e-3": "",
            "AdamW, 8e-3": "train.lr=8e-3",
            "Muon, 4e-3": "optimizer.kind=muon train.lr=4e-3",
            "Muon, 8e-3": _MUON,
            "Muon, 16e-3": "optimizer.kind=muon train.lr=16e-3",
        },
    ),
    "pattern": Compared(
        "The demo with AdamW, by the pattern that splits texts",
        f"{_ADAMW} validation.every=60",
        {"llama3": "", "pellucid": "tokenizer.pattern=pellucid"},
    ),
    "recipes": Compared(
        "600 steps of 2,048 tokens, Muon",
        _TOKENS,
        {
            "8 rows of 256": "",
            "to 0 by a line": "train.schedule=linear train.final_lr=0.0",
            "4 rows of 512": "model.context=512 train.batch=4 train.microbatch=4",
            "qwen3": "model.family=qwen3",
            "qwen3, 16e-3": "model.family=qwen3 train.lr=16e-3",
            "vocabulary 4096": "tokenizer.vocabulary=4096",
            "qwen3, vocabulary 8192": "model.family=qwen3 tokenizer.vocabulary=8192",
            "4096, 16 rows of 128": f"tokenizer.vocabulary=4096 {_ROWS_128}",
            "qwen3, 4096, 16 of 128": f"model.family=qwen3 tokenizer.vocabulary=4096 {_ROWS_128}",
            "qwen3, 4096, 32 of 64": f"model.family=qwen3 tokenizer.vocabulary=4096 {_ROWS_64}",
        },
    ),
    "arithmetics": Compared(
        "The demo with AdamW, on either arithmetic",
        f"{_ADAMW} validation.every=60",
        {"portable": "", "native": "train.arithmetic=native"},
    ),
}


class Made(NamedTuple):
    """A finished run."""

    tokens: list[int]  # Seen at each validation.
    bits: list[float]  # Per byte of the validation texts, there.
    minutes: str  # Of processor time, where it is known.
    xz: float  # Bits per byte of the same texts, by xz.

    def at(self, part: float) -> float:
        """Bits per byte at the validation that is nearest to this part of the run."""
        wanted = part * self.tokens[-1]
        return min(zip(self.tokens, self.bits, strict=True), key=lambda p: abs(p[0] - wanted))[1]


def made(work: Path, settings: list[str]) -> Made:
    """The run with these settings, made where it is not. Its folder's name follows from them."""
    folder = work / hashlib.sha256(" ".join(settings).encode()).hexdigest()[:16]
    clock, told = folder.with_suffix(".seconds"), [f"--set={one}" for one in settings]
    fresh, before = not (folder / FILE).is_file(), os.times()
    if fresh:
        _pellucid("new", str(folder), *(f"--data={one}" for one in demo.DATA), "--preset=1M", *told)
    _pellucid("run", str(folder))
    if fresh:
        spent = sum(os.times()[2:4]) - sum(before[2:4])
        clock.write_text(f"{spent:.0f}\n", encoding="utf-8")
    found, schedule = status(folder)["validation"], load_recipe(folder).schedule
    return Made(
        [schedule.tokens(one["step"]) for one in found],
        [one["bits_per_byte"] for one in found],
        f"{float(clock.read_text()) / 60:.1f}" if clock.is_file() else "",
        demo.compare(folder).xz,
    )


def _pellucid(*words: str) -> None:
    """Exits with what it said where it fails."""
    command = [sys.executable, "-m", "pellucid", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout.decode(errors='replace')}")


def drawing(compared: Compared, runs: dict[str, list[Made]], path: Path) -> None:
    """A curve a run, a colour a line of the comparison, and xz as a level."""
    drawn = figure()
    axes = drawn.add_subplot()
    for (name, ones), colour in zip(runs.items(), COLOURS, strict=False):
        for number, one in enumerate(ones):
            millions = [tokens / 1e6 for tokens in one.tokens[1:]]
            label = name if number == 0 else None
            axes.plot(millions, one.bits[1:], ".-", color=colour, linewidth=1, label=label)
    level = next(iter(runs.values()))[0].xz
    axes.axhline(level, color="black", linestyle=":", label="xz, the same bytes")
    axes.set_title(compared.title, fontsize="medium")
    axes.set_xlabel("tokens trained on, millions")
    axes.set_ylabel("bits per byte of the validation texts")
    axes.grid(alpha=0.3)
    axes.legend()
    save(drawn, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=COMPARED)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--work", type=Path, default=Path("bench/out/curves"))
    parser.add_argument("--png", type=Path)
    arguments = parser.parse_args()
    compared = COMPARED[arguments.name]
    print(f"{compared.title}\n{'':26}seed     tokens     25%     50%     75%    100%  CPU min")
    runs: dict[str, list[Made]] = {}
    for name, own in compared.lines.items():
        runs[name] = []
        for seed in arguments.seeds:
            settings = [*ALWAYS.split(), *compared.common.split(), *own.split(), f"seed={seed}"]
            one = made(arguments.work, settings)
            runs[name].append(one)
            bits = "".join(f"{one.at(part):8.4f}" for part in (0.25, 0.5, 0.75, 1))
            print(f"{name:26}{seed:4}{one.tokens[-1]:11,}{bits}{one.minutes:>9}", flush=True)
    for name, ones in runs.items():
        ends = [one.bits[-1] for one in ones]
        apart = f"{min(ends):.4f} to {max(ends):.4f}"
        print(f"{name:26}mean of the last {statistics.fmean(ends):.4f} ({apart})")
    levels = {one.xz for ones in runs.values() for one in ones}
    print("xz, the same bytes: " + ", ".join(f"{level:.4f}" for level in sorted(levels)))
    if arguments.png:
        drawing(compared, runs, arguments.png)
        print(f"drawn in {arguments.png}")


if __name__ == "__main__":
    main()
