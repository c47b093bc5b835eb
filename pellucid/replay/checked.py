"""What all findings of an audit have in common: all is well, or here is what is not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What computing something again found; a subclass says of what."""

    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The subclass's fields by their names, then ok and problems."""
        about = asdict(self)
        problems = list(about.pop("problems"))
        return about | {"ok": self.ok, "problems": problems}
