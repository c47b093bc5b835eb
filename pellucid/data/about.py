"""What the fields of a record say of its text: its id, licence, origin and date.

A source names the field of each, as `text_key` names the text's. A value is a text, or an integer
in digits, that is not blank and has as many characters as LIMITS at most. Anything else counts as
missing, and is counted (data/reasons.py).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pellucid.recipe import Source

LIMITS = {"id": 512, "licence": 256, "origin": 2048, "date": 64}  # Characters.
_BLANK = " \t\r\n"
_SURROGATES = re.compile("[\ud800-\udfff]")  # JSON can escape them, and no UTF-8 holds them.


UNKNOWN = "unknown"  # As a licence.


def is_unknown(licence: str) -> bool:
    """Whether a licence says that it is unknown, or nothing, in whatever case and with
    whatever blanks."""
    return "".join(licence.split()).casefold() in ("", UNKNOWN)


class About(NamedTuple):
    """Of each what the record says; "" where nothing, or the source names no field."""

    id: str = ""
    licence: str = ""
    origin: str = ""
    date: str = ""


def keys_of(source: Source) -> dict[str, str]:
    """The fields that a source names, by what they say."""
    named = {name: str(getattr(source, f"{name}_key")) for name in About._fields}
    return {name: key for name, key in named.items() if key}


def about(record: Any, source: Source) -> About:
    """What a record, as JSON has it, says under the keys of its source."""
    return About(**{name: _text(under(record, key), name) for name, key in keys_of(source).items()})


def lacking(fields: About, source: Source) -> list[str]:
    """The reasons (data/reasons.py) of what the source names a field for, and the record lacks."""
    return [f"no_{name}" for name in keys_of(source) if not getattr(fields, name)]


def under(value: Any, key: str) -> Any:
    """What stands under a key, or under "data.text" what "text" is in the object "data". A key that
    stands as it is written comes first. None where nothing does."""
    if isinstance(value, dict) and key in value:
        return value[key]
    for word in key.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    return value


def has(value: Any, key: str) -> bool:
    """Whether a record has a field of that name, be it empty; an object that is null may have."""
    if isinstance(value, dict) and key in value:
        return True
    for word in key.split("."):
        if not isinstance(value, dict):
            return value is None
        if word not in value:
            return False
        value = value[word]
    return True


def fits(text: str, name: str) -> bool:
    """Whether a text is one that a field may give."""
    return len(text) <= LIMITS[name] and bool(text.strip(_BLANK))


def _text(value: Any, name: str) -> str:
    text = str(value) if type(value) is int else value
    sound = isinstance(text, str) and fits(text, name) and not _SURROGATES.search(text)
    return text if sound else ""
