"""Intervals: values of other software and of the papers, coverage by exact sums and by
simulation."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from pellucid.measured import intervals
from pellucid.measured.intervals import (
    moments,
    of_mean,
    of_moments,
    of_rate,
    of_ratio,
    of_runs,
    of_share,
)
from pellucid.measured.quantiles import beta_cumulative, beta_quantile, t_quantile

BENCH = Path(__file__).parents[2] / "bench"


# ---- quantiles ----


def test_the_beta_distribution_where_it_has_a_closed_form() -> None:
    for x in (0.001, 0.1, 0.4, 0.7, 0.999):
        assert beta_cumulative(0.5, 0.5, x) == pytest.approx(2 / math.pi * math.asin(x**0.5))
        assert beta_cumulative(2, 3, x) == pytest.approx(6 * x**2 - 8 * x**3 + 3 * x**4)
    # A binomial tail: at least 41 of 100 at 0.3.
    tail = math.fsum(math.comb(100, k) * 0.3**k * 0.7 ** (100 - k) for k in range(41, 101))
    assert beta_cumulative(41, 60, 0.3) == pytest.approx(tail, rel=1e-11)
    assert (beta_cumulative(2, 3, -1), beta_cumulative(2, 3, 2)) == (0, 1)


@pytest.mark.parametrize("a", [0.5, 1.7, 30, 2500])
@pytest.mark.parametrize("b", [0.5, 4, 2500.5])
def test_a_quantile_is_the_inverse(a: float, b: float) -> None:
    for probability in (0.025, 0.3, 0.975):
        x = beta_quantile(a, b, probability)
        assert beta_cumulative(a, b, x) == pytest.approx(probability, rel=1e-9)


def test_quantiles_of_student() -> None:
    # Two closed forms, the tables' value for 9, and the normal distribution's far away.
    assert t_quantile(0.975, 1) == pytest.approx(1 / math.tan(math.pi * 0.025), rel=1e-12)
    assert t_quantile(0.975, 2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)), rel=1e-12)
    assert t_quantile(0.975, 9) == pytest.approx(2.262157, abs=1e-6)
    assert t_quantile(0.975, 1e7) == pytest.approx(1.959964, abs=1e-6)


# ---- shares ----


def covered(count: int, p: float) -> float:
    """The exact probability that the interval of so many 0/1 numbers holds p."""
    log = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(p)
        + (count - k) * math.log1p(-p)
        for k in range(count + 1)
    ]
    inside = (of_share(k / count, count, None) for k in range(count + 1))
    return math.fsum(
        math.exp(value)
        for value, known in zip(log, inside, strict=True)
        if known.low <= p <= known.high
    )


def test_a_share_has_the_interval_of_jeffreys() -> None:
    # 25 of 100: the quantiles of Beta(25.5, 75.5).
    known = of_mean([1.0] * 25 + [0.0] * 75)
    assert known and known.method == "modified Jeffreys"
    assert beta_cumulative(25.5, 75.5, known.low) == pytest.approx(0.025)
    assert beta_cumulative(25.5, 75.5, known.high) == pytest.approx(0.975)


@pytest.mark.parametrize("count", [50, 500])
@pytest.mark.parametrize("p", [0.02, 0.25, 0.5, 0.98])
def test_a_share_is_covered_exactly(count: int, p: float) -> None:
    assert covered(count, p) >= 0.93


def test_no_share_is_far_from_covered() -> None:
    coverages = [covered(50, k / 200) for k in range(1, 200)]
    assert min(coverages) > 0.9 and 0.945 < sum(coverages) / len(coverages) < 0.97


def test_all_right_and_none_right() -> None:
    none, every = of_mean([0.0] * 50), of_mean([1.0] * 50)
    assert none and every
    assert (none.low, every.high) == (0, 1)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 50)) and every.low == 1 - none.high


# ---- clusters ----


def test_equal_examples_of_a_cluster_count_once() -> None:
    rights = [float(k % 4 == 0) for k in range(100)]
    alone = of_mean(rights)
    five = of_mean(
        [right for right in rights for _ in range(5)],
        [str(k) for k in range(100) for _ in range(5)],
    )
    assert alone and five and five.method == "modified Jeffreys, effective size"
    assert five.high - five.low == pytest.approx(alone.high - alone.low, rel=0.02)


def test_clusters_that_say_nothing_widen_nothing() -> None:
    rights = [float(k % 2) for k in range(200)]
    balanced = of_mean(rights, [str(k // 2) for k in range(200)])
    alone = of_mean(rights, [str(k) for k in range(200)])
    assert balanced and alone and alone.method == "modified Jeffreys"
    assert balanced[:2] == alone[:2]


def test_one_cluster_has_no_interval() -> None:
    assert of_mean([0.0, 1.0, 1.0], ["a"] * 3) is None and of_mean([0.5]) is None
    assert of_ratio([1.0], [2.0]) is None


def test_the_jackknife_variance_is_that_of_leaving_out() -> None:
    chance = random.Random(3)
    names = [str(chance.randrange(7)) for _ in range(40)]
    over, under = ([chance.expovariate(1) for _ in names] for _ in range(2))
    known = moments(over, under, names)
    without = []
    for left in sorted(set(names)):
        kept = [k for k, name in enumerate(names) if name != left]
        without.append(sum(over[k] for k in kept) / sum(under[k] for k in kept))
    assert known.value == pytest.approx(sum(over) / sum(under))
    G, falls = len(without), [known.value - value for value in without]
    assert known.variance == pytest.approx((G - 1) / G * sum(fall**2 for fall in falls))


def test_without_clusters_the_variance_is_the_usual_one() -> None:
    values = [float(value) for value in np.random.Generator(np.random.PCG64(1)).normal(size=30)]
    known = moments(values, [1.0] * 30, [*map(str, range(30))])
    assert known.variance == pytest.approx(np.var(values, ddof=1) / 30)


# ---- other numbers ----


def test_without_skewness_it_is_students_interval() -> None:
    values = [float(k) for k in range(-10, 11)]
    known = of_mean(values)
    half = t_quantile(0.975, 20) * math.sqrt(np.var(values, ddof=1) / 21)
    assert known and known.method == "t without skewness"
    assert known[:2] == pytest.approx((-half, half))


def test_the_interval_leans_to_the_long_tail() -> None:
    values = [math.log((k + 0.5) / 50) for k in range(50)]  # Minus an exponential variable.
    known = of_mean(values)
    mean = math.fsum(values) / 50
    assert known and mean - known.low > 1.2 * (known.high - mean)
    mirrored = of_mean([-value for value in values])
    assert mirrored and mirrored[:2] == pytest.approx((-known.high, -known.low))


def test_halls_cubic_is_inverted() -> None:
    for skewness in (-0.4, 0.01, 0.3):
        for t in (-2.0, 2.0):
            x = intervals._skewed(t, skewness)
            cubic = x + skewness / 3 * x**2 + skewness**2 / 27 * x**3 + skewness / 6
            assert cubic == pytest.approx(t)


def test_a_ratio_of_equal_shares_is_certain() -> None:
    known = of_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert known and known[:2] == (2, 2)


def test_a_rate_does_not_lie_below_nothing() -> None:
    over, under = [0.0, 0.1, 9.0], [1.0, 1.0, 2.0]
    ratio, rate = of_ratio(over, under), of_rate(over, under)
    assert ratio and ratio.low < 0
    assert rate == ratio._replace(low=0.0)
    high = [5.0, 5.1, 5.2, 5.3], [1.0] * 4
    assert of_rate(*high) == of_ratio(*high)


def test_runs_of_numbers_beyond_bounds_have_no_interval() -> None:
    assert of_runs([1.0, -1e280]) is None and of_runs([1.0]) is None
    known = of_runs([1.0, 2.0, 3.0])
    assert known and known.low < 2 < known.high


def test_few_clusters_of_most_weight_are_worth_few() -> None:
    even = moments([1.0, 2.0, 3.0, 4.0], [1.0] * 4, [*"abcd"])
    heavy = moments([1.0, 2.0, 3.0, 400.0], [1.0, 1.0, 1.0, 100.0], [*"abcd"])
    assert even.freedom > 2 > heavy.freedom == 1
    assert of_moments(even).low < even.value < of_moments(even).high


def test_the_order_of_examples_changes_nothing() -> None:
    chance = random.Random(5)
    rows = [(chance.gauss(-3, 2) * 10 ** chance.randrange(9), str(k % 9)) for k in range(300)]
    first = of_mean(*zip(*rows, strict=True))
    chance.shuffle(rows)
    assert of_mean(*zip(*rows, strict=True)) == first


# ---- the simulations ----


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "intervals", raising=False)
    import intervals as module  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(module, "CHANGED", module.CHANGED[1:2])  # The others take as long.
    yield module
    sys.modules.pop("intervals", None)


def test_a_small_simulation_holds_both_bars(bench) -> None:
    lines = [*bench.lines(600, [50])]
    assert len(lines) == 21
    # Ten clusters of an exponential variable: the log says so.
    wrong = [line.kind for line in lines if line.coverage < 0.915 or line.ratio > 1.25]
    assert set(wrong) <= {"-gamma(1), rho = 0.3"}


def test_the_simulation_notices_an_interval_too_narrow(
    bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "_TAIL", 0.1)
    intervals._jeffreys.cache_clear()
    lines = [*bench.lines(300, [500])]
    intervals._jeffreys.cache_clear()
    assert not any(line.holds for line in lines)
