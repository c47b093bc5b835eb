"""Two evaluations of one task beside each other: the same examples, asked of two models."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pellucid.errors import EvaluationBroken
from pellucid.measured import variants
from pellucid.measured.intervals import Interval, of_differences
from pellucid.measured.summary import Columns
from pellucid.record.evaluations import Line


class Paired(NamedTuple):
    """A task that two models were asked."""

    step: int
    task: str
    number: str  # The name of the value.
    a: float
    b: float
    difference: float  # b - a.
    interval: Interval | None  # Of the difference. None: fewer than two clusters.
    changed: int  # Examples that have another number.
    examples: int
    variant: str = ""  # What tells it from others of its task, in words.

    @property
    def named(self) -> str:
        return variants.shown(self.task, self.variant)

    def as_json(self) -> dict[str, Any]:
        interval = None if self.interval is None else self.interval._asdict()
        return {**self._asdict(), "interval": interval}


def paired(
    a: Mapping[str, Any], lines_a: Iterable[Line], b: Mapping[str, Any], lines_b: Iterable[Line]
) -> Paired:
    """What two entries with one question come to. Raises EvaluationBroken where their examples are
    not the same, whatever the entries say."""
    columns_a, columns_b = Columns(a), Columns(b)
    for line_a, line_b in itertools.zip_longest(lines_a, lines_b):
        if line_a is None or line_b is None or line_a.example != line_b.example:
            detail = "has other examples than an evaluation with the same task digest"
            raise EvaluationBroken(path=Path(a["task"]), entry=a["n"], detail=detail)
        columns_a.take(line_a)
        columns_b.take(line_b)
    (over_a, under), (over_b, _) = columns_a.parts(), columns_b.parts()
    value_a, value_b = columns_a.value(), columns_b.value()
    changed = sum(one != other for one, other in zip(over_a, over_b, strict=True))
    return Paired(
        a["step"],
        a["task"],
        columns_a.name,
        value_a,
        value_b,
        value_b - value_a,
        of_differences(over_a, over_b, under, columns_a.clusters),
        changed,
        columns_a.count,
        variants.words(a),
    )
