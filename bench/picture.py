"""The picture in README.md, drawn from the demo's release alone.

    python bench/picture.py demo [--png docs/images/demo.png]

Three views of the record: the curves of the run, the texts of one step by their loss, and one
document at each step that trained on it."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import pellucid
from pellucid import demo
from pellucid.look.plot import figure, save
from pellucid.opened import Run

STEP = 300
DOCUMENT = "sympy/sympy/core/add.py"
WINDOW = 9  # Steps of the running median of the training loss.


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", type=Path)
    parser.add_argument("--png", type=Path, default=Path("docs/images/demo.png"))
    arguments = parser.parse_args()
    run = pellucid.open(arguments.release)
    drawn = figure()
    drawn.set_size_inches(11, 6.2)
    grid = drawn.add_gridspec(2, 2, width_ratios=(3, 2))
    curves(run, arguments.release, drawn.add_subplot(grid[:, 0]))
    texts(run, drawn.add_subplot(grid[0, 1]))
    document(run, drawn.add_subplot(grid[1, 1]))
    save(drawn, arguments.png)
    print(f"drawn in {arguments.png}")


def curves(run: Run, release: Path, axes: Any) -> None:
    """Bits per byte of the validation texts beside two compressors', and the training loss."""
    losses = [step.loss for step in run]
    steps = range(1, len(losses) + 1)
    half = WINDOW // 2
    smooth = [
        statistics.median(losses[max(0, at - half) : at + half + 1]) for at in range(len(losses))
    ]
    right = axes.twinx()
    right.plot(steps, losses, color="0.85", linewidth=0.6)
    right.plot(steps, smooth, color="0.6", linewidth=1)
    right.set_ylabel("training loss, nats per token (grey)", color="0.45")
    axes.set_zorder(right.get_zorder() + 1)
    axes.patch.set_visible(False)
    validation = run.status()["validation"]
    levels = demo.compare(release)
    axes.plot(
        [entry["step"] for entry in validation],
        [entry["bits_per_byte"] for entry in validation],
        "o-",
        color="tab:blue",
        label="model",
    )
    for name, level, style in (("gzip", levels.gzip, "--"), ("xz", levels.xz, ":")):
        axes.axhline(level, color="black", linestyle=style, linewidth=1, label=name)
    axes.set_title(f"{run.recipe.name}: {len(losses):,} steps")
    axes.set_xlabel("step")
    axes.set_ylabel("bits per byte of the same validation texts")
    axes.legend()


def texts(run: Run, axes: Any) -> None:
    """The documents of one step, a bar each as long as the loss."""
    segments = run.step(STEP).segments().to_pylist()
    rows = sorted(segments, key=lambda row: row["loss_sum"] / max(1, row["tokens"]))
    shown = [rows[at * (len(rows) - 1) // 7] for at in range(8)]
    names = [run.document(row["document"]).id.rpartition("/")[2] for row in shown]
    losses = [row["loss_sum"] / max(1, row["tokens"]) for row in shown]
    axes.barh(range(len(shown)), losses, color="tab:orange")
    axes.set_yticks(range(len(shown)), names, fontsize="small")
    axes.set_title(f"pellucid show demo step {STEP}: texts by loss", fontsize="medium")
    axes.set_xlabel("nats per token")


def document(run: Run, axes: Any) -> None:
    """The loss of one document at every step that trained on a part of it."""
    chosen = run.document(DOCUMENT)
    parts = run.sql(
        f"select step, loss_sum / tokens as loss from segments where document = {chosen.index}"
        " and tokens > 0 order by step"
    ).to_pydict()
    axes.plot(parts["step"], parts["loss"], "o", color="tab:green", markersize=4)
    axes.set_title(
        f"pellucid show demo document …/{DOCUMENT.rpartition('/')[2]}", fontsize="medium"
    )
    axes.set_xlabel("step that trained on a part of it")
    axes.set_ylabel("nats per token")
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    main()
