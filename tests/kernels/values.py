"""Arrays that break careless code, made from a seed, and the comparison that allows nothing."""

from __future__ import annotations

import math

import numpy as np
import torch

NORMAL = 2.0**-126  # The smallest float32 that is not denormal.


def values(seed: int, *shape: int, finite: bool = False) -> np.ndarray:
    """Uniform values; mostly with others among them: denormal, huge, zeros of both
    signs, repeated ones, zero rows."""
    generator = np.random.default_rng(seed)
    count = math.prod(shape)
    uniform = generator.uniform(-1, 1, count)
    kinds = [
        uniform,
        uniform * NORMAL,
        np.ldexp(uniform, generator.integers(-140, 128, count)),
        np.where(uniform < 0, -0.0, 0.0),
        np.full(count, generator.uniform(-1, 1)),
        generator.choice([math.inf, -math.inf, math.nan], count),
    ]
    shares = generator.choice([0.0, 0.0, 0.0, 0.03, 1.0], len(kinds))
    shares[0] += 0.2
    shares[-1] = 0.0 if finite else generator.choice([0.0, 0.0, 0.0, 0.01])
    kind = generator.choice(len(kinds), count, p=shares / shares.sum())
    out = np.choose(kind, kinds).astype(np.float32).reshape(shape)
    if out.ndim > 1 and generator.random() < 0.3:
        out[generator.random(shape[0]) < 0.3] = 0
    return out


def tensor(array: np.ndarray) -> torch.Tensor:
    """A copy: a kernel that works in place does not change what the reference gets."""
    return torch.from_numpy(array.copy())


def assert_same(
    got: torch.Tensor | np.ndarray | float, wanted: np.ndarray | float, where: str = ""
) -> None:
    """Equal bits; NaN for NaN, whose bits are nobody's."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.dtype == wanted.dtype and got.shape == wanted.shape, where
    bits = f"u{got.dtype.itemsize}"
    differs = (got.view(bits) != wanted.view(bits)) & ~(np.isnan(got) & np.isnan(wanted))
    places = np.argwhere(differs).tolist()
    first = [(place, got[*place], wanted[*place]) for place in places[:3]]
    assert not places, f"{where}: {len(places)} of {got.size} differ (place, got, wanted): {first}"
