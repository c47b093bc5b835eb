"""What a question may be: one statement, every part of which is on a list of parts that only read.

The kind of a statement is not enough: to DuckDB `WITH x AS (COPY … TO 'file') FROM x` is a
SELECT. So the statement is taken apart as its parser does, and a part that is not on the list is
refused, whatever it may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from pellucid.errors import QueryInvalid
from pellucid.sql.views import VIEWS

_PARTS = {
    *("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"),
    *(
        "BASE_TABLE",
        "SUBQUERY",
        "JOIN",
        "TABLE_FUNCTION",
        "EXPRESSION_LIST",
        "EMPTY",
        "PIVOT",
        "SHOW_REF",
    ),
    *("ORDER_MODIFIER", "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER", "DISTINCT_MODIFIER"),
    *("ORDER_DEFAULT", "ASCENDING", "DESCENDING"),
}
_FUNCTIONS = {
    *("range", "generate_series", "unnest", "repeat", "repeat_row"),
    *("histogram", "histogram_values", "json_each", "json_tree"),
}
_ONE = "write a single statement that only reads: SELECT, FROM, VALUES, DESCRIBE, SUMMARIZE or SHOW"


def check(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raises QueryInvalid for anything but one statement that only reads, duckdb.Error for what is
    no SQL, and UnicodeEncodeError."""
    query.encode()
    statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise QueryInvalid(detail=_ONE)
    (parsed,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    try:
        tree = json.loads(parsed[0])
    except RecursionError as error:
        raise QueryInvalid(detail="the query is nested too deep") from error
    if tree["error"]:
        raise QueryInvalid(detail=_ONE)
    for kind, function in _parts(tree["statements"]):
        if kind not in _PARTS:
            raise QueryInvalid(
                detail=f"{_ONE}; {kind.removesuffix('_NODE').replace('_', ' ')} is not"
            )
        if kind == "TABLE_FUNCTION" and function not in _FUNCTIONS:
            raise QueryInvalid(detail=f"a query reads only views, not {function}()")


def _parts(tree: Any) -> Iterator[tuple[str, str]]:
    """Every part of a parsed statement that is no expression: its type and, where it
    calls a function, which one."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("type"), str) and "class" not in value:
                function = value.get("function")
                yield (
                    value["type"],
                    function.get("function_name", "") if isinstance(function, dict) else "",
                )
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def views_in(query: str) -> list[str]:
    """The views that a query may be about, so that no other file is
    opened: those it names, or all."""
    return [name for name in VIEWS if name in query.casefold()] or list(VIEWS)
