"""What an evaluation asks of a model, as the lines of its examples spell it.

Three kinds of request, the ones that lm-eval has too: the log-likelihood of choices behind a
context, the log-likelihood of a whole text, and greedy text behind a context. docs/format.md,
section 14, has every field and its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST_CHOICES, MOST_STOPS, MOST_TOKENS = 256, 16, 4096


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


class Example(NamedTuple):
    """One question of a task."""

    name: str  # Its id in the task, unique there, 1 to 200 characters.
    request: Request
    # The number of the right choice, the right text, or nothing for a whole text.
    target: Target
    cluster: str  # Examples of a cluster share a document or a template.


def read(spelled: object) -> Request | None:
    """The request of a line; nothing if it is not spelled as one."""
    if not isinstance(spelled, Mapping):
        return None
    match tuple(sorted(spelled)):
        case ("choices", "context") if _are_texts(spelled["choices"], 1, MOST_CHOICES):
            request: Request = Choices(spelled["context"], tuple(spelled["choices"]))
        case ("text",):
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
