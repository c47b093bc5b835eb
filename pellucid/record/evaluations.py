"""Evaluations that no recipe schedules: the entries of their own chain, and their examples' lines.

The ledger follows from recipe and data alone, so what somebody measures later has no place
in it. Its chain begins with the head that the run had then. Each entry names the weights
that were measured, by head, step and root, with what, and what came out. docs/format.md,
section 14, has every field."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pellucid.record import digests, entries, merkle, metrics, requests
from pellucid.record.chain import MAX_LINE
from pellucid.record.requests import Answer, Continue, Example, Ids

FORMAT = 1
OURS = "pellucid"  # The harness of the built-in tasks …
# … and of those whose numbers no metric gives again, the names of these: shares, each of them.
MEASURED_BY_US = {"completion": ("compiles", "parses", "passes")}
# What entry n says, in order; entry 0 is the genesis.
GENESIS = ("kind", "format", "head")
FIELDS = (
    *("kind", "head", "step", "weights", "task", "task_digest", "harness", "version", "settings"),
    *("metric", "results", "sha256", "numbers"),
)
# Of an example's line, sorted.
EXAMPLE = ("answer", "cluster", "example", "numbers", "request", "target")
_DIGESTS = ("head", "weights", "task_digest", "results", "sha256")
_WORDS, _LONGEST = ("task", "harness", "version"), 200  # Characters.
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_.,:@/+-]{0,63}").fullmatch
_MOST_NUMBERS, _MOST = 64, 1e280  # A float64 must hold the sum of any number of examples.
_COUNTS = 10**18
_FLOAT = re.compile(entries.FLOAT).fullmatch

Settings = Mapping[str, str | int | bool | None]


def genesis(head: str) -> dict[str, Any]:
    """The first entry, of a run whose ledger has this head."""
    return {"kind": "genesis", "format": FORMAT, "head": head}


def evaluation(
    *,
    head: str,
    step: int,
    weights: str,
    task: str,
    harness: tuple[str, str],
    settings: Settings,
    examples: Examples,
    sha256: str,
) -> dict[str, Any]:
    """One evaluation of the weights after a step.

    harness: its name and version; settings: what else the examples depend on; examples: what their
    lines came to, of the file with this SHA-256.
    """
    return {
        "kind": "evaluation",
        "head": head,
        "step": step,
        "weights": weights,
        "task": task,
        "task_digest": examples.questions.root().hex(),
        "harness": harness[0],
        "version": harness[1],
        "settings": dict(sorted(settings.items())),
        "metric": examples.metric,
        "results": examples.tree.root().hex(),
        "sha256": sha256,
        "numbers": examples.numbers(),
    }


def line_of(example: Example, answer: Answer, numbers: Mapping[str, float]) -> bytes:
    """The line of one example: what was asked, what the model answered, and how that was rated."""
    bits = {key: digests.float_bits(value) for key, value in numbers.items()}
    body = {
        "answer": answer.spelled(),
        "cluster": example.cluster,
        "example": example.name,
        "numbers": bits,
        "request": example.request.spelled(),
        "target": example.target,
    }
    return digests.canonical(body) + b"\n"


def question_leaf(example: Example) -> bytes:
    """What is asked of an example, whatever is answered."""
    asked = {
        "cluster": example.cluster,
        "example": example.name,
        "request": example.request.spelled(),
        "target": example.target,
    }
    return merkle.leaf(b"pellucid question 1\0" + digests.canonical(asked))


def task_digest(examples: Iterable[Example]) -> str:
    """What a task asks, whoever answers."""
    tree = merkle.Tree()
    for example in examples:
        tree.add(question_leaf(example))
    return tree.root().hex()


class Line(NamedTuple):
    """A line of examples, read."""

    example: Example
    answer: Answer
    numbers: dict[str, float]


class Bounds(NamedTuple):
    """What the token ids of requests lie within."""

    vocabulary: int
    context: int


class Examples:
    """What an evaluation's examples come to: the roots over their lines and over their questions,
    and the means of their numbers. bounds: of the model that was asked; None: they are not known"""

    def __init__(self, metric: str, bounds: Bounds | None = None) -> None:
        self.metric, self._bounds = metric, bounds
        self.tree, self._values = merkle.Tree(), dict[str, "array[float]"]()
        self.questions = merkle.Tree()
        self._names = set[str]()

    def take(self, line: bytes) -> str:
        """Go on with a line; what is wrong with it, or nothing."""
        read = line_from(line, self.metric)
        if isinstance(read, str):
            return read
        if self._bounds and (detail := _beyond(read, self._bounds)):
            return detail
        if self.tree.count and [*read.numbers] != [*self._values]:
            return "has other numbers than the line before it"
        if read.example.name in self._names:
            return "is of an example that has a line already"
        self._names.add(read.example.name)
        for name, value in read.numbers.items():
            self._values.setdefault(name, array("d")).append(value)
        self.tree.add(merkle.leaf(b"pellucid example 1\0" + line[:-1]))
        self.questions.add(question_leaf(read.example))
        return ""

    def numbers(self) -> dict[str, str]:
        """The mean of each number: the exact sum, rounded, divided by how many there are."""
        return {
            name: digests.float_bits(math.fsum(values) / len(values))
            for name, values in self._values.items()
        }


def _beyond(line: Line, bounds: Bounds) -> str:
    """What a line holds that no model with these bounds reads or writes; nothing if nothing."""
    request, target = line.example.request, line.example.target
    if not isinstance(request, Continue):
        return ""
    if detail := requests.misfit(request, *bounds):
        return f"has a request that the model cannot be asked: {detail}"
    written = line.answer.ids if isinstance(line.answer, Ids) else ()
    largest = max(*written, *(target if isinstance(target, tuple) else ()))
    if largest >= bounds.vocabulary:
        return f"has the token {largest}, and the vocabulary has {bounds.vocabulary:,} tokens"
    return ""


def line_from(line: bytes, metric: str) -> Line | str:
    """What a line of an evaluation with this metric says, or what is wrong with it."""
    if len(line) > MAX_LINE or not line.endswith(b"\n"):
        return f"has no line break, or is longer than {MAX_LINE} bytes"
    body = _spelled(line)
    if tuple(body) != EXAMPLE:
        return f"is not an object of {', '.join(EXAMPLE)} as they are spelled"
    words = _is_word(body["example"]) and (body["cluster"] == "" or _is_word(body["cluster"]))
    if not words or not _are_numbers(body["numbers"]):
        return "has an example, a cluster or numbers that are not written as they should be"
    request, target = requests.request_of(body["request"]), requests.target_of(body["target"])
    if request is None or not requests.target_fits(target, request):
        return "has a request or a target that is not written as it should be"
    answer = requests.answer_of(body["answer"], request)
    if answer is None:
        return "has an answer that is not written as it should be, or not one to its request"
    if metric != metrics.MEASURED:
        rated = metrics.numbers_of(metric, request, target, answer)
        if rated is None:
            return f"has a request or a target that {metric} does not rate"
        if {key: digests.float_bits(rated[key]) for key in rated} != body["numbers"]:
            return f"has other numbers than {metric} gives for its answer"
    example = Example(body["example"], request, target, body["cluster"])
    numbers = {key: digests.bits_float(bits) for key, bits in body["numbers"].items()}
    return Line(example, answer, numbers)


def wrong(n: int, body: Mapping[str, Any]) -> str:
    """What is wrong with entry n by itself, or nothing."""
    listed = ("prev", "n", *(FIELDS if n else GENESIS))
    if tuple(body) != listed:
        return f"has not exactly the fields {', '.join(listed)}, in this order"
    if body["kind"] != ("evaluation" if n else "genesis"):
        return "is of another kind than stands there"
    if not n and (type(body["format"]) is not int or body["format"] != FORMAT):
        return f"has another format than {FORMAT}"
    bad = [name for name in _DIGESTS if name in body and not digests.is_digest(body[name])]
    bad += [name for name in _WORDS if name in body and not _is_name(name, body[name])]
    if n and (type(body["step"]) is not int or not 0 <= body["step"] < _COUNTS):
        bad.append("step")
    if n and not _are_numbers(body["numbers"]):
        bad.append("numbers")
    if n and body["metric"] not in (metrics.MEASURED, *metrics.METRICS):
        bad.append("metric")
    if n and not _are_settings(body["settings"]):
        bad.append("settings")
    # A task of ours that a metric rates would pass with any numbers if they were called measured.
    if n and body["metric"] == metrics.MEASURED and body["harness"] == OURS:
        if body["task"] not in MEASURED_BY_US:
            bad.append("metric")
        elif not _are_shares(body["numbers"], MEASURED_BY_US[body["task"]]):
            bad.append("numbers")
    return f"has {bad[0]} not written as it should be" if bad else ""


def _spelled(line: bytes) -> dict[str, Any]:
    """The object of a line in the one spelling; an empty one of any other line."""
    try:
        body = json.loads(line)
        sound = isinstance(body, dict) and digests.canonical(body) + b"\n" == line
        if b"\\ud" in line:  # Half of a pair has no UTF-8, so no model can be asked it.
            json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return {}
    return body if sound else {}


def _is_word(value: object) -> bool:
    """Half of a surrogate pair is no text: nothing could show it."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST
        and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def _is_name(field: str, value: object) -> bool:
    """What tables show beside numbers. A program and its version are of ASCII, so that none looks
    like nothing, or like another one."""
    if not isinstance(value, str) or not _is_word(value) or value != " ".join(value.split()):
        return False
    if field != "task":
        return value.isascii() and value.isprintable()
    return value.isprintable() and any(letter.isalnum() for letter in value)


def _are_shares(numbers: Mapping[str, str], names: tuple[str, ...]) -> bool:
    """Whether numbers that are written as they should be have these names, and are shares."""
    bits = numbers.values() if _are_numbers(numbers) else ()
    return tuple(numbers) == names and all(0 <= digests.bits_float(one) <= 1 for one in bits)


def _are_settings(value: object) -> bool:
    """Names in order, each with a word, a whole number, yes, no or nothing."""
    if not isinstance(value, dict) or len(value) > _MOST_NUMBERS or [*value] != sorted(value):
        return False
    return all(
        _NAME(name)
        and (setting is None or type(setting) in (bool, int) or _is_word(setting))
        and (type(setting) is not int or abs(setting) < _COUNTS)
        for name, setting in value.items()
    )


def _are_numbers(value: object) -> bool:
    """Names in order, each with the bits of a float64 of which many may be added."""
    if not isinstance(value, dict) or not 0 < len(value) <= _MOST_NUMBERS:
        return False
    return [*value] == sorted(value) and all(
        _NAME(name)
        and isinstance(bits, str)
        and _FLOAT(bits)
        and abs(digests.bits_float(bits)) <= _MOST
        for name, bits in value.items()
    )
