"""Quantiles of the beta distribution and of Student's t, to about twelve digits.

The regularized incomplete beta function is the continued fraction of DLMF 8.17.22, by the modified
method of Lentz. A quantile is its root, by Newton's method inside a bracket."""

from __future__ import annotations

import functools
import math

_TINY = 1e-300  # In place of a denominator of zero.


def beta_cumulative(a: float, b: float, x: float) -> float:
    """The probability that a variable of Beta(a, b) is at most x (DLMF 8.17.1)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # The fraction converges fast below that only.
        return 1 - _below(b, a, 1 - x)
    return _below(a, b, x)


def beta_quantile(a: float, b: float, probability: float) -> float:
    """The x that a variable of Beta(a, b) exceeds with the rest of this probability."""
    low, high, x = 0.0, 1.0, a / (a + b)
    while True:
        excess = beta_cumulative(a, b, x) - probability
        low, high = (low, x) if excess > 0 else (x, high)
        step = excess / _density(a, b, x)
        closer = x - step if low < x - step < high else (low + high) / 2
        if abs(closer - x) <= 1e-13 * x:
            return closer
        x = closer


@functools.lru_cache(maxsize=1 << 12)
def t_quantile(probability: float, freedom: float) -> float:
    """Of Student's t with these degrees of freedom, for a probability above one half."""
    x = beta_quantile(freedom / 2, 0.5, 2 * (1 - probability))
    return math.sqrt(freedom * (1 - x) / x)


def _density(a: float, b: float, x: float) -> float:
    log = (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - _log_beta(a, b)
    return math.exp(log) + _TINY


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _below(a: float, b: float, x: float) -> float:
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)) / a
    c, d = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or _TINY)
    fraction, m = d, 0
    while abs(c * d - 1) > 1e-15 or not m:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or _TINY)
            c = (1 + term / c) or _TINY
            fraction *= c * d
    return front * fraction
