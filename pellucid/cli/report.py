"""Look: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.common import Json, print_json, teaches
from pellucid.terminal import plain


@teaches(
    """Write a technical report of a run: Markdown, one HTML file, and pictures. Several runs are
    compared with the first.

    pellucid report mymodel
    pellucid report mymodel without-add --to effect
    pellucid report mymodel without-a without-b without-c --json

    Every number is read from the record, and each section ends with the commands that check it. For
    a run, the report shows texts, training, validation, evaluations, incidents and sessions. For
    several runs, it shows the differences of recipes, losses, validations and evaluations. Both
    models answer the same examples, so differences have paired intervals. To measure the effect of
    a document, report a run and its fork --without the document.
    """
)
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="A run folder, a release, or its URL; several are compared with the first.",
            show_default="this folder",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder to write: new, empty, or with an earlier report.",
            show_default="NAME-DIGEST-report, in this folder",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    from pellucid.report.write import report

    folder, numbers = report(runs or ["."], to)
    if as_json:
        print_json({"to": str(folder), "sections": numbers})
        return
    print(plain(f"{folder / 'report.html'}   open it in a browser"))
    print(plain(f"{folder / 'report.md'}   the same in Markdown, with {folder / 'pictures'}"))
