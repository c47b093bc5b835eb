"""The validations of a run: the last and the best for the overview, and a curve of bounded size,
which has tokens and time of its own so that it can be drawn over any axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.site.curves import SOURCES, Curves, bins, short

NAME = "validation"
BINS = 1024
_TOLD = ("step", "loss", "bits_per_byte")


def told(validations: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The number of some validations, the last and the best of them; None where there is none."""
    if not validations:
        return None
    best = min(validations, key=_bits)
    return {
        "count": len(validations),
        "last": {name: validations[-1][name] for name in _TOLD},
        "best": {name: best[name] for name in _TOLD},
    }


def _bits(validation: dict[str, Any]) -> float:
    bits = validation["bits_per_byte"]
    return math.inf if math.isnan(bits) else bits


def curve(validations: list[dict[str, Any]], curves: Curves, tokens: int) -> dict[str, Any]:
    """Bits per byte, over all sources and for each. A bin has the place of its last validation.

    tokens: those before the run's first step."""
    width = -(-len(validations) // BINS)
    steps = [one["step"] for one in validations]
    lasts = [steps[min(at + width, len(steps)) - 1] for at in range(0, len(steps), width)]
    places = np.array(lasts) - curves.first
    names = list(dict.fromkeys(one["source"] for own in validations for one in own["sources"]))
    by_source = {name: np.full(len(steps), np.nan) for name in names[:SOURCES]}
    for at, one in enumerate(validations):
        for source in one["sources"]:
            if source["source"] in by_source:
                by_source[source["source"]][at] = source["bits_per_byte"]
    over_all = np.array([one["bits_per_byte"] for one in validations])
    return {
        "width": width,
        "step": lasts,
        "tokens": _along(curves.series["tokens"], places, float(tokens)),
        "time": _along(curves.series["time"], places, 0.0),
        "all": list(bins(over_all, width)),
        "sources": {name: list(bins(values, width)) for name, values in by_source.items()},
    }


def _along(series: np.ndarray, places: np.ndarray, begin: float) -> list[float | None]:
    """What a series holds behind so many steps; None where nothing is written."""
    values = np.append(begin, series)[np.clip(places, 0, len(series))].tolist()
    return [short(value) if math.isfinite(value) else None for value in values]
