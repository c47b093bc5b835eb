"""What every error is: a message with gaps, and an exit code."""

from __future__ import annotations

import inspect
import re
from typing import ClassVar

_BEFORE_STOP = re.compile(r"\{(\w+)\}\.")


class PellucidError(Exception):
    """An error that a user can meet. Raising one fills the gaps of its message:

    raise SourceMissing(source="books", path="/data/books")
    """

    message: ClassVar[str] = "{detail}"  # What went wrong, where, and the command that fixes it.
    exit_code: int = 1
    optional: ClassVar[tuple[str, ...]] = ()  # Gaps that stay empty where nobody fills them.

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        template = inspect.cleandoc(self.message).replace("\n", " ")
        filled = {**dict.fromkeys(self.optional, ""), **fields}
        super().__init__(
            _BEFORE_STOP.sub(lambda gap: _once(gap, filled), template).format(**filled)
        )

    @property
    def name(self) -> str:
        return type(self).__name__

    def __reduce__(self):  # Exceptions with keyword arguments do not pickle by themselves.
        return _rebuild, (type(self), self.fields)


def _once(gap: re.Match[str], fields: dict[str, object]) -> str:
    """A gap and the full stop behind it, without that where the value ends a sentence itself."""
    ends = re.search(r"""(\w["')]*\.|[?!])\Z""", str(fields.get(gap[1], "")))
    return gap[0][:-1] if ends else gap[0]


def _rebuild(kind: type[PellucidError], fields: dict[str, object]) -> PellucidError:
    return kind(**fields)


class UserError(PellucidError):
    exit_code = 2


class MachineError(PellucidError):
    exit_code = 3


class DataError(PellucidError):
    exit_code = 4


class CheckFailed(PellucidError):
    exit_code = 5


class TrainingStopped(PellucidError):
    exit_code = 6


def one_line(error: Exception) -> str:
    """What a library says, as the detail of an error of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
