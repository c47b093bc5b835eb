"""A text that is asked for, with what the vocabulary tells of it; and where it occurs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pellucid.trace.words import SEPARATOR, Words

AT_FIRST = 1 << 12  # Positions that are looked at together to begin with.


class Cut(NamedTuple):
    """A way in which a text can begin inside a token: its head ends the token, and its tail follows
    the token's end. before: which tokens end with the head and are longer, shape (vocabulary,)."""

    tail: bytes
    head: bytes
    before: np.ndarray


class Query:
    """A text asked for, with what the vocabulary alone tells of it. words: None
    where the index keeps the text."""

    def __init__(self, content: bytes, words: Words | None) -> None:
        self.content = content
        # What pieces, by their number, have said.
        self.ranges: dict[tuple[int, bytes], tuple[int, int]] = {}
        self.crossing: dict[int, list[tuple[np.ndarray, int]]] = {}
        self.cuts: list[Cut] = []
        # What seams of texts that were cut have said (trace/seams.py), by split.
        self.over: dict[str, list[Any]] = {}
        # Tokens that hold it behind their first byte, and where.
        self.inside = np.zeros((2, 0), np.int64)
        if words is not None and SEPARATOR not in content:
            longest = int(words.lengths.max(initial=0))
            for cut in range(1, min(len(content), longest)):
                before = words.ending_with(content[:cut])
                if before is not None:
                    self.cuts.append(Cut(content[cut:], content[:cut], before))
            self.inside = np.stack(words.holding(content))


class Found(NamedTuple):
    """Occurrences in a piece: the token of the shard in which each begins, and at
    which of its bytes; shape (N,)."""

    tokens: np.ndarray
    offsets: np.ndarray

    def where(self, kept: np.ndarray) -> Found:
        """Those of them that are kept, shape (N,) bool."""
        return Found(self.tokens[kept], self.offsets[kept])

    @classmethod
    def first(cls, parts: Iterable[Found], most: int | None) -> Found:
        """The first `most` occurrences of all parts in the text's order, or all."""
        gathered: list[Found] = [cls(np.zeros(0, np.int64), np.zeros(0, np.int64))]
        total = 0
        for part in parts:
            gathered.append(part)
            total += len(part.tokens)
            if most is not None and total > 4 * (most + AT_FIRST):
                gathered = [cls._least(gathered, most)]
                total = len(gathered[0].tokens)
        return cls._least(gathered, most)

    @classmethod
    def _least(cls, parts: Sequence[Found], most: int | None) -> Found:
        tokens, offsets = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if most is not None and len(tokens) > most > 0:
            near = tokens <= np.partition(tokens, most - 1)[most - 1]
            tokens, offsets = tokens[near], offsets[near]
        order = np.lexsort((offsets, tokens))[:most]
        return cls(tokens[order], offsets[order])
