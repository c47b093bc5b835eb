"""Calibration: how often the model is right where it gives its choice this probability.

The probability of a choice is its share of the choices' likelihoods. Guo, Pleiss, Sun and
Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, define the expected calibration
error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pellucid.measured.clusters import clusters_of
from pellucid.measured.intervals import Interval, of_mean
from pellucid.record.requests import Example

BINS = 10  # Of equal width.


class Bin(NamedTuple):
    """Examples in which the likeliest choice has a probability in [low, high)."""

    low: float
    high: float
    examples: int
    confidence: float  # The mean of these probabilities.
    accuracy: float  # The share of examples that are right.
    interval: Interval | None  # Of that share.


def bins(examples: Sequence[Example], nats: Sequence[Sequence[float]]) -> list[Bin]:
    """The bins that are not empty. nats: of each example the log-likelihoods of its choices."""
    members = dict[int, list[tuple[float, float, str]]]()
    for example, cluster, logs in zip(examples, clusters_of(examples), nats, strict=True):
        best = max(range(len(logs)), key=logs.__getitem__)
        sure = 1 / math.fsum(math.exp(log - logs[best]) for log in logs)
        right = float(best == example.target)
        members.setdefault(min(int(sure * BINS), BINS - 1), []).append((sure, right, cluster))
    return [_bin(place, members[place]) for place in sorted(members)]


def error(known: Sequence[Bin]) -> float:
    """The mean distance of confidence and accuracy over the bins, by their examples."""
    distances = [each.examples * abs(each.confidence - each.accuracy) for each in known]
    return math.fsum(distances) / sum(each.examples for each in known)


def _bin(place: int, members: list[tuple[float, float, str]]) -> Bin:
    sure, right, clusters = map(list, zip(*members, strict=True))
    confidence, accuracy = (math.fsum(values) / len(members) for values in (sure, right))
    interval, low, high = of_mean(right, clusters), place / BINS, (place + 1) / BINS
    return Bin(low, high, len(members), confidence, accuracy, interval)
