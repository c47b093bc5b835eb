"""Two ledgers side by side: the first entry at which they part, and what of it
differs. Nothing is computed."""

from __future__ import annotations

import filecmp
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import FormatInvalid
from pellucid.record import chain, digests, entries
from pellucid.replay import microbatch
from pellucid.store import layout, metrics
from pellucid.store.ledger import LedgerFile

FLOATS = ("loss", "lr", "grad_norm", "weight_norm")


@dataclass(frozen=True, slots=True)
class Parting:
    """The first entries that differ; an empty one where a ledger has none there."""

    step: int
    kind: str
    a: dict[str, Any]
    b: dict[str, Any]

    @property
    def fields(self) -> list[str]:
        return differing(self.a, self.b)


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The fields in which two entries differ, in the order in which a step makes them."""
    return [
        key
        for key in dict.fromkeys([*a, *b])
        if key not in chain.PLACE and a.get(key) != b.get(key)
    ]


def first_difference(a: LedgerFile, b: LedgerFile) -> Parting | None:
    """The first entries that differ, the genesis excepted; None where the ledgers say the same.

    Of one genesis, every entry's `prev` commits to all before it, and so bisection finds
    the first that differs. Of two, `prev` differs from the start; states, each made from
    the one before, take its place."""
    same_genesis = not differing(a.genesis, b.genesis)
    key, common = "prev" if same_genesis else "state", max(a.first, b.first)
    step = _first(
        lambda k: a.step(k).get(key) != b.step(k).get(key), common, min(a.steps_done, b.steps_done)
    )
    if same_genesis:
        # Where `prev` differs, the entry before is the one: a step's, or a validation's behind it.
        parting = _scan(a, b, max(step - 1, common))
        # Equal heads of unequal bytes: one of the chains is broken before its end.
        return parting or (
            None if filecmp.cmp(a.path, b.path, shallow=False) else _scan(a, b, common)
        )
    states_differ = step > common and a.step(step)["state"] != b.step(step)["state"]
    # Of a fork and its parent the entries of the state they have in common are of other kinds.
    return _scan(a, b, step if states_differ else common + (a.first != b.first))


def _first(differs: Callable[[int], bool], common: int, last: int) -> int:
    """The first step after `common` at which something differs that differs from there
    on; last where nothing does."""
    first = min(common + 1, last)
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if differs(middle) else (middle + 1, last)
    return first


def _scan(a: LedgerFile, b: LedgerFile, step: int) -> Parting | None:
    end = max(a.steps_done, b.steps_done)
    for entry_a, entry_b in itertools.zip_longest(
        a.between(step, end), b.between(step, end), fillvalue={}
    ):
        entry = entry_a or entry_b
        if entry["kind"] != "genesis" and differing(entry_a, entry_b):
            return Parting(entry.get("step", 0), entry["kind"], entry_a, entry_b)
    return None


def validations(a: LedgerFile, b: LedgerFile) -> list[dict[str, Any]]:
    """Nats per token at every step after the first common state that both runs
    validated: what a change came to."""
    entries_of = [
        {entry["step"]: entry for entry in ledger.of_kind("validation") if entry["sources"]}
        for ledger in (a, b)
    ]
    common = [
        step
        for step in sorted(entries_of[0].keys() & entries_of[1].keys())
        if step >= max(a.first, b.first)
    ]
    return [
        {"step": step, **{n: _nats(entry[step]) for n, entry in zip("ab", entries_of, strict=True)}}
        for step in common
    ]


def _nats(body: dict[str, Any]) -> float:
    sums = math.fsum(digests.bits_float(source["loss_sum"]) for source in body["sources"])
    return sums / sum(int(source["tokens"]) for source in body["sources"])


def published_segments(folder: Path, body: dict[str, Any]) -> list[entries.Segment]:
    """The segments of a step in the run's metrics, if they are those of its entry."""
    columns = ("row", "document", "start", "tokens", "weight", "loss_sum")
    published = metrics.of_step(folder, "segments", body["step"]) if body else []
    rows = [tuple(row[name] for name in columns) for row in published]
    if not all(
        0 <= row < len(rows) and document >= 0 and _is_span(*span) and 0 <= weight < 1 << 32
        for row, document, *span, weight, _ in rows
    ):
        path = folder / layout.METRICS / "segments"
        raise FormatInvalid(
            path=path, detail=f"has rows of step {body['step']} that are not segments"
        )
    segments = [entries.Segment(*row) for row in rows]
    count = max((segment.row for segment in segments), default=-1) + 1
    return (
        segments
        if count and entries.segments_root(segments, count).hex() == body["segments"]
        else []
    )


def _is_span(start: int, tokens: int) -> bool:
    return 0 <= start < 1 << 32 and 0 <= tokens < 1 << 32


def gradient_roots(folder: Path, body: dict[str, Any]) -> list[entries.Microbatch]:
    """The microbatches of a step in the run's metrics, if they are those of its
    entry and have gradient roots."""
    published = microbatch.published(folder, body["step"]) if body else []
    complete = published and all(row.gradient_root for row in published)
    return (
        published
        if complete and entries.microbatches_root(published).hex() == body["microbatches"]
        else []
    )


def shown(field: str, value: Any) -> str:
    """A field's value for a reader: floats as numbers, digests by their beginning."""
    if field in FLOATS and isinstance(value, str) and re.fullmatch(entries.FLOAT, value):
        return repr(digests.bits_float(value))
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def both(a: object, b: object) -> str:
    """The values of a field in two recipes; None where a recipe has no such field."""
    if a is None or b is None:
        return f"only in B: {b!r}" if a is None else f"only in A: {a!r}"
    return f"{a!r} in A and {b!r} in B"
