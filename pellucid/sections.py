"""What a recipe's sections are made of: the base class, the kinds of
numbers, and which fields are bits.

Fields marked as placement (paths, threads, where anchors are kept) may differ between two machines
that make the same run, and stay out of the digest.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

Count = Annotated[int, Field(ge=1, lt=2**63)]
Natural = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
_NAME, DIGEST, NOT_BLANK = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", r"^([0-9a-f]{64})?$", r"\S"
PATTERNS = {  # What a text that does not match is told.
    _NAME: "should be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or a digit",
    DIGEST: "should be 64 hex digits in small letters, or empty",
    NOT_BLANK: 'should not be blank; leave it out, or write "unknown", where nobody knows it',
}
Name = Annotated[str, Field(pattern=_NAME)]


def _integer(value: object) -> object:
    if type(value) is not int:
        raise ValueError("should be an integer")
    return value


# For a Literal, which takes 4.0 for 4: two digests of one recipe.
INTEGER = BeforeValidator(_integer)


def placement(default: Any) -> Any:
    """A field that says where or with what, never what: it stays out of the digest."""
    return Field(default=default, json_schema_extra={"placement": True})


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def unfit(key: str, value: object, detail: str) -> PydanticCustomError:
    """The error of fields that do not fit each other: the one to change,
    and a value that would fit."""
    return PydanticCustomError("unfit", "{detail}", {"key": key, "value": value, "detail": detail})


def bits(section: Section) -> dict[str, Any]:
    """The fields of a section that are not placement, as plain values."""
    return {
        name: _plain(getattr(section, name))
        for name, field in type(section).model_fields.items()
        if not _is_placement(field.json_schema_extra)
    }


def _is_placement(extra: object) -> bool:
    """Whether a field with this json_schema_extra is placement."""
    return isinstance(extra, dict) and bool(extra.get("placement"))


def _plain(value: object) -> object:
    if isinstance(value, Section):
        return bits(value)
    if isinstance(value, dict):
        return dict(value)
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


def tuples(value: Any) -> Any:
    """TOML arrays as tuples and integers as they are: strict validation takes both as written."""
    if isinstance(value, dict):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(tuples(inner) for inner in value) if isinstance(value, list) else value
