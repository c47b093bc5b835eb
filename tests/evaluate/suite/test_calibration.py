"""Calibration of models whose confidence is known."""

from __future__ import annotations

import math

import pytest

from pellucid.evaluate.suite.calibration import bins, error
from pellucid.record.requests import Choices, Example


def asked(rights: int, count: int, sure: float) -> tuple[list[Example], list[tuple[float, float]]]:
    """The model gives the first choice this probability; so many of the examples are right."""
    questions = [Choices(str(number), ("a", "b")) for number in range(count)]
    examples = [
        Example(str(number), question, int(number >= rights), str(number))
        for number, question in enumerate(questions)
    ]
    # The scale of the likelihoods changes nothing.
    return examples, [(math.log(sure) - 900, math.log(1 - sure) - 900)] * count


def test_a_model_that_knows_how_sure_it_is_has_no_error() -> None:
    known = bins(*asked(30, 40, 0.75))
    (each,) = known
    assert (each.low, each.high, each.examples, each.accuracy) == (0.7, 0.8, 40, 0.75)
    assert each.confidence == pytest.approx(0.75) and error(known) == pytest.approx(0)
    assert each.interval and each.interval.low < 0.75 < each.interval.high


def test_a_model_that_is_too_sure_has_its_excess_as_error() -> None:
    (sure, nats), (unsure, others) = asked(10, 20, 0.95), asked(60, 80, 0.75)
    known = bins([*sure, *unsure], [*nats, *others])
    assert [each.examples for each in known] == [80, 20]
    assert error(known) == pytest.approx(0.2 * 0.45)


def test_certainty_falls_in_the_last_bin() -> None:
    (each,) = bins(asked(1, 1, 0.5)[0], [(0.0, -2000.0)])
    assert (each.high, each.confidence, each.accuracy) == (1, 1, 1)


def test_an_answer_that_is_missing_is_noticed() -> None:
    with pytest.raises(ValueError, match="shorter"):
        bins(asked(1, 2, 0.6)[0], [(-1.0, -2.0)])
