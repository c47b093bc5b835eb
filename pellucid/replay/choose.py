"""Which steps an audit takes, by the auditor's seed, and how likely a forger is caught by that.

The choice follows from the seed and the run's head alone: the same on every machine, and unknown to
a trainer who finished the run before the seed was drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pellucid.philox import draws, key_of

FORGED = 0.05  # The fraction of forged steps that a report speaks of.
_CHUNK = 1024  # Numbers drawn at once.


def chosen(seed: int, head: str, steps: int) -> Iterator[int]:
    """Every step 1 … steps, in the order in which this auditor takes them.

    The shuffle of Fisher and Yates (Knuth, The Art of Computer Programming, vol. 2,
    algorithm P), from the front: any prefix is a uniform sample without
    replacement. Memory of O(steps taken)."""
    moved: dict[int, int] = {}
    for place, number in zip(
        range(steps), _numbers(key_of(seed, f"audit steps {head}")), strict=False
    ):
        swapped = place + (number * (steps - place) >> 64)
        picked = moved.pop(swapped, swapped)
        if swapped != place:
            moved[swapped] = moved.pop(place, place)
        yield 1 + picked


def chosen_microbatch(seed: int, head: str, step: int, count: int) -> int:
    """One of the count microbatches of a step."""
    numbers = draws(key_of(seed, f"audit microbatch {head}"), 2 * step, 2).tolist()
    return (numbers[0] | numbers[1] << 32) * count >> 64


def _numbers(key: int) -> Iterator[int]:
    """64-bit numbers: number i is draw 2i and, as its high half, draw 2i + 1."""
    start = 0
    while True:
        halves = draws(key, 2 * start, 2 * _CHUNK).tolist()
        yield from (low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True))
        start += _CHUNK


def caught(steps: int, forged: int, compared: int) -> float:
    """The probability that a uniform sample of `compared` of the steps, without
    replacement, holds a forged one.

    1 - C(steps - forged, compared) / C(steps, compared), the hypergeometric distribution (Feller,
    An Introduction to Probability Theory and Its Applications, vol. 1, II.6), from exact integers
    and rounded once before 1 is taken."""
    fewer, more = sorted((forged, compared))  # The two are exchangeable; the smaller is quicker.
    return 1.0 - math.comb(steps - more, fewer) / math.comb(steps, fewer)


@dataclass(frozen=True, slots=True)
class Odds:
    """What an audit is worth against a run of which `forged` steps are forged.

    A forged step is one whose recorded entry does not follow from the state recorded
    before it. A replay that finds no difference has proven every step that it
    compared; the others may be forged."""

    steps: int
    sampled: int  # The steps that the seed chose; 0 where somebody named them.
    compared: int  # Every step that was taken again, those on the way included.
    fork: bool = False  # The steps before a fork's own ones are not in its release.

    @property
    def forged(self) -> int:
        return max(1, int(self.steps * FORGED))

    @property
    def wherever(self) -> float:
        """The forger may put the forged steps where a replay passes by
        least, and does not know the seed.

        Steps on the way to a chosen one do not count: the last step before an
        anchor is never on the way."""
        return caught(self.steps, self.forged, self.sampled)

    @property
    def spread(self) -> float:
        """The forged steps lie without regard to anchors: every compared step counts."""
        return caught(self.steps, self.forged, self.compared)

    def as_json(self) -> dict[str, Any]:
        numbers = {name: getattr(self, name) for name in ("steps", "forged", "sampled", "compared")}
        return numbers | {
            "caught_wherever_they_lie": self.wherever,
            "caught_if_spread": self.spread,
        }

    def lines(self) -> list[str]:
        steps = f"{self.steps:,} steps" + (" of this release" if self.fork else "")
        done = f"{self.compared:,} of {steps} replayed"
        if self.sampled and self.sampled != self.compared:
            done += f", {self.sampled:,} of them chosen by the seed"
        return [done, f"If {FORGED:.0%} of the steps were forged, this audit {self._finds()}"]

    def _finds(self) -> str:
        wherever = f"{_percent(self.wherever)} wherever they lie"
        spread = f"{_percent(self.spread)} if they are spread at random"
        if self.sampled == self.compared:
            return f"would find one with a probability of {wherever}"
        if self.sampled:
            return f"would find one with a probability of {wherever}, and of {spread}"
        guessed = "A forger who guessed the steps is not caught: --steps N lets the seed choose"
        return f"would find one with a probability of {spread}. {guessed}"


def _percent(probability: float) -> str:
    """Rounded down: only a certainty is 100%."""
    return f"{min(int(probability * 100), 99) if probability < 1 else 100}%"
