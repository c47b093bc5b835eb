"""What a run has memorised, from its kept evaluations of the task `memorization`: by the steps that
trained on a sequence, by how often and how long ago, and by how often its text stands in the data.

Nothing is computed by a model here. Which steps trained on a sequence follows from the order, and
the examples are drawn again: an evaluation that asked others is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pellucid.analysis.heat import Heat, Section, svg
from pellucid.analysis.heat import lines as heat_lines
from pellucid.data.order import Order
from pellucid.errors import EvaluationBroken, IndexMissing
from pellucid.evaluate import builtin
from pellucid.evaluate.suite import memorization as task
from pellucid.evaluate.suite.memorization import Drawn, Held, Place
from pellucid.look.show import Shown
from pellucid.measured import stored
from pellucid.measured.clusters import clusters_of
from pellucid.measured.intervals import Interval, of_mean
from pellucid.record import evaluations
from pellucid.record.evaluations import Line
from pellucid.store import layout
from pellucid.trace.where import Traced

_RECENT = 4  # A range of steps since a sequence was seen is so many times as long as the last.
_SINGLE = 4  # Up to so many times each has a row of its own, then ranges that double.


class Rate(NamedTuple):
    """A mean over sequences."""

    value: float
    interval: Interval | None  # 95%, documents as clusters; None: fewer than two documents.


class Cell(NamedTuple):
    """Some of the sequences, asked of the model after a step."""

    step: int
    sequences: int
    seen: int  # So many of them had been trained on by then.
    exact: Rate  # All tokens are the right ones.
    share: Rate  # The share of the tokens that are right.

    @property
    def state(self) -> str:
        """Whether the sequences were trained on by then: "all", "some" or "none"."""
        return "none" if not self.seen else "all" if self.seen == self.sequences else "some"


class Row(NamedTuple):
    """One group of sequences at every step that was asked."""

    name: str
    cells: tuple[Cell | None, ...]  # None: no sequence is in the group at that step.


class Memorization(NamedTuple):
    """What evaluations say. Every row has a cell for each of `steps`."""

    prompt: int  # Tokens that the model was given …
    tokens: int  # … and that it was asked for.
    steps: tuple[int, ...]  # Whose model was asked, ascending.
    ranges: tuple[Row, ...]  # By the range of steps that the sequence was drawn from.
    validation: Row  # Sequences that no step trains on.
    times: tuple[Row, ...]  # By how often the sequence was trained on before; "not yet" first.
    recency: tuple[Row, ...]  # Of those that were, by the steps since the last time.
    # Of those that were, by how often their text stands in the training data, themselves counted;
    # None: the run has no index.
    copies: tuple[Row, ...] | None


class _Asked(NamedTuple):
    """A sequence at a step."""

    held: Held
    step: int
    times: int  # It was trained on, up to then.
    since: int  # Steps since the last time; -1: never.
    exact: float
    share: float


def matrix(folder: Path) -> Memorization | None:
    """What the kept evaluations of a run say; nothing where it has none of the sequences that its
    order gives now. Of several with other sequences the latest counts.

    Raises EvaluationBroken, TaskDiffers, StageNotReady, FormatInvalid."""
    kept = [entry for entry in builtin.of_run(folder) if _is_of_task(entry)]
    shown = Shown(folder) if kept else None
    done = list[tuple[object, object]]()
    for entry in reversed(kept):
        key = entry["settings"], entry["task_digest"]
        if key in done or shown is None:
            continue
        done.append(key)
        same = [one for one in kept if (one["settings"], one["task_digest"]) == key]
        pairs = [(one, stored.lines(folder, one)) for one in same]
        if found := of_evaluations(shown, pairs):
            return found
    return None


def of_evaluations(
    shown: Shown, pairs: Sequence[tuple[dict[str, Any], Iterable[Line]]]
) -> Memorization | None:
    """The same of evaluations of one task: entries, each with its lines. Nothing where the task is
    not what the run's order gives."""
    settings = task.drawn_of(pairs[0][0]["settings"])
    if settings is None:
        return None
    (drawn, limit), ledger = settings, shown.ledger()
    order = shown.order.along(ledger.history.rollbacks if ledger else ())
    held = task.examples(shown.recipe, shown.shards, order, drawn)[:limit]
    if evaluations.task_digest(one.example for one in held) != pairs[0][0]["task_digest"]:
        return None
    answers = {entry["step"]: _by_name(shown.folder, entry, lines, held) for entry, lines in pairs}
    steps = tuple(sorted(answers))
    asked = [*_asked(order, drawn, held, answers)]
    trained = [one for one in asked if one.held.place]
    ever = [one for one in trained if one.times]
    bounds = task.bounds(order, drawn.ranges)
    copies = _copies(shown, held, drawn)
    return Memorization(
        drawn.prompt,
        drawn.tokens,
        steps,
        tuple(
            _row(f"{first:,}-{last:,}", steps, [one for one in trained if one.held.range == place])
            for place, (first, last) in enumerate(bounds)
        ),
        _row("validation", steps, [one for one in asked if not one.held.place]),
        _rows(steps, trained, lambda one: one.times, _doubling, {0: "not yet"}),
        _rows(steps, ever, lambda one: one.since, _growing, {}),
        None
        if copies is None
        else _rows(steps, ever, lambda one: copies[one.held.example.name], _doubling, {}),
    )


def _is_of_task(entry: dict[str, Any]) -> bool:
    made = (entry["harness"], entry["task"], entry["metric"])
    return made == (evaluations.OURS, task.NAME, task.METRIC)


def _by_name(
    folder: Path, entry: dict[str, Any], lines: Iterable[Line], held: Sequence[Held]
) -> dict[str, Line]:
    """The lines of an entry, which are those of these examples. Raises EvaluationBroken."""
    by_name = {line.example.name: line for line in lines}
    if [line.example for line in by_name.values()] != [one.example for one in held]:
        detail = "does not hold the examples that its task digest stands for"
        path = folder / layout.examples(entry["n"]) if "n" in entry else folder
        raise EvaluationBroken(path=path, entry=entry.get("n", 0), detail=detail)
    return by_name


def _asked(
    order: Order, drawn: Drawn, held: Sequence[Held], answers: dict[int, dict[str, Line]]
) -> Iterable[_Asked]:
    """Every sequence at every step that was asked."""
    for one in held:
        seen = _steps_of(order, drawn, one.place, max(answers)) if one.place else []
        for step, lines in answers.items():
            before = [at for at in seen if at <= step]
            since = step - before[-1] if before else -1
            numbers = lines[one.example.name].numbers
            yield _Asked(one, step, len(before), since, numbers["exact"], numbers["share"])


def _steps_of(order: Order, drawn: Drawn, place: Place, last: int) -> list[int]:
    """The steps up to the last one whose rows held all tokens of a sequence, ascending, a step as
    often as it did."""
    end = place.start + drawn.length
    return [
        time.step
        for time in order.times(place.block, last)
        if time.start <= place.start and end <= time.start + order.phase(time.step).context + 1
    ]


# ---- groups --------------------------------------------------------------------------------------


def _row(name: str, steps: Sequence[int], asked: Sequence[_Asked]) -> Row:
    by_step: dict[int, list[_Asked]] = {step: [] for step in steps}
    for one in asked:
        by_step[one.step].append(one)
    return Row(name, tuple(_cell(step, own) if own else None for step, own in by_step.items()))


def _cell(step: int, asked: Sequence[_Asked]) -> Cell:
    clusters = clusters_of(one.held.example for one in asked)
    exact, share = ([getattr(one, name) for one in asked] for name in ("exact", "share"))
    seen = sum(one.times > 0 for one in asked)
    return Cell(step, len(asked), seen, _rate(exact, clusters), _rate(share, clusters))


def _rate(values: Sequence[float], clusters: Sequence[str]) -> Rate:
    """Of numbers in [0, 1], and so is the interval: that of few documents would reach further."""
    known = of_mean(values, clusters)
    if known:
        known = known._replace(low=max(0.0, known.low), high=min(1.0, known.high))
    return Rate(math.fsum(values) / len(values), known)


def _rows(
    steps: Sequence[int],
    asked: Sequence[_Asked],
    count: Callable[[_Asked], int],
    group: Callable[[int], tuple[int, int]],
    names: dict[int, str],
) -> tuple[Row, ...]:
    """A row for each range of a count that any sequence has. group: the first and last count of the
    range in which one lies; names: of first counts, in place of the range."""
    grouped = dict[tuple[int, int], list[_Asked]]()
    for one in asked:
        grouped.setdefault(group(count(one)), []).append(one)
    return tuple(
        _row(names.get(first, f"{first:,}" if first == last else f"{first:,}-{last:,}"), steps, own)
        for (first, last), own in sorted(grouped.items())
    )


def _doubling(count: int) -> tuple[int, int]:
    """0, 1, 2, 3, 4, then 5-8, 9-16 …"""
    if count <= _SINGLE:
        return count, count
    power = 1 << (count - 1).bit_length()
    return power // 2 + 1, power


def _growing(count: int) -> tuple[int, int]:
    """0-3, 4-15, 16-63 …"""
    end = _RECENT
    while count >= end:
        end *= _RECENT
    return (0 if end == _RECENT else end // _RECENT), end - 1


# ---- how often a text stands in the data ---------------------------------------------------------


def _copies(shown: Shown, held: Sequence[Held], drawn: Drawn) -> dict[str, int] | None:
    """Of examples how often the bytes of their tokens stand in the training data, by name. The
    document token has none there. None: the run has no index."""
    try:
        traced = Traced(shown.folder)
    except IndexMissing:
        return None
    document, shards = traced.shown.tokenizer.document_token, traced.shown.shards
    counts = dict[str, int]()
    for one in held:
        if one.place:
            stream, begin = shards.place(one.place.block)
            first, end = begin + one.place.start, begin + one.place.start + drawn.length
            first += int(stream.read(first, first + 1)[0]) == document
            text = traced.spelled(stream, first, end)
            counts[one.example.name] = traced.count(traced.query(text))
    return counts


# ---- in words and as a picture -------------------------------------------------------------------

_LEGEND = "* (hatched): no step had trained on these sequences yet; ~ (dashed): on some of them"
_MARKS = {"none": "*", "some": "~", "all": ""}


def _tables(found: Memorization) -> list[tuple[str, Sequence[Row]]]:
    """The groups of sequences, by what tells them apart."""
    groups: list[tuple[str, Sequence[Row]]] = [
        ("drawn from steps", (*found.ranges, found.validation)),
        ("times trained on", found.times),
        ("steps since the last", found.recency),
        ("copies in the data", found.copies or ()),
    ]
    return [(heading, rows) for heading, rows in groups if rows]


def _sections(found: Memorization, number: str) -> list[Section]:
    return [
        Section(heading, [(row.name, [_heat(cell, number) for cell in row.cells]) for row in rows])
        for heading, rows in _tables(found)
    ]


def _heat(cell: Cell | None, number: str) -> Heat | None:
    if cell is None:
        return None
    return Heat(getattr(cell, number).value, _MARKS[cell.state])


def _title(found: Memorization, number: str) -> str:
    asked = f"given {found.prompt} tokens of a sequence, asked for the next {found.tokens}"
    said = "all of them right" if number == "exact" else "share of them that are right"
    return f"{asked}: {said}, after each step"


def picture(found: Memorization, number: Literal["exact", "share"] = "share") -> str:
    """An SVG: the matrix, and the tables by times, recency and copies, as shades of one colour."""
    return svg(_title(found, number), found.steps, _sections(found, number), _LEGEND)


def as_json(value: Any) -> Any:
    """A result as plain values: every named tuple as an object."""
    if isinstance(value, tuple):
        fields = getattr(value, "_asdict", None)
        if fields:
            return {name: as_json(inner) for name, inner in fields().items()}
        return [as_json(inner) for inner in value]
    return value


def lines(found: Memorization) -> list[str]:
    """The same for a terminal, and what the last step has with its intervals."""
    written = list[str]()
    for number in ("share", "exact"):
        rows = _sections(found, number)[: None if number == "share" else 1]
        written += [_title(found, number), *heat_lines(found.steps, rows), ""]
    written += [_LEGEND, "", f"After step {found.steps[-1]:,}, with 95% intervals:"]
    for heading, rows in _tables(found):
        written.append(f"{heading:<22}sequences  exact                 share")
        written += [
            f"  {row.name:<20}{cell.sequences:>9,}  {_between(cell.exact):<20}  "
            f"{_between(cell.share)}"
            for row in rows
            if (cell := row.cells[-1])
        ]
    return written


def _between(rate: Rate) -> str:
    if rate.interval is None:
        return f"{rate.value:.3f}"
    return f"{rate.value:.3f} ({rate.interval.low:.3f}-{rate.interval.high:.3f})"
