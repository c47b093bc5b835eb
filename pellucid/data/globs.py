"""Patterns on '/'-paths, matched in the length of the path: a hostile pattern costs
what its length does, no power."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_NOTHING = re.compile("(?!)")
_KEPT = 4096  # Moves, and characters, that are remembered.


class Glob:
    """`*`, `?` and `[…]` stay within one name, `**` crosses folders; a pattern without "/" is
    compared with the last name of a path alone. Upper and lower case differ.

    Bit i of a state says that the tokens before the i-th match what was read; `**/` is two tokens,
    of which the first, "", may be left out together with the second, "/": any folders."""

    def __init__(self, pattern: str) -> None:
        self._tokens = list(_tokens(pattern if "/" in pattern else f"**/{pattern}"))
        self._distinct = set(self._tokens)
        self._stars, self._optional = self._bits({"*", "**"}), self._bits({""})
        self._stay = {True: self._bits({"**", "/**/"}), False: self._bits({"*", "**", "/**/"})}
        self._accepting: dict[str, int] = {}
        self._moves: dict[tuple[int, str], int] = {}

    @property
    def empty(self) -> str:
        """The first brackets that take nothing, like [z-a], so that the pattern takes
        no path; "" where none are."""
        return next(
            (
                token
                for token in self._tokens
                if len(token) > 1 and token[0] == "[" and _class(token) is _NOTHING
            ),
            "",
        )

    def matches(self, path: str) -> bool:
        state = self._closed(1)
        for character in path:
            if not state:
                return False
            move = self._moves.get((state, character))
            if move is None:
                if len(self._moves) >= _KEPT:
                    self._moves.clear()
                move = self._moves[state, character] = self._moved(state, character)
            state = move
        return bool(state >> len(self._tokens) & 1)

    def _bits(self, tokens: set[str]) -> int:
        return int("0" + "".join("01"[token in tokens] for token in reversed(self._tokens)), 2)

    def _closed(self, state: int) -> int:
        """With all that matches without another character: neighbours of one kind are
        one, so these are few steps."""
        while True:
            optional = state & self._optional
            more = state | (state & self._stars) << 1 | optional << 1 | optional << 2
            if more == state:
                return state
            state = more

    def _moved(self, state: int, character: str) -> int:
        if character not in self._accepting:
            if len(self._accepting) >= _KEPT:
                self._accepting.clear()
            self._accepting[character] = self._bits(
                {token for token in self._distinct if _takes(token, character)}
            )
        stay = state & self._stay[character == "/"]
        return self._closed(stay | (state & self._accepting[character]) << 1)


def _tokens(pattern: str) -> Iterator[str]:
    before = ""
    for token in _TOKEN.findall(pattern):
        again = token == before or (token, before) == ("*", "**")
        if token == "**/" and not again:
            yield from ("", "/**/")
        elif token not in ("*", "**", "**/") or not again:
            yield token
        before = before if again and token == "*" else token


def _takes(token: str, character: str) -> bool:
    """Whether a token takes a character and is done with it."""
    if token == "/**/":
        return character == "/"
    if token == "?":
        return character != "/"
    return (
        token == character
        if len(token) == 1 and token != "*"
        else bool(_class(token).match(character))
    )


@cache
def _class(token: str) -> re.Pattern[str]:
    """Of one in brackets. What is none, or is empty like [z-a], takes nothing."""
    if len(token) < 3 or token[0] != "[":
        return _NOTHING
    inner = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
    try:
        return re.compile(
            f"(?!/)[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]", re.DOTALL
        )
    except re.error:
        return _NOTHING
