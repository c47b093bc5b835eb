"""The learning rate of a step, in float64 by our own functions: the same on every machine.

Python's float operations are single IEEE-754 roundings; its math.cos is the platform's and is not used.
"""

from __future__ import annotations

from pellucid.recipe import Train

_HALF_PI = 1.5707963267948966
# 1/3!, 1/5!, … of the sine's series; up to x^21 the error on [-pi/2, pi/2] is below one rounding.
_FACTORIALS = (6.0, 120.0, 5040.0, 362880.0, 39916800.0, 6227020800.0, 1307674368000.0, 355687428096000.0)
_FACTORIALS += (121645100408832000.0, 51090942171709440000.0)


def learning_rate(train: Train, step: int) -> float:
    """The learning rate of step 1, 2, …: linear warmup, then the schedule's way down to final_lr * lr."""
    if step <= train.warmup:
        return train.lr * (step / train.warmup)
    decay = train.decay if train.schedule == "wsd" else train.steps - train.warmup
    left = train.steps - step
    if train.schedule == "wsd" and left >= decay:
        return train.lr
    left_fraction = left / decay
    shape = (1.0 - cos_pi(left_fraction)) * 0.5 if train.schedule == "cosine" else left_fraction
    return train.lr * (train.final_lr + (1.0 - train.final_lr) * shape)


def cos_pi(x: float) -> float:
    """cos(pi * x) for x in [0, 1], as the sine of pi/2 - pi * x by its Taylor series (Horner)."""
    z = (1.0 - 2.0 * x) * _HALF_PI
    z2 = z * z
    series = 0.0
    for factorial in reversed(_FACTORIALS):
        series = (1.0 / factorial - series) * z2
    return z - z * series
