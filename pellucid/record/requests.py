"""What an evaluation asks of a model and what the model answers, as lines of examples spell it.

Four kinds of request. Three are those of lm-eval: the log-likelihood of choices behind a context,
the log-likelihood of a whole text, and greedy text behind a context. The fourth asks in token ids,
which no tokenizer stands between: greedy tokens behind tokens. docs/format.md, section 14, has
every field and its bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pellucid.record import digests, entries

MOST_CHOICES, MOST_STOPS, MOST_TOKENS = 256, 16, 4096
_IDS = 1 << 32  # Token ids lie below this.
MOST_READ = 1 << 24  # Characters: a context becomes tokens once for each of its choices.
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


@dataclass(frozen=True)
class Continue:
    """The likeliest token after each other behind these token ids, the document token as any."""

    ids: tuple[int, ...]
    tokens: int  # Exactly so many.

    def spelled(self) -> dict[str, Any]:
        return {"ids": [*self.ids], "tokens": self.tokens}


Request = Choices | Rolling | Generate | Continue
Target = int | str | tuple[int, ...] | None


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


@dataclass(frozen=True)
class Ids:
    """The tokens that the model wrote."""

    ids: tuple[int, ...]

    def spelled(self) -> dict[str, Any]:
        return {"ids": [*self.ids]}


Answer = Likelihoods | Text | Ids


class Example(NamedTuple):
    """One question of a task."""

    name: str  # Its id in the task, unique there, 1 to 200 characters.
    request: Request
    # The number of the right choice, the right text or tokens, or nothing for a whole text.
    target: Target
    cluster: str  # Examples of a cluster share a document or a template.


def misfit(request: Continue, vocabulary: int, context: int) -> str:
    """Why a model with these bounds cannot be asked a request of token ids; nothing if it can."""
    if (largest := max(request.ids)) >= vocabulary:
        return f"it holds {largest}, and the vocabulary has {vocabulary:,} tokens"
    if len(request.ids) + request.tokens - 1 > context:  # Nothing reads the last token.
        return f"with {request.tokens:,} tokens behind it is longer than the context {context:,}"
    return ""


def answer_of(spelled: object, request: Request) -> Answer | None:
    """The answer of a line to its request; nothing if it is not spelled as one."""
    if not isinstance(spelled, Mapping):
        return None
    names = tuple(sorted(spelled))
    if isinstance(request, Generate):
        text = spelled.get("text")
        return Text(text) if names == ("text",) and isinstance(text, str) else None
    if isinstance(request, Continue):
        fits = names == ("ids",) and _are_ids(spelled["ids"], request.tokens, request.tokens)
        return Ids(tuple(spelled["ids"])) if fits else None
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
    if isinstance(request, Continue):
        return isinstance(target, tuple) and _are_ids([*target], request.tokens, request.tokens)
    return isinstance(target, str) if isinstance(request, Generate) else target is None


def target_of(spelled: object) -> Any:
    """The target of a line, which target_fits judges: a list of ids is a tuple."""
    return tuple(spelled) if isinstance(spelled, list) else spelled


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
            if len(str(spelled["context"])) * len(spelled["choices"]) > MOST_READ:
                return None
            request: Request = Choices(spelled["context"], tuple(spelled["choices"]))
        case ("text",) if spelled["text"]:
            request = Rolling(spelled["text"])
        case ("context", "stops", "tokens") if _are_texts(spelled["stops"], 0, MOST_STOPS):
            if not _is_count(spelled["tokens"]):
                return None
            request = Generate(spelled["context"], tuple(spelled["stops"]), spelled["tokens"])
        case ("ids", "tokens") if _are_ids(spelled["ids"], 1, MOST_TOKENS):
            known = _is_count(spelled["tokens"])
            return Continue(tuple(spelled["ids"]), spelled["tokens"]) if known else None
        case _:
            return None
    return request if isinstance(spelled.get("context", spelled.get("text")), str) else None


def _are_texts(value: object, least: int, most: int) -> bool:
    if not isinstance(value, list) or not least <= len(value) <= most:
        return False
    return all(isinstance(text, str) and text for text in value)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_TOKENS


def _are_ids(value: object, least: int, most: int) -> bool:
    if not isinstance(value, list) or not least <= len(value) <= most:
        return False
    return all(type(one) is int and 0 <= one < _IDS for one in value)
