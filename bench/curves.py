"""Does portable arithmetic cost quality? The demo with several seeds on
either arithmetic, drawn together.

    python bench/curves.py [--seeds 1 2 3] [--steps 600] [--work DIR] [--svg docs/curves.svg]

Every run is the demo's recipe with its seed, its arithmetic and the number of steps set. Runs that
are finished in DIR are not made again. Prints the validation of every run, and draws the training
losses, averaged over 20 steps."""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import pyarrow.parquet as pq

from pellucid import demo
from pellucid.new import new
from pellucid.recipe import FILE
from pellucid.run import run
from pellucid.terminal import Terminal

COLOURS = {"portable": "#0b6e4f", "native": "#c8553d"}
WIDTH, HEIGHT, EDGE, OVER = 760, 420, 46, 20


def trained(folder: Path, arithmetic: str, seed: int, steps: int) -> Path:
    if not (folder / FILE).is_file():
        settings = [f"seed={seed}", f"train.arithmetic={arithmetic}", f"train.steps={steps}"]
        new(folder, demo.DATA, demo.PRESET, [*demo.SETTINGS, *settings])
    with Terminal(quiet=True) as terminal:
        run(folder, terminal)
    return folder


def losses(folder: Path) -> list[float]:
    """Training losses in nats per token, averaged over OVER steps at a time."""
    values = pq.read_table(folder / "metrics" / "steps.parquet").column("loss").to_pylist()
    return [statistics.fmean(values[i : i + OVER]) for i in range(0, len(values), OVER)]


def validations(folder: Path) -> list[float]:
    return (
        pq.read_table(folder / "metrics" / "validation.parquet").column("bits_per_byte").to_pylist()
    )


def drawing(curves: list[tuple[str, list[float]]]) -> str:
    """All curves in one SVG; x is the step, y nats per token."""
    low, high = min(min(curve) for _, curve in curves), max(max(curve) for _, curve in curves)

    def y(value: float) -> float:
        return HEIGHT - EDGE - (value - low) / (high - low) * (HEIGHT - 2 * EDGE)

    def line(arithmetic: str, curve: list[float]) -> str:
        step = (WIDTH - 2 * EDGE) / (len(curve) - 1)
        points = " ".join(f"{EDGE + i * step:.1f},{y(value):.1f}" for i, value in enumerate(curve))
        dash = ' stroke-dasharray="5 4"' if arithmetic == "native" else ""
        return f'<polyline points="{points}" fill="none" stroke="{COLOURS[arithmetic]}" stroke-width="1.4"{dash}/>'

    ticks = "".join(
        f'<text x="8" y="{y(value) + 4:.1f}">{value:.1f}</text>'
        f'<path d="M{EDGE} {y(value):.1f}H{WIDTH - EDGE}" stroke="#ddd"/>'
        for value in (low + (high - low) * k / 4 for k in range(5))
    )
    keys = "".join(
        f'<text x="{WIDTH - 170}" y="{EDGE + 18 * k}" fill="{colour}">{name}{" (dashed)" * (name == "native")}</text>'
        for k, (name, colour) in enumerate(COLOURS.items())
    )
    count = len(curves[0][1]) * OVER
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>{ticks}{"".join(line(*curve) for curve in curves)}{keys}'
        f'<text x="{EDGE}" y="24">training loss, nats per token, mean of {OVER} steps</text>'
        f'<text x="{WIDTH / 2 - 40}" y="{HEIGHT - 12}">steps 1 to {count}</text></svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--work", type=Path, default=Path("bench/out/curves"))
    parser.add_argument("--svg", type=Path, default=Path("docs/curves.svg"))
    arguments = parser.parse_args()
    curves = []
    for seed in arguments.seeds:
        for arithmetic in COLOURS:
            name = f"{arithmetic}-{arguments.steps}-{seed}"
            folder = trained(arguments.work / name, arithmetic, seed, arguments.steps)
            curves.append((arithmetic, losses(folder)))
            bits = "  ".join(f"{value:.4f}" for value in validations(folder))
            print(f"seed {seed}  {arithmetic:<9} bits per byte at validations: {bits}", flush=True)
    arguments.svg.write_text(drawing(curves), encoding="utf-8")
    print(f"drawn in {arguments.svg}")


if __name__ == "__main__":
    main()
