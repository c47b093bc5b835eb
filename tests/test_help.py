"""The help of every verb and option: short sentences that say what it does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer

from pellucid.cli import app
from tests import english
from tests.test_errors import BANNED

ROOT = typer.main.get_command(app)


def texts() -> Iterator[tuple[str, str]]:
    """The name and the help of every verb, argument and option, without examples."""
    for name, verb in vars(ROOT)["commands"].items():
        paragraphs = str(verb.help).split("\n\n")
        yield name, "\n\n".join(one for one in paragraphs if not one.startswith("\b"))
        for option in verb.params:
            yield f"{name} {option.name}", str(getattr(option, "help", ""))


def problems(text: str) -> list[str]:
    reading = english.read(text)
    return [
        *([f"{reading.length:.1f} words a sentence"] if reading.length >= 17 else []),
        *(["opens weakly"] if reading.weak else []),
        *BANNED.findall(text),
    ]


def test_every_help_is_short_and_says_what_it_does() -> None:
    every = dict(texts())
    assert len(every) > 80 and all(every.values())
    assert {name: wrong for name, text in every.items() if (wrong := problems(text))} == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Where two runs part, and why.", "opens weakly"),
        ("Print what was found in it.", "found"),
        ("Print " + "this and that and " * 5 + "more.", "words a sentence"),
    ],
)
def test_a_help_that_reads_badly_is_a_problem(text: str, wrong: str) -> None:
    assert any(wrong in one for one in problems(text))
