"""Work on many files, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_One = TypeVar("_One")
_Done = TypeVar("_Done")


def each(values: Sequence[_One], do: Callable[[_One], _Done], at_once: int) -> list[_Done]:
    """What it gives for each, in their order; the first that raises stops those not begun."""
    with ThreadPoolExecutor(at_once) as pool:
        try:
            return list(pool.map(do, values))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
