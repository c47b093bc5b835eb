"""95% confidence intervals of an evaluation's means.

- 0/1 numbers: the modified Jeffreys interval (Brown, Cai, DasGupta, "Interval Estimation for a
  Binomial Proportion", Statistical Science 16, 2001, sections 3 and 4.1.2).
- 0/1 numbers in clusters: the same with the effective sample size, corrected for the degrees of
  freedom (Korn and Graubard, "Confidence Intervals for Proportions with Small Expected Number of
  Positive Counts Estimated from Survey Data", Survey Methodology 24, 1998). Where all numbers are
  equal, the data say nothing of the clusters, and the size itself counts.
- Other numbers, and ratios of sums: Student's t, with the skewness removed by a monotone cubic
  (Hall, "On the Removal of Skewness by Transformation", JRSS B 54, 1992). Clusters enter by the
  jackknife variance (CR3 of Cameron and Miller, "A Practitioner's Guide to Cluster-Robust
  Inference", Journal of Human Resources 50, 2015). Without clusters every example is its own, and
  this variance is the usual one.
- Differences of two models on the same examples: the same of the differences. Of 0/1 numbers:
  Student's t with two examples added, one that only the first model has right and one that only the
  second has (Bonett and Price, "Adjusted Wald Confidence Interval for a Difference of Binomial
  Proportions Based on Paired Data", Journal of Educational and Behavioral Statistics 37, 2012).
  Without them, equal answers would leave no doubt.
- A number of several runs: Student's t over the runs.

The degrees of freedom of a variance follow from the kurtosis of what clusters add (O'Neill, "Some
Useful Moment Results in Sampling Problems", The American Statistician 68, 2014): where few clusters
make most of the variance, it is known less well than their number says.

Sums are exact (math.fsum), so the order of examples does not matter. `bench/intervals.py` measures
coverage and width."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

from pellucid.measured.quantiles import beta_quantile, t_quantile

_TAIL = 0.025
_LARGEST = 1e60
_SMALLEST = 1e-140  # Of squares: a float64 holds the squares of these, too.


class Interval(NamedTuple):
    """low <= value <= high, in 95% of samples."""

    low: float
    high: float
    method: str


class Moments(NamedTuple):
    """Of an estimate that is a ratio of two sums over clusters."""

    value: float
    variance: float  # Of the value.
    skewness: float  # Of what the clusters add to it, shrunk.
    clusters: int
    freedom: float  # Degrees of freedom of the variance.


def of_mean(values: Sequence[float], clusters: Sequence[str] | None = None) -> Interval | None:
    """Of the mean of per-example numbers. clusters: of each example the cluster it belongs to.
    None: fewer than two clusters tell nothing of the spread."""
    known = _several(clusters, len(values))
    if known and len(set(known)) < 2:
        return None
    if not set(values) <= {0.0, 1.0}:
        return of_ratio(values, [1.0] * len(values), clusters)
    share, count = math.fsum(values) / len(values), len(values)
    return of_share(share, count, moments(values, [1.0] * count, known) if known else None)


def of_ratio(
    over: Sequence[float], under: Sequence[float], clusters: Sequence[str] | None = None
) -> Interval | None:
    """Of the ratio of two sums over examples, such as bits per byte. None: as in of_mean, and for
    numbers whose fourth powers a float64 could not hold."""
    known = clusters or [str(number) for number in range(len(over))]
    if len(set(known)) < 2 or max(map(abs, over)) > _LARGEST:
        return None
    return of_moments(moments(over, under, known))


def of_rate(
    over: Sequence[float], under: Sequence[float], clusters: Sequence[str] | None = None
) -> Interval | None:
    """Of a ratio of numbers that cannot lie below 0, such as bits per byte: nor can its interval,
    which few clusters may carry there."""
    known = of_ratio(over, under, clusters)
    return known and known._replace(low=max(0.0, known.low))


def of_differences(
    a: Sequence[float], b: Sequence[float], under: Sequence[float], clusters: Sequence[str]
) -> Interval | None:
    """Of sum(b) / sum(under) - sum(a) / sum(under), for numbers a and b of the same examples.
    None: as in of_ratio."""
    differences = [after - before for before, after in zip(a, b, strict=True)]
    if not ({*a, *b} <= {0.0, 1.0} and {*under} <= {1.0}):
        known = of_ratio(differences, under, clusters)
        return known and known._replace(method="paired, t without skewness")
    if (count := len({*clusters})) < 2:
        return None
    added = ["added 1", "added 2"]  # No cluster has these names: the others get a letter.
    names = [*(f"c{name}" for name in clusters), *added]
    known = moments([*differences, 1.0, -1.0], [*under, 1.0, 1.0], names)
    # The two examples alone would decide about a skewness, where few answers differ.
    low, high, _ = of_moments(known._replace(skewness=0.0, freedom=count - 1))
    value = math.fsum(differences) / len(differences)
    bounds = max(-1.0, min(low, value)), min(1.0, max(high, value))
    return Interval(*bounds, "paired, t, two examples added")


def of_runs(values: Sequence[float]) -> Interval | None:
    """Of the mean of a number over runs. None: fewer than two runs, and as in of_ratio."""
    if (count := len(values)) < 2 or max(map(abs, values)) > _LARGEST:
        return None
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    half = t_quantile(1 - _TAIL, count - 1) * math.sqrt(squares / (count - 1) / count)
    return Interval(mean - half, mean + half, "Student's t over runs")


def moments(over: Sequence[float], under: Sequence[float], clusters: Sequence[str]) -> Moments:
    """Of the ratio of the two sums. At least two clusters."""
    whole, value = math.fsum(under), math.fsum(over) / math.fsum(under)
    parts = dict[str, tuple[list[float], list[float]]]()
    for cluster, a, b in zip(clusters, over, under, strict=True):
        excess, weight = parts.setdefault(cluster, ([], []))
        excess += a, -value * b
        weight.append(b)
    weights = [math.fsum(b) for _, b in parts.values()]
    # By how much the value would fall without each cluster.
    falls = [
        math.fsum(a) / (whole - weight)
        for (a, _), weight in zip(parts.values(), weights, strict=True)
    ]
    powers = [math.fsum(fall**power for fall in falls) for power in (2, 3, 4)]
    even = whole**2 / math.fsum(weight**2 for weight in weights)
    return of_powers(value, powers, even, len(parts))


def of_powers(value: float, powers: Sequence[float], even: float, G: int) -> Moments:
    """From the sums of the powers 2, 3 and 4 of what G clusters add to the value. even: clusters of
    equal weight that would be worth as much (Kish, "Survey Sampling", 1965)."""
    squares, cubes, fourths = powers
    skewness = G**0.5 * cubes / squares**1.5 if squares > _SMALLEST else 0.0
    kurtosis = G * fourths / squares**2 if squares > _SMALLEST else 3.0
    # Few clusters tell little of their shape: it is drawn to that of the normal distribution.
    skewness *= G / (G + 10)
    kurtosis = 3 + (kurtosis - 3) * G**2 / (G**2 + 400)
    freedom = max(1.0, min(even - 1, 2 * G / (kurtosis - (G - 3) / (G - 1))))
    return Moments(value, (G - 1) / G * squares, skewness, G, freedom)


def of_moments(known: Moments) -> Interval:
    """Of an estimate of any numbers."""
    t, root = t_quantile(1 - _TAIL, known.freedom), math.sqrt(known.clusters)
    error = math.sqrt(known.variance)
    low, high = (known.value - error * _skewed(sign * t, known.skewness / root) for sign in (1, -1))
    return Interval(low, high, "t without skewness")


def _skewed(t: float, skewness: float) -> float:
    """Where the studentized mean has the probability that t has without skewness: the inverse of
    Hall's cubic. skewness: divided by the root of the count."""
    if abs(skewness) < 1e-6:  # Nothing would be left of it in the difference below.
        return t
    c = skewness / 3
    return (math.cbrt(1 + 3 * c * (t - skewness / 6)) - 1) / c


def of_share(share: float, count: int, known: Moments | None) -> Interval:
    """Of a share of examples that are right. known: where the examples stand in clusters."""
    if known is None:
        return Interval(*_jeffreys(round(share * count), count), "modified Jeffreys")
    effective = float(count)
    if known.variance:
        t = t_quantile(1 - _TAIL, known.freedom) / t_quantile(1 - _TAIL, count - 1)
        effective = min(count, share * (1 - share) / known.variance / t**2)
    return Interval(*_jeffreys(share * effective, effective), "modified Jeffreys, effective size")


@functools.lru_cache(maxsize=1 << 12)
def _jeffreys(right: float, count: float) -> tuple[float, float]:
    return _lowest(right, count), 1 - _lowest(count - right, count)


def _lowest(right: float, count: float) -> float:
    if right <= 1:
        return 0.0
    if right >= count:
        return _TAIL ** (1 / count)
    return beta_quantile(right + 0.5, count - right + 0.5, _TAIL)


def _several(clusters: Sequence[str] | None, count: int) -> Sequence[str] | None:
    """The clusters, where any holds several examples."""
    return clusters if clusters and len({*clusters}) < count else None
