"""Two models and the same examples: differences, and intervals that leave the doubt that there
is."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from pellucid.errors import EvaluationBroken
from pellucid.measured.intervals import of_differences, of_runs
from pellucid.measured.paired import paired
from pellucid.measured.quantiles import t_quantile
from tests.measured.test_summary import entry, lines

CLUSTERS = "aabbbcddefgghiij"
COUNT = len(CLUSTERS)


def entries(metric: str, a: Any, b: Any) -> tuple[Any, ...]:
    about = [{**entry(metric, numbers), "n": n} for n, numbers in ((1, a), (2, b))]
    return about[0], lines(a, CLUSTERS), about[1], lines(b, CLUSTERS)


def rating(acc: float) -> dict[str, float]:
    return {"acc": acc, "chance": 0.5, "margin": 0.0}


def test_a_difference_is_that_of_the_values() -> None:
    a = [rating(float(n % 2)) for n in range(COUNT)]
    b = [rating(float(n % 3 == 0)) for n in range(COUNT)]
    about = paired(*entries("accuracy", a, b))
    means = [math.fsum(one["acc"] for one in own) / COUNT for own in (a, b)]
    assert [about.a, about.b] == means and about.difference == means[1] - means[0]
    assert about.changed == sum(one["acc"] != other["acc"] for one, other in zip(a, b, strict=True))
    assert about.interval and about.interval.low < about.difference < about.interval.high
    assert about.as_json()["interval"]["method"].startswith("paired")


def test_bits_per_byte_are_weighed_by_bytes() -> None:
    draws = random.Random(3)
    sizes = [float(draws.randrange(3, 40)) for _ in range(COUNT)]
    a, b = (
        [{"bytes": size, "nats": -draws.random() * size, "words": 1.0} for size in sizes]
        for _ in range(2)
    )
    about = paired(*entries("bits_per_byte", a, b))
    values = [
        math.fsum(-one["nats"] / math.log(2) for one in own) / math.fsum(sizes) for own in (a, b)
    ]
    assert [about.a, about.b] == pytest.approx(values, rel=1e-14)
    assert about.difference == pytest.approx(values[1] - values[0], rel=1e-12)


def jackknife(differences: list[float], under: list[float], clusters: str) -> float:
    """The variance of a ratio of sums, with each cluster really left out once."""
    whole = math.fsum(differences) / math.fsum(under)
    squares = []
    for left in sorted(set(clusters)):
        rest = [n for n in range(len(clusters)) if clusters[n] != left]
        value = math.fsum(differences[n] for n in rest) / math.fsum(under[n] for n in rest)
        squares.append((value - whole) ** 2)
    return math.fsum(squares) * (len(squares) - 1) / len(squares)


def test_the_interval_is_the_jackknife_over_clusters() -> None:
    draws = random.Random(5)
    a, b = ([draws.gauss(0, 1) for _ in range(COUNT)] for _ in range(2))
    under = [draws.uniform(1, 9) for _ in range(COUNT)]
    differences = [after - before for before, after in zip(a, b, strict=True)]
    known = of_differences(a, b, under, [*CLUSTERS])
    assert known is not None
    error = math.sqrt(jackknife(differences, under, CLUSTERS))
    # With ten clusters t lies between that of one degree of freedom and the normal quantile.
    half = (known.high - known.low) / 2
    assert 1.9 * error < half < t_quantile(0.975, 1) * error
    even = of_differences([0.0] * 4, [1.0, -1.0, 2.0, -2.0], [1.0] * 4, [*"abcd"])
    assert even and even.high == -even.low, "nothing is skewed"
    assert even.high == pytest.approx(t_quantile(0.975, 3) * math.sqrt(10 / 3 / 4), rel=0.02)


def test_equal_answers_leave_a_doubt_that_shrinks_with_the_examples() -> None:
    """Bonett and Price's two examples: else nobody could be wrong about equal answers."""
    highs = []
    for count in (20, 200):
        ones = [1.0] * count
        known = of_differences(ones, ones, ones, [str(n) for n in range(count)])
        assert known and known.low == -known.high < 0
        highs.append(known.high)
    assert 2.7 / 200 < highs[1] < highs[0] / 5 and highs[0] < 0.3
    assert of_differences([1.0], [0.0], [1.0], ["a"]) is None
    assert of_differences([1.0, 1.0], [0.0, 0.0], [1.0, 1.0], ["a", "a"]) is None


def test_all_examples_lost_stay_within_the_bounds() -> None:
    known = of_differences([1.0] * 12, [0.0] * 12, [1.0] * 12, [*"abcdefghijkl"])
    assert known and known.low == -1 <= known.high < 0


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.02), (0.1, 0.03), (0.3, 0.2)])
def test_an_interval_covers_the_true_difference(lost: float, gained: float) -> None:
    draws, inside, times = random.Random(7), 0, 400
    for _ in range(times):
        a, b = list[float](), list[float]()
        for _ in range(80):
            drawn = draws.random()
            one = 1.0 if drawn < lost else 0.0 if drawn < lost + gained else float(drawn > 0.5)
            a.append(one)
            b.append(1 - one if drawn < lost + gained else one)
        known = of_differences(a, b, [1.0] * 80, [str(n) for n in range(80)])
        assert known
        inside += known.low <= gained - lost <= known.high
    assert inside / times > 0.93


def test_runs_have_students_interval() -> None:
    known = of_runs([1.0, 2.0, 4.0])
    assert known is not None
    half = t_quantile(0.975, 2) * math.sqrt((16 + 1 + 25) / 9 / 2 / 3)
    assert known.low == pytest.approx(7 / 3 - half) and known.high == pytest.approx(7 / 3 + half)
    assert of_runs([1.0]) is None


def test_other_examples_with_the_same_digest_are_noticed() -> None:
    a = [rating(1.0)] * COUNT
    about = entries("accuracy", a, a)
    short = (about[0], about[1][:-1], about[2], about[3])
    swapped = (about[0], [*reversed(about[1])], about[2], about[3])
    for wrong in (short, swapped):
        with pytest.raises(EvaluationBroken, match="other examples"):
            paired(*wrong)
