"""What pydantic finds wrong with a recipe, in the words of our messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pellucid.sections import PATTERNS

_WORDS = {
    "missing": "is missing",
    "int_type": "should be an integer",
    "int_parsing_size": "should have far fewer digits",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
    "string_type": "should be a text in quotes",
    "tuple_type": 'should be a list, as in ["…"]',
    "dict_type": "should be a table, as in {{name = 1}}",
    "model_type": "should be a section with fields of its own",
    "model_attributes_type": "should be a section with fields of its own",
    "finite_number": "should be a finite number",
    "greater_than": "should be greater than {gt}",
    "greater_than_equal": "should be {ge} or more",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be {le} or less",
    "too_short": "has {actual_length} entries, and should have {min_length} or more",
    "too_long": "has more than {max_length} entries",
}
_CHOICES = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}


def words(error: Mapping[str, Any]) -> str:
    """Why a value does not fit, without the value; error is one of pydantic's."""
    kind, told = error["type"], error.get("ctx", {})
    if kind in _CHOICES:
        return _choice(str(told[_CHOICES[kind]]), told.get("tag", error["input"]))
    if kind == "string_pattern_mismatch":
        return PATTERNS[told["pattern"]]
    if kind == "value_error":
        return str(told["error"])
    return _WORDS[kind].format(**told)


def _choice(known: str, given: object) -> str:
    """The values that there are, and the one of them that is spelled much like what was given."""
    values = re.findall("'[^']*'", known)
    near = difflib.get_close_matches(str(given), [value[1:-1] for value in values], n=1)
    if len(values) > 1:
        known = f"{', '.join(values[:-1])} or {values[-1]}"
    return f"should be {known}" + (f"; did you mean {near[0]}?" if near else "")
