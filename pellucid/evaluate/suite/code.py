"""Minimal pairs of Python: the context with one choice is a program, with the other it is none; or,
of names, it uses a name that was bound and one that was not.

A context ends with a line, or with a word and no word begins the choices, or the choices begin with
a blank. Where a token holds a line break and what is around it, choices are asked from its
beginning on (asking.py)."""

from __future__ import annotations

from pellucid.evaluate.suite.base import Draws, grouped
from pellucid.evaluate.task import Task

NAMES = (
    *("a", "b", "c", "n", "x", "y", "z", "arg", "args", "base", "data", "expr", "factor", "index"),
    *("item", "items", "key", "left", "limit", "matrix", "name", "point", "poly", "result"),
    *("right", "rows", "size", "start", "symbol", "term", "text", "total", "value", "values"),
)
_FUNCTIONS = (
    "check",
    "expand",
    "factor_of",
    "get",
    "apply",
    "solve",
    "simplify",
    "sum_of",
    "zeros",
)
# Each pair of contexts with the choices that close them.
_BRACKETS = (
    ("{a} = {f}({b}[{c}", "{a} = {f}[{b}({c}", "])", ")]"),
    ("{a} = {f}({{{c}", "{a} = {{{f}({c}", "}})", ")}}"),
    ("{a} = [{{{c}", "{a} = {{{b}[{c}", "}}]", "]}}"),
    ("{a} = {f}({g}({c}", "{a} = {f}({c}", "))", ")"),
    ("{a} = [{f}([{c}", "{a} = [{f}({c}", "])]", ")]"),
    ("{a} = {b}[{c}[{d}", "{a} = {b}[{d}", "]]", "]"),
)
_OPEN = (
    *("if {a}:\n", "for {a} in {b}:\n", "while {a}:\n", "with {f}({a}) as {b}:\n"),
    *("if {a} == {b}:\n", "def {f}({a}, {b}):\n"),
)
_CLOSED = (
    *("{a} = {b}\n", "{f}({a})\n", "{a} += {b}\n", "assert {a}\n", "{a} = {f}({b})\n"),
    *("{a}, {b} = {f}({c})\n",),
)
# A name that is bound in the first context and not in the second, and the other way about.
_BOUND = (
    ("def {f}({a}, {b}):\n    return {a} +", " {b}\n", " {c}\n"),
    ("{a} = 2\n{b} = {a} + 1\n{d} = {a} *", " {b}\n", " {c}\n"),
    ("for {b} in {f}({a}):\n    print({a},", " {b})\n", " {c})\n"),
    ("def {f}({a}):\n    {b} = {a} + 1\n    return", " {b}\n", " {c}\n"),
)
_KEYWORDS = (
    ("from {a}", "import {a}", " import {b}\n", " as {b}\n"),
    (
        "if {a}:\n    {f}({b})\n",
        "try:\n    {f}({b})\n",
        "elif {c}:\n    pass\n",
        "except {c}:\n    pass\n",
    ),
    ("if {a}", "{b} = {a}", ":\n    pass\n", "\npass\n"),
    ("{d} = {a} if {b}", "{d} = [{a} for {b}", " else {c}\n", " in {c}]\n"),
    (
        "for {a} in {b}:\n    if {a}:\n",
        "def {f}({a}):\n    if {a}:\n",
        "        break\n",
        "        return\n",
    ),
)


def brackets() -> Task:
    """What was opened closes, in order."""

    def make(draws: Draws, number: int) -> tuple[list[str], list[str]]:
        *contexts, first, second = _filled(_BRACKETS[number % len(_BRACKETS)], draws)
        # The statement behind shows that nothing is left open.
        return contexts, [f"{first}\npass\n", f"{second}\npass\n"]

    return grouped("brackets", 2, 120, make)


def indentation() -> Task:
    """A block follows a colon, and nothing else."""

    def make(draws: Draws, number: int) -> tuple[list[str], list[str]]:
        level = number % 2
        inner = "    " * level
        pair = (_OPEN[number // 2 % len(_OPEN)], draws.pick(_CLOSED), "{a} = {c}\n")
        opened, closed, then = _filled(pair, draws)
        before = "def main():\n" * level + inner
        return [before + opened, before + closed], [f"{inner}    {then}", f"{inner}{then}"]

    return grouped("indentation", 2, 120, make)


def binding() -> Task:
    """A name is used that was assigned before."""

    def make(draws: Draws, number: int) -> tuple[list[str], list[str]]:
        context, first, second = _BOUND[number % len(_BOUND)]
        other = context.replace("{b}", "{c}")
        *contexts, first, second = _filled((context, other, first, second), draws)
        return contexts, [first, second]

    return grouped("binding", 2, 120, make)


def keywords() -> Task:
    """The keyword that the statement needs."""

    def make(draws: Draws, number: int) -> tuple[list[str], list[str]]:
        *contexts, first, second = _filled(_KEYWORDS[number % len(_KEYWORDS)], draws)
        return contexts, [first, second]

    return grouped("keywords", 2, 120, make)


def _filled(templates: tuple[str, ...], draws: Draws) -> list[str]:
    """With the same different names in each."""
    names = dict(zip("abcd", draws.sample(NAMES, 4), strict=True))
    functions = dict(zip("fg", draws.sample(_FUNCTIONS, 2), strict=True))
    return [template.format(**names, **functions) for template in templates]
