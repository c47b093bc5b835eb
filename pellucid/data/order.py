"""The order: which sequences the rows of any step hold, as a pure function of seed, counts and weights.

One epoch holds every sequence of source s exactly weights[s] times: S = sum of weight * sequences
slots. Slots are numbered source by source, copy by copy. Row r of step k (from 1) has the position
p = (k - 1) * batch + r, lies in epoch p // S, and holds the slot permutation(epoch, p % S).

The permutation is a Feistel network over an even number of bits, as few as hold S values (at least
two), walked until the value lies below S. Round r replaces (L, R) by (R, L xor F(r, R)); F is the
first word of Philox under key_of(seed, "order") at the counter (R, r, epoch mod 2^32, epoch >> 32),
cut to half of the bits. Integers alone, so the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from pellucid.data import stage
from pellucid.data.streams import Shards
from pellucid.errors import FormatInvalid, StepUnknown
from pellucid.philox import key_of, philox
from pellucid.recipe import Recipe

ROUNDS = 8
_TABLE_BITS = 13  # Up to this half width a round is a table, made once per epoch.
_LOW = 0xFFFFFFFF
_Round = Callable[[int, np.ndarray], np.ndarray]


class Order:
    """See the module. Everything costs O(what is asked for)."""

    def __init__(self, seed: int, counts: Sequence[int], weights: Sequence[int], batch: int) -> None:
        """counts: train sequences of each source; weights: how often each stands in one epoch."""
        self.batch_size = batch
        self.slots = sum(w * n for w, n in zip(weights, counts, strict=True))
        if self.slots < 1 or self.slots > 1 << 62:
            raise ValueError(f"an epoch of {self.slots} slots cannot be ordered")
        self._counts = np.array(counts, dtype=np.int64)
        self._weights = [int(weight) for weight in weights]
        sizes = [w * n for w, n in zip(weights, counts, strict=True)]
        self._first_slot = np.array([sum(sizes[:i]) for i in range(len(sizes))], dtype=np.int64)
        self._first_sequence = np.array([sum(counts[:i]) for i in range(len(counts))], dtype=np.int64)
        self._half = max(1, ((self.slots - 1).bit_length() + 1) // 2)
        self._rounds = lru_cache(maxsize=4)(self._make_rounds)
        self._key = key_of(seed, "order")

    @classmethod
    def of(cls, recipe: Recipe, shards: Shards) -> Order:
        """The order of a run. Raises FormatInvalid where its shards are of other sources, or too few for a batch."""
        names, weights = zip(*((source.name, source.weight) for source in recipe.data.sources), strict=True)
        counts = [stream.sequences for stream in shards.train]
        if [stream.source for stream in shards.train] != list(names):
            raise FormatInvalid(
                path=stage.SHARDS, detail=f"its train streams are not of the sources {', '.join(names)}"
            )
        found = sum(count for count, weight in zip(counts, weights, strict=True) if weight)
        if found < recipe.train.batch:
            raise FormatInvalid(path=stage.SHARDS, detail=f"has {found} train sequences, fewer than a batch")
        try:
            return cls(recipe.seed, counts, weights, recipe.train.batch)
        except ValueError as error:
            raise FormatInvalid(path=stage.SHARDS, detail=str(error)) from error

    def batch(self, step: int) -> np.ndarray:
        """The sequence ids of one step, shape (batch,) int64."""
        return self.batches(step, step)[0]

    def batches(self, first: int, last: int) -> np.ndarray:
        """The sequence ids of the steps first … last, shape (steps, batch) int64."""
        epochs, slots = self._places(first, last)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            here = slice(*np.searchsorted(epochs, [epoch, epoch + 1]))
            slots[here] = self._permuted(epoch, slots[here])
        return self._sequences(slots).reshape(-1, self.batch_size)

    def epochs(self, step: int) -> np.ndarray:
        """The epoch, from 0, that each row of a step belongs to, shape (batch,) int64."""
        return self._places(step, step)[0]

    def steps_of(self, sequence: int, last_step: int) -> list[tuple[int, int, int]]:
        """Every (step, row, epoch) up to last_step at which a sequence is seen, in order."""
        source = int(np.searchsorted(self._first_sequence, sequence, side="right")) - 1
        within = sequence - int(self._first_sequence[source])
        if sequence < 0 or within >= self._counts[source]:
            raise StepUnknown(what=f"Sequence {sequence}", detail="it is no train sequence")
        count, weight = int(self._counts[source]), self._weights[source]
        end = last_step * self.batch_size
        if weight > end:  # More copies than places: rather all that was seen than all copies.
            return self._seen(sequence, last_step)
        found = []
        slots = int(self._first_slot[source]) + within + count * np.arange(weight, dtype=np.int64)
        for epoch in range(-(-end // self.slots) if weight else 0):
            for position in np.sort(self._unpermuted(epoch, slots)) + epoch * self.slots:
                if position < end:
                    found.append((int(position) // self.batch_size + 1, int(position) % self.batch_size, epoch))
        return found

    def _seen(self, sequence: int, last_step: int) -> list[tuple[int, int, int]]:
        found = []
        for step in range(1, last_step + 1):
            rows = np.flatnonzero(self.batch(step) == sequence).tolist()
            found += [(step, row, int(self.epochs(step)[row])) for row in rows]
        return found

    def _places(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch and the place within it of every row of the steps first … last."""
        if not 1 <= first <= last or last * self.batch_size >= 1 << 63:
            raise StepUnknown(what=f"Step {first}", detail="steps begin at 1")
        positions = np.arange((first - 1) * self.batch_size, last * self.batch_size, dtype=np.int64)
        return np.divmod(positions, np.int64(self.slots))

    def _sequences(self, slots: np.ndarray) -> np.ndarray:
        # Sources without slots share their first slot with the next one; the last of equals is right.
        source = np.searchsorted(self._first_slot, slots, side="right") - 1
        return self._first_sequence[source] + (slots - self._first_slot[source]) % self._counts[source]

    def _permuted(self, epoch: int, values: np.ndarray) -> np.ndarray:
        return self._walk(values, self._forward, self._rounds(epoch))

    def _unpermuted(self, epoch: int, values: np.ndarray) -> np.ndarray:
        return self._walk(values, self._backward, self._rounds(epoch))

    def _walk(self, values: np.ndarray, pass_once, function: _Round) -> np.ndarray:
        out = pass_once(values.astype(np.uint64), function)
        while (outside := np.flatnonzero(out >= self.slots)).size:
            out[outside] = pass_once(out[outside], function)
        return out.astype(np.int64)

    def _forward(self, values: np.ndarray, function: _Round) -> np.ndarray:
        half = np.uint64(self._half)
        left, right = values >> half, values & self._mask
        for number in range(ROUNDS):
            left, right = right, left ^ function(number, right)
        return (left << half) | right

    def _backward(self, values: np.ndarray, function: _Round) -> np.ndarray:
        half = np.uint64(self._half)
        left, right = values >> half, values & self._mask
        for number in reversed(range(ROUNDS)):
            left, right = right ^ function(number, left), left
        return (left << half) | right

    @property
    def _mask(self) -> np.uint64:
        return np.uint64((1 << self._half) - 1)

    def _make_rounds(self, epoch: int) -> _Round:
        """The round function F(round, right) of an epoch, as a table where that is small."""
        if self._half > _TABLE_BITS:
            return lambda number, right: self._words(epoch, np.full(right.size, number), right)
        width = 1 << self._half
        numbers, rights = np.divmod(np.arange(ROUNDS * width), width)
        table = self._words(epoch, numbers, rights).reshape(ROUNDS, width)
        return lambda number, right: table[number][right]

    def _words(self, epoch: int, numbers: np.ndarray, rights: np.ndarray) -> np.ndarray:
        """F of an epoch for pairs of round and right half, shape (N,) uint64."""
        counters = np.empty((rights.size, 4), dtype=np.uint32)
        counters[:, 0], counters[:, 1] = rights, numbers
        counters[:, 2:] = epoch & _LOW, epoch >> 32
        return philox(self._key, counters)[:, 0].astype(np.uint64) & self._mask
