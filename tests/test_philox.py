from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pellucid import philox


def test_known_answers() -> None:
    # The known-answer tests of the Random123 distribution for philox4x32-10.
    ones = np.full((1, 4), 0xFFFFFFFF, np.uint32)
    pi = np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]], np.uint32)
    cases = [
        (0, np.zeros((1, 4), np.uint32), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        (0xFFFFFFFFFFFFFFFF, ones, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (0x299F31D0A4093822, pi, "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for key, counters, expected in cases:
        assert " ".join(f"{word:08x}" for word in philox.philox(key, counters)[0]) == expected


@given(st.integers(0, 2**40), st.integers(0, 30), st.integers(0, 30))
def test_a_draw_depends_on_its_index_alone(start: int, skip: int, count: int) -> None:
    whole = philox.draws(7, start, skip + count)
    assert (philox.draws(7, start + skip, count) == whole[skip:]).all()


def test_uniform_values_lie_inside_and_are_even() -> None:
    values = philox.uniform_signed(3, 0, 100_000)
    assert -1 < values.min() < -0.9999 and 0.9999 < values.max() < 1
    assert abs(values.mean()) < 0.01 and abs((values**2).mean() - 1 / 3) < 0.01
    assert (values * 2**24 % 2 == 1).all()  # Exact: odd multiples of 2^-24.


def test_purposes_do_not_share_a_key() -> None:
    assert philox.key_of(1, "order") != philox.key_of(1, "sample") != philox.key_of(2, "sample")
