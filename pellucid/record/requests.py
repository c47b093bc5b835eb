"""What an evaluation asks of a model and what the model answers, as lines of examples spell it.

Three kinds of request, the ones that lm-eval has too: the log-likelihood of choices behind a
context, the log-likelihood of a whole text, and greedy text behind a context. docs/format.md,
section 14, has every field and its bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pellucid.record import digests, entries

MOST_CHOICES, MOST_STOPS, MOST_TOKENS = 256, 16, 4096
_MOST = 1e280  # A float64 must hold the sum of any number of these.
_FLOAT = re.compile(entries.FLOAT).fullmatch


@dataclass(frozen=True)
class Choices:
    """The log-likelihood of each choice behind the context."""

    context: str
    choices: tuple[str, ...]

    def spelled(self) -> dict[str, Any]:
        return {"choices": [*self.choices], "context": self.context}


@dataclass(frozen=True)
class Rolling:
    """The log-likelihood of a whole text."""

    text: str

    def spelled(self) -> dict[str, Any]:
        return {"text": self.text}


@dataclass(frozen=True)
class Generate:
    """The likeliest token after each other behind the context, to the first of the stop strings."""

    context: str
    stops: tuple[str, ...]
    tokens: int  # At most so many.

    def spelled(self) -> dict[str, Any]:
        return {"context": self.context, "stops": [*self.stops], "tokens": self.tokens}


Request = Choices | Rolling | Generate
Target = int | str | None


@dataclass(frozen=True)
class Likelihoods:
    """Of each text that was scored: the choices of a request, or its whole text."""

    nats: tuple[float, ...]  # The logarithm of its probability.
    greedy: tuple[bool, ...]  # Each of its tokens is the likeliest at its place.

    def spelled(self) -> dict[str, Any]:
        return {"greedy": [*self.greedy], "nats": [digests.float_bits(nats) for nats in self.nats]}


@dataclass(frozen=True)
class Text:
    """What the model wrote."""

    text: str

    def spelled(self) -> dict[str, Any]:
        return {"text": self.text}


Answer = Likelihoods | Text


class Example(NamedTuple):
    """One question of a task."""

    name: str  # Its id in the task, unique there, 1 to 200 characters.
    request: Request
    # The number of the right choice, the right text, or nothing for a whole text.
    target: Target
    cluster: str  # Examples of a cluster share a document or a template.


def answer_of(spelled: object, request: Request) -> Answer | None:
    """The answer of a line to its request; nothing if it is not spelled as one."""
    if not isinstance(spelled, Mapping):
        return None
    names = tuple(sorted(spelled))
    if isinstance(request, Generate):
        text = spelled.get("text")
        return Text(text) if names == ("text",) and isinstance(text, str) else None
    count = len(request.choices) if isinstance(request, Choices) else 1
    if names != ("greedy", "nats") or not _are_flags(spelled["greedy"], count):
        return None
    nats = spelled["nats"]
    if not isinstance(nats, list) or len(nats) != count or not all(map(_is_log, nats)):
        return None
    return Likelihoods(tuple(map(digests.bits_float, nats)), tuple(spelled["greedy"]))


def target_fits(target: object, request: Request) -> bool:
    """Whether this may be the right answer to a request."""
    if isinstance(request, Choices):
        return target is None or (type(target) is int and 0 <= target < len(request.choices))
    return isinstance(target, str) if isinstance(request, Generate) else target is None


def _are_flags(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(type(f) is bool for f in value)


def _is_log(bits: object) -> bool:
    """Of a probability: finite, and not above 0."""
    return (
        isinstance(bits, str)
        and _FLOAT(bits) is not None
        and -_MOST <= digests.bits_float(bits) <= 0.0
    )


def request_of(spelled: object) -> Request | None:
    """The request of a line; nothing if it is not spelled as one."""
    if not isinstance(spelled, Mapping):
        return None
    match tuple(sorted(spelled)):
        case ("choices", "context") if _are_texts(spelled["choices"], 1, MOST_CHOICES):
            request: Request = Choices(spelled["context"], tuple(spelled["choices"]))
        case ("text",) if spelled["text"]:
            request = Rolling(spelled["text"])
        case ("context", "stops", "tokens") if _are_texts(spelled["stops"], 0, MOST_STOPS):
            if type(spelled["tokens"]) is not int or not 1 <= spelled["tokens"] <= MOST_TOKENS:
                return None
            request = Generate(spelled["context"], tuple(spelled["stops"]), spelled["tokens"])
        case _:
            return None
    return request if isinstance(spelled.get("context", spelled.get("text")), str) else None


def _are_texts(value: object, least: int, most: int) -> bool:
    if not isinstance(value, list) or not least <= len(value) <= most:
        return False
    return all(isinstance(text, str) and text for text in value)
