"""Losses of text that came again are those of a plain loop over the table of segments."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.analysis import forgetting as module
from pellucid.analysis.forgetting import Rate, Row, forgetting, lines
from pellucid.errors import FormatInvalid
from pellucid.measured.intervals import of_ratio
from pellucid.opened import Run
from pellucid.store import layout


class Time:
    """A part of a document at one of the times that it was trained on."""

    def __init__(self, step: int, document: int, tokens: int, loss: float) -> None:
        self.step, self.document, self.tokens, self.loss = step, document, tokens, loss
        self.number, self.since, self.change, self.beside = 0, 0, 0.0, 0.0


def plain(folder: Path) -> list[Time]:
    run, parts = Run(folder), defaultdict[tuple[int, int], list[Time]](list)
    for row in run.sql("from segments order by step, row, start").to_pylist():
        rows = run.order.rows(row["step"])
        block, start = int(rows.blocks[row["row"]]), int(rows.starts[row["row"]])
        time = Time(row["step"], row["document"], row["tokens"], row["loss_sum"] / row["tokens"])
        parts[block, start + row["start"]].append(time)
    again = [part for part in parts.values() if len(part) > 1]
    by_step = defaultdict[int, list[Time]](list)
    for part in again:
        assert len({time.tokens for time in part}) == 1
        for number, (before, time) in enumerate(pairwise(part), 1):
            time.number, time.since = number, time.step - before.step
            time.change = time.loss - before.loss
            by_step[time.step].append(time)
    for times in by_step.values():
        tokens = sum(time.tokens for time in times)
        mean = math.fsum(time.loss * time.tokens for time in times) / tokens
        for time in times:
            time.beside = time.loss - mean
    return [time for part in again for time in part]


def same(rate: Rate | None, times: list[Time], name: str) -> None:
    assert rate is not None
    over, under = defaultdict[int, float](float), defaultdict[int, float](float)
    for time in times:
        over[time.document] += getattr(time, name) * time.tokens
        under[time.document] += time.tokens
    assert rate.value == pytest.approx(sum(over.values()) / sum(under.values()), abs=1e-12)
    interval = of_ratio([over[one] for one in over], [under[one] for one in over])
    assert rate.interval and interval
    assert rate.interval[:2] == pytest.approx(interval[:2], abs=1e-9)


def check(row: Row, times: list[Time]) -> None:
    assert (row.parts, row.tokens) == (len(times), sum(time.tokens for time in times))
    same(row.loss, times, "loss")
    if row.change is None:
        assert row.beside is None and all(time.number == 0 for time in times)
        return
    same(row.change, times, "change")
    same(row.beside, times, "beside")


def test_the_tables_are_those_of_a_plain_loop(memorised: Path) -> None:
    found, times = forgetting(memorised), plain(memorised)
    assert found.share == 1 and len(found.times) == 1 + max(time.number for time in times) > 3
    for number, row in enumerate(found.times):
        assert row.name == f"time {number + 1}"
        check(row, [time for time in times if time.number == number])
    assert len(found.recency) > 1
    for row in found.recency:
        low, high = map(int, row.name.split("-"))
        check(row, [t for t in times if t.number and low <= t.since <= high])
    assert sum(row.parts for row in found.recency) == sum(time.number > 0 for time in times)
    text = "\n".join(lines(found))
    assert "time 2" in text and f"{found.times[1].loss.value:.3f}" in text


def test_more_than_memory_holds_is_told_of_a_share_of_the_documents(
    memorised: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = forgetting(memorised)
    monkeypatch.setattr(module, "_MOST", 100)
    part = forgetting(memorised)
    assert part.share < 1 and 0 < part.times[0].parts < whole.times[0].parts
    assert part == forgetting(memorised) and "of the documents" in lines(part)[-1]


def test_a_run_that_repeats_nothing_says_so(finished: Path) -> None:
    found = forgetting(finished)
    assert found.times == () and lines(found) == ["No text was trained on twice."]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("row", 4),
        ("row", -1),
        ("start", -1),
        ("start", 32),
        ("tokens", 0),
        ("tokens", 33),
        ("loss_sum", float("nan")),
        ("loss_sum", 1e300),
    ],
)
def test_a_table_that_no_run_has_is_named(mine: Path, column: str, value: float) -> None:
    path = mine / layout.METRICS / "segments.parquet"
    table = pq.read_table(path)
    values = table.column(column).to_pylist()
    values[len(values) // 2] = value
    place = table.column_names.index(column)
    changed = pa.array(values, table.schema.field(column).type)
    pq.write_table(table.set_column(place, table.schema.field(column), changed), path)
    with pytest.raises(FormatInvalid, match="segments"):
        forgetting(mine)
