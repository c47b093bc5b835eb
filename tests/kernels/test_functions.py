"""Functions of float64, which model, schedule and optimizer are made of."""

from __future__ import annotations

import numpy as np

from pellucid.kernels import library
from tests.kernels import reference
from tests.kernels.values import assert_same


def function(which: int, xs: np.ndarray, y: float = 0.0) -> np.ndarray:
    return np.array([library.kernels().pellucid_function(which, x, y) for x in xs.tolist()])


def test_functions_of_f64() -> None:
    generator = np.random.default_rng(1)
    x = np.concatenate(
        [
            2.0 ** generator.uniform(-1022, 1024, 3000),
            generator.uniform(0.3, 3, 5000),
            [1, 2**-0.5, 2],
        ]
    )
    assert_same(function(0, x), reference.ln(x))
    x = np.concatenate(
        [generator.uniform(-700, 700, 4000), generator.uniform(-2, 2, 4000), [-700, -0.0, 0, 700]]
    )
    assert_same(function(1, x), reference.exp64(x))
    a = np.concatenate(
        [
            generator.uniform(0, 2**20, 4000),
            generator.uniform(0, 9, 4000),
            [0, np.pi / 2, np.pi, 1e-300],
        ]
    )
    sine, cosine = reference.sincos(a)
    assert_same(function(2, a), sine)
    assert_same(function(3, a), cosine)


def test_power() -> None:
    bases = np.array([0.9, 0.95, 0.999, 1 - 2**-40, 0.0])
    for exponent in [*range(70), 1000, 65_535, 65_536, 10**6]:
        assert_same(
            function(4, bases, exponent),
            np.array([reference.power(b, exponent) for b in bases.tolist()]),
        )
