"""The built-in tasks: pinned, balanced, and right by rules that the tests know themselves."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from pellucid.data.tokenizer import Tokenizer
from pellucid.evaluate import asking
from pellucid.evaluate.suite import BUILT_IN
from pellucid.evaluate.suite.base import Draws, group, grouped
from pellucid.evaluate.task import Task
from pellucid.record import requests
from pellucid.record.requests import Choices, Example, Generate
from pellucid.store import layout

# A change of an example is a new version of its task.
PINNED = {
    "completion": (1, "6c8329f7b7778bc4"),
    "agreement": (1, "90117d65eeb55aad"),
    "determiners": (1, "1c7bac875dfcb40e"),
    "brackets": (1, "29302f2e32ea2fa4"),
    "indentation": (1, "ca09b5c254b99eb5"),
    "binding": (1, "3ba319d4051b2d7a"),
    "keywords": (1, "3467a63b8f0dd43c"),
    "induction": (1, "78a0dfc72736a1a7"),
    "copying": (1, "e717d5c8b5d0e39b"),
}
CHOOSING = [name for name, make in BUILT_IN.items() if make().metric == "accuracy"]


def digest(task: Task) -> str:
    rows = [(name, ask.spelled(), target, cluster) for name, ask, target, cluster in task.examples]
    text = json.dumps([task.name, task.settings["version"], task.metric, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def asked(example: Example) -> Choices:
    assert isinstance(example.request, Choices)
    return example.request


def texts(example: Example) -> tuple[str, str]:
    """The context with its right choice, and with its wrong one."""
    request, target = asked(example), example.target
    assert isinstance(target, int)
    return (
        request.context + request.choices[target],
        request.context + request.choices[1 - target],
    )


def compiles(text: str) -> bool:
    try:
        compile(text, "example", "exec")
    except SyntaxError:
        return False
    return True


def test_the_tasks_are_those_that_were_published() -> None:
    assert {
        name: (make().settings["version"], digest(make())) for name, make in BUILT_IN.items()
    } == PINNED


@pytest.mark.parametrize("name", BUILT_IN)
def test_examples_are_well_formed(name: str) -> None:
    task = BUILT_IN[name]()
    assert task.name == name and 100 <= len(task.examples) <= 500
    names = [example.name for example in task.examples]
    assert len(set(names)) == len(names) and all(1 <= len(each) <= 200 for each in names)
    spelled = [json.dumps(example.request.spelled()) for example in task.examples]
    assert len(set(spelled)) == len(spelled)
    for example in task.examples:
        assert requests.request_of(example.request.spelled()) == example.request
        assert requests.target_fits(example.target, example.request)
    assert len({example.cluster for example in task.examples}) >= 24


@pytest.mark.parametrize("name", CHOOSING)
def test_a_model_that_reads_no_context_is_right_by_chance(name: str) -> None:
    """Of examples with the same choices each choice is right equally often."""
    task, targets = BUILT_IN[name](), dict[tuple[str, ...], Counter]()
    for example in task.examples:
        request = asked(example)
        right = request.choices[example.target]  # type: ignore[index]
        targets.setdefault(tuple(sorted(request.choices)), Counter())[right] += 1
    for choices, counts in targets.items():
        assert [counts[choice] for choice in choices] == [counts[choices[0]]] * len(choices)
        assert len(choices) == round(1 / (task.chance or 0))


def test_an_unbalanced_group_cannot_be_made() -> None:
    for contexts, choices in ((["a", "b"], ["x"]), (["a", "a"], ["x", "y"]), (["a"], ["x", "y"])):
        with pytest.raises(AssertionError):
            group("0", contexts, choices)
    with pytest.raises(AssertionError):
        grouped("narrow", 3, 1, lambda draws, number: (["a", "b"], ["x", "y"]))


@pytest.mark.parametrize("name", ["brackets", "indentation", "keywords"])
def test_the_right_choice_alone_is_a_program(name: str) -> None:
    for example in BUILT_IN[name]().examples:
        right, wrong = texts(example)
        assert compiles(right), right
        assert not compiles(wrong), wrong


@pytest.mark.parametrize("name", CHOOSING)
def test_no_token_is_of_the_context_and_of_a_choice(name: str, finished: Path) -> None:
    tokenizer = Tokenizer.load(finished / layout.TOKENIZER)
    for example in BUILT_IN[name]().examples:
        request = asked(example)
        last, firsts = request.context[-1], {choice[0] for choice in request.choices}
        assert (
            last == "\n"
            or firsts == {" "}
            or (last.isalnum() and not any(map(str.isalnum, firsts)))
        )
        scored = asking._encoded(tokenizer, request).continuations
        assert [tokenizer.decode(ids).strip() for ids in scored] == [
            choice.strip() for choice in request.choices
        ]


def unbound(text: str) -> set[str]:
    """Names that are read and bound nowhere."""
    nodes = [*ast.walk(ast.parse(text))]
    bound = {node.arg for node in nodes if isinstance(node, ast.arg)}
    bound |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    names = [node for node in nodes if isinstance(node, ast.Name)]
    bound |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
    called = {
        node.func.id
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return {node.id for node in names} - bound - called


def test_the_right_name_alone_is_bound() -> None:
    loops = 0
    for example in BUILT_IN["binding"]().examples:
        right, wrong = texts(example)
        # A loop goes over something from elsewhere.
        given = set(re.findall(r" in \w+\((\w+)\)", right))
        loops += len(given)
        assert unbound(right) == given, right
        assert len(unbound(wrong) - given) == 1, wrong
    assert loops == 60


PLURAL = re.compile(r"(?:s|matrices)$")


def test_the_verb_agrees_with_its_subject() -> None:
    distracted = 0
    for example in BUILT_IN["agreement"]().examples:
        right, wrong = (text.split() for text in texts(example))
        subject, nearest = right[1], right[len(asked(example).context.split()) - 1]
        place = len(asked(example).context.split())
        many = subject != "class" and bool(PLURAL.search(subject))
        assert (right[place] in ("are", "were", "have", "do")) == many
        assert (wrong[place] in ("is", "was", "has", "does")) == many
        distracted += (nearest != "class" and bool(PLURAL.search(nearest))) != many
    assert distracted == 192  # Two of three.


def test_the_noun_agrees_with_its_determiner() -> None:
    for example in BUILT_IN["determiners"]().examples:
        right, wrong = (text.rstrip(".").split() for text in texts(example))
        many = right[-2] in ("these", "those", "all", "several")
        for words, expected in ((right, many), (wrong, not many)):
            assert (words[-1] != "class" and bool(PLURAL.search(words[-1]))) == expected


def test_who_looks_back_is_right() -> None:
    for example in BUILT_IN["induction"]().examples:
        request = asked(example)
        words = request.context.split()
        follows = words[words.index(words[-1]) + 1]
        assert len(words) == 17 and words[:8] == words[8:16] and len({*words}) == 8
        assert request.choices[example.target] == f" {follows}"  # type: ignore[index]
        # Counting words tells nothing.
        assert {words.count(choice.strip()) for choice in request.choices} == {2}


def test_the_word_to_copy_stands_in_the_context() -> None:
    for example in BUILT_IN["copying"]().examples:
        request = example.request
        assert isinstance(request, Generate) and request.stops == ("\n",)
        assert re.findall(r"word: (\w+)", request.context)[-1] == example.target


def test_draws_are_even_and_different() -> None:
    draws = Draws("even")
    counts = Counter(draws.below(5) for _ in range(5000))
    assert set(counts) == {0, 1, 2, 3, 4} and min(counts.values()) > 900
    assert sorted(draws.sample("abc", 3)) == [*"abc"]
    same, other = Draws("even"), Draws("odd")
    assert [same.below(5) for _ in range(9)] != [other.below(5) for _ in range(9)]
