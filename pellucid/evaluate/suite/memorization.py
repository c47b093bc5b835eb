"""Sequences of a run's own training, cut in two: does the model write the second part behind the
first? After Biderman et al. 2023, "Emergent and Predictable Memorization in Large Language Models"
(arXiv:2304.11158), whose sequences are cut at 32 tokens and at 64, too.

A run's steps are cut into equal ranges. Of each, rows are drawn by a fixed seed, and of a row the
first tokens are taken that lie in one document. As many sequences come from the documents of
validation, which no step trains on: what the model has of those can be guessed.

All of it follows from the order, so the examples are the same for every step that is asked, also
while the run goes on. A rollback gives later steps other rows, and so makes another task."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice, pairwise, zip_longest
from typing import NamedTuple

import numpy as np

from pellucid.data.covered import covered
from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.errors import TaskUnfit
from pellucid.evaluate.task import OURS, Task
from pellucid.recipe import Recipe
from pellucid.record.evaluations import Settings
from pellucid.record.requests import Continue, Example
from pellucid.replay.choose import chosen

NAME, METRIC, VALIDATION = "memorization", "extraction", "validation"
VERSION = 1
_SEED, _LENGTH, _RANGES, _SEQUENCES = 1, 32, 10, 100
_TRIES = 20  # Rows that are looked at for each sequence, at most.
_MOST = {"prompt": 4096, "tokens": 4096, "ranges": 100, "sequences": 10_000}
_MOST_SEQUENCES = 20_000  # Of all ranges …
_MOST_TOKENS = 1 << 21  # … and the tokens of these.


class Drawn(NamedTuple):
    """What is drawn of a run."""

    prompt: int  # Tokens that the model is given …
    tokens: int  # … and tokens behind them that it is asked for.
    ranges: int = _RANGES  # Of the run's steps.
    sequences: int = _SEQUENCES  # Of each range, and of the validation documents.

    @property
    def length(self) -> int:
        return self.prompt + self.tokens

    @classmethod
    def of(cls, recipe: Recipe) -> Drawn:
        """By default 32 tokens behind 32, or less where a row has not so many."""
        length = min(_LENGTH, (recipe.model.context + 1) // 2)
        return cls(length, length)

    def settings(self, limit: int | None) -> Settings:
        return {"limit": limit, "version": VERSION, **self._asdict()}


class Place(NamedTuple):
    """Tokens that a row of a step trained on."""

    step: int
    row: int
    first: int  # Its first token, among the row's T + 1.
    block: int
    start: int  # The same token, among the block's.
    document: int


class Held(NamedTuple):
    """An example, and where it stands in the order."""

    example: Example
    range: int | None = None  # The range of steps, from 0; None: of validation.
    place: Place | None = None


def drawn_of(settings: Mapping[str, object]) -> tuple[Drawn, int | None] | None:
    """What an evaluation's settings say was drawn, and its limit; nothing if they are not those of
    this version, or ask for more than a reader should draw."""
    limit, counts = settings.get("limit"), [settings.get(name) for name in Drawn._fields]
    if limit is not None and type(limit) is not int:
        return None
    numbers = [count for count in counts if type(count) is int]
    if len(numbers) < len(counts):
        return None
    drawn = Drawn(*numbers)
    bounded = all(1 <= count <= _MOST[name] for name, count in drawn._asdict().items())
    known = dict(settings) == dict(drawn.settings(limit))
    count = drawn.ranges * drawn.sequences
    fits = count <= _MOST_SEQUENCES and count * drawn.length <= _MOST_TOKENS
    return (drawn, limit) if bounded and known and fits else None


def bounds(order: Order, ranges: int) -> list[tuple[int, int]]:
    """The first and last step of each range; fewer where a run has fewer steps."""
    first, last = order.schedule.first, order.schedule.steps
    ends = [first + (last - first) * place // ranges for place in range(ranges + 1)]
    return [(low + 1, high) for low, high in pairwise(ends) if low < high]


def memorization(
    recipe: Recipe, shards: Shards, order: Order, drawn: Drawn, limit: int | None = None
) -> Task:
    """The task of a run. order: along the run's rollbacks. Raises FormatInvalid, TaskUnfit."""
    held = examples(recipe, shards, order, drawn)[:limit]
    if not held:
        detail = f"no row of this run holds {drawn.length} tokens of one document"
        raise TaskUnfit(task=NAME, detail=detail)
    asked = [one.example for one in held]
    return Task(NAME, METRIC, asked, drawn.settings(limit), harness=OURS)


def examples(recipe: Recipe, shards: Shards, order: Order, drawn: Drawn) -> list[Held]:
    """One of each range and one of validation, then the next of each: so the first of them are
    spread over the run too. Raises FormatInvalid."""
    groups: list[list[Held]] = []
    for number, (first, last) in enumerate(bounds(order, drawn.ranges)):
        found = islice(_places(shards, order, first, last, drawn), drawn.sequences)
        groups.append([Held(_asked(shards, place, drawn), number, place) for place in found])
    unseen = islice(_of_validation(recipe, shards, drawn), drawn.sequences)
    groups.append([Held(example) for example in unseen])
    return [held for held in chain.from_iterable(zip_longest(*groups)) if held is not None]


def _places(shards: Shards, order: Order, first: int, last: int, drawn: Drawn) -> Iterator[Place]:
    """Different ones in the rows of some steps, in random order."""
    if drawn.length > 1 + max(phase.context for phase in order.schedule.phases):
        return  # No row is so long.
    begins = [first, *(end + 1 for end in order.schedule.ends if first <= end < last)]
    batches = [order.phase(begin).batch for begin in begins]
    lengths = [end - begin for begin, end in pairwise([*begins, last + 1])]
    sizes = [length * batch for length, batch in zip(lengths, batches, strict=True)]
    seen = set[tuple[int, int]]()
    for part, number in _numbers(f"{NAME} {first} {last}", sizes, drawn):
        step, row = begins[part] + number // batches[part], number % batches[part]
        rows, context, here = order.rows(step), order.phase(step).context, slice(row, row + 1)
        documents_1S, _ = shards.documents_of(rows.blocks[here], rows.starts[here], context)
        at = _first_within(documents_1S[0], drawn.length)
        if at is None:
            continue
        block, start = int(rows.blocks[row]), int(rows.starts[row]) + at
        if (block, start) not in seen:
            seen.add((block, start))
            yield Place(step, row, at, block, start, int(documents_1S[0, at]))


def _asked(shards: Shards, place: Place, drawn: Drawn) -> Example:
    ids = shards.ids(place.block, place.start, drawn.length - 1)
    name = f"step{place.step}/row{place.row}/at{place.first}"
    return _example(name, ids, place.document, drawn)


def _example(name: str, ids: np.ndarray, document: int, drawn: Drawn) -> Example:
    tokens = ids.tolist()
    request = Continue(tuple(tokens[: drawn.prompt]), drawn.tokens)
    return Example(name, request, tuple(tokens[drawn.prompt :]), f"document {document}")


def _of_validation(recipe: Recipe, shards: Shards, drawn: Drawn) -> Iterator[Example]:
    """Of rows of the validation documents, drawn and cut as those of a step."""
    streams, T = covered(shards, recipe), recipe.model.context
    sizes = [-(-stream.tokens // T) for stream in streams]
    for part, row in _numbers(f"{NAME} {VALIDATION}", sizes, drawn):
        stream, begin = streams[part], row * T
        documents_S = stream.documents_at(begin, min(begin + T + 1, stream.tokens))
        at = _first_within(documents_S, drawn.length)
        if at is not None:
            ids = stream.read(begin + at, begin + at + drawn.length)
            name = f"{VALIDATION}/{stream.source}/row{row}/at{at}"
            yield _example(name, ids, int(documents_S[at]), drawn)


def _numbers(purpose: str, sizes: Sequence[int], drawn: Drawn) -> Iterator[tuple[int, int]]:
    """Rows of several parts, each once and in random order: the part, and which of its rows."""
    ends = [0, *accumulate(sizes)]
    for number in islice(chosen(_SEED, purpose, ends[-1]), _TRIES * drawn.sequences):
        part = bisect.bisect_left(ends, number) - 1
        yield part, number - 1 - ends[part]


def _first_within(documents_S: np.ndarray, length: int) -> int | None:
    """Where the first so many tokens of one document begin."""
    cuts = [0, *(np.flatnonzero(np.diff(documents_S)) + 1).tolist(), len(documents_S)]
    return next((begin for begin, end in pairwise(cuts) if end - begin >= length), None)
