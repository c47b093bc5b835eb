"""Coverage and width of the intervals of evaluations (pellucid/measured/intervals.py).

    python bench/intervals.py [--simulations 10000] [--counts 50,500,5000]

Each line draws so many data sets and asks how often the 95% interval holds the true value, and how
wide it is. The oracle knows the true standard error: it is 2 * 1.96 of those wide. Bars: coverage
at least 93%, and a median width of at most 1.25 of the oracle's.

Numbers: 0/1 with the shares below; log-likelihoods as minus a gamma variable, of shape 1 (skewness
-2) and 4 (skewness -1). Differences of 0/1 numbers that two models have of the same examples, of
which the second model loses and gains the shares below. Clusters hold 1 to 9 examples, 5 in the
mean; `rho` is the correlation of two examples of a cluster. The seed is fixed."""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pellucid.measured.intervals import (
    Interval,
    Moments,
    moments,
    of_differences,
    of_moments,
    of_powers,
    of_share,
)

CHANGED = ((0.05, 0.05), (0.2, 0.02), (0.3, 0.1))  # Shares of examples lost and gained.
SHARES, SHAPES, RHOS = (0.02, 0.25, 0.5, 0.98), (1.0, 4.0), (0.1, 0.3)
CHUNK = 1 << 22  # Numbers drawn at a time.


class Line(NamedTuple):
    """Of one kind of data."""

    kind: str
    size: int
    coverage: float
    ratio: float  # Median width, of the oracle's.
    method: str

    @property
    def holds(self) -> bool:
        """Both bars."""
        return self.coverage >= 0.93 and self.ratio <= 1.25


def measured(
    kind: str, count: int, intervals: list[Interval], true: float, variance: float
) -> Line:
    """variance: of the mean."""
    inside = sum(low <= true <= high for low, high, _ in intervals) / len(intervals)
    width = statistics.median(high - low for low, high, _ in intervals)
    return Line(kind, count, inside, width / (2 * 1.96 * variance**0.5), intervals[0].method)


def sizes_of(count: int) -> np.ndarray:
    """Clusters of 1 to 9 examples, evenly, that hold so many together: shape (G,)."""
    sizes = np.tile([9, 1, 8, 2, 7, 3, 6, 4, 5], count // 45 + 1)
    sizes = sizes[: int(np.cumsum(sizes).searchsorted(count)) + 1]
    sizes[-1] -= sizes.sum() - count
    return sizes


def estimates(sums_SG: np.ndarray, sizes_G: np.ndarray) -> list[Moments]:
    """intervals.moments of every data set, from the sums of its clusters."""
    n, G = sizes_G.sum(), len(sizes_G)
    values_S = sums_SG.sum(1) / n
    falls_SG = (sums_SG - values_S[:, None] * sizes_G) / (n - sizes_G)
    powers_S3 = np.stack([(falls_SG**power).sum(1) for power in (2, 3, 4)], 1).tolist()
    even = float(n**2 / (sizes_G**2).sum())
    rows = zip(values_S.tolist(), powers_S3, strict=True)
    known = [of_powers(value, powers, even, G) for value, powers in rows]
    alone = (sums_SG[0] / sizes_G).repeat(sizes_G).tolist()
    names = np.arange(G).repeat(sizes_G).astype(str).tolist()
    assert np.allclose(moments(alone, [1.0] * len(alone), names), known[0], 1e-6, 1e-9)
    return known


def shares(chance: np.random.Generator, sims: int, count: int) -> Iterator[Line]:
    """0/1 numbers, each for itself."""
    for p in SHARES:
        rights = chance.binomial(count, p, sims)
        intervals = [of_share(right / count, count, None) for right in rights.tolist()]
        yield measured(f"0/1, p = {p}", count, intervals, p, p * (1 - p) / count)


def shares_in_clusters(chance: np.random.Generator, sims: int, count: int) -> Iterator[Line]:
    """0/1 numbers whose clusters have shares of their own (beta-binomial)."""
    sizes_G = sizes_of(count)
    for rho in RHOS:
        for p in SHARES:
            scale = 1 / rho - 1
            own_SG = chance.beta(p * scale, (1 - p) * scale, (sims, len(sizes_G)))
            sums_SG = chance.binomial(sizes_G, own_SG).astype(float)
            intervals = [
                of_share(known.value, count, known) for known in estimates(sums_SG, sizes_G)
            ]
            variance = p * (1 - p) * inflation(sizes_G, rho) / count
            yield measured(f"0/1, p = {p}, rho = {rho}", count, intervals, p, variance)


def inflation(sizes_G: np.ndarray, rho: float) -> float:
    """By what clusters raise the variance of a mean (the design effect)."""
    return float(1 + rho * ((sizes_G**2).sum() / sizes_G.sum() - 1))


def likelihoods(chance: np.random.Generator, sims: int, count: int) -> Iterator[Line]:
    """Log-likelihoods, each for itself."""
    for shape in SHAPES:
        intervals, ones = [], np.ones(count)
        for part in np.array_split(np.arange(sims), max(1, sims * count // CHUNK)):
            sums_SG = -chance.gamma(shape, size=(len(part), count))
            intervals += map(of_moments, estimates(sums_SG, ones.astype(int)))
        yield measured(f"-gamma({shape:g})", count, intervals, -shape, shape / count)


def likelihoods_in_clusters(chance: np.random.Generator, sims: int, count: int) -> Iterator[Line]:
    """Log-likelihoods of which a share is common to a cluster."""
    sizes_G = sizes_of(count)
    for rho in RHOS:
        for shape in SHAPES:
            common_SG = chance.gamma(shape * rho, size=(sims, len(sizes_G)))
            rest_SG = chance.gamma(shape * (1 - rho) * sizes_G, size=(sims, len(sizes_G)))
            found = estimates(-(common_SG * sizes_G + rest_SG), sizes_G)
            variance = shape * inflation(sizes_G, rho) / count
            kind = f"-gamma({shape:g}), rho = {rho}"
            yield measured(kind, count, [*map(of_moments, found)], -shape, variance)


def differences(chance: np.random.Generator, sims: int, count: int) -> Iterator[Line]:
    """0/1 numbers of two models, of the same examples, alone and in clusters. Fewer simulations of
    many examples, since every interval reads each."""
    sizes_G, sims = sizes_of(count), min(sims, (CHUNK >> 1) // count)
    for rho in (0.0, *RHOS):
        for lost, gained in CHANGED:
            sizes = sizes_G if rho else np.ones(count, int)
            found = [
                _difference(chance, sizes, rho, np.array([lost, gained, 1 - lost - gained]))
                for _ in range(sims)
            ]
            variance = lost + gained - (gained - lost) ** 2
            variance *= inflation(sizes, rho) / count
            kind = f"0/1, {lost} lost, {gained} gained{f', rho = {rho}' if rho else ''}"
            yield measured(kind, count, found, gained - lost, variance)


def _difference(
    chance: np.random.Generator, sizes_G: np.ndarray, rho: float, shares_3: np.ndarray
) -> Interval:
    """Of one data set. A cluster has shares of its own (Dirichlet)."""
    own_G3 = chance.dirichlet(shares_3 * (1 / rho - 1), len(sizes_G)) if rho else shares_3
    counts_G3 = chance.multinomial(sizes_G, own_G3)
    kinds = np.tile([0, 1, 2], len(sizes_G)).repeat(counts_G3.ravel())
    names = np.arange(len(sizes_G)).repeat(sizes_G).astype(str).tolist()
    before, after = (kinds == 0).astype(float).tolist(), (kinds == 1).astype(float).tolist()
    known = of_differences(before, after, [1.0] * len(kinds), names)
    assert known is not None
    return known


def lines(simulations: int, counts: list[int]) -> Iterator[Line]:
    """All kinds of data, by size."""
    chance = np.random.Generator(np.random.PCG64(1))
    kinds = (shares, shares_in_clusters, likelihoods, likelihoods_in_clusters, differences)
    for kind in kinds:
        for count in counts:
            yield from kind(chance, simulations, count)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=10_000)
    parser.add_argument("--counts", default="50,500,5000")
    arguments = parser.parse_args()
    os.nice(19)
    print("| numbers | n | coverage | width / oracle's | method |\n|---|---|---|---|---|")
    below = 0
    for line in lines(arguments.simulations, [*map(int, arguments.counts.split(","))]):
        mark = "" if line.holds else " **misses**"
        below += not line.holds
        print(
            f"| {line.kind} | {line.size:,} | {line.coverage:.2%} | {line.ratio:.3f}{mark} "
            f"| {line.method} |",
            flush=True,
        )
    print(f"{below} of the lines miss a bar")


if __name__ == "__main__":
    main()
