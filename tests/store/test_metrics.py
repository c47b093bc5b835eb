"""Tables of metrics on disk."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.store import metrics


def test_a_joined_table_has_even_row_groups_however_short_its_parts_were(tmp_path: Path) -> None:
    table = metrics.Metrics(tmp_path)
    written = [(step, row, row, 3, 4, 1, step / 7) for step in range(1, 41) for row in range(300)]
    for step in range(1, 41):
        table.add("segments", *written[(step - 1) * 300 : step * 300])
        table.write_part(step, table.take())
    table.join()
    about = pq.read_metadata(tmp_path / "metrics/segments.parquet")
    sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    assert sizes[0] == metrics.GROUP and sum(sizes) == 12_000 and len(sizes) <= 3
    rows = [
        tuple(row.values())
        for batch in metrics.rows(tmp_path, "segments")
        for row in batch.to_pylist()
    ]
    assert rows == written
    assert [row["row"] for row in metrics.of_step(tmp_path, "segments", 28)] == list(range(300))


ROWS = [(step, row, row, 3, 4, 1, step / 7) for step in range(1, 41) for row in range(step % 5 + 1)]


def taken(folder: Path) -> list[tuple[object, ...]]:
    return [
        tuple(row.values())
        for batch in metrics.rows(folder, "segments")
        for row in batch.to_pylist()
    ]


def put(table: metrics.Metrics, first: int, last: int, ends: set[int]) -> None:
    """The rows of the steps first..last, in parts that end with some of them."""
    for step in range(first, last + 1):
        table.add("segments", *(row for row in ROWS if row[0] == step))
        if step in ends or step == last:
            table.write_part(step, table.take())


@pytest.mark.parametrize("seed", range(12))
def test_rows_of_later_steps_are_forgotten_wherever_parts_end(seed: int, tmp_path: Path) -> None:
    """And when they are made again, the joined table has the same bytes."""
    draw = random.Random(seed)
    reference = metrics.Metrics(tmp_path / "whole")
    put(reference, 1, 40, set(range(0, 41, 7)))
    reference.join()
    table = metrics.Metrics(tmp_path / "run")
    put(table, 1, 40, set(draw.sample(range(1, 41), draw.randrange(1, 20))))
    for after in sorted(draw.sample(range(-1, 41), 3), reverse=True):
        if draw.random() < 0.5:
            table.join()
        table.forget_after(after)
        assert taken(tmp_path / "run") == [row for row in ROWS if row[0] <= after]
    assert metrics.reached(tmp_path / "run") == (after if after > 0 else None)
    put(table, max(after, 0) + 1, 40, set(draw.sample(range(1, 41), 5)))
    table.join()
    name = "metrics/segments.parquet"
    assert taken(tmp_path / "run") == ROWS
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_row_takes_no_more_memory_than_plan_counts(tmp_path: Path) -> None:
    table = metrics.Metrics(tmp_path)
    table.add("segments", (0, 0, 0, 0, 0, 0, 0.0))
    table.take()
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    table.add(
        "segments",
        *(
            (10**6 + n, 10**6 + n, 10**7 + n, 300 + n, 400 + n, 500 + n, n / 7)
            for n in range(metrics.HELD)
        ),
    )
    waiting = table.take(), table.take()
    most = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before
    tracemalloc.stop()
    assert waiting and most <= metrics.ROW_BYTES * metrics.HELD
    assert most > 0.5 * metrics.ROW_BYTES * metrics.HELD  # Else plan promises too much.
