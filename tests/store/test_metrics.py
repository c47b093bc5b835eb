"""Tables of metrics on disk."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from pellucid.store import metrics


def test_a_joined_table_has_even_row_groups_however_short_its_parts_were(tmp_path: Path) -> None:
    table = metrics.Metrics(tmp_path)
    written = [(step, row, row, 3, 4, step / 7) for step in range(1, 41) for row in range(300)]
    for step in range(1, 41):
        table.add("segments", *written[(step - 1) * 300 : step * 300])
        table.write_part(step, table.take())
    table.join()
    about = pq.read_metadata(tmp_path / "metrics/segments.parquet")
    sizes = [about.row_group(group).num_rows for group in range(about.num_row_groups)]
    assert sizes[0] == metrics.GROUP and sum(sizes) == 12_000 and len(sizes) <= 3
    rows = [tuple(row.values()) for batch in metrics.rows(tmp_path, "segments") for row in batch.to_pylist()]
    assert rows == written
    assert [row["row"] for row in metrics.of_step(tmp_path, "segments", 28)] == list(range(300))
