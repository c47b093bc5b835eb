"""JSON files in their one spelling: rebuilt from what they should say, and
held against it field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.record import digests
from pellucid.store import files

# What nothing binds still has a form.
DIGEST, VERSION = (
    re.compile(form).fullmatch for form in (digests.DIGEST, "[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
)


def difference(path: Path, expected: Mapping[str, Any]) -> str:
    """What a JSON file of ours does not say as it should, by field or by
    spelling; empty where it does.

    Raises FormatInvalid, FileMissing.
    """
    if files.read_bytes(path, files.JSON_BYTES) == files.json_bytes(expected):
        return ""
    differing = _first(files.read_json(path), expected, "")
    return differing or "says what it should in another spelling than ours"


def said(value: Any, forms: Mapping[str, Any]) -> dict[str, str]:
    """An object of texts that nothing binds: its fields, each with another value if it is
    malformed."""
    texts = value if isinstance(value, dict) else {}
    return {name: _kept(texts.get(name), form) for name, form in forms.items()}


def _kept(value: Any, form: Any) -> str:
    if _has(value, form):
        return value
    return "?" if value == "" else ""


def _has(value: Any, form: Any) -> bool:
    return isinstance(value, str) and form(value) is not None


def _first(actual: Any, expected: Any, name: str) -> str:
    """The first field that differs, and how."""
    if isinstance(expected, Mapping) and isinstance(actual, dict):
        for key in expected:
            if key not in actual:
                return f"lacks {_inside(name, key)}"
            if differing := _first(actual[key], expected[key], _inside(name, key)):
                return differing
        return next(
            (
                f"has {_inside(name, key)}, which is no field of it"
                for key in actual
                if key not in expected
            ),
            "",
        )
    if (
        isinstance(expected, list | tuple)
        and isinstance(actual, list)
        and len(actual) == len(expected)
    ):
        pairs = enumerate(zip(actual, expected, strict=True))
        return next(
            (inner for n, (a, b) in pairs if (inner := _first(a, b, _inside(name, str(n))))), ""
        )
    # Python takes 128.0 for 128 and 1 for True.
    same = type(actual) is type(expected) and actual == expected
    return "" if same else f"{name} is {short(actual)}, and should be {short(expected)}"


def _inside(name: str, key: str) -> str:
    return f"{name}.{key[:60]}" if name else key[:60]


def short(value: Any) -> str:
    """A value as JSON, cut to what fits in a message."""
    return json.dumps(value)[:100]
