"""Probes of what needs no knowledge of a language: going on with a sequence that repeats, and
copying a word that no text holds."""

from __future__ import annotations

from pellucid.evaluate.suite.base import Draws, Task, grouped
from pellucid.evaluate.suite.code import NAMES
from pellucid.record.requests import Example, Generate

_LENGTH, _CHOICES = 8, 4
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def induction() -> Task:
    """Random words, repeated from the first: the next is the one that followed before."""

    def make(draws: Draws, _: int) -> tuple[list[str], list[str]]:
        words = draws.sample(NAMES, _LENGTH)
        asked = draws.sample(range(1, _LENGTH), _CHOICES)
        contexts = [" ".join([*words, *words[:place]]) for place in asked]
        return contexts, [f" {words[place]}" for place in asked]

    return grouped("induction", _CHOICES, 60, make)


def copying() -> Task:
    """A word made of random syllables is written again."""
    draws, words = Draws("copying"), list[str]()
    while len(words) < 201:
        word = "".join(
            draws.pick(_CONSONANTS) + draws.pick(_VOWELS) for _ in range(2 + draws.below(2))
        )
        words += [word] if word not in words else []
    shown, *asked = words
    examples = (
        Example(
            word,
            # The first word shows what is asked.
            Generate(
                f'word = "{shown}"\ncopy = "{shown}"\n\nword = "{word}"\ncopy = "', ('"',), 12
            ),
            word,
            word,
        )
        for word in asked
    )
    return Task("copying", 1, "exact_match", 0.0, tuple(examples))
