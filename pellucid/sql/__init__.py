"""Questions to a run in SQL: DuckDB over views of its tables, and of what its ledger says.

The views hold the steps that were kept. What a rollback abandoned lies below abandoned/branchN in
the same layout, and is in none of them but `incidents`, which tells of it. What is read is what the
run's tables say; `pellucid verify` holds them against the ledger.

A query can read these views and nothing else, and writes nothing:

    statements.py  one statement of a closed list of parts, all of which only read
    tables.py      DuckDB gets open files as Arrow data, never a path, and may open none itself
    worker.py      DuckDB works in a process of its own, which then can open and write no file
    asked.py       kills that process when its time is over, and bounds the size of its answer
"""

from __future__ import annotations

from pellucid.sql.asked import ANSWER, Answer, ask, schema, sql
from pellucid.sql.values import plain_rows
from pellucid.sql.views import VIEWS

__all__ = ["ANSWER", "VIEWS", "Answer", "ask", "plain_rows", "schema", "sql"]
