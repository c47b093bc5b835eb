"""Where a text stands in the training data, and when the model saw it.

An occurrence lies in the block that holds it whole; where none does, it begins in one and goes on
in the next. It has been seen when each of its tokens but the first has been a target; of a single
token, when that has. Texts of the validation split are counted apart: no step trains on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.data.order import Order
from pellucid.data.streams import Stream
from pellucid.errors import QueryEmpty, StepUnknown
from pellucid.look import seen
from pellucid.look.seen import Branch
from pellucid.look.show import Shown
from pellucid.record.history import History
from pellucid.trace import pieces
from pellucid.trace.fold import variants
from pellucid.trace.pieces import Placed
from pellucid.trace.query import Found, Query
from pellucid.trace.seams import Crossing, Seams
from pellucid.trace.spans import maximal

LEAST = 24  # Characters of the shortest span that is told.
_WIDTH = 160  # Bytes of context on either side.


class Hit(NamedTuple):
    """One occurrence: its piece, the token of the shard it begins in and at which
    byte, the token it ends in."""

    placed: Placed
    token: int
    offset: int
    last: int
    content: bytes
    # The parts of a text that it goes over; empty where it lies in one document.
    documents: tuple[int, ...] = ()
    behind: bytes = b""  # What follows it then.


class Traced:
    """A run opened for asking where texts stand in it. Raises
    StageNotReady, IndexMissing, FormatInvalid.

    planned: tell of all steps of the recipe, also those that are not trained yet.
    """

    def __init__(self, folder: Path, planned: bool = False) -> None:
        self.shown = Shown(folder)
        self.block = self.shown.shards.block
        index = pieces.opened(folder, self.shown.shards, self.shown.tokenizer)
        self._words = index.words
        self.train = [one for one in index.pieces if one.stream.split == "train"]
        self._validation = [one for one in index.pieces if one.stream.split != "train"]
        # The run's own steps so far: of what a rollback abandoned the model has nothing left.
        own = (
            [_planned(folder, self.shown)]
            if planned
            else seen.branches(folder, self.shown.ledger())
        )
        self._branch = own[0] if own else None

    def where(
        self,
        text: str | bytes,
        before: int | None = None,
        limit: int | None = None,
        ignore_case: bool = False,
        fold_space: bool = False,
    ) -> dict[str, Any]:
        """How often a text occurs (`count`), and the places (`hits`), all or the first `limit`,
        with the steps that trained there.

        before: only what steps before this one trained on. fold_space: any white space matches
        any other, and none at the text's ends is asked for. Places may overlap. Raises
        QueryEmpty, FormatInvalid."""
        queries = self._queries(text, ignore_case, fold_space)
        count = sum(self.count(query, before) for query in queries)
        hits = self._hits(queries, before, limit) if count and limit != 0 else []
        validation = sum(one.suffixes.count(query) for query in queries for one in self._validation)
        validation += sum(len(self._over(query, "validation")) for query in queries)
        about = {"count": count, "validation": validation, "hits": self._told(hits, before)}
        return about if before is None else {"before": before, **about}

    def trace(
        self, text: str, before: int | None = None, least: int = LEAST, limit: int | None = None
    ) -> dict[str, Any]:
        """The maximal spans of at least `least` characters that stand in the training data word
        for word, or in what steps before `before` trained on: start and end (characters of the
        text), text, count, and of all places, or the first `limit`, the documents and the steps
        that trained there. Rarest first.

        Raises FormatInvalid.
        """
        found = maximal(text, least, lambda part: self.occurs(self.query(part), before))
        spans = [self._span(text, start, end, before, limit) for start, end in found]
        spans.sort(key=lambda span: (span["count"], span["start"] - span["end"], span["start"]))
        return {"text": text, "before": before, "least": least, "spans": spans}

    def _span(
        self, text: str, start: int, end: int, before: int | None, limit: int | None
    ) -> dict[str, Any]:
        found = self.where(text[start:end], before, limit)
        return {
            "start": start,
            "end": end,
            "text": text[start:end],
            "count": found["count"],
            "documents": list({hit["document"]: _named(hit) for hit in found["hits"]}.values()),
            "steps": _together(found["hits"]),
        }

    def query(self, text: str | bytes) -> Query:
        """A text as it is asked for. Raises QueryEmpty."""
        content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        if not content:
            raise QueryEmpty()
        return Query(content, self._words)

    def spelled(self, stream: Stream, first: int, last: int) -> bytes:
        """The text of a train stream's tokens [first, last), all of one document and none of them
        its document token."""
        for placed in self.train:
            begin = placed.offset + placed.suffixes.piece.start
            end = placed.offset + placed.suffixes.piece.stop
            if placed.stream is stream and begin <= first < end:
                return placed.suffixes.spelled(first - placed.offset, last - placed.offset)
        raise StepUnknown(what=f"Token {first} of {stream.source}", detail="no piece holds it")

    def count(self, query: Query, before: int | None = None) -> int:
        """How often a text occurs in the train split, or in what was seen before a step."""
        over = len(self._over(query, "train", before))
        if before is None:
            return over + sum(one.suffixes.count(query) for one in self.train)
        return over + sum(
            int(self.seen(one, found, query, before).sum()) for one, found in self._parts(query)
        )

    def occurs(self, query: Query, before: int | None = None) -> bool:
        """Whether it occurs at all, or in what was seen before a step."""
        if before is None:
            found = any(one.suffixes.count(query) for one in self.train)
        else:
            found = any(
                self.seen(one, found, query, before).any() for one, found in self._parts(query)
            )
        return found or bool(self._over(query, "train", before))

    def _over(self, query: Query, split: str, before: int | None = None) -> list[Crossing]:
        """Where it goes over the seams of texts that were cut, or where
        steps before one saw it do so."""
        if split not in query.over:
            query.over[split] = list(self._seams[split].find(query.content))
        crossings = query.over[split]
        if before is None or not crossings:
            return crossings
        return [
            crossing
            for crossing in crossings
            if self._seen_between(crossing.placed.stream, *_ends(crossing), before)[0]
        ]

    @cached_property
    def _seams(self) -> dict[str, Seams]:
        longest = self.shown.recipe.data.max_document_characters
        splits = {"train": self.train, "validation": self._validation}
        return {
            split: Seams(self.shown.documents, placed, longest) for split, placed in splits.items()
        }

    def _queries(self, text: str | bytes, ignore_case: bool, fold_space: bool) -> list[Query]:
        query = self.query(text)
        if not ignore_case and not fold_space:
            return [query]
        spellings = variants(
            query.content,
            lambda spelling: self.occurs(self.query(spelling)),
            ignore_case,
            fold_space,
        )
        return [self.query(spelling) for spelling in spellings]

    def _parts(self, query: Query) -> Iterator[tuple[Placed, Found]]:
        for placed in self.train:
            for part in placed.suffixes.parts(query):
                yield placed, part

    def _hits(self, queries: list[Query], before: int | None, limit: int | None) -> list[Hit]:
        """The first places, in the documents' order."""
        hits: list[Hit] = []
        for placed in self.train:
            found_here = [
                hit for query in queries for hit in self._hits_in(placed, query, before, limit)
            ]
            found_here += [
                Hit(
                    placed,
                    over.token,
                    over.offset,
                    over.last - placed.offset,
                    query.content,
                    over.documents,
                    over.behind,
                )
                for query in queries
                for over in self._over(query, "train", before)
                if over.placed is placed
            ]
            hits += sorted(found_here, key=lambda hit: (hit.token, hit.offset))
            if limit is not None and len(hits) >= limit:
                break
        return hits[:limit]

    def _hits_in(
        self, placed: Placed, query: Query, before: int | None, limit: int | None
    ) -> list[Hit]:
        parts = placed.suffixes.parts(query, limit if before is None else None)
        if before is not None:
            parts = (found.where(self.seen(placed, found, query, before)) for found in parts)
        found = Found.first(parts, limit)
        last = placed.suffixes.last(found, len(query.content))
        columns = zip(found.tokens.tolist(), found.offsets.tolist(), last.tolist(), strict=True)
        return [Hit(placed, *places, query.content) for places in columns]

    def seen(self, placed: Placed, found: Found, query: Query, before: int) -> np.ndarray:
        """Which occurrences steps before `before` trained on, shape (N,) bool."""
        last = placed.suffixes.last(found, len(query.content)) + placed.offset
        return self._seen_between(placed.stream, found.tokens + placed.offset, last, before)

    def _seen_between(
        self, stream: Stream, first: np.ndarray, last: np.ndarray, before: int
    ) -> np.ndarray:
        """Of which stretches of a stream, its tokens from first to last, steps before `before`
        trained on every token but the first."""
        if self._branch is None:
            return np.zeros(len(first), bool)
        unit = self._unit
        low, high = np.minimum(first // unit, (last - 1) // unit), (last - 1) // unit
        low = np.maximum(low, 0)  # The stream's very first token is nobody's target.
        # The tokens behind the last block are no step's.
        inside = high < stream.blocks * (self.block // unit)
        seen = inside & (high >= 0)
        for more in range(int((high - low).max(initial=-1)) + 1):
            on = np.flatnonzero(seen & (low + more <= high))
            asked, back = np.unique(low[on] + more, return_inverse=True)
            blocks, targets = np.divmod(asked * unit, self.block)
            end = min(before - 1, self._branch.last)
            seen[on] = self._order.seen(blocks + stream.first_block, targets, end)[back]
        return seen

    @cached_property
    def _order(self) -> Order:
        """The order along the run's own steps."""
        return self.shown.order.along(self._branch.history.rollbacks if self._branch else ())

    @cached_property
    def _unit(self) -> int:
        """Targets that every row has all or none of: of a run with one context its rows."""
        return math.gcd(*(phase.context for phase in self.shown.recipe.phases))

    def _blocks(self, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The stream's blocks, from first to last, that hold occurrences on the
        stream's tokens [first, last]."""
        low, high = (
            (first - 1) // self.block,
            (last - 1) // self.block,
        )  # Those that have its tokens as targets.
        # An occurrence that begins with a block's first id lies in it whole, if it ends in it.
        whole = (first % self.block == 0) & (high == first // self.block)
        return np.where(whole, first // self.block, low), high

    def _times(self, block: int, targets: tuple[int, int]) -> list[dict[str, Any]]:
        return seen.times(self.shown.order, self._branch, block, targets) if self._branch else []

    def _told(self, hits: list[Hit], before: int | None) -> list[dict[str, Any]]:
        """The hits in words, with the losses that are recorded of their steps."""
        placed = [self._place(hit, *self._document(hit)) for hit in hits]
        held = {(number, own) for place in placed for number, own in place["blocks"].items()}
        end = self._branch.last if self._branch else 0
        end = end if before is None else min(before - 1, end)
        times = {
            pair: [time for time in self._times(*pair) if time["step"] <= end] for pair in held
        }
        wanted = {(time["step"], time["row"]) for times_of in times.values() for time in times_of}
        recorded = (
            seen.segments(self.shown.folder, wanted, self.shown.order.schedule) if wanted else {}
        )
        answers = []
        for place in placed:
            documents = place.pop("documents")
            steps = [
                {"block": pair[0], "steps": seen.with_losses(times[pair], recorded, documents)}
                for pair in place.pop("blocks").items()
            ]
            first = steps[0] if steps else {"block": None, "steps": []}
            answers.append({**place, **first, "continues": steps[1:]})
        return answers

    def _place(self, hit: Hit, index: int, begin: int) -> dict[str, Any]:
        """The document of a hit, the character it begins at, and the blocks that hold it, the main
        one first, each with the targets that the hit has there."""
        placed, stream = hit.placed, hit.placed.stream
        about = self.shown.documents.about(index)
        position, last = hit.token + placed.offset, hit.last + placed.offset
        held = self._held(stream, position, last)
        main, end = (int(one[0]) for one in self._blocks(np.array([position]), np.array([last])))
        return {
            "document": about["id"],
            "index": index,
            "source": stream.source,
            "licence": about["licence"],
            "origin": about["origin"],
            "date": about["date"],
            "offset": placed.suffixes.character(begin, hit.token, hit.offset),
            "context": self._context(hit, index, begin),
            "whole": main == end < stream.blocks,
            "documents": hit.documents or (index,),
            "blocks": held,
        }

    def steps(self, stream: Stream, first: int, last: int) -> list[int]:
        """The steps that trained on some of a stream's tokens [first, last], as hits tell them."""
        held = self._held(stream, first, last).items()
        return sorted({time["step"] for pair in held for time in self._times(*pair)})

    def since(self, stream: Stream, first: int, last: int) -> int | None:
        """The step after which every one of a stream's tokens [first, last] but the first had been
        a target; of a single token, that one. None: not so far."""
        unit, begun = self._unit, 0
        low, high = max(min(first // unit, (last - 1) // unit), 0), (last - 1) // unit
        for one in range(low, high + 1):
            block, target = divmod(one * unit, self.block)
            inside = block < stream.blocks  # The tokens behind the last block are no step's.
            place = stream.first_block + block, (target, target + 1)
            times = self._times(*place) if inside else []
            if not times:
                return None
            begun = max(begun, times[0]["step"])
        return begun or None

    def _held(self, stream: Stream, first: int, last: int) -> dict[int, tuple[int, int]]:
        """The blocks that hold a stream's tokens [first, last], the main one first, each with the
        targets that they are there."""
        main, end = (int(one[0]) for one in self._blocks(np.array([first]), np.array([last])))
        held = [main, *(one for one in range((first - 1) // self.block, end + 1) if one != main)]
        return {
            stream.first_block + one: self._targets(one, first, last)
            for one in held
            if 0 <= one < stream.blocks
        }

    def _targets(self, block: int, first: int, last: int) -> tuple[int, int]:
        """The targets, from one up to another, that the stream's tokens [first, last] have in one
        of its blocks; of one that only begins with them those behind."""
        begin, end = first - 1 - block * self.block, last - block * self.block
        return max(begin, 0), min(max(end, 1), self.block)

    def _document(self, hit: Hit) -> tuple[int, int]:
        """The index of a hit's document, and the document's first token in the shard."""
        index, token = hit.placed.stream.document_of(hit.token + hit.placed.offset)
        return index, hit.token - token

    def _context(self, hit: Hit, index: int, begin: int) -> list[str]:
        """What stands before the hit, the hit, and what stands behind it, in its document."""
        end = begin + hit.placed.stream.length_of(index)
        around = hit.placed.suffixes.around(
            begin, end, hit.token, hit.offset, len(hit.content), _WIDTH
        )
        # Characters cut at the edges are left out.
        around = (around[0], hit.behind[:_WIDTH]) if hit.documents else around
        before, after = (one.decode("utf-8", "ignore") for one in around)
        return [before, hit.content.decode("utf-8", "replace"), after]


def _ends(over: Crossing) -> tuple[np.ndarray, np.ndarray]:
    """The stream's first and last token of an occurrence."""
    return np.array([over.token + over.placed.offset]), np.array([over.last])


def _named(hit: dict[str, Any]) -> dict[str, Any]:
    """What is told of a hit's document."""
    return {name: hit[name] for name in ("document", "source", "licence", "origin", "date")}


def _together(hits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every step and row of some hits once, with what is recorded there of
    all their documents together."""
    found: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
    for hit in hits:
        for place in (hit, *hit["continues"]):
            for time in place["steps"]:
                found.setdefault((time["step"], time["row"]), {})[hit["document"]] = time
    return [
        {
            **next(iter(own.values())),
            **seen.total((one["tokens"], one["loss_sum"]) for one in own.values() if "loss" in one),
        }
        for _, own in sorted(found.items())
    ]


def _planned(folder: Path, shown: Shown) -> Branch:
    """All steps of the recipe, as if no guard ever rolled back."""
    first = shown.recipe.first
    return Branch(folder, History.begun(first), first, shown.recipe.train.steps, None)
