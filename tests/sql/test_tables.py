"""What a file of a run cannot do."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pellucid.errors import (
    FormatInvalid,
    QueryInvalid,
    RunMissing,
)
from pellucid.store import parquet
from tests.conftest import pellucid
from tests.sql.answers import rows, table


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunMissing):
        table(tmp_path / "nowhere", "FROM steps")


def test_a_table_with_other_columns_is_named(release: Path) -> None:
    parquet.write(release / "metrics/steps.parquet", pa.table({"step": pa.array([1], pa.int64())}))
    with pytest.raises(
        FormatInvalid, match=r"steps\.parquet: does not have the columns of this table"
    ):
        table(release, "FROM steps")
    # Another file is not opened.
    assert rows(release, "SELECT count(*) AS n FROM sequences") == [{"n": 52}]


def test_a_file_that_is_no_parquet_is_named(release: Path) -> None:
    (release / "metrics/steps.parquet").write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    with pytest.raises(FormatInvalid, match=r"steps\.parquet"):
        table(release, "FROM steps")


@pytest.mark.parametrize("seed", range(8))
def test_damaged_pages_give_a_named_error_or_rows(seed: int, release: Path) -> None:
    path = release / "metrics/segments.parquet"
    content = bytearray(path.read_bytes())
    for place in range(100 + 37 * seed, min(len(content) // 2, 1200), 61):
        content[place] ^= 0xFF
    path.write_bytes(content)
    try:
        found = table(release, "SELECT sum(loss_sum) AS s, sum(document) AS d FROM segments")
    except (QueryInvalid, FormatInvalid) as error:
        assert str(error)
    else:
        assert found.num_rows == 1


def test_a_part_outside_of_the_folder_is_refused(release: Path, tmp_path: Path) -> None:
    path = release / "data/documents/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parts"][0]["file"] = "../../../other.parquet"
    path.write_text(json.dumps(manifest))
    done = pellucid("sql", release, "FROM documents", check=4)
    assert "PathUnsafe" in done.stderr
