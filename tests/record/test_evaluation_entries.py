"""The entries of an evaluation chain and the lines of examples have one
form, and every other is named."""

from __future__ import annotations

import copy
import functools
import json
import math
from typing import Any

import pytest

from pellucid.record import digests, evaluations, metrics
from pellucid.record.evaluations import Examples
from pellucid.record.requests import (
    MOST_READ,
    Answer,
    Choices,
    Continue,
    Example,
    Generate,
    Ids,
    Likelihoods,
    Request,
    Rolling,
    Target,
    Text,
    request_of,
)

DIGEST = "ab" * 32
ASKED = Choices("Größe", (" a", " bb", " ccc"))


def line(name: str, target: int | None, *nats: float, cluster: str = "") -> bytes:
    """A line by accuracy."""
    answer = Likelihoods(nats, (False,) * len(nats))
    numbers = metrics.numbers_of("accuracy", ASKED, target, answer) or {"acc": 0.0}
    return evaluations.line_of(Example(name, ASKED, target, cluster), answer, numbers)


LINES = [
    line("doc 1", 0, -0.1, -3.0, -1e16),
    line("doc 2", 1, -0.1, -0.2, -0.3, cluster="a document"),
    line("doc 3", 2, -1e16, -1e16, -0.5),
]


def taken(lines: list[bytes]) -> Examples:
    examples = Examples("accuracy")
    assert [examples.take(line) for line in lines] == [""] * len(lines)
    return examples


def entry(n: int = 1) -> dict[str, Any]:
    body = evaluations.evaluation(
        head=DIGEST,
        step=7,
        weights=DIGEST,
        task="arc_easy",
        harness=("lm-eval", "0.4.9"),
        settings={"shots": 5, "limit": None},
        examples=taken(LINES),
        sha256=DIGEST,
    )
    return {"prev": DIGEST, "n": n, **(body if n else evaluations.genesis(DIGEST))}


def test_numbers_are_the_means_of_exact_sums() -> None:
    numbers = taken(LINES).numbers()
    assert numbers["acc"] == digests.float_bits(2 / 3)
    margins = [-0.1 + 3.0, -0.2 + 0.1, -0.5 + 1e16]
    assert numbers["margin"] == digests.float_bits(math.fsum(margins) / 3)
    assert taken(LINES[::-1]).numbers() == numbers
    assert taken(LINES[::-1]).tree.root() != taken(LINES).tree.root()


def test_entries_as_they_are_made_are_sound() -> None:
    assert evaluations.wrong(0, entry(0)) == evaluations.wrong(1, entry()) == ""


OTHERS: dict[str, list[object]] = {
    "kind": ["genesis", "x", 1],
    **{name: ["", DIGEST.upper(), 7, None] for name in ("head", "weights", "results", "sha256")},
    "metric": ["", "acc", None, 1],
    "settings": [
        [],
        {"shots": 1.5},
        {"shots": [1]},
        {"shots": 10**18},
        {"shots": ""},
        {"a b": 1},
        {"b": 1, "a": 1},
        {f"n{number:02}": 1 for number in range(65)},
    ],
    "step": [-1, True, "7", 10**18, 1.0],
    **{name: ["", "x" * 201, 4, None, "\ud800"] for name in ("task", "harness", "version")},
    "numbers": [
        {},
        [],
        {"acc": 1},
        {"acc": "7ff0000000000000"},
        {"acc": digests.float_bits(1e281)},
        {"b": "0" * 16, "a": "0" * 16},
        {"a b": "0" * 16},
        {f"n{number:02}": "0" * 16 for number in range(65)},
    ],
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_value_of_a_field_is_named(name: str) -> None:
    for value in OTHERS[name]:
        assert evaluations.wrong(1, entry() | {name: value})


def test_of_our_own_tasks_only_those_without_a_metric_are_measured() -> None:
    measured = entry() | {"metric": "measured"}
    assert evaluations.wrong(1, measured) == ""
    assert "metric" in evaluations.wrong(1, measured | {"harness": "pellucid"})
    ours = measured | {"harness": "pellucid", "task": "completion"}
    half, names = digests.float_bits(0.5), ("compiles", "parses", "passes")
    ours["numbers"] = dict.fromkeys(names, half)
    assert evaluations.wrong(1, ours) == ""
    for numbers in (
        {"acc": half},
        {**ours["numbers"], "chance": half},
        {**ours["numbers"], "passes": digests.float_bits(7.5)},
        {**ours["numbers"], "parses": digests.float_bits(-0.5)},
    ):
        assert "numbers" in evaluations.wrong(1, ours | {"numbers": numbers})


@pytest.mark.parametrize("n", [0, 1])
def test_no_field_is_missing_or_added_or_elsewhere(n: int) -> None:
    body = entry(n)
    for name in body:
        assert evaluations.wrong(n, {key: body[key] for key in body if key != name})
    assert evaluations.wrong(n, body | {"more": 1})
    assert evaluations.wrong(n, dict(reversed(body.items())))
    assert evaluations.wrong(1 - n, body)
    for value in (2, True) if n == 0 else ():
        assert evaluations.wrong(0, body | {"format": value})


SPELLED = json.loads(LINES[1])


def changed(*path: str, to: object) -> bytes:
    """The second line with another value there."""
    body = copy.deepcopy(SPELLED)
    *before, last = path
    place = functools.reduce(lambda inner, key: inner[key], before, body)
    place[last] = to
    return digests.canonical(body) + b"\n"


ONE = digests.float_bits(1.0)
WRONG_LINES: dict[str, bytes] = {
    "cut": LINES[1][:-1],
    "long": changed("request", "context", to="x" * (1 << 20)),
    "no JSON": b"{\n",
    "deep": b"[" * 200_000 + b"\n",
    "a list": b"[]\n",
    "a space": LINES[1].replace(b":", b": ", 1),
    "a key twice": LINES[1].replace(b'"example"', b'"example":"","example"', 1),
    "another key": LINES[1].replace(b'"answer"', b'"answers"'),
    "no numbers": changed("numbers", to={}),
    "other numbers": changed("numbers", "acc", to=ONE),
    "fewer numbers": changed("numbers", to={"acc": digests.float_bits(0.0)}),
    "infinite": changed("numbers", "margin", to="7ff0000000000000"),
    "again": LINES[0],
    "no name": changed("example", to=""),
    "a long cluster": changed("cluster", to="x" * 201),
    "an answer of another request": changed("answer", to={"text": "a"}),
    "an answer of fewer choices": changed("answer", "greedy", to=[False]),
    "flags that are numbers": changed("answer", "greedy", to=[0, 0, 0]),
    "a probability above 1": changed("answer", "nats", to=[ONE] * 3),
    "a probability of 0": changed("answer", "nats", to=["fff0000000000000"] * 3),
    "no choice": changed("request", "choices", to=[]),
    "an empty choice": changed("request", "choices", to=["", " b", " c"]),
    "too many choices": changed("request", "choices", to=["a"] * 257),
    "a context that is none": changed("request", "context", to=1),
    "a request of two kinds": changed("request", "text", to="a"),
    "a text": changed("request", to={"text": "a"}),
    "no target": changed("target", to=None),
    "a target that is yes": changed("target", to=True),
    "a target beyond the choices": changed("target", to=3),
    "a target in words": changed("target", to="a"),
}


@pytest.mark.parametrize("name", WRONG_LINES)
def test_a_wrong_line_is_named_and_not_taken(name: str) -> None:
    examples = taken(LINES[:1])
    assert examples.take(WRONG_LINES[name])
    assert examples.tree.count == 1 and examples.numbers() == taken(LINES[:1]).numbers()


ASKED_IDS, RIGHT = Continue((5, 0, 2**32 - 1), 4), (7, 7, 8, 9)


def ids_line(*path: str, to: object = None) -> bytes:
    """A line by extraction, with another value there."""
    answer = Ids((7, 7, 8, 1))
    numbers = metrics.numbers_of("extraction", ASKED_IDS, RIGHT, answer) or {}
    body = json.loads(evaluations.line_of(Example("x", ASKED_IDS, RIGHT, "d"), answer, numbers))
    place = functools.reduce(lambda inner, key: inner[key], path[:-1], body)
    if path:
        place[path[-1]] = to
    return digests.canonical(body) + b"\n"


WRONG_IDS: dict[str, bytes] = {
    "no ids": ids_line("request", "ids", to=[]),
    "too many ids": ids_line("request", "ids", to=[1] * 4097),
    "ids that are no list": ids_line("request", "ids", to="123"),
    "an id that is none": ids_line("request", "ids", to=[5, 0, 2**32]),
    "an id below 0": ids_line("request", "ids", to=[-1]),
    "an id that is yes": ids_line("request", "ids", to=[True]),
    "an id with a fraction": ids_line("request", "ids", to=[1.0]),
    "no tokens asked for": ids_line("request", "tokens", to=0),
    "too many tokens asked for": ids_line("request", "tokens", to=4097),
    "tokens that are yes": ids_line("request", "tokens", to=True),
    "a request of two kinds": ids_line("request", "context", to="a"),
    "an answer that is shorter": ids_line("answer", "ids", to=[7, 7, 8]),
    "an answer that is longer": ids_line("answer", "ids", to=[7, 7, 8, 9, 9]),
    "an answer in words": ids_line("answer", to={"text": "a"}),
    "an answer of another id": ids_line("answer", "ids", to=[7, 7, 8, 9]),
    "an answer of no id": ids_line("answer", "ids", to=[7, 7, 8, 2**32]),
    "no target": ids_line("target", to=None),
    "a target that is shorter": ids_line("target", to=[7, 7, 8]),
    "a target of no id": ids_line("target", to=[7, 7, 8, "9"]),
    "a number": ids_line("numbers", "share", to=digests.float_bits(1.0)),
    "fewer numbers": ids_line("numbers", to={"exact": digests.float_bits(0.0)}),
}


@pytest.mark.parametrize("name", WRONG_IDS)
def test_a_wrong_line_of_token_ids_is_named(name: str) -> None:
    assert not isinstance(evaluations.line_from(ids_line(), "extraction"), str)
    assert isinstance(evaluations.line_from(WRONG_IDS[name], "extraction"), str)


def test_a_context_is_not_read_without_bound_for_its_choices() -> None:
    whole = {"choices": ["a"] * 256, "context": "x" * (MOST_READ // 256)}
    assert request_of(whole) is not None
    assert request_of(whole | {"context": f"{whole['context']}x"}) is None


RATED: list[tuple[str, Request, Target, Answer, dict[str, float]]] = [
    (
        "accuracy",
        Choices("c", (" a", " bbbb")),
        1,
        Likelihoods((-2.0, -4.0), (False, False)),
        {"acc": 0.0, "acc_norm": 1.0, "chance": 0.5, "margin": -2.0},
    ),
    (  # The first of equals counts as the likeliest.
        "accuracy",
        Choices("c", (" a", " b")),
        1,
        Likelihoods((-2.0, -2.0), (False, False)),
        {"acc": 0.0, "acc_norm": 0.0, "chance": 0.5, "margin": 0.0},
    ),
    (
        "likelihood",
        Choices("c", (" a",)),
        None,
        Likelihoods((-2.5,), (True,)),
        {"acc": 1.0, "nats": -2.5},
    ),
    (
        "bits_per_byte",
        Rolling("Größe ist\n alles"),
        None,
        Likelihoods((-20.0,), (False,)),
        {"bytes": 18.0, "nats": -20.0, "words": 3.0},
    ),
    ("exact_match", Generate("c", ("\n",), 8), "a b", Text(" a b\t"), {"exact_match": 1.0}),
    ("exact_match", Generate("c", ("\n",), 8), "a b", Text("a  b"), {"exact_match": 0.0}),
    ("extraction", ASKED_IDS, RIGHT, Ids(RIGHT), {"exact": 1.0, "first": 1.0, "share": 1.0}),
    (
        "extraction",
        ASKED_IDS,
        RIGHT,
        Ids((7, 1, 8, 9)),
        {"exact": 0.0, "first": 0.25, "share": 0.75},
    ),
    ("extraction", ASKED_IDS, RIGHT, Ids((0,) * 4), {"exact": 0.0, "first": 0.0, "share": 0.0}),
]


@pytest.mark.parametrize(("metric", "request_", "target", "answer", "numbers"), RATED)
def test_a_metric_rates_an_answer_and_its_line_is_read_again(
    metric: str, request_: Request, target: Target, answer: Answer, numbers: dict[str, float]
) -> None:
    assert metrics.numbers_of(metric, request_, target, answer) == numbers
    example = Example("x", request_, target, "")
    written = evaluations.line_of(example, answer, numbers)
    assert evaluations.line_from(written, metric) == (example, answer, numbers)
    others = {other for other in metrics.METRICS if other != metric}
    assert all(isinstance(evaluations.line_from(written, other), str) for other in others)
    # Numbers of a harness stand as they are.
    assert evaluations.line_from(written, metrics.MEASURED) == (example, answer, numbers)
    named = evaluations.line_of(example, answer, {"rouge": 0.25})
    assert isinstance(evaluations.line_from(named, metric), str)
    assert not isinstance(evaluations.line_from(named, metrics.MEASURED), str)
