"""The number that stands for an evaluation is computed from its lines."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pellucid.measured.intervals import of_mean, of_rate
from pellucid.measured.summary import summary
from pellucid.record.evaluations import Line
from pellucid.record.requests import Choices, Example, Likelihoods

BYTES, NATS = [3.0, 5.0, 1.0], [-4.0, -7.5, -3.25]


def entry(metric: str, numbers: list[dict[str, float]]) -> dict[str, Any]:
    made = {"harness": "made", "version": "1", "settings": {}}
    about = {"step": 7, "task": "a task", "metric": metric, "numbers": dict.fromkeys(numbers[0])}
    return about | made


def lines(numbers: list[dict[str, float]], clusters: str = "") -> list[Line]:
    answer = Likelihoods((-1.0,), (True,))
    asked = [Choices(f"{place}", ("a",)) for place in range(len(numbers))]
    return [
        Line(Example(f"{place}", asked[place], None, clusters[place : place + 1]), answer, row)
        for place, row in enumerate(numbers)
    ]


def test_accuracy_has_its_chance_and_clusters() -> None:
    numbers = [{"acc": acc, "chance": 0.25, "margin": 0.0} for acc in (1.0, 0.0, 1.0, 1.0)]
    about = summary(entry("accuracy", numbers), lines(numbers, "aabb"))
    assert (about.number, about.value, about.chance, about.examples) == ("acc", 0.75, 0.25, 4)
    assert about.interval == of_mean([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"])
    assert summary(entry("accuracy", numbers), lines(numbers, "aaaa")).interval is None


def test_bits_per_byte_are_a_ratio_of_sums() -> None:
    numbers = [
        {"bytes": size, "nats": nats, "words": 1.0} for size, nats in zip(BYTES, NATS, strict=True)
    ]
    about = summary(entry("bits_per_byte", numbers), lines(numbers))
    assert about.value == pytest.approx(14.75 / math.log(2) / 9, rel=1e-15)
    assert about.interval == of_rate([-nats / math.log(2) for nats in NATS], BYTES, ["0", "1", "2"])
    assert about.chance is None


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ({"compiles": 1.0, "passes": 0.0}, "passes"),
        ({"acc_norm": 1.0, "acc": 0.0, "a": 1.0}, "acc"),
        ({"rouge": 0.5, "total": 1.0}, "rouge"),
    ],
)
def test_of_numbers_of_a_harness_one_is_shown(numbers: dict[str, float], shown: str) -> None:
    about = summary(entry("measured", [numbers]), lines([numbers] * 3))
    assert (about.number, about.value) == (shown, numbers[shown])


def test_a_row_is_json() -> None:
    numbers = [{"acc": 1.0, "nats": -1.0}] * 3
    about = summary(entry("likelihood", numbers), lines(numbers))
    assert set(about.as_json()) == set(about._fields)
    assert about.as_json()["interval"]["method"]


@pytest.mark.parametrize("size", [1e280, 1e61, 1e60, 1e-30, 1e-75, 1e-160, 5e-324])
def test_numbers_of_any_size_are_summed_up(size: float) -> None:
    """Of a harness's own, a release may hold any."""
    numbers = [{"rouge": size * place} for place in (-1.0, 0.0, 0.25, 1.0)]
    about = summary(entry("measured", numbers), lines(numbers, "abcd"))
    assert math.isfinite(about.value)
    assert (about.interval is None) == (size > 1e60)
    if about.interval:
        assert about.interval.low <= about.value <= about.interval.high
