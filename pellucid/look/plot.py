"""The life of a text as a picture: PNG, by matplotlib, which is an extra."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.errors import PlotMissing
from pellucid.look.chart import Point
from pellucid.store import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(path: Path, title: str, curve: Sequence[Point], marks: Sequence[Point]) -> None:
    """Write a PNG: the curve computed, and as crosses what was recorded. Raises
    PlotMissing, NoPermission, DiskFull."""
    drawn = figure()
    axes = drawn.add_subplot()
    if curve:
        axes.plot(
            *zip(*sorted(curve), strict=True), ".-", color="tab:blue", label="computed at the step"
        )
    if marks:
        axes.plot(
            *zip(*marks, strict=True), "x", color="tab:red", label="recorded when it was trained on"
        )
    # A document's name may hold dollar signs.
    axes.set_title(title, parse_math=False, fontsize="medium")
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    axes.grid(alpha=0.3)
    axes.legend()
    save(drawn, path)


def save(drawn: Figure, path: Path) -> None:
    """Write a page as PNG, the same bytes under every release of matplotlib that draws the same.
    Raises NoPermission, DiskFull."""
    with files.whole_file(path) as partial, warnings.catch_warnings():
        # Boxes then stand in the title.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn.savefig(partial, format="png", metadata={"Software": None})


def figure() -> Figure:
    """An empty page. Raises PlotMissing."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise PlotMissing() from error
    return Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
