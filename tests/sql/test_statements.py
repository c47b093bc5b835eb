"""A query reaches nothing but the views, and writes nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pellucid import sql
from pellucid.errors import (
    QueryInvalid,
)
from pellucid.sql import asked, statements, tables
from tests.sql.answers import connect, table

# Statements that write where they are executed: none may, through the verb or past what it refuses.
WRITES = [
    "COPY steps TO '{folder}/out.csv'",
    "COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet'",
    "COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet' (FORMAT parquet)",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1 AS a) TO '{run}/recipe.toml' (FORMAT csv)",
    "WITH x AS (COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet') FROM x",
    "FROM (WITH x AS (COPY steps TO '{run}/recipe.toml' (FORMAT csv)) FROM x)",
    "SELECT (WITH x AS (COPY steps TO '{folder}/new.csv') SELECT count(*) FROM x)",
    "WITH x AS (INSERT INTO steps VALUES (1) RETURNING *) FROM x",
    "WITH x AS (DELETE FROM steps RETURNING *) FROM x",
    "WITH x AS (UPDATE steps SET step = 1 RETURNING *) FROM x",
    "ATTACH '{folder}/other.db'",
    "ATTACH '{run}/metrics/steps.parquet' AS x",
    "EXPORT DATABASE '{folder}/out'",
    "EXPLAIN ANALYZE EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}'",
    "CREATE TABLE mine AS SELECT 1",
    "EXPLAIN ANALYZE CREATE TABLE mine AS SELECT 1",
    "CREATE PERSISTENT SECRET s (TYPE http)",
    "PREPARE p AS COPY steps TO '{folder}/new.csv'",
    "DROP VIEW steps",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET temp_directory = '{folder}'",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "PRAGMA profiling_output = '{folder}/profile'",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "SELECT * FROM enable_logging(storage := 'file')",
    "SELECT 1; COPY steps TO '{folder}/out.csv'",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
]
READS = [
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_parquet('{run}/metrics/steps.parquet')",
    "SELECT * FROM parquet_metadata('{run}/metrics/steps.parquet')",
    "SELECT * FROM '{run}/metrics/steps.parquet'",
    "SELECT * FROM read_csv('https://example.org/x.csv')",
    "SELECT * FROM query('FROM read_text(''{secret}'')')",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "WITH x AS (FROM read_text('{secret}')) FROM x",
    "SELECT 1 IN (SELECT 1 FROM glob('{folder}/*'))",
    "SUMMARIZE SELECT * FROM read_text('{secret}')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM duckdb_settings()",
    "SELECT * FROM local_variable",
    "SELECT getenv('HOME')",
]
UNFIT = [
    "SELECT 1; SELECT 2",
    "EXPLAIN SELECT 1",
    "SELECT nothing FROM steps",
    "selec",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT error('\x1b[31m')",
    "SELECT '\udcff'",
    "\x00",
    "",
    "-- nothing",
]
SHORT: Any = {"ids": lambda query: query[:60].encode("ascii", "replace").decode()}


def everything(*folders: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file below, by its bytes and the time it was changed."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("query", READS + UNFIT, **SHORT)
def test_a_query_reaches_nothing_but_the_views(query: str, finished: Path, tmp_path: Path) -> None:
    local_variable = pa.table({"a": [1]})
    secret = tmp_path / "secret.csv"
    secret.write_text("key\nsesame\n")
    with pytest.raises(QueryInvalid) as caught:
        table(finished, query.format(secret=secret, folder=tmp_path, run=finished))
    assert "sesame" not in str(caught.value) and local_variable.num_rows == 1


@pytest.mark.parametrize("query", WRITES, **SHORT)
def test_nothing_but_reading_is_a_question(query: str, finished: Path, tmp_path: Path) -> None:
    with tables.engine(asked.MEMORY) as connection, pytest.raises((QueryInvalid, duckdb.Error)):
        statements.check(connection, query.format(folder=tmp_path, run=finished))


@pytest.mark.parametrize("query", READS, **SHORT)
def test_the_engine_itself_reaches_no_file(query: str, finished: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("key\nsesame\n")
    with connect(finished) as connection, pytest.raises(duckdb.Error) as caught:
        found = connection.execute(
            query.format(secret=secret, folder=tmp_path, run=finished)
        ).fetchall()
        assert query == "FROM duckdb_settings()" and found  # Harmless, and refused all the same.
        raise duckdb.Error
    assert "sesame" not in str(caught.value)


def test_whatever_is_asked_every_file_stays_as_it_is(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cwd", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = everything(tmp_path)
    for query in ("COPY steps TO 'steps.csv'", *WRITES[3:6]):
        with pytest.raises(QueryInvalid):
            sql.sql(release, query.format(folder=tmp_path, run=release))
    # Past the list of statements: the engine refuses by itself.
    with connect(release) as connection:
        for query in WRITES:
            with contextlib.suppress(duckdb.Error):
                connection.execute(query.format(folder=tmp_path, run=release)).fetchall()
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) AS n FROM range(5) a, unnest([1, 2]) b",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) FROM t",
        "SELECT 1 AS a UNION SELECT 2 EXCEPT SELECT 3 ORDER BY a DESC LIMIT 50%",
        "FROM (VALUES (1, 2)) t(a, b)",
        "SUMMARIZE steps",
        "SHOW TABLES",
        "FROM steps PIVOT (count(*) FOR epoch IN (0, 1))",
        "UNPIVOT (SELECT loss, lr FROM steps) ON loss, lr",
        "SELECT DISTINCT ON (epoch) step, epoch FROM steps ORDER BY epoch, step",
        "SELECT step, sum(tokens) OVER (ORDER BY step ROWS 3 PRECEDING) AS s FROM steps "
        "QUALIFY s > 3",
        "SELECT list_transform([1, 2], lambda x: x + 1) AS a, {'b': MAP {'c': 1}} AS d",
        "FROM steps TABLESAMPLE 50%",
        "FROM steps a ASOF JOIN validation b ON a.step >= b.step SELECT a.step",
        "SELECT * FROM (SELECT step FROM steps) a, LATERAL (SELECT a.step + 1 AS b)",
    ],
    **SHORT,
)
def test_what_reads_is_on_the_list(query: str) -> None:
    with tables.engine(asked.MEMORY) as connection:
        statements.check(connection, query)
