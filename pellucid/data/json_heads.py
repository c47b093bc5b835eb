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
    unclosed: list[str] = []
    key = ""
    for token in _tokens(text, cut):
        if not token:
            return ""
        if not first:
            first = {"[": "array", "{": "object"}.get(token, "")
            if not first:
                return ""
        if (
            len(unclosed) == 1
            and first == "object"
            and token[0] == '"'
            and before[-1:] in (["{"], [","])
        ):
            key = token[1:-1]
        if (
            unclosed == ["{", "["]
            and before[-1:] == ["["]
            and token in ("{", "[")
            and key not in _CHATS
        ):
            records = True
        before.append(token)
        if token in _CLOSES:
            unclosed.append(token)
        elif token in ("}", "]"):
            unclosed.pop()
    return "records" if records else first


def _tokens(text: str, cut: bool) -> Iterator[str]:
    """The tokens as JSON lets them follow each other; "" at the end where they do not."""
    unclosed: list[str] = []
    allowed, place = "value", 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            rest = _CUT.fullmatch(text, place)
            if not (rest if cut else not text[place:].strip()):
                yield ""
            break
        token, place = match[match.lastindex or 0], match.end()
        allowed = _after(token, allowed, unclosed)
        if not allowed or len(unclosed) > _DEEPEST:
            yield ""
            return
        yield token
    if not cut and allowed != "end":
        yield ""


def _after(token: str, allowed: str, unclosed: list[str]) -> str:
    """What may follow a token: one of value, first, key, names, colon, more, end; ""
    where it may not stand here."""
    if token in _CLOSES:
        if allowed not in ("value", "first"):
            return ""
        unclosed.append(token)
        return "first" if token == "[" else "names"
    if token in ("}", "]"):
        if (
            allowed not in ("more", "first" if token == "]" else "names")
            or _CLOSES[unclosed.pop()] != token
        ):
            return ""
        return "more" if unclosed else "end"
    if token == ",":
        return {"[": "value", "{": "key"}[unclosed[-1]] if allowed == "more" else ""
    if token == ":":
        return "value" if allowed == "colon" else ""
    if allowed in ("key", "names"):
        return "colon" if token[0] == '"' else ""
    return ("more" if unclosed else "end") if allowed in ("value", "first") else ""
