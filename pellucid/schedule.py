"""The schedule of a run: what any step trains with, and which targets
of which source its rows hold.

A run is a sequence of phases, each so many steps that are taken alike: one batch, one
context, one mixture of sources, one way of the learning rate. Tokens are counted by targets:
a row of context T has T of them.

A **mixture** says whose each row is. Of a period of sum(rates) rows, source s has rates[s]; its
j-th has the key floor((2j + 1) * 2^32 / rates[s]), and rows are ordered by (key, place of s). So
any stretch of rows has nearly as many of each source as the rates say, and how many of s are among
the first p rows is found in O(log) without a table.

A **cursor** is how many targets of a source were seen. Row J of s since a cursor c covers the
targets c + J*T up to c + (J + 1)*T, of a stream that begins again when all its blocks were passed
(data/order.py says which block that is).

A **stretch** is the steps of one phase on one branch: where its cursors stand, and how many rows of
its mixture went before. A phase begins where the one before ended, rounded up to its own T, or with
a source's next whole pass. A rollback begins a stretch whose cursors are those after the offending
step, so that what was passed over does not come again. Integers alone, so the same everywhere."""

from __future__ import annotations

import bisect
import fnmatch
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.learning_rates import SCHEDULES
from pellucid.objectives import CrossEntropy, Objective

MOST_RATE = (1 << 30) - 1  # Of one source in a period, so that keys are computed in 63 bits.
_MEAN_LOSS = CrossEntropy()
_ONE, _WHOLE = 1 << 32, 1 << 33  # Keys lie in [0, 2^33): twice 2^32 a period.


@dataclass(frozen=True, slots=True)
class Phase:
    """So many steps that are taken alike. Of `weights` and `shares`, by source in the
    recipe's order, one is given."""

    name: str
    steps: int
    batch: int  # Rows of a step.
    microbatch: int
    context: int  # T: targets of a row.
    rope_theta: float
    lr: float
    schedule: str  # A name in SCHEDULES of learning_rates.py.
    warmup: int  # Steps.
    decay: int  # Steps of the last decay, for "wsd".
    final_lr: float  # As a fraction of lr.
    # How often each source is seen while all of them are seen once at weight 1.
    weights: tuple[int, ...] = ()
    shares: tuple[int, ...] = ()  # Rows of each source among sum(shares).
    again: tuple[bool, ...] = ()  # Which sources begin a new pass with the phase.
    objective: Objective = _MEAN_LOSS
    frozen: tuple[str, ...] = ()  # Weights that stay as they are: patterns of names.

    def freezes(self, name: str) -> bool:
        """Whether a weight stays as it is."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.frozen)

    @property
    def tokens(self) -> int:
        """Targets of one step."""
        return self.batch * self.context

    def rates(self, blocks: Sequence[int], block: int) -> list[int]:
        """The rows of each source in a period; blocks of each, of `block` targets.
        None of a source without any."""
        if self.shares:
            return [share * (count > 0) for share, count in zip(self.shares, blocks, strict=True)]
        rows = block // self.context
        return [weight * count * rows for weight, count in zip(self.weights, blocks, strict=True)]


def learning_rate(phase: Phase, step: int) -> float:
    """The learning rate of step 1, 2, … of a phase: a linear warmup, then the schedule's way down
    to final_lr * lr."""
    if step <= phase.warmup:
        return phase.lr * (step / phase.warmup)
    schedule = SCHEDULES[phase.schedule]
    decay = phase.decay if schedule.stable else phase.steps - phase.warmup
    left = phase.steps - step
    if schedule.stable and left >= decay:
        return phase.lr
    return phase.lr * (phase.final_lr + (1.0 - phase.final_lr) * schedule.shape(left / decay))


class Schedule:
    """What each step of a run trains with. Steps are numbered from 1; a
    fork takes those after `first`."""

    def __init__(self, phases: Sequence[Phase], first: int = 0, tokens: int = 0) -> None:
        """tokens: targets seen up to and with step `first`."""
        self.phases, self.first = tuple(phases), first
        self.ends = list(itertools.accumulate(phase.steps for phase in phases))
        self.steps = self.ends[-1]
        targets = [0, *itertools.accumulate(phase.steps * phase.tokens for phase in phases)]
        self._whole, self._before = targets, 0
        self._before = tokens - self.tokens(first)

    def index(self, step: int) -> int:
        """Which phase a step lies in; the steps behind the last phase are counted to it."""
        return min(bisect.bisect_left(self.ends, step), len(self.phases) - 1)

    def at(self, step: int) -> Phase:
        """The phase of a step."""
        return self.phases[self.index(step)]

    def begun(self, step: int) -> int:
        """The step before the first one of the phase that a step lies in."""
        index = self.index(step)
        return self.ends[index - 1] if index else 0

    def tokens(self, step: int) -> int:
        """Targets seen up to and with a step."""
        within = step - self.begun(step)
        return self._before + self._whole[self.index(step)] + within * self.at(step).tokens

    def tokens_of(self, first: int, last: int) -> np.ndarray:
        """The same of the steps first … last, shape (steps,) uint64."""
        parts = [
            self.tokens(begin - 1)
            + np.arange(1, end - begin + 2, dtype=np.uint64) * np.uint64(self.at(begin).tokens)
            for begin, end in self._within(first, last)
        ]
        return np.concatenate([np.empty(0, np.uint64), *parts])

    def _within(self, first: int, last: int) -> list[tuple[int, int]]:
        """The steps first … last, cut where phases end."""
        cuts = [end for end in self.ends[:-1] if first <= end < last]
        return (
            list(zip([first, *(cut + 1 for cut in cuts)], [*cuts, last], strict=True))
            if first <= last
            else []
        )

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step: its phase's, counted from the phase's first step."""
        return learning_rate(self.at(step), step - self.begun(step))


# ---- whose each row is -------------------------------------------------------------------------


class Mixture:
    """Whose each row is, by the rates of the sources. Raises ValueError where no source
    has a rate, or one too high."""

    def __init__(self, rates: Sequence[int]) -> None:
        divisor = math.gcd(*rates)
        if not divisor:
            raise ValueError("no source has a row")
        self.rates = tuple(rate // divisor for rate in rates)
        if max(self.rates) > MOST_RATE:
            raise ValueError(
                f"a period has {max(self.rates):,} rows of one source, more than {MOST_RATE:,}"
            )
        self.period = sum(self.rates)
        self._rates_S = np.array(self.rates, np.int64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mixture) and self.rates == other.rates

    def __hash__(self) -> int:
        return hash(self.rates)

    def of(self, rows_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of rows, counted from 0, int64: the source of each, and how many rows
        of that source went before."""
        periods_N, within_N = np.divmod(rows_N, np.int64(self.period))
        keys_N = self._keys(within_N)
        before_NS, tied_NS = self._below(keys_N), self._at(keys_N)
        place_N = within_N - before_NS.sum(axis=1)  # Which of those with this key.
        sources_N = (tied_NS & (np.cumsum(tied_NS, axis=1) == place_N[:, None] + 1)).argmax(axis=1)
        numbers_N = (
            periods_N * self._rates_S[sources_N] + before_NS[np.arange(len(rows_N)), sources_N]
        )
        return sources_N, numbers_N

    def counts(self, rows: int) -> tuple[int, ...]:
        """How many of the first so many rows are of each source."""
        periods, within = divmod(rows, self.period)
        keys_N = self._keys(np.array([within], np.int64)) if within else np.zeros(1, np.int64)
        before_S, tied_S = self._below(keys_N)[0], self._at(keys_N)[0]
        place = within - int(before_S.sum())
        before_S = before_S + (tied_S & (np.cumsum(tied_S) <= place))
        return tuple(
            periods * rate + int(count) for rate, count in zip(self.rates, before_S, strict=True)
        )

    def rows(self, source: int, numbers_N: np.ndarray) -> np.ndarray:
        """The inverse of `of`: which rows are a source's, by how many of
        its rows went before, int64."""
        rate = np.int64(self.rates[source])
        periods_N, numbers_N = np.divmod(numbers_N, rate)
        keys_N = ((2 * numbers_N + 1) << 32) // rate
        before_N = self._below(keys_N).sum(axis=1) + self._at(keys_N)[:, :source].sum(axis=1)
        return periods_N * np.int64(self.period) + before_N

    def _below(self, keys_N: np.ndarray) -> np.ndarray:
        """How many rows of each source have a lower key in a period, shape (N, S) int64.

        floor((2j + 1) * 2^32 / r) < k is (2j + 1) * 2^32 < k * r: so many j as (k * r
        - 2^32) / 2^33 rounded up."""
        return (keys_N[:, None] * self._rates_S + (_ONE - 1)) >> 33

    def _at(self, keys_N: np.ndarray) -> np.ndarray:
        """Which sources have a row with this very key, shape (N, S) bool; none has two."""
        return self._below(keys_N + 1) > self._below(keys_N)

    def _keys(self, within_N: np.ndarray) -> np.ndarray:
        """The keys of rows of one period, by bisection: the last key with no more rows
        below it than before the row."""
        low_N, high_N = np.zeros_like(within_N), np.full_like(within_N, _WHOLE)
        for _ in range(33):
            middle_N = (low_N + high_N) >> 1
            fits_N = self._below(middle_N).sum(axis=1) <= within_N
            low_N, high_N = np.where(fits_N, middle_N, low_N), np.where(fits_N, high_N, middle_N)
        return low_N


# ---- which targets -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps of one phase, one after the other on one branch."""

    after: int  # The step before its first.
    last: int
    phase: Phase
    mixture: Mixture
    cursors: tuple[int, ...]  # Targets of each source that were seen before row 0 of the mixture.
    rows: int = 0  # Rows of the mixture that went before the first step.

    def row(self, step: int) -> int:
        """The first row of a step in the mixture; for the step behind the
        last, where the stretch ends."""
        return self.rows + (step - self.after - 1) * self.phase.batch

    def cursors_after(self, step: int) -> tuple[int, ...]:
        """Targets of each source that were seen up to and with a step."""
        counts, T = self.mixture.counts(self.row(step + 1)), self.phase.context
        return tuple(cursor + count * T for cursor, count in zip(self.cursors, counts, strict=True))

    def targets(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Of every row of the steps first … last, in order: its source, and the first
        of its targets as a cursor."""
        sources_N, numbers_N = self.mixture.of(
            np.arange(self.row(first), self.row(last + 1), dtype=np.int64)
        )
        return sources_N, np.array(self.cursors, np.int64)[
            sources_N
        ] + numbers_N * self.phase.context

    def steps(self, source: int, targets_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse: the step and the row in it that has each of these targets of a source, given
        as cursors that lie within `cursors_after(after)` and `cursors_after(last)`."""
        numbers_N = (targets_N - self.cursors[source]) // self.phase.context
        rows_N = self.mixture.rows(source, numbers_N) - self.rows
        steps_N, rows_N = np.divmod(rows_N, np.int64(self.phase.batch))
        return steps_N + self.after + 1, rows_N


@dataclass(frozen=True, slots=True)
class Start:
    """Where the first step of a run begins: 0, or a fork's cursors, and the rows
    of its mixture since these."""

    cursors: tuple[int, ...]
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Passed:
    """Targets that a phase passes over where it begins, by source: up to its first whole row, or up
    to a whole pass."""

    phase: str
    step: int  # Its first.
    row: dict[str, int]
    whole: dict[str, int]

    def __str__(self) -> str:
        parts = [f"{count:,} of {name} (the rest of a row)" for name, count in self.row.items()]
        parts += [f"{count:,} of {name} (the rest of a pass)" for name, count in self.whole.items()]
        return (
            f"the phase {self.phase} begins with step {self.step:,} and passes over targets: "
            + (", ".join(parts))
        )


class Route:
    """The stretches of a run, from its schedule and the blocks that its sources have."""

    def __init__(
        self, schedule: Schedule, block: int, blocks: Sequence[int], start: Start | None = None
    ) -> None:
        """block: targets of a block; blocks: how many each source has, 0 for those that no row is
        of. Raises ValueError where a phase has no rows, or rates too high."""
        self.schedule, self.passes = schedule, tuple(count * block for count in blocks)
        self.mixtures = []
        for phase in schedule.phases:
            try:
                self.mixtures.append(Mixture(phase.rates(blocks, block)))
            except ValueError as error:
                raise ValueError(f"in the phase {phase.name} {error}") from error
        self._start = start or Start((0,) * len(blocks))

    def begun(self) -> tuple[Stretch, ...]:
        """The stretches of a run that never rolls back. Raises ValueError where a source is passed
        over too often for a counter."""
        index = self.schedule.index(self.schedule.first + 1)
        first = self._stretch(index, self.schedule.first, self._start.cursors, self._start.rows)
        stretches = (first, *self._following(first))
        if any(max(one.cursors_after(one.last)) >= 1 << 63 for one in stretches):
            raise ValueError("the passes over a source come to 2^63 targets or more")
        return stretches

    def along(self, rollbacks: Iterable[tuple[int, int]]) -> tuple[Stretch, ...]:
        """The stretches of a run that rolled back, each time from an offending step to an earlier
        one. Raises ValueError as begun does."""
        stretches = self.begun()
        for offending, to in rollbacks:
            stretches = self.rolled_back(stretches, offending, to)
        return stretches

    def rolled_back(
        self, stretches: tuple[Stretch, ...], offending: int, to: int
    ) -> tuple[Stretch, ...]:
        """The stretches after a rollback to a step, whose cursors go on from
        those after the offending one."""
        cursors = stretch_of(stretches, offending).cursors_after(offending)
        remaining = [stretch for stretch in stretches if stretch.after < to]
        if remaining:
            last = remaining.pop()
            remaining.append(
                Stretch(last.after, to, last.phase, last.mixture, last.cursors, last.rows)
            )
        begun = self._stretch(self.schedule.index(to + 1), to, cursors, 0)
        return (*remaining, begun, *self._following(begun))

    def entered(self, step: int, cursors: Sequence[int]) -> tuple[int, ...]:
        """The cursors with which the phase of a step begins, after those of the phase before."""
        phase = self.schedule.at(step)
        again = phase.again or (False,) * len(cursors)
        return tuple(
            _up(cursor, pass_length if new and pass_length else phase.context)
            for cursor, pass_length, new in zip(cursors, self.passes, again, strict=True)
        )

    def passed(self, names: Sequence[str], seen: Sequence[int] | None = None) -> list[Passed]:
        """What is passed over where phases begin, in a run that never rolls back; phases that pass
        over nothing are left out. Of a fork `seen` are its parent's cursors before its first step;
        without them that is told from its own."""
        stretches = self.begun()
        first = stretches[0].cursors_after(stretches[0].after)
        if seen is None:
            seen = first if self._start.rows else self._start.cursors
        before = [seen, *(stretch.cursors_after(stretch.last) for stretch in stretches[:-1])]
        begins = [first, *(stretch.cursors for stretch in stretches[1:])]
        passed_over = [
            self._passed(names, *of) for of in zip(stretches, before, begins, strict=True)
        ]
        return [passed for passed in passed_over if passed.row or passed.whole]

    def _passed(
        self, names: Sequence[str], stretch: Stretch, before: Sequence[int], begins: Sequence[int]
    ) -> Passed:
        again = stretch.phase.again or (False,) * len(names)
        if self.schedule.begun(stretch.after + 1) != stretch.after:  # A fork's, within a phase.
            again = (False,) * len(names)
        over = [
            (name, now - then, new_pass)
            for name, then, now, new_pass in zip(names, before, begins, again, strict=True)
            if now > then
        ]
        row = {name: count for name, count, new_pass in over if not new_pass}
        return Passed(
            stretch.phase.name,
            stretch.after + 1,
            row,
            {name: count for name, count, new_pass in over if new_pass},
        )

    def _following(self, stretch: Stretch) -> list[Stretch]:
        stretches = [stretch]
        for index in range(self.schedule.index(stretch.last) + 1, len(self.schedule.phases)):
            last = stretches[-1]
            cursors = self.entered(last.last + 1, last.cursors_after(last.last))
            stretches.append(self._stretch(index, last.last, cursors, 0))
        return stretches[1:]

    def _stretch(self, index: int, after: int, cursors: tuple[int, ...], rows: int) -> Stretch:
        phase = self.schedule.phases[index]
        cursors = tuple(_up(cursor, phase.context) for cursor in cursors)
        return Stretch(after, self.schedule.ends[index], phase, self.mixtures[index], cursors, rows)


def stretch_of(stretches: Sequence[Stretch], step: int) -> Stretch:
    """The stretch that a step lies in; behind the last step the last."""
    place = bisect.bisect_left([stretch.last for stretch in stretches], step)
    return stretches[min(place, len(stretches) - 1)]


def _up(cursor: int, multiple: int) -> int:
    return -(-cursor // multiple) * multiple
