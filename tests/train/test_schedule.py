from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pellucid.recipe import Train
from pellucid.record.digests import float_bits
from pellucid.train.schedule import cos_pi, learning_rate


@given(st.floats(0, 1))
def test_the_cosine_is_within_rounding(x: float) -> None:
    assert abs(cos_pi(x) - math.cos(math.pi * x)) < 1e-15


def test_its_bits_never_move() -> None:
    # Golden: a change here is another arithmetic.
    assert [float_bits(cos_pi(x)) for x in (0.0, 0.25, 1 / 3, 0.5, 1.0)] == [
        "3ff0000000000000",
        "3fe6a09e667f3bcc",
        "3fe0000000000000",
        "0000000000000000",
        "bff0000000000000",
    ]


def test_warmup_and_the_way_down() -> None:
    for schedule in ("cosine", "linear"):
        train = Train(steps=100, warmup=10, lr=1.0, schedule=schedule, final_lr=0.1)
        rates = [learning_rate(train, step) for step in range(1, 101)]
        assert rates[:10] == [step / 10 for step in range(1, 11)]
        assert rates[9:] == sorted(rates[9:], reverse=True)
        assert abs(rates[-1] - 0.1) < 1e-15 and abs(rates[54] - 0.55) < 1e-9


def test_warmup_stable_decay() -> None:
    train = Train(steps=100, warmup=10, decay=20, lr=1.0, schedule="wsd", final_lr=0.0)
    rates = [learning_rate(train, step) for step in range(1, 101)]
    assert set(rates[9:80]) == {1.0}
    assert abs(rates[89] - 0.5) < 1e-12 and rates[-1] == 0.0


@given(st.sampled_from(["cosine", "linear", "wsd"]), st.integers(1, 500), st.data())
def test_every_rate_is_finite_and_bounded(schedule: str, steps: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, steps))
    decay = data.draw(st.integers(0, steps - warmup)) if schedule == "wsd" else 0
    train = Train(steps=steps, warmup=warmup, decay=decay, schedule=schedule, lr=0.5)
    assert all(0 < learning_rate(train, step) <= 0.5 for step in range(1, steps + 1))
