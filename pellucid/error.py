"""What every error is: an exit code, and a message from its docstring. The errors themselves are in errors.py."""

from __future__ import annotations

import inspect
from typing import ClassVar


class PellucidError(Exception):
    """{detail}"""

    exit_code = 1
    optional: ClassVar[tuple[str, ...]] = ()  # Parts of the message that are left out where nobody gives them.

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        template = inspect.cleandoc(type(self).__doc__ or "").replace("\n", " ")
        super().__init__(template.format(**{**dict.fromkeys(self.optional, ""), **fields}))

    @property
    def name(self) -> str:
        return type(self).__name__

    def __reduce__(self):  # Exceptions with keyword arguments do not pickle by themselves.
        return _rebuild, (type(self), self.fields)


def _rebuild(kind: type[PellucidError], fields: dict[str, object]) -> PellucidError:
    return kind(**fields)
