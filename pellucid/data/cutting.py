"""Long texts in parts: where they are cut, what the parts are called, and what they add up to.

Nothing here asks for Unicode's tables, which differ between releases of Python: the
characters that count are listed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

_WINDOW = 4  # A cut is looked for in the last so-manieth of the longest text a part can be.
_SPACE = " \t\v\f\x85\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000"
_SENTENCE = re.compile(f"[.!?…][{_SPACE}]|[。！？]")
_BLANK = re.compile(f"[{_SPACE}]")
# What belongs to the character before it: accents, joiners, variants, shades of skin, tags.
_MARK = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u200c\u200d\u20d0-\u20ff"
    "\u3099\u309a\ufe00-\ufe0f\ufe20-\ufe2f"
    "\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f\U000e0100-\U000e01ef]"
)
_NUMBERED = re.compile(r"(.+)#([1-9][0-9]{0,17})", re.DOTALL)
_ENDS_AS_PART = re.compile(r"#[0-9]+\Z")


def cut(name: str, text: str, longest: int) -> Iterator[tuple[int, str, str]]:
    """(part, suffix of the id, text) of a document: whole as part 0, or in parts 1, 2, …
    of at most so many characters. A name that already ends like a part's is numbered
    too, so that ids stay unique."""
    if len(text) <= longest and not ends_as_part(name):
        yield 0, "", text
        return
    start, part = 0, 0
    while start < len(text):
        end, part = start + length(text[start : start + longest + 1], longest), part + 1
        yield part, f"#{part}", text[start:end]
        start = end


def ends_as_part(name: str) -> bool:
    """Whether a name ends like a part's, so that even a text that is not cut gets a number."""
    return bool(_ENDS_AS_PART.search(name))


def length(text: str, longest: int) -> int:
    """How much of a text is its first part: of one that goes on behind `longest` characters, of
    which this is the beginning and the character behind them, as much as ends with a line, else
    with a sentence, else with white space, if one ends in the last quarter; else all, but no
    character is parted from its marks."""
    if len(text) <= longest:
        return len(text)
    low = longest - longest // _WINDOW
    if line := text.rfind("\n", low, longest) + 1:
        return line
    for pattern in (_SENTENCE, _BLANK):
        ends = [match.end() for match in pattern.finditer(text, low, longest)]
        if ends:
            return ends[-1]
    joined = (place for place in range(longest, low, -1) if not _within(text, place))
    return next(joined, longest)


def _within(text: str, place: int) -> bool:
    """Whether a cut there would part what is one character to its readers."""
    before, after = text[place - 1], text[place]
    return bool(_MARK.match(after)) or before == "\u200d" or (before, after) == ("\r", "\n")


def text_of(document_id: str) -> tuple[str, int]:
    """The id of the text that a document is a part of, and which: its
    own, and 0, where it is whole."""
    match = _NUMBERED.fullmatch(document_id)
    return (match[1], int(match[2])) if match else (document_id, 0)


class Texts:
    """Texts put together again from their documents, which come in order."""

    def __init__(self) -> None:
        self._id, self._part, self._hash = "", 0, hashlib.sha256()

    def take(self, document_id: str, content: bytes) -> bytes | None:
        """The next document: returns the SHA-256 of the text before it,
        where it is not of the same one."""
        name, part = text_of(document_id)
        ended = None
        if part <= 1 or (name, part) != (self._id, self._part + 1):
            ended, self._hash = self.digest, hashlib.sha256()
        self._id, self._part = name, part
        self._hash.update(content)
        return ended

    @property
    def digest(self) -> bytes | None:
        """The SHA-256 of the text so far; None before the first."""
        return self._hash.digest() if self._id else None
