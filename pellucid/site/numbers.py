"""Numbers as a page reads them."""

from __future__ import annotations

import math

from pellucid.record import digests


def finite(value: float) -> float | None:
    """The number; None where it is none: JSON has no NaN."""
    return value if math.isfinite(value) else None


def of_bits(bits: str) -> float | None:
    """The number that an entry holds as hex bits."""
    return finite(digests.bits_float(bits))
