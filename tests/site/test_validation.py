"""The validations of a run as its pages have them: few bytes, however many there are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.look.status import status
from pellucid.site import validation
from pellucid.site.curves import SOURCES, Curves, short
from pellucid.site.data import Site
from tests.site.reading import value


def made(bits: list[float], sources: int = 1) -> list[dict[str, Any]]:
    """Validations at every tenth step."""
    return [
        {
            "step": 10 * number,
            "loss": 1.0,
            "bits_per_byte": each,
            "sources": [
                {"source": f"s{source}", "bits_per_byte": each + source}
                for source in range(sources)
            ],
        }
        for number, each in enumerate(bits)
    ]


def curves_of(steps: int) -> Curves:
    curves = Curves.__new__(Curves)
    curves.first, curves.steps = 0, steps
    along = np.arange(1, steps + 1)
    curves.series = {"tokens": along * 512.0, "time": along / 4}
    return curves


def test_the_curve_has_every_validation_with_its_tokens_and_time(finished: Path) -> None:
    site = Site(finished)
    told = status(finished)["validation"]
    curve, series = value(site, "validation"), value(site, "curves/level0/00000")["series"]
    assert curve["width"] == 1 and curve["step"] == [one["step"] for one in told]
    assert curve["all"] == [short(one["bits_per_byte"]) for one in told]
    assert curve["sources"] == {"stones": curve["all"]}
    for name in ("tokens", "time"):
        known = [0, *series[name]]
        assert curve[name] == [known[step] for step in curve["step"]]


@pytest.mark.parametrize("count", [1, 1024, 1025, 5000])
def test_a_bin_keeps_the_least_and_the_greatest(count: int) -> None:
    bits = (np.sin(np.arange(count) * 12.9898) + 2).tolist()
    curve = validation.curve(made(bits), curves_of(10 * count), 0)
    assert len(curve["all"]) <= validation.BINS
    assert curve["step"][-1] == 10 * (count - 1)
    width = curve["width"]
    for number, found in enumerate(curve["all"]):
        inside = bits[number * width : (number + 1) * width]
        if width == 1:
            assert found == short(inside[0])
        else:
            assert found[1:] == [short(min(inside)), short(max(inside))]
        last = curve["step"][number]
        assert last == 10 * (number * width + len(inside) - 1)
        assert (curve["tokens"][number], curve["time"][number]) == (short(last * 512.0), last / 4)


def test_the_overview_has_the_last_and_the_best_of_any_number() -> None:
    bits = [5.0, 3.0, math.nan, 2.0, 2.0, 4.0]
    told = validation.told(made(bits))
    assert told is not None and (told["count"], told["last"]["step"]) == (6, 50)
    assert told["best"] == {"step": 30, "loss": 1.0, "bits_per_byte": 2.0}
    assert len(str(validation.told(made([1.5] * 9000)))) < 300
    assert validation.told([]) is None


def test_what_is_not_written_yet_is_no_place() -> None:
    curves = curves_of(20)
    curves.series["time"][15:] = np.nan
    curve = validation.curve(made([3.0, 2.0, 1.0]), curves, 7)
    assert curve["tokens"] == [7, 10 * 512, 20 * 512] and curve["time"] == [0, 2.5, None]


def test_of_many_sources_the_first_are_drawn() -> None:
    curve = validation.curve(made([1.0, 2.0], SOURCES + 5), curves_of(20), 0)
    assert list(curve["sources"]) == [f"s{number}" for number in range(SOURCES)]
