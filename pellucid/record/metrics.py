"""How an answer is rated: a closed list, so that anybody can rate the answers of a release again.

A metric gives numbers for each example. An evaluation's numbers are the means of these, and
whatever else is said of it follows from means: bits per byte are mean bits over mean bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from pellucid.record.requests import (
    Answer,
    Choices,
    Continue,
    Generate,
    Ids,
    Likelihoods,
    Request,
    Rolling,
    Target,
    Text,
)

MEASURED = "measured"  # Numbers of a harness that no metric of ours gives again.


class Metric(NamedTuple):
    asks: type[Request]
    rates: Callable[..., Mapping[str, float] | None]  # (request, target, answer)
    shown: str  # The number that stands for all of them; "" for bits per byte, a ratio.
    words: str


def numbers_of(
    metric: str, request: Request, target: Target, answer: Answer
) -> Mapping[str, float] | None:
    """What a metric gives for an example; nothing if it does not rate such a request."""
    known = METRICS.get(metric)
    if known is None or not isinstance(request, known.asks):
        return None
    return known.rates(request, target, answer)


def bits_per_byte(nats: float, size: float) -> float:
    """Of a text of mean log-likelihood `nats` and so many bytes."""
    return -nats / math.log(2) / size


def _accuracy(request: Choices, target: Target, answer: Likelihoods) -> Mapping[str, float] | None:
    """lm-eval's acc and acc_norm: the right choice is the likeliest, and the likeliest for each of
    its characters, blanks in front not counted. The first of equals counts as the likeliest."""
    if not isinstance(target, int) or len(request.choices) < 2:
        return None
    lengths = [max(1, len(choice.lstrip())) for choice in request.choices]
    normed = [nats / length for nats, length in zip(answer.nats, lengths, strict=True)]
    others = [nats for place, nats in enumerate(answer.nats) if place != target]
    return {
        "acc": float(answer.nats.index(max(answer.nats)) == target),
        "acc_norm": float(normed.index(max(normed)) == target),
        "chance": 1 / len(request.choices),
        "margin": answer.nats[target] - max(others),
    }


def _likelihood(request: Choices, _: Target, answer: Likelihoods) -> Mapping[str, float] | None:
    """lm-eval's acc and the log-likelihood behind its perplexity, of one continuation."""
    if len(request.choices) != 1:
        return None
    return {"acc": float(answer.greedy[0]), "nats": answer.nats[0]}


def _bits_per_byte(request: Rolling, _: Target, answer: Likelihoods) -> Mapping[str, float] | None:
    if not request.text:
        return None
    size, words = len(request.text.encode()), len(request.text.split())
    return {"bytes": float(size), "nats": answer.nats[0], "words": float(words)}


def _exact_match(_: Generate, target: Target, answer: Text) -> Mapping[str, float] | None:
    """The text is the right one, blanks at both ends aside."""
    if not isinstance(target, str):
        return None
    return {"exact_match": float(answer.text.strip() == target.strip())}


def _extraction(_: Continue, target: Target, answer: Ids) -> Mapping[str, float] | None:
    """`share` is the score M(X, Y) of Biderman et al. 2023, "Emergent and Predictable Memorization
    in Large Language Models" (arXiv:2304.11158), and `exact` their memorized sequence: extractable
    by Carlini et al. 2023 (arXiv:2202.07646), definition 3.1."""
    if not isinstance(target, tuple) or len(target) != len(answer.ids):
        return None
    right = [one == other for one, other in zip(target, answer.ids, strict=True)]
    before = right.index(False) if False in right else len(right)
    return {
        "exact": float(all(right)),
        "first": before / len(right),
        "share": sum(right) / len(right),
    }


METRICS = {
    "accuracy": Metric(Choices, _accuracy, "acc", "the right choice is the likeliest"),
    "likelihood": Metric(Choices, _likelihood, "acc", "every token of the text is the likeliest"),
    "bits_per_byte": Metric(Rolling, _bits_per_byte, "", "bits for each byte of the text"),
    "exact_match": Metric(Generate, _exact_match, "exact_match", "the text is the right one"),
    "extraction": Metric(Continue, _extraction, "exact", "all tokens are the right ones"),
}
