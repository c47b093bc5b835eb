"""Ask: sql."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.common import HERE, Json, print_json
from pellucid.errors import CommandInvalid

SHOWN = 40  # Rows of a table that are printed without --limit.


def sql(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN] [QUERY]", help="A run folder or a release, and a SELECT.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="How many rows to print; 0: all.", show_default="40; with --json all")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.001, help="How long it may take.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Ask a run in SQL; without a query, what there is to ask: the views and their columns.

    pellucid sql
    pellucid sql mymodel "select source, avg(loss) from sequences group by source"
    """
    from pellucid import sql

    folder, query = _asked(words or [])
    if query is None:
        about = sql.schema(folder)
        print_json(about) if as_json else _terminal().print_views(about)
        return
    kept = (None if as_json else SHOWN) if limit is None else limit or None
    answer = sql.ask(folder, query, kept, seconds)
    rows = list(sql.plain_rows(answer.table))
    if as_json:
        _print_rows(rows)
    else:
        _terminal().print_answer(answer.table.schema.names, rows)
    if answer.rows > len(rows):
        print(f"{len(rows):,} of {answer.rows:,} rows; --limit 0 prints all", file=sys.stderr)


def _terminal() -> Any:
    from pellucid import terminal

    return terminal


def _asked(words: list[str]) -> tuple[Path, str | None]:
    """The run and the query: one word is a query where it is no folder and has a space in it."""
    if len(words) > 2:
        raise CommandInvalid(verb="sql", word=words[2], detail="write the query as one word, in quotes")
    if len(words) == 1 and not Path(words[0]).is_dir() and " " in words[0]:
        words = [str(HERE), words[0]]
    return Path(words[0]) if words else HERE, words[1] if len(words) == 2 else None


def _print_rows(rows: list[dict[str, Any]]) -> None:
    """A list of rows, one a line."""
    print("[" + ",".join(f"\n  {json.dumps(row, allow_nan=False)}" for row in rows) + "\n]")
