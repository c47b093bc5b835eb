"""Train: run and status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.common import HERE, Json, Run, Set, on_terminal, print_json


def run(
    folder: Run = HERE,
    only: Annotated[
        str | None, typer.Option(metavar="STAGE", help="One stage: documents, tokenizer, shards or train.")
    ] = None,
    settings: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Do every stage that is not done yet: data, tokenizer, shards, training.

    Stop it with Ctrl-C or SIGTERM, or kill it: the same command continues, and ends with the same bits.

    With several processes, which give the same bits again: torchrun --nproc-per-node 4 -m pellucid run mymodel
    """
    from pellucid.look.status import status
    from pellucid.terminal import print_status
    from pellucid.train import processes

    first = processes.rank() == 0  # It keeps the run and speaks; the others only compute.
    if first:
        _apply(folder, settings)
    run_stages(folder, only)
    if first:
        about = status(folder)
        print_json(about) if as_json else print_status(about)


def _apply(folder: Path, settings: list[str]) -> None:
    """Write --set into recipe.toml; a run that has begun refuses what would change its bits."""
    if settings:
        from pellucid.run import change_recipe

        change_recipe(folder, settings)


def run_stages(folder: Path, only: str | None = None) -> None:
    from pellucid.run import run

    with on_terminal() as terminal:
        run(folder, terminal, only)


def status(folder: Run = HERE, as_json: Json = False) -> None:
    """Where a run stands: steps, head, digest of the weights, validation."""
    from pellucid.look.status import status
    from pellucid.terminal import print_status

    about = status(folder)
    print_json(about) if as_json else print_status(about)
