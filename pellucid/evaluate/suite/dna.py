"""DNA: what the base before says of the next one. Markov models of order 1 to 6, counted on the
training texts and measured on others, are the baselines of a language model of DNA; the
distributions of short words (k-mers) compare texts that it wrote with real ones.

A base is A, C, G or T, in either case. Any other character ends the context, and is not predicted
itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pellucid.measured.intervals import Interval, of_rate

ORDERS = (1, 2, 3, 4, 5, 6)
_NO_BASE = 4
_CODES = np.full(256, _NO_BASE, np.uint8)
for _number, _pair in enumerate(("Aa", "Cc", "Gg", "Tt")):
    _CODES[[*_pair.encode()]] = _number


class Baseline(NamedTuple):
    """Of a Markov model."""

    order: int
    bases: int  # That were predicted.
    bits_per_base: float
    interval: Interval | None  # Of texts like these.


class Markov:
    """Counts of the bases behind each context of up to `order` bases."""

    def __init__(self, texts: Iterable[str], order: int = ORDERS[-1]) -> None:
        self.order = order
        self._counts = [np.zeros(4 ** (own + 1), np.int64) for own in range(order + 1)]
        for text in texts:
            for own, (places_N, words_N) in enumerate(_words(text, order)):
                self._counts[own] += np.bincount(words_N[places_N], minlength=4 ** (own + 1))

    def bits(self, order: int) -> np.ndarray:
        """What each base costs behind each context of that many, shape (4^order * 4,): one is added
        to each count (Laplace)."""
        counts_C4 = self._counts[order].reshape(-1, 4) + 1
        shares = (counts_C4 / counts_C4.sum(1, keepdims=True)).reshape(-1)
        return np.array([-math.log2(share) for share in shares.tolist()])

    def baselines(self, texts: Iterable[str]) -> list[Baseline]:
        """Of every order from 1, on the same texts. A base with fewer bases before it than the
        order is predicted from those."""
        bits = [self.bits(order) for order in range(self.order + 1)]
        spent, bases = [list[float]() for _ in bits], list[float]()
        for text in texts:
            words = [*_words(text, self.order)]
            # Of each place what the longest context says that it has, up to the order.
            costs_N = np.zeros(len(words[0][0]))
            for own, (places_N, words_N) in enumerate(words):
                costs_N[places_N] = bits[own][words_N[places_N]]
                spent[own].append(math.fsum(costs_N[words[0][0]].tolist()))
            bases.append(float(words[0][0].sum()))
        if not (count := int(math.fsum(bases))):
            return []
        return [
            Baseline(order, count, math.fsum(spent[order]) / count, of_rate(spent[order], bases))
            for order in range(1, self.order + 1)
        ]


def kmers(texts: Iterable[str], k: int) -> np.ndarray:
    """How often each word of k bases stands in the texts, overlapping: shape (4^k,), in
    alphabetical order."""
    counts = np.zeros(4**k, np.int64)
    for text in texts:
        *_, (places_N, words_N) = _words(text, k - 1)
        counts += np.bincount(words_N[places_N], minlength=4**k)
    return counts


def divergence(a: np.ndarray, b: np.ndarray) -> float:
    """Of two distributions of words, in bits: 0 for equal ones, 1 for those that share no word
    (Lin, "Divergence Measures Based on the Shannon Entropy", IEEE Trans. Inf. Theory 37, 1991)."""
    first, second = a / a.sum(), b / b.sum()
    middle = (first + second) / 2
    return math.fsum(
        share * math.log2(share / mean) / 2
        for shares in (first, second)
        for share, mean in zip(shares.tolist(), middle.tolist(), strict=True)
        if share
    )


def gc(texts: Iterable[str]) -> float:
    """The share of G and C among the bases."""
    counts = kmers(texts, 1)
    return float(counts[1] + counts[2]) / int(counts.sum())


def _words(text: str, order: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each order from 0: at which places a base stands behind so many others, and the number of
    the word that they are, with the base last."""
    codes_N = _CODES[np.frombuffer(text.encode("utf-8"), np.uint8)]
    places_N, words_N = codes_N < _NO_BASE, codes_N.astype(np.int64)
    yield places_N, words_N
    for own in range(1, order + 1):
        before_N = np.full(len(codes_N), _NO_BASE, np.uint8)
        before_N[own:] = codes_N[: max(0, len(codes_N) - own)]
        places_N = places_N & (before_N < _NO_BASE)
        words_N = words_N + before_N * np.int64(4**own)
        yield places_N, words_N
