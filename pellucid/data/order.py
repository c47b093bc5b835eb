"""The order: which sequences the rows of any step hold, as a pure function of seed, counts and weights.

One epoch holds every sequence of source s exactly weights[s] times: S = sum of weight * sequences
slots. Slots are numbered source by source, copy by copy. Row r of step k (from 1) has the position
p = (k - 1) * batch + r, lies in epoch p // S, and holds the slot permutation(epoch, p % S).

The permutation is a Feistel network over an even number of bits, as few as hold S values (at least
two), walked until the value lies below S. In a fork that goes without some sequences the walk goes on until it is
none of their slots, so that others of the same epoch take their places, and no other place changes. Where it comes
back to the place it began at, all on its way being left out, the next slot after that place is taken that is not.

Round r replaces (L, R) by (R, L xor F(r, R)); F is the first word of Philox under key_of(seed, "order") at the
counter (R, r, epoch mod 2^32, epoch >> 32), cut to half of the bits. Integers alone, so the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from pellucid.data import stage
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards, Stream
from pellucid.errors import CorpusTooSmall, DocumentUnknown, FormatInvalid, RecipeInvalid, StepUnknown
from pellucid.philox import key_of, philox
from pellucid.recipe import FILE, Recipe

ROUNDS = 8
_CHUNK = 1 << 18  # Slots or places that are looked at together …
_LEFT_OUT = 1 << 27  # … and the most that are kept, of what a fork goes without.
_TABLE_BITS = 13  # Up to this half width a round is a table, made once per epoch.
_LOW = 0xFFFFFFFF
_Round = Callable[[int, np.ndarray], np.ndarray]


class Order:
    """See the module. Everything costs O(what is asked for)."""

    def __init__(
        self,
        seed: int,
        counts: Sequence[int],
        weights: Sequence[int],
        batch: int,
        without: np.ndarray | Sequence[int] = (),
    ) -> None:
        """counts: train sequences of each source; weights: how often each stands in one epoch; without: sequences
        whose places others take."""
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
        self._without = np.unique(np.array(without, dtype=np.int64))
        copies = sum(self._weights[self._source_of(sequence)] for sequence in self._without.tolist())
        if copies > _LEFT_OUT:
            raise ValueError(f"an epoch cannot go without {copies} slots, {_LEFT_OUT} at most")
        self._left = np.unique(np.concatenate([np.zeros(0, np.int64), *map(self._slots_of, self._without.tolist())]))
        if self._left.size == self.slots:
            raise CorpusTooSmall(found=0, what="sequences", needed=1, mend="a fork cannot go without all of them.")

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, shards: Shards) -> Order:
        """The order of a run. Raises DocumentUnknown where a fork goes without what the data does not have, and
        FormatInvalid where the shards are not the recipe's."""
        names, weights = zip(*((source.name, source.weight) for source in recipe.data.sources), strict=True)
        counts = [stream.sequences for stream in shards.train]
        if [stream.source for stream in shards.train] != list(names):
            raise FormatInvalid(path=stage.SHARDS, detail=f"its train streams are not of {', '.join(names)}")
        found = sum(count for count, weight in zip(counts, weights, strict=True) if weight)
        if found < recipe.train.batch:
            raise FormatInvalid(path=stage.SHARDS, detail=f"has {found} train sequences, fewer than a batch")
        try:
            return cls(recipe.seed, counts, weights, recipe.train.batch, sequences_of(folder, recipe, shards))
        except ValueError as error:
            detail = f"the weights are too large: {error}"
            raise RecipeInvalid(path=folder / FILE, key="data.sources", detail=detail) from error

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
        source = self._source_of(sequence)
        within = sequence - int(self._first_sequence[source])
        if sequence < 0 or within >= self._counts[source]:
            raise StepUnknown(what=f"Sequence {sequence}", detail="it is no train sequence")
        if np.isin(sequence, self._without):
            return []
        end, found = last_step * self.batch_size, []
        if self._weights[source] > end:  # More copies than places: rather all that was seen than all copies.
            return self._seen(sequence, last_step)
        slots = self._slots_of(sequence)
        for epoch in range(-(-end // self.slots) if slots.size else 0):
            for position in np.sort(self._places_of(epoch, slots)) + epoch * self.slots:
                if position < end:
                    found.append((int(position) // self.batch_size + 1, int(position) % self.batch_size, epoch))
        return found

    def first(self, sequences: np.ndarray, last_step: int) -> np.ndarray:
        """The step at which each of some train sequences, ascending and shape (N,), is seen first; 0: not up to
        last_step."""
        source = np.searchsorted(self._first_sequence, sequences, side="right") - 1
        copies = [
            0 if out else self._weights[s] for s, out in zip(source, np.isin(sequences, self._without), strict=True)
        ]
        end = min(last_step * self.batch_size, self.slots)  # The first epoch holds all of them.
        if sum(copies) > end:  # More copies than places: rather all that was seen than all copies.
            places = (np.arange(begin, min(begin + _CHUNK, end)) for begin in range(0, end, _CHUNK))
        else:
            base = self._first_slot[source] + sequences - self._first_sequence[source]
            slots = _copies(base, self._counts[source], np.array(copies, np.int64))
            places = (self._places_of(0, some) for some in slots)
        found = np.full(len(sequences), end, np.int64)
        for some in places:
            there = self._sequences(self._permuted(0, some))
            at = np.searchsorted(sequences, there)
            asked = sequences[np.minimum(at, len(sequences) - 1)] == there
            np.minimum.at(found, at[asked], some[asked])
        return np.where(found < end, found // self.batch_size + 1, 0)

    def _seen(self, sequence: int, last_step: int) -> list[tuple[int, int, int]]:
        found, together = [], max(1, _CHUNK // self.batch_size)
        for first in range(1, last_step + 1, together):
            steps, rows = np.nonzero(self.batches(first, min(first + together - 1, last_step)) == sequence)
            found += [(first + step, row) for step, row in zip(steps.tolist(), rows.tolist(), strict=True)]
        return [(step, row, ((step - 1) * self.batch_size + row) // self.slots) for step, row in found]

    def _places(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch and the place within it of every row of the steps first … last."""
        if not 1 <= first <= last or last * self.batch_size >= 1 << 63:
            raise StepUnknown(what=f"Step {first}", detail="steps begin at 1")
        positions = np.arange((first - 1) * self.batch_size, last * self.batch_size, dtype=np.int64)
        return np.divmod(positions, np.int64(self.slots))

    def _source_of(self, sequence: int) -> int:
        # Sources without sequences share their first one with the next; the last of equals is right.
        return int(np.searchsorted(self._first_sequence, sequence, side="right")) - 1

    def _slots_of(self, sequence: int) -> np.ndarray:
        """The slots of a sequence: one a copy."""
        source = self._source_of(sequence)
        first = int(self._first_slot[source]) + sequence - int(self._first_sequence[source])
        return first + int(self._counts[source]) * np.arange(self._weights[source], dtype=np.int64)

    def _sequences(self, slots: np.ndarray) -> np.ndarray:
        # Sources without slots share their first slot with the next one; the last of equals is right.
        source = np.searchsorted(self._first_slot, slots, side="right") - 1
        return self._first_sequence[source] + (slots - self._first_slot[source]) % self._counts[source]

    def _permuted(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """The slots at some places of an epoch."""
        slots = self._walk(places, self._forward, self._rounds(epoch))
        walking = np.flatnonzero(self._left_out(slots))
        while walking.size:
            back = walking[slots[walking] == places[walking]]
            slots[back] = self._next_kept(places[back])
            walking = walking[self._left_out(slots[walking])]
            slots[walking] = self._walk(slots[walking], self._forward, self._rounds(epoch))
            walking = walking[self._left_out(slots[walking])]
        return slots

    def _places_of(self, epoch: int, slots: np.ndarray) -> np.ndarray:
        """Every place of an epoch at which some slots stand that are not left out, as _permuted gives them."""
        found = [places := self._walk(slots, self._backward, self._rounds(epoch))]
        if not self._left.size:
            return places
        while (places := places[self._left_out(places)]).size:
            found.append(places := self._walk(places, self._backward, self._rounds(epoch)))
        # Places that came back to themselves took the next slot that is kept.
        runs = self._left[np.isin(self._next_kept(self._left), slots)]
        places = runs[self._permuted(epoch, runs) == self._next_kept(runs)]
        return np.unique(np.concatenate([*found, places]))

    def _left_out(self, slots: np.ndarray) -> np.ndarray:
        if not self._left.size:
            return np.zeros(slots.shape, bool)
        return self._left[np.minimum(np.searchsorted(self._left, slots), self._left.size - 1)] == slots

    def _next_kept(self, slots: np.ndarray) -> np.ndarray:
        """The first slot after each left out one that is not."""
        ends = self._left[np.append(np.diff(self._left) != 1, True)]  # Of the runs of left out slots.
        after = ends[np.searchsorted(ends, slots)] + 1
        wrapped = np.where(after == self.slots, 0, after)  # After the last slot comes the first.
        return np.where(self._left_out(wrapped), ends[0] + 1, wrapped)

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


def _copies(first: np.ndarray, apart: np.ndarray, copies: np.ndarray) -> Iterator[np.ndarray]:
    """The slots first, first + apart, … of each of several sequences, so many of each, some at a time."""
    ends = np.cumsum(copies)
    for begin in range(0, int(copies.sum()), _CHUNK):
        numbers = np.arange(begin, min(begin + _CHUNK, int(ends[-1])))
        which = np.searchsorted(ends, numbers, side="right")
        yield first[which] + (numbers - ends[which] + copies[which]) * apart[which]


def sequences_of(folder: Path, recipe: Recipe, shards: Shards) -> np.ndarray:
    """The train sequences that hold something of what a fork goes without, int64."""
    found, named = [], []
    for name in recipe.fork.without:
        streams = [stream for stream in shards.train if stream.source == name]
        found += [np.arange(one.first_sequence, one.first_sequence + one.sequences) for one in streams]
        named += [name] * (not streams)
    documents = Documents.open(folder).found(named) if named else {}
    for name, indices in documents.items():
        for stream in (one for one in shards.train if one.source == name.partition("/")[0]):
            found += [np.array(_held(stream, index, shards.context), np.int64) for index in indices]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _held(stream: Stream, document: int, context: int) -> range:
    """The sequences of a train stream that hold, or have as a target, a token of a document; none of another's."""
    try:
        first, length = stream.token_of(document), stream.length_of(document)
    except DocumentUnknown:  # It is for validation.
        return range(0)
    last = min((first + length - 1) // context, stream.sequences - 1)
    return range(stream.first_sequence + max(first - 1, 0) // context, stream.first_sequence + last + 1)
