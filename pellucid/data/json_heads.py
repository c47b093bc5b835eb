"""What JSON a text begins with, told from its beginning alone: it may end anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r'[ \t\r\n]*+(?:([{}\[\],:])|("(?:[^"\\\x00-\x1f]|\\.)*+")'
    r"|(-?\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+|true|false|null|NaN|-?Infinity))"
)
# Of a token, its beginning.
_CUT = re.compile(r'[ \t\r\n]*+(?:"(?:[^"\\\x00-\x1f]|\\.)*+\\?|[-+.\w]{0,40})', re.DOTALL)
_CHATS = ("messages", "conversations", "conversation")  # A list under these is one record.
_CLOSES = {"{": "}", "[": "]"}
_DEEPEST = 500


def shape(text: str, cut: bool) -> str:
    """One of "array", "object", "records" (an object with a list of objects or lists), or "" for no
    JSON. A text that is not cut has to be one whole value."""
    first, records = "", False
    before: list[str] = []
    open_ones: list[str] = []
    key = ""
    for token in _tokens(text, cut):
        if not token:
            return ""
        if not first:
            first = {"[": "array", "{": "object"}.get(token, "")
            if not first:
                return ""
        if (
            len(open_ones) == 1
            and first == "object"
            and token[0] == '"'
            and before[-1:] in (["{"], [","])
        ):
            key = token[1:-1]
        if (
            open_ones == ["{", "["]
            and before[-1:] == ["["]
            and token in ("{", "[")
            and key not in _CHATS
        ):
            records = True
        before.append(token)
        if token in _CLOSES:
            open_ones.append(token)
        elif token in ("}", "]"):
            open_ones.pop()
    return "records" if records else first


def _tokens(text: str, cut: bool) -> Iterator[str]:
    """The tokens as JSON lets them follow each other; "" at the end where they do not."""
    open_ones: list[str] = []
    allowed, place = "value", 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if not found:
            rest = _CUT.fullmatch(text, place)
            if not (rest if cut else not text[place:].strip()):
                yield ""
            break
        token, place = found[found.lastindex or 0], found.end()
        allowed = _after(token, allowed, open_ones)
        if not allowed or len(open_ones) > _DEEPEST:
            yield ""
            return
        yield token
    if not cut and allowed != "end":
        yield ""


def _after(token: str, allowed: str, open_ones: list[str]) -> str:
    """What may follow a token: one of value, first, key, names, colon, more, end; ""
    where it may not stand here."""
    if token in _CLOSES:
        if allowed not in ("value", "first"):
            return ""
        open_ones.append(token)
        return "first" if token == "[" else "names"
    if token in ("}", "]"):
        if (
            allowed not in ("more", "first" if token == "]" else "names")
            or _CLOSES[open_ones.pop()] != token
        ):
            return ""
        return "more" if open_ones else "end"
    if token == ",":
        return {"[": "value", "{": "key"}[open_ones[-1]] if allowed == "more" else ""
    if token == ":":
        return "value" if allowed == "colon" else ""
    if allowed in ("key", "names"):
        return "colon" if token[0] == '"' else ""
    return ("more" if open_ones else "end") if allowed in ("value", "first") else ""
