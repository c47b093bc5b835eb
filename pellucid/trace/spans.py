"""Which parts of a text stand word for word in what the model has seen.

A span is maximal: with one more character on either side it does not occur. Where a span ends, the
next one that reaches further begins at the first character from which on it would; so both ends
only move forward, and what is asked for grows with the length of the text, not with its square."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def maximal(text: str, least: int, occurs: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """The maximal spans [start, end) of the text that occur, of at least
    `least` characters, in its order."""
    start = 0
    while start + least <= len(text):
        end = start + least
        if occurs(text[start:end]):
            end = _reach(text, start, end, occurs)
            yield start, end
            if end == len(text):
                return
            end += 1
        # text[start:end] does not occur: the next span begins where what is left of it does.
        start = _begin(text, start, end, occurs)


def _reach(text: str, start: int, end: int, occurs: Callable[[str], bool]) -> int:
    """How far the text from `start` on occurs, which it does up to `end`: in
    steps that double, then halve."""
    low, high, step = end, len(text) + 1, 16
    while low + step < high:
        if not occurs(text[start : low + step]):
            high = low + step
            break
        low, step = low + step, step * 2
    return _bisect(low, high, lambda middle: occurs(text[start:middle]))


def _begin(text: str, start: int, end: int, occurs: Callable[[str], bool]) -> int:
    """The first place from which on the text up to `end` occurs, or is nothing;
    from `start` on it does not."""
    return end - _bisect(0, end - start, lambda size: occurs(text[end - size : end]))


def _bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The last number for which it holds: it does for low, does not for high, and changes once."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
