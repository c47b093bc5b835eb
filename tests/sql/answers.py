"""What the tests of SQL ask with: queries in this process, and the worked questions of the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

from pellucid import sql
from pellucid.sql import asked, statements, tables, worker

DOCS = Path(__file__).parents[2] / "docs/sql.md"
# In one call, which hears no interrupt.
DEAF = "SELECT levenshtein(repeat('a', 400000), repeat('b', 400000)) AS n"
ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"


def table(folder: Path, query: str) -> pa.Table:
    """As sql.sql, but in this process: what is asked here is harmless, and a
    process each would take long."""
    with worker.named_errors(folder), connect(folder, statements.views_in(query)) as connection:
        statements.check(connection, query)
        return connection.sql(query).to_arrow_table()


def rows(folder: Path, query: str) -> list[dict]:
    return table(folder, query).to_pylist()


def connect(folder: Path, views: Iterable[str] = tuple(sql.VIEWS)) -> duckdb.DuckDBPyConnection:
    """What the process that answers has, without what confines that process."""
    connection = tables.engine(asked.MEMORY)
    tables.add(connection, folder, views)
    return connection


def questions() -> dict[str, tuple[str, list[str]]]:
    """The worked questions of the docs: query, and the columns of the answer printed there."""
    found = re.findall(
        r"^### (\d+\. .*?)$.*?```sql\n(.*?)```\n```text\n(.*?)\n", DOCS.read_text(), re.M | re.S
    )
    return {title: (query, printed.split()) for title, query, printed in found}
