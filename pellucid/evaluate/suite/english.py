"""Minimal pairs of English: two sentences that differ in one word's number, of which one is right.

The nouns are those of technical documentation, so that a small model has read them."""

from __future__ import annotations

from pellucid.evaluate.suite.base import Draws, group, made
from pellucid.evaluate.task import Task
from pellucid.record.requests import Example

_NOUNS = (
    *(("function", "functions"), ("method", "methods"), ("matrix", "matrices")),
    *(("argument", "arguments"), ("symbol", "symbols"), ("result", "results")),
    *(("equation", "equations"), ("value", "values"), ("number", "numbers")),
    *(("polynomial", "polynomials"), ("class", "classes"), ("object", "objects")),
    *(("variable", "variables"), ("expression", "expressions"), ("list", "lists")),
    *(("string", "strings"), ("term", "terms"), ("factor", "factors")),
    *(("solution", "solutions"), ("point", "points"), ("test", "tests")),
    *(("module", "modules"), ("file", "files"), ("line", "lines")),
)
_VERBS = (
    *((" is empty.", " are empty."), (" is used here.", " are used here.")),
    *((" was removed.", " were removed."), (" was not changed.", " were not changed.")),
    *((" has changed.", " have changed."), (" has no name.", " have no name.")),
    *((" does not change.", " do not change."), (" does not exist.", " do not exist.")),
)
# The noun nearest to the verb has the other number in all but the first.
_SUBJECTS = ("The {noun}", "The {noun} of the {other}", "The {noun} for the {other}")
_DETERMINERS = (("this", "these"), ("that", "those"), ("each", "all"), ("another", "several"))
_FRAMES = ("Here we use {word}", "The user can change {word}", "First we need {word}")


def agreement() -> Task:
    """The verb has the number of its subject."""
    draws, examples = Draws("agreement"), []
    for noun, (singular, plural) in enumerate(_NOUNS):
        for number, subject in enumerate(_SUBJECTS * 2):
            other, others = draws.pick([*_NOUNS[:noun], *_NOUNS[noun + 1 :]])
            contexts = (
                subject.format(noun=singular, other=others),
                subject.format(noun=plural, other=other),
            )
            verbs = _VERBS[(noun + number) % len(_VERBS)]
            examples += _named(singular, number, contexts, verbs)
    return made("agreement", 1, "accuracy", 1 / 2, examples)


def determiners() -> Task:
    """The noun has the number of its determiner."""
    draws, examples = Draws("determiners"), []
    for singular, plural in _NOUNS:
        for number, words in enumerate(_DETERMINERS):
            frame = draws.pick(_FRAMES)
            contexts = tuple(frame.format(word=word) for word in words)
            examples += _named(singular, number, contexts, (f" {singular}.", f" {plural}."))
    return made("determiners", 1, "accuracy", 1 / 2, examples)


def _named(
    noun: str, number: int, contexts: tuple[str, ...], choices: tuple[str, ...]
) -> list[Example]:
    """A pair whose cluster is its noun."""
    pair = group(f"{noun}/{number}", contexts, choices)
    return [example._replace(cluster=noun) for example in pair]
