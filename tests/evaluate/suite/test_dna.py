"""Markov baselines against a slow count, and what is known of simple sequences."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest

from pellucid.evaluate.suite.dna import Markov, divergence, gc, kmers

CHANCE = random.Random(7)
RANDOM = ["".join(CHANCE.choices("ACGT", k=5000)) for _ in range(4)]


def slow(train: list[str], texts: list[str], order: int) -> float:
    """Bits per base, base by base."""
    counts = Counter[tuple[str, str]]()

    def behind(text: str, place: int, most: int) -> str:
        context = ""
        while len(context) < most and place and text[place - 1] in "ACGT":
            place -= 1
            context = text[place] + context
        return context

    def places(texts: list[str]):
        for text in map(str.upper, texts):
            for place, base in enumerate(text):
                if base in "ACGT":
                    yield text, place, base

    for text, place, base in places(train):
        for most in range(order + 1):
            context = behind(text, place, most)
            if len(context) == most:
                counts[context, base] += 1
    bits = []
    for text, place, base in places(texts):
        context = behind(text, place, order)
        total = sum(counts[context, other] for other in "ACGT")
        bits.append(-math.log2((counts[context, base] + 1) / (total + 4)))
    return math.fsum(bits) / len(bits)


def test_the_baselines_are_those_of_a_slow_count() -> None:
    train = ["ACGTTGCANNACGgtacgatcAGT", "TTTTACNGATTACA", "", "N", "GATTACA" * 9]
    texts = ["GATTACANGATcCA", "A", "ACGTéACGT", ""]
    for known in Markov(train).baselines(texts):
        assert known.bits_per_base == pytest.approx(slow(train, texts, known.order), rel=1e-12)
        assert known.bases == 13 + 1 + 8


def test_random_bases_cost_two_bits() -> None:
    for known in Markov(RANDOM[:3]).baselines(RANDOM[3:]):
        assert 1.99 < known.bits_per_base < 2.3  # More where contexts were seen seldom.
    assert [known.order for known in Markov(RANDOM[:1]).baselines(RANDOM)] == [1, 2, 3, 4, 5, 6]


def test_a_repeat_costs_nothing_once_the_context_tells_it() -> None:
    texts = ["AACAAG" * 2000] * 3
    first, second, third, *_ = (known.bits_per_base for known in Markov(texts).baselines(texts))
    assert first > second > 0.3 and third < 0.01


def test_the_interval_is_over_texts() -> None:
    (known, *_), (alone, *_) = (
        Markov(RANDOM).baselines(RANDOM),
        Markov(RANDOM).baselines(RANDOM[:1]),
    )
    assert known.interval and known.interval.low < known.bits_per_base < known.interval.high
    assert alone.interval is None


def test_texts_without_a_base_have_no_baseline() -> None:
    assert Markov(RANDOM).baselines(["NNN", ""]) == []


def test_words_are_counted_over_bases_alone() -> None:
    counts = kmers(["ACGNAC", "tac"], 2)
    named = dict(zip([a + b for a in "ACGT" for b in "ACGT"], counts.tolist(), strict=True))
    assert {name: count for name, count in named.items() if count} == {"AC": 3, "CG": 1, "TA": 1}
    assert gc(["GGCA", "NNT"]) == 3 / 5


def test_divergence_is_of_zero_to_one() -> None:
    same, other = kmers(RANDOM[:2], 3), kmers(RANDOM[2:], 3)
    assert divergence(same, 2 * same) == 0
    assert 0 < divergence(same, other) < 0.01 and divergence(same, other) == divergence(other, same)
    assert divergence(np.array([1, 0, 0, 0]), np.array([0, 2, 1, 0])) == 1
    assert divergence(kmers(["A" * 99], 3), other) > 0.9
