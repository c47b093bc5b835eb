"""Probes of what needs no knowledge of a language: going on with a sequence that repeats, and
copying a word that no text holds."""

from __future__ import annotations

from pellucid.evaluate.suite.base import Draws, grouped, made
from pellucid.evaluate.suite.code import NAMES
from pellucid.evaluate.task import Task
from pellucid.record.requests import Example, Generate

_LENGTH = 8
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def induction() -> Task:
    """Random words, twice, and one of them: the next is the one that followed before."""

    def make(draws: Draws, _: int) -> tuple[list[str], list[str]]:
        words = draws.sample(NAMES, _LENGTH)
        # Each choice stands in the context as often as the others.
        asked = range(1, _LENGTH, 2)
        contexts = [" ".join([*words, *words, words[place - 1]]) for place in asked]
        return contexts, [f" {words[place]}" for place in asked]

    return grouped("induction", _LENGTH // 2, 60, make)


def copying() -> Task:
    """A word made of random syllables is written again."""
    draws, words = Draws("copying"), list[str]()
    while len(words) < 201:
        word = "".join(
            draws.pick(_CONSONANTS) + draws.pick(_VOWELS) for _ in range(2 + draws.below(2))
        )
        words += [word] if word not in words else []
    shown, *asked = words
    # The first word shows what is asked.
    before = f"word: {shown}\ncopy: {shown}\n\n"
    examples = [
        Example(word, Generate(f"{before}word: {word}\ncopy:", ("\n",), 12), word, word)
        for word in asked
    ]
    return made("copying", 1, "exact_match", 0.0, examples)
