"""Ask: where, trace and sql."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid import answers
from pellucid.cli.common import (
    HERE,
    PLACES,
    SHOWN,
    Json,
    finite,
    most,
    print_json,
    step_number,
    teaches,
)
from pellucid.errors import CommandInvalid, QueryEmpty, QueryTooLarge, TextInvalid
from pellucid.store import file_kinds, files
from pellucid.store.home import home

_MOST = 2**62
_TABLE = 16 << 20  # Bytes of an answer that is printed as a table.
_LONGEST = 16 << 20  # Bytes of a file with a text to look for.


Before = Annotated[
    str,
    typer.Option(
        "--before",
        metavar="K",
        help="Search only what steps before K trained on.",
        show_default="all",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=0, help="How many places to print; 0: all.", show_default="10; with --json all"
    ),
]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="PATH", help="Read the text from a file.", show_default=False),
]
Texts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN] TEXT",
        help="A run folder, a release or its URL; then a text.",
        show_default=False,
    ),
]


@teaches(
    """Find a text in the training data, with its documents and the steps that saw it.

    pellucid where mymodel "to be or not to be"
    pellucid where mymodel --file poem.txt --before 120 --fold-space
    """
)
def where(
    words: Texts = None,
    file: File = None,
    before: Before = "",
    limit: Limit = None,
    ignore_case: Annotated[bool, typer.Option("--ignore-case", help="Ignore case.")] = False,
    fold_space: Annotated[
        bool,
        typer.Option(
            "--fold-space", help="Match any white space with any other; ignore it at the ends."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    from pellucid.trace.where import Traced

    folder, text = _text(words or [], file, "where")
    about = Traced(folder).where(
        text, _step(before), most(limit, as_json, PLACES), ignore_case, fold_space
    )
    print_json(about) if as_json else answers.print_where(about)


@teaches(
    """Find the longest parts of a text that occur word for word in the training data.

    pellucid trace mymodel "what a model has written"
    pellucid trace mymodel --file output.txt --before 120
    """
)
def trace(
    words: Texts = None,
    file: File = None,
    before: Before = "",
    least: Annotated[
        int, typer.Option(min=1, help="Length of the shortest span, in characters.")
    ] = 24,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    from pellucid.trace.where import Traced

    folder, text = _text(words or [], file, "trace")
    about = Traced(folder).trace(text, _step(before), least, most(limit, as_json, PLACES))
    print_json(about) if as_json else answers.print_trace(about)


def _text(words: list[str], file: Path | None, verb: str) -> tuple[Path, str]:
    """The run and the text, from [RUN] TEXT, or from [RUN] and a file, without
    the line break that ends it."""
    from pellucid.recipe import FILE

    if file is not None:
        if detail := file_kinds.unfit(file):
            detail += "; --file takes the path of a text"
            raise CommandInvalid(verb=verb, word=str(file), detail=detail)
        words = [*words, _text_of(file).removesuffix("\n").removesuffix("\r")]
    if not 1 <= len(words) <= 2:
        detail = "write [RUN] TEXT with the text in quotes, or [RUN] --file PATH"
        raise CommandInvalid(verb=verb, word=" ".join(words) or "TEXT", detail=detail)
    if len(words) == 1 and file is None and (Path(words[0]) / FILE).is_file():
        detail = f'this is a run, but the text is missing; write: pellucid {verb} {words[0]} "TEXT"'
        raise CommandInvalid(verb=verb, word=words[0], detail=detail)
    if not words[-1]:
        raise QueryEmpty()
    return home(words[0] if len(words) == 2 else HERE), words[-1]


def _text_of(file: Path) -> str:
    """A file's text, without a mark; UTF-16 and UTF-32 are told by theirs, as of sources.
    Raises TextInvalid where it is anything else, also what a source would guess: a text that is
    read wrongly stands nowhere."""
    from pellucid.data import formats
    from pellucid.recipe import Source

    content = files.read_bytes(file, _LONGEST, follow=True)
    record = formats.text_record(content, formats.How(Source(name="text")))
    if record.dropped == "binary" or record.changed:
        raise TextInvalid(
            detail=f"{file} is not UTF-8, and has no byte order mark of UTF-16 or UTF-32"
        )
    return record.text


def _step(text: str) -> int | None:
    return step_number(text) if text else None


@teaches(
    """Query a run with SQL. Without a query, list the views and their columns.

    pellucid sql
    pellucid sql mymodel "select source, fsum(loss_sum) / sum(tokens) as loss \
from sources group by source"
    """
)
def sql(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [QUERY]",
            help="A run folder, a release or its URL; then a SELECT.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_MOST,
            help="How many rows to print; 0: all.",
            show_default="40; with --json all",
        ),
    ] = None,
    seconds: Annotated[
        float,
        typer.Option(min=0.001, max=1e7, callback=finite, help="How long the query may take."),
    ] = 300.0,
    as_json: Json = False,
) -> None:
    from pellucid import sql

    folder, query = _asked(words or [])
    if query is None:
        about = sql.schema(folder)
        print_json(about) if as_json else answers.print_views(about)
        return
    answer = sql.ask(folder, query, most(limit, as_json, SHOWN), seconds)
    rows = sql.plain_rows(answer.table)
    if as_json:
        _print_rows(rows)
    elif answer.table.nbytes > _TABLE:
        others = f" --json prints an answer of up to {sql.ANSWER >> 30} GiB, row by row."
        raise QueryTooLarge(most=_TABLE, others=others)
    else:
        answers.print_answer(answer.table.schema.names, list(rows))
    if answer.rows > (printed := answer.table.num_rows):
        print(f"{printed:,} of {answer.rows:,} rows; --limit 0 prints all", file=sys.stderr)


def _asked(words: list[str]) -> tuple[Path, str | None]:
    """The run and the query: one word is a query where it is no folder and has a space in it."""
    if len(words) > 2:
        raise CommandInvalid(verb="sql", word=words[2], detail="write the whole query in quotes")
    if len(words) == 1 and not Path(words[0]).is_dir() and " " in words[0]:
        words = [str(HERE), words[0]]
    return home(words[0] if words else HERE), words[1] if len(words) == 2 else None


def _print_rows(rows: Iterator[dict[str, Any]]) -> None:
    """A list of rows, one a line, each printed before the next is made."""
    print("[", end="")
    for number, row in enumerate(rows):
        print(f"{',' if number else ''}\n  {json.dumps(row, allow_nan=False)}", end="")
    print("\n]")
