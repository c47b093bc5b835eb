"""The spellings of a text that occur, where case or white space do not count.

Two characters are one but for their case where they are equal in lower case. Spellings are built
from the left, a character at a time, and only those are followed that occur so far."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from functools import cache

from pellucid.errors import QueryEmpty

_SPACE = re.compile(r"(\s+)")


def variants(
    content: bytes, exists: Callable[[str], bool], ignore_case: bool, fold_space: bool
) -> list[str]:
    """The spellings of a text for which `exists` holds. fold_space: a run of white space stands
    for any other run, and none at the ends counts. Nothing of what is no UTF-8. Raises
    QueryEmpty where nothing is left."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return []
    if fold_space and not text.strip():
        raise QueryEmpty()
    runs = _SPACE.split(text.strip()) if fold_space else [text]
    spellings = [""]
    for number, run in enumerate(runs):
        if fold_space and number % 2:
            spellings = _with_space(spellings, exists)
            continue
        for character in run:
            spellings = _longer(
                spellings,
                _cases().get(character.lower(), character) if ignore_case else character,
                exists,
            )
    return spellings


def _longer(
    spellings: list[str], characters: Iterable[str], exists: Callable[[str], bool]
) -> list[str]:
    return [
        longer
        for spelling in spellings
        for character in characters
        if exists(longer := spelling + character)
    ]


def _with_space(spellings: list[str], exists: Callable[[str], bool]) -> list[str]:
    """With every run of white space behind them that occurs."""
    spaces = [space for space in blanks() if exists(space)]
    grown: list[str] = []
    while spellings := _longer(spellings, spaces, exists):
        grown += spellings
    return grown


@cache
def blanks() -> list[str]:
    """Every character of white space."""
    return [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]


@cache
def _cases() -> dict[str, list[str]]:
    """By its lower case, the characters that have one in common with others."""
    by_lower: dict[str, list[str]] = {}
    for code in range(sys.maxunicode + 1):
        by_lower.setdefault(chr(code).lower(), []).append(chr(code))
    return {lower: letters for lower, letters in by_lower.items() if len(letters) > 1}
