"""axpby, the operation between elements that optimizers are made of, bit for bit against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.kernels import calls
from tests.kernels.reference import fma32, quiet
from tests.kernels.values import tensor, values

Everywhere = Callable[..., None]
_fma: Any = fma32  # NumPy's scalars are arrays to it.


@quiet
def axpby(a: float, x: np.ndarray, b: float = 0.0, y: np.ndarray | None = None) -> np.ndarray:
    """docs/arithmetic.md, section 2.3: the second product is rounded, the first one is not."""
    return np.float32(a) * x if y is None else _fma(np.float32(a), x, np.float32(b) * y)


def case(
    seed: int, n: int, alone: bool, finite: bool = False
) -> tuple[Callable[[], object], tuple[np.ndarray]]:
    x, y = values(seed, n, finite=finite), values(seed + 1, n, finite=finite)
    a, b = 0.95, -1 / 3

    def call() -> object:
        return (calls.axpby_into(tensor(x), a, b, None if alone else tensor(y)),)

    return call, (axpby(a, x) if alone else axpby(a, x, b, y),)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9000), st.booleans())
def test_axpby(everywhere: Everywhere, seed: int, n: int, alone: bool) -> None:
    everywhere(*case(seed, n, alone))


@pytest.mark.parametrize("alone", [False, True])
def test_no_bit_depends_on_the_number_of_threads(everywhere: Everywhere, alone: bool) -> None:
    everywhere(*case(15, 50_001, alone, finite=True), threads=(1, 2, 3, 4))


def test_x_may_be_its_own_y() -> None:
    x = values(3, 5000, finite=True)
    moved = tensor(x)
    assert calls.axpby_into(moved, 2.0, -1.0, moved) is moved
    assert moved.numpy().tobytes() == axpby(2.0, x, -1.0, x).tobytes()
