"""From a source's bytes to text, under data.invalid_utf8.

docs/format.md, section 5, states the rules.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_WIDE = (  # UTF-32 first: its little-endian mark begins like UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WELL_FORMED = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)  # Of UTF-8, beyond ASCII; near enough to count by.
_HIGH = re.compile(rb"[\x80-\xff]")
# What Windows-1252 leaves open, the letter that no word needs, and control characters.
_NOT_LATIN = re.compile(rb"[\x81\x8d\x8f\x90\x9d\xff\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_UNFIT = "pellucid.unfit"


class Text(NamedTuple):
    text: str
    dropped: str = ""  # A reason (data/reasons.py).
    changed: str = ""  # A reason why the text is not what the bytes say in UTF-8.
    replaced: int = 0  # Bytes that became U+FFFD.


def decoded(content: bytes, policy: str) -> Text:
    """The text of a record's bytes; policy is data.invalid_utf8."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        if policy == "drop":
            return Text("", "invalid_utf8")
        if is_latin1(content):
            return Text(content.decode("cp1252"), changed="latin1_guessed")
        text = content.decode("utf-8", "replace")
        put_in = text.count("\ufffd") - content.count(b"\xef\xbf\xbd")
        return Text(
            text, "", "invalid_utf8_replaced", len(content) - (len(text.encode()) - 3 * put_in)
        )
    return Text(text, "" if text else "empty")


def is_latin1(content: bytes) -> bool:
    """The guess, a function of the bytes alone: not UTF-8, nothing that Latin-1 has not, and few
    letters beyond ASCII: in Greek, Russian or Chinese most bytes are."""
    high = len(_HIGH.findall(content))
    well_formed = _WELL_FORMED.findall(content)
    outside = high - sum(map(len, well_formed))
    return (
        10 * len(well_formed) < outside
        and 4 * high <= len(content)
        and not _NOT_LATIN.search(content)
    )


def is_wide(head: bytes) -> bool:
    """Whether a file is UTF-16 or UTF-32, by its byte order mark."""
    return head.startswith(tuple(mark for mark, _ in _WIDE))


def unmarked_wide(head: bytes) -> str:
    """Of a file without a byte order mark "UTF-16LE" or "UTF-16BE" where its beginning looks like
    that: of each two bytes most have a zero in one place, and hardly any in the other."""
    units = len(head) // 2
    if is_wide(head) or units < 4:
        return ""
    even, odd = head[0 : 2 * units : 2].count(0), head[1 : 2 * units : 2].count(0)
    few, many, name = (even, odd, "UTF-16LE") if odd > even else (odd, even, "UTF-16BE")
    if 2 * many < units or 50 * few > units:
        return ""
    text = head[: 2 * units].decode(name, "replace")
    odd_ones = sum(not character.isprintable() and not character.isspace() for character in text)
    return name if 50 * odd_ones <= len(text) else ""


def unmarked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks without a byte order mark; UTF-16 and UTF-32, told by theirs, as UTF-8.

    What is no character there becomes the byte FF, which is none in UTF-8
    and no Latin-1 guess takes."""
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= 4:
            break
    if not is_wide(first):
        yield first.removeprefix(_BOM)
        yield from chunks
        return
    mark, name = next(entry for entry in _WIDE if first.startswith(entry[0]))
    decoder = codecs.getincrementaldecoder(name)(_UNFIT)
    yield _as_utf8(decoder.decode(first[len(mark) :]))
    for chunk in chunks:
        yield _as_utf8(decoder.decode(chunk))
    yield _as_utf8(decoder.decode(b"", final=True))


def _as_utf8(text: str) -> bytes:
    return text.encode("utf-8", _UNFIT)


def _unfit(error: UnicodeError) -> tuple[str | bytes, int]:
    """Decoding, a lone surrogate for each wrong unit; encoding, a byte FF for each of those."""
    if isinstance(error, UnicodeDecodeError):
        return "\udfff", error.end
    assert isinstance(error, UnicodeEncodeError)
    return b"\xff" * (error.end - error.start), error.end


codecs.register_error(_UNFIT, _unfit)
