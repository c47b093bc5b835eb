"""Strings of others in a page of Markdown: neither markup nor a link, and never a blank cell."""

from __future__ import annotations

import re

from pellucid.data.reasons import REASONS

# Controls, what joins, hides or turns text, breaks of lines and paragraphs, halves of
# surrogates, private use: Unicode's Cc, Cf, Cs, Co, Zl, Zp, and what is free among them. Written
# down: every Python has other tables.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u089f\u08e2\u180e"
    "\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ud800-\uf8ff\ufeff\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bcaf"
    "\U0001d173-\U0001d17a\U000e0000-\U0010ffff]"
)
# Letters and signs that look like nothing: fillers, the empty pattern of Braille, a joiner.
_EMPTY = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]")
# What a page may make a link of without being asked: addresses, hosts, people.
_LINKED = re.compile(r"[:@]|\.[^\W\d]|www\.", re.IGNORECASE)
# What would end the code or its cell; and no tag, whoever reads it how.
_IN_CODE = str.maketrans("`|\\<>", "'//()")
_SHOWN = 8  # Code points of a text that looks like nothing.


def escape(text: object) -> str:
    """Text that cannot become Markdown, HTML or a link, in a line or a cell of a table:
    a source's name or licence is somebody else's string. What might be linked is shown as
    code, in which nothing is; what looks like nothing as its code points."""
    plain = _UNSEEN.sub(" ", str(text))
    if not _EMPTY.sub(" ", plain).strip():
        return " ".join(map(_code, str(text)[:_SHOWN]))
    plain = _EMPTY.sub(lambda found: _code(found.group()), plain)
    if _LINKED.search(plain):
        return f"`{plain.translate(_IN_CODE)}`"
    return re.sub(r"([\\`*_{}\[\]<>()#!|&~$])", lambda match: f"&#{ord(match.group())};", plain)


def _code(letter: str) -> str:
    return f"U+{ord(letter):04X}"


def own(text: str) -> str:
    """A word of the page itself, where strings of others stand: none of them can be in italics."""
    return f"*{text}*"


def reasons(dropped: dict[str, int], kept: bool) -> str:
    """How many texts were left out, or kept with changes, and why."""
    counts = ((REASONS[name], count) for name, count in dropped.items())
    named = [
        f"{escape(reason.words)} ({count:,})" for reason, count in counts if reason.kept == kept
    ]
    return "; ".join(named) or ("" if kept else "nothing")


def unsaid(keys: str) -> str:
    """That the publisher has not said something, and by which keys it is said."""
    plain = "".join(one if one.isalnum() or one in "._-, " else "?" for one in keys)
    return f"*not said* (`{plain}` in publisher.toml)"
