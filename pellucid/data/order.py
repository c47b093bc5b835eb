"""The order: which targets of which block the rows of any step hold, as a pure
function of recipe and counts.

The schedule says which targets of a source a row covers, as a cursor c into the passes over that
source (pellucid/schedule.py). A pass holds each of the source's blocks once, in an order of its
own: with P = blocks * T_B targets a pass, the cursor c lies in pass e = c // P, in the block
permutation(e, c % P // T_B), which the row begins at c % T_B.

The permutation is a Feistel network over an even number of bits, as few as hold the number of
blocks (at least two), walked until the value lies below it. In a fork that goes without some blocks
others of the same pass take their places, and no other place changes: the next one of the walk, or,
where that is left out too, the one of those that are kept that its number says, modulo theirs.

Round r replaces (L, R) by (R, L xor F(r, R)); F is the first word of Philox under key_of(seed,
"order SOURCE") at the counter (R, r, e mod 2^32, e >> 32), cut to half of the bits. Integers
alone, so the same everywhere."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pellucid.data import stage
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards, Stream
from pellucid.errors import (
    BlockUnknown,
    CorpusTooSmall,
    DocumentUnknown,
    FormatInvalid,
    RecipeInvalid,
    StepUnknown,
)
from pellucid.philox import key_of, philox
from pellucid.recipe import FILE, Recipe
from pellucid.schedule import Phase, Route, Schedule, Start, Stretch, stretch_of

ROUNDS = 8
_CHUNK = 1 << 18  # Rows that are looked at together …
_LEFT_OUT = 1 << 27  # … and the most blocks that a fork goes without.
_TABLE_BITS = 13  # Up to this half width a round is a table, made once per pass.
_LOW = 0xFFFFFFFF
_Round = Callable[[int, np.ndarray], np.ndarray]


class Rows(NamedTuple):
    """What the rows of a step hold, each of shape (B,) int64."""

    sources: np.ndarray  # Place in the recipe's sources.
    epochs: np.ndarray  # Pass over that source, from 0.
    blocks: np.ndarray
    starts: np.ndarray  # The row's first target in its block; it begins with the id before.


class Time(NamedTuple):
    """One row that held targets of a block."""

    step: int
    row: int
    epoch: int
    start: int


class Permutation:
    """The order of the blocks of one source, pass by pass."""

    def __init__(self, key: int, count: int, left: np.ndarray) -> None:
        """left: blocks whose places others take, ascending and fewer than all."""
        self._key, self._count, self._left = key, count, left
        self._kept = count - left.size
        self._kept_before = left - np.arange(left.size)  # Of each that is left out.
        self._half = max(1, ((count - 1).bit_length() + 1) // 2)
        self._rounds = lru_cache(maxsize=4)(self._make_rounds)

    def blocks(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """The blocks at some places of a pass."""
        if self._count == 1:
            return np.zeros_like(places)
        blocks = self._walk(places, self._forward, self._rounds(epoch))
        taken = np.flatnonzero(self.left_out(blocks))
        if taken.size:
            others = self._walk(blocks[taken], self._forward, self._rounds(epoch))
            gone = self.left_out(others)
            numbers = (others[gone] + self._shift(epoch)) % self._kept
            others[gone] = numbers + np.searchsorted(self._kept_before, numbers, side="right")
            blocks[taken] = others
        return blocks

    def places(
        self, epoch: int, blocks: np.ndarray, low: int = 0, high: int | None = None
    ) -> np.ndarray:
        """Every place of a pass, from `low` up to `high`, at which some blocks stand that are not
        left out, as `blocks` gives them; ascending."""
        high = self._count if high is None else high
        if self._count == 1 or high - low <= blocks.size * (2 + self._count // self._kept):
            places = np.arange(low, high)
            return places[np.isin(self.blocks(epoch, places), blocks)]
        places = np.unique(self._all_places(epoch, blocks))
        return places[slice(*np.searchsorted(places, [low, high]))]

    def _all_places(self, epoch: int, blocks: np.ndarray) -> np.ndarray:
        function = self._rounds(epoch)
        own = self._walk(blocks, self._backward, function)
        if not self._left.size:
            return own
        # Where the block at a place is left out, it is the next one's place, or the place of one
        # that is left out too and has one of these in its place.
        between = self._walk(self._drawing(epoch, blocks), self._backward, function)
        between = np.concatenate([own, between])
        between = between[self.left_out(between)]
        return np.concatenate([own, self._walk(between, self._backward, function)])

    def _shift(self, epoch: int) -> int:
        """So that what stands for a block is another one in each pass."""
        return int(self._walk(np.zeros(1, np.int64), self._forward, self._rounds(epoch))[0])

    def _drawing(self, epoch: int, blocks: np.ndarray) -> np.ndarray:
        """The left out blocks for which, by their number, some blocks stand."""
        numbers = blocks - np.searchsorted(self._left, blocks) - self._shift(epoch)
        numbers = np.unique(numbers % self._kept)
        found = (numbers[:, None] + np.arange(0, self._count, self._kept)).reshape(-1)
        found = found[found < self._count]
        return found[self.left_out(found)]

    def left_out(self, blocks: np.ndarray) -> np.ndarray:
        if not self._left.size:
            return np.zeros(blocks.shape, bool)
        return (
            self._left[np.minimum(np.searchsorted(self._left, blocks), self._left.size - 1)]
            == blocks
        )

    def _walk(
        self,
        values: np.ndarray,
        pass_once: Callable[[np.ndarray, _Round], np.ndarray],
        function: _Round,
    ):
        out = pass_once(values.astype(np.uint64), function)
        while (outside := np.flatnonzero(out >= self._count)).size:
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
        """The round function F(round, right) of a pass, as a table where that is small."""
        if self._half > _TABLE_BITS:
            return lambda number, right: self._words(epoch, np.full(right.size, number), right)
        width = 1 << self._half
        numbers, rights = np.divmod(np.arange(ROUNDS * width), width)
        table = self._words(epoch, numbers, rights).reshape(ROUNDS, width)
        return lambda number, right: table[number][right]

    def _words(self, epoch: int, numbers: np.ndarray, rights: np.ndarray) -> np.ndarray:
        """F of a pass for pairs of round and right half, shape (N,) uint64."""
        counters = np.empty((rights.size, 4), dtype=np.uint32)
        counters[:, 0], counters[:, 1] = rights, numbers
        counters[:, 2:] = epoch & _LOW, epoch >> 32
        return philox(self._key, counters)[:, 0].astype(np.uint64) & self._mask


class Order:
    """See the module. Everything costs O(what is asked for)."""

    def __init__(
        self,
        seed: int,
        sources: Sequence[tuple[str, int]],
        block: int,
        schedule: Schedule,
        without: np.ndarray | Sequence[int] = (),
        start: Start | None = None,
    ) -> None:
        """sources: name and train blocks of each; block: targets of one; without:
        blocks whose places others take.

        Raises ValueError where a phase has no rows or rates too high,
        CorpusTooSmall where nothing is left."""
        self.block, counts = block, [count for _, count in sources]
        self._first = np.array([sum(counts[:place]) for place in range(len(counts))], np.int64)
        self._counts = np.array(counts, np.int64)
        left = np.sort(np.array(without, np.int64), kind="stable")  # np.unique takes ten times it.
        left = left[np.diff(left, prepend=-1) != 0]
        if left.size > _LEFT_OUT:
            raise ValueError(
                f"a pass leaves out {left.size} blocks, more than the limit of {_LEFT_OUT}"
            )
        parts = [
            left[slice(*np.searchsorted(left, [first, first + n]))] - first
            for first, n in zip(self._first, counts, strict=True)
        ]
        trained = [n if len(part) < n else 0 for n, part in zip(counts, parts, strict=True)]
        if left.size and not any(trained):
            raise CorpusTooSmall(
                found=0,
                what="blocks",
                needed=1,
                fix="Leave some blocks in: a fork cannot go without all of them.",
            )
        self._permutations = [
            Permutation(key_of(seed, f"order {name}"), n, part)
            for (name, n), part in zip(sources, parts, strict=True)
        ]
        self.route = Route(schedule, block, trained, start)
        self.stretches: tuple[Stretch, ...] = self.route.begun()

    @classmethod
    def of(cls, folder: Path, recipe: Recipe, shards: Shards) -> Order:
        """The order of a run, as if it never rolled back. Raises DocumentUnknown where a fork
        goes without what the data does not have, FormatInvalid where the shards are not the
        recipe's, and RecipeInvalid."""
        names = [source.name for source in recipe.data.sources]
        sources = [(stream.source, stream.blocks) for stream in shards.train]
        if [name for name, _ in sources] != names or shards.block != recipe.block:
            detail = f"the train streams are not {', '.join(names)} in blocks of {recipe.block}"
            raise FormatInvalid(path=stage.SHARDS, detail=detail)
        for name, count in sources:
            if name in recipe.trained and not count:
                detail = f"{name} has no whole block of {recipe.block} targets to train on"
                raise RecipeInvalid(path=folder / FILE, key="data.sources", detail=detail)
        cursors = tuple(recipe.fork.cursors.get(name, 0) for name in names)
        start = Start(cursors, recipe.fork.rows) if recipe.fork.parent else None
        try:
            return cls(
                recipe.seed,
                sources,
                shards.block,
                recipe.schedule,
                blocks_of(folder, recipe, shards),
                start,
            )
        except ValueError as error:
            raise RecipeInvalid(
                path=folder / FILE, key="data.sources", detail=str(error)
            ) from error

    def along(self, rollbacks: Sequence[tuple[int, int]]) -> Order:
        """The same order for a run that rolled back, each time from an
        offending step to an earlier one."""
        other = copy.copy(self)
        other.stretches = self.route.along(rollbacks)
        return other

    @property
    def schedule(self) -> Schedule:
        return self.route.schedule

    def phase(self, step: int) -> Phase:
        return self.schedule.at(step)

    def rows(self, step: int) -> Rows:
        """What the rows of one step hold. Raises StepUnknown."""
        return next(self.each(step, step))

    def each(self, first: int, last: int) -> Iterator[Rows]:
        """What the rows of the steps first … last hold, step by step. Raises StepUnknown."""
        if first <= self.schedule.first:
            raise StepUnknown(
                what=f"Step {first}", detail=f"steps begin at {self.schedule.first + 1}"
            )
        while first <= last:
            stretch = stretch_of(self.stretches, first)
            batch = stretch.phase.batch
            together = max(1, _CHUNK // batch)
            end = min(last, first + together - 1)
            if first <= stretch.last:  # Behind the last step the last phase would go on so.
                end = min(end, stretch.last)
            rows = self._located(*stretch.targets(first, end))
            for place in range(0, len(rows.blocks), batch):
                yield Rows(*(column[place : place + batch] for column in rows))
            first = end + 1

    def times(self, block: int, last: int) -> list[Time]:
        """Every row of the steps up to `last` that held targets of a block,
        in order. Raises StepUnknown."""
        source, within = self._place(block)
        if self._permutations[source].left_out(np.array([within])).any():
            return []
        times_seen: list[Time] = []
        for stretch, begin, end in self._spans(source, last):
            size, T = self._pass(source), stretch.phase.context
            for epoch, places in self._places(source, np.array([within]), begin, end):
                for base in (epoch * size + places * self.block).tolist():
                    targets = np.arange(
                        max(base, begin), min(base + self.block, end), T, dtype=np.int64
                    )
                    steps, rows = stretch.steps(source, targets)
                    starts = targets - base
                    times_seen += map(
                        Time, steps.tolist(), rows.tolist(), [epoch] * len(targets), starts.tolist()
                    )
        return sorted(times_seen)

    def _places(
        self, source: int, blocks: np.ndarray, begin: int, end: int
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Of each pass between two cursors of a source, its places at which some blocks stand and
        that hold a target there, ascending."""
        size = self._pass(source)
        for epoch in range(begin // size, -(-end // size)):
            low = max(begin - epoch * size, 0) // self.block
            high = -(-min(end - epoch * size, size) // self.block)
            yield epoch, self._permutations[source].places(epoch, blocks, low, high)

    def seen(self, blocks_N: np.ndarray, targets_N: np.ndarray, last: int) -> np.ndarray:
        """Whether targets, each its block and its place there, were trained on up
        to a step, shape (N,) bool."""
        found_N = np.zeros(len(blocks_N), bool)
        sources_N = np.searchsorted(self._first, blocks_N, side="right") - 1
        for source in np.unique(sources_N).tolist():
            mine = np.flatnonzero(sources_N == source)
            mine = mine[~self._permutations[source].left_out(blocks_N[mine] - self._first[source])]
            for span in self._spans(source, last):
                mine = mine[~found_N[mine]]
                found_N[mine] = self._seen(
                    source, blocks_N[mine] - self._first[source], targets_N[mine], *span[1:]
                )
        return found_N

    def _seen(
        self, source: int, blocks_N: np.ndarray, targets_N: np.ndarray, begin: int, end: int
    ) -> np.ndarray:
        """Whether targets of a source lie between two cursors."""
        size = self._pass(source)
        found_N = np.zeros(len(blocks_N), bool)
        if (-(-begin // size) + 1) * size <= end or not len(blocks_N):  # A whole pass holds all.
            return ~found_N
        for epoch, places in self._places(source, np.unique(blocks_N), begin, end):
            there = self._permutations[source].blocks(epoch, places)
            bases = epoch * size + places * self.block
            whole = (begin <= bases) & (bases + self.block <= end)
            found_N |= np.isin(blocks_N, there[whole])
            for base, block in zip(bases[~whole].tolist(), there[~whole].tolist(), strict=True):
                here_N = (begin <= base + targets_N) & (base + targets_N < end)
                found_N |= here_N & (blocks_N == block)  # The first place of a span, and its last.
        return found_N

    def _spans(self, source: int, last: int) -> Iterator[tuple[Stretch, int, int]]:
        """The stretches up to a step, each with the cursors of a source before and
        after it, where they differ."""
        for stretch in self.stretches:
            if stretch.after < last and stretch.mixture.rates[source]:
                # Behind the last step the last phase would go on so.
                end = last if stretch is self.stretches[-1] else min(last, stretch.last)
                begin, end = (stretch.cursors_after(step)[source] for step in (stretch.after, end))
                if begin < end:
                    yield stretch, begin, end

    def _pass(self, source: int) -> int:
        return int(self._counts[source]) * self.block

    def _place(self, block: int) -> tuple[int, int]:
        """The source of a block, and which of its blocks it is."""
        # Sources without blocks share their first one with the next; the last of equals is right.
        source = int(np.searchsorted(self._first, block, side="right")) - 1
        within = block - int(self._first[source])
        if block < 0 or within >= self._counts[source]:
            raise BlockUnknown(block=block, count=int(self._counts.sum()))
        return source, within

    def _located(self, sources_N: np.ndarray, cursors_N: np.ndarray) -> Rows:
        sizes_N = self._counts[sources_N] * self.block
        epochs_N, within_N = np.divmod(cursors_N, sizes_N)
        places_N, starts_N = np.divmod(within_N, np.int64(self.block))
        blocks_N = np.empty_like(places_N)
        for source in np.unique(sources_N).tolist():
            # In the order of the cursor, so that passes ascend.
            mine = np.flatnonzero(sources_N == source)
            epochs = epochs_N[mine]
            for epoch in np.unique(epochs).tolist():
                here = mine[slice(*np.searchsorted(epochs, [epoch, epoch + 1]))]
                blocks_N[here] = (
                    self._permutations[source].blocks(epoch, places_N[here]) + self._first[source]
                )
        return Rows(sources_N, epochs_N, blocks_N, starts_N)


def blocks_of(folder: Path, recipe: Recipe, shards: Shards) -> np.ndarray:
    """The train blocks that hold something of what a fork goes without, int64."""
    return np.concatenate([np.zeros(0, np.int64), *blocks_by_name(folder, recipe, shards).values()])


def blocks_by_name(folder: Path, recipe: Recipe, shards: Shards) -> dict[str, np.ndarray]:
    """The same of each source and document that it names. Raises DocumentUnknown."""
    blocks_of: dict[str, list[np.ndarray]] = {name: [] for name in recipe.fork.without}
    for stream in shards.train:
        if stream.source in blocks_of:
            blocks_of[stream.source].append(
                np.arange(stream.first_block, stream.first_block + stream.blocks)
            )
    named = [name for name, blocks in blocks_of.items() if not blocks]
    documents = Documents.open(folder).found(named) if named else {}
    for name, indices in documents.items():
        for stream in (part for part in shards.train if part.source == name.partition("/")[0]):
            blocks_of[name] += [
                np.array(_held(stream, index, shards.block), np.int64) for index in indices
            ]
    return {
        name: np.concatenate([np.zeros(0, np.int64), *blocks]) for name, blocks in blocks_of.items()
    }


def _held(stream: Stream, document: int, block: int) -> range:
    """The blocks of a train stream that hold, or have as a target, a token of a
    document; none of another's."""
    try:
        first, length = stream.token_of(document), stream.length_of(document)
    except DocumentUnknown:  # It is for validation.
        return range(0)
    last = min((first + length - 1) // block, stream.blocks - 1)
    return range(stream.first_block + max(first - 1, 0) // block, stream.first_block + last + 1)
