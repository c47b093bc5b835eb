"""What validation covers of a stream: whole documents from all over it, chosen by their texts.

A document's key is taken from its text's SHA-256, so it says nothing of where the document stands.
Those of the lowest keys are covered, as many as hold `validation.tokens` tokens. They are read one
after the other, in the stream's order. So the first files of a folder are not all that is measured,
and a corpus that grows keeps most of what it was measured by.
"""

from __future__ import annotations

import functools

import numpy as np

from pellucid.data.streams import Shards, Stream
from pellucid.recipe import Recipe

_LEAST = 2  # Tokens without which nothing is predicted.


def covered(shards: Shards, recipe: Recipe) -> list[Covered]:
    """Of each validation stream that has anything to predict. Raises FormatInvalid."""
    return _covered(shards, recipe.validation.tokens)


@functools.lru_cache(maxsize=1)  # Of a run it is asked at each validation, and is the same.
def _covered(shards: Shards, least: int) -> list[Covered]:
    return [Covered(stream, least) for stream in shards.validation if stream.tokens >= _LEAST]


class Covered:
    """The documents that validation covers of a stream, and their tokens, joined."""

    def __init__(self, stream: Stream, least: int) -> None:
        """least: tokens. Raises FormatInvalid."""
        self.source, self._stream = stream.source, stream
        places = np.cumsum([0, *(shard.tokens for shard in stream.shards)])
        begins, lengths, rows = [], [], []
        for shard, place in zip(stream.shards, places.tolist(), strict=False):
            first, length = shard.documents_in()
            begins.append(first + place)
            lengths.append(length)
            rows.append(np.asarray(shard.table))
        begins_D, lengths_D, rows_D4 = map(np.concatenate, (begins, lengths, rows))
        order = np.lexsort((rows_D4[:, 0], rows_D4[:, 3]))
        held = np.cumsum(lengths_D[order])
        chosen = np.sort(order[: int(held.searchsorted(max(least, _LEAST))) + 1])
        self.documents = rows_D4[chosen, 0].astype(np.int64)  # Their indices, ascending.
        self.bytes = int(rows_D4[chosen, 2].sum())  # UTF-8, of their texts.
        self.tokens = int(lengths_D[chosen].sum())
        self._begins = begins_D[chosen]  # Of each where it stands in the stream …
        self._starts = np.cumsum(lengths_D[chosen]) - lengths_D[chosen]  # … and among these.
        # Documents that stand side by side in the stream are read together.
        jumps = np.flatnonzero(np.diff(self._begins - self._starts)) + 1
        self._runs = np.concatenate([[0], jumps])

    def token_of(self, document: int) -> int:
        """The position of a covered document's first token."""
        return int(self._starts[self.documents.searchsorted(document)])

    def length_of(self, document: int) -> int:
        """The number of a covered document's tokens."""
        ends = np.append(self._starts[1:], self.tokens)
        return int(ends[self.documents.searchsorted(document)]) - self.token_of(document)

    def read(self, start: int, stop: int) -> np.ndarray:
        """The token ids [start, stop) of what is covered, shape (stop - start,) uint32."""
        firsts = self._starts[self._runs]
        low, high = np.searchsorted(firsts, [start, stop - 1], side="right")
        parts = []
        for run in range(int(low) - 1, int(high)):
            end = int(firsts[run + 1]) if run + 1 < len(firsts) else self.tokens
            shift = int(self._begins[self._runs[run]] - firsts[run])
            begin = max(start, int(firsts[run])) + shift
            parts.append(self._stream.read(begin, min(stop, end) + shift))
        return np.concatenate(parts)

    def documents_at(self, start: int, stop: int) -> np.ndarray:
        """The document index of every position in [start, stop), int64."""
        places = np.searchsorted(self._starts, np.arange(start, stop), side="right") - 1
        return self.documents[places]
