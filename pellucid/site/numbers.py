"""Numbers as a page reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

LOSS = 1_000  # Parts of a nat in which packs tell losses.
_MOST = 2.0**53


def differences(column: np.ndarray) -> list[int]:
    """The first number, and of each other one the difference to the number before it."""
    return np.diff(column, prepend=0).tolist()


def losses(sums: np.ndarray, tokens: np.ndarray) -> list[int | None]:
    """The mean losses of segments, in parts of a nat; None where one is none: JSON has no NaN."""
    with np.errstate(all="ignore"):  # Tables are others' words.
        parts = np.rint(sums / tokens * LOSS)
    sound = np.abs(parts) < _MOST
    told: list[Any] = np.where(sound, parts, 0).astype(np.int64).tolist()
    for number in np.flatnonzero(~sound).tolist():
        told[number] = None
    return told


def coded(values: list[Any]) -> tuple[list[Any], list[int]]:
    """The different values, in the order in which they come, and which of them each one is."""
    known = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return list(known), [known[value] for value in values]
