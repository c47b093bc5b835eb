"""How learning rates fall. A schedule is a line of `SCHEDULES` and its name in `Name`.

All of it is float64 by our own functions, the same on every machine: Python's float operations are
single IEEE-754 roundings; its math.cos is the platform's and is not used (docs/arithmetic.md,
section 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Name = Literal["cosine", "linear", "wsd"]

_HALF_PI = 1.5707963267948966
# 1/3!, 1/5!, … of the sine's series; up to x^21 the error on [-pi/2, pi/2] is below one rounding.
_FACTORIALS = (
    6.0,
    120.0,
    5040.0,
    362880.0,
    39916800.0,
    6227020800.0,
    1307674368000.0,
    355687428096000.0,
)
_FACTORIALS += (121645100408832000.0, 51090942171709440000.0)


def cos_pi(x: float) -> float:
    """cos(pi * x) for x in [0, 1], as the sine of pi/2 - pi * x by its Taylor series (Horner)."""
    z = (1.0 - 2.0 * x) * _HALF_PI
    z2 = z * z
    series = 0.0
    for factorial in reversed(_FACTORIALS):
        series = (1.0 / factorial - series) * z2
    return z - z * series


class Decay(NamedTuple):
    """How the rate falls from `lr` to `final_lr * lr`."""

    # From the fraction of the decay that is left, in [0, 1), to the part of the fall that is left.
    shape: Callable[[float], float]
    # Whether the rate stays at `lr` until the last `decay` steps; others decay from the warmup on.
    stable: bool = False


SCHEDULES: dict[str, Decay] = {
    "cosine": Decay(lambda left: (1.0 - cos_pi(left)) * 0.5),
    "linear": Decay(lambda left: left),
    "wsd": Decay(lambda left: left, stable=True),
}
