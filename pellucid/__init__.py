"""Pellucid trains language models in the open: every step can be replayed, traced and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["open"]

if TYPE_CHECKING:
    from pathlib import Path

    from pellucid.opened import Run


def open(path: str | Path) -> Run:
    """A run folder, a release or its URL, opened for looking: see
    docs/python.md. Raises RunMissing."""
    from pellucid.opened import open

    return open(path)
