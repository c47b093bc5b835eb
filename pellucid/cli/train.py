"""Train: plan, run and status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.common import HERE, Json, Run, Set, on_terminal, print_json


def plan(
    path: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder or a recipe file.", show_default="this folder")
    ] = HERE,
    no_calibration: Annotated[
        bool, typer.Option("--no-calibration", help="Compute nothing: the plan then knows no speed.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option(metavar="TFLOPS", help="Of another machine, instead of calibrating this one.")
    ] = None,
    tflops: Annotated[float, typer.Option(help="What a GPU of the comparison computes, in TFLOP/s.")] = 400.0,
    price: Annotated[float, typer.Option(help="What an hour of it costs, in dollars.")] = 2.0,
    measured: Annotated[
        bool, typer.Option("--measure", help="Take real steps and tell which ways of running keep the bits.")
    ] = False,
    steps: Annotated[int, typer.Option(help="With --measure: steps each way.")] = 3,
    skip: Annotated[
        list[str],
        typer.Option(
            metavar="KIND", help="With --measure: leave out threads, isa, resume, portable, native or compile."
        ),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Memory, time, storage and cost of a run before it starts, and what the spacing of anchors costs.

    pellucid plan mymodel
    pellucid plan mymodel --measure --skip compile
    """
    if measured:
        _measure(path, steps, skip, as_json)
        return
    from pellucid.plan.estimate import plan
    from pellucid.plan.tables import print_plan

    with on_terminal(quiet=as_json) as terminal:
        about = plan(path, speed, not no_calibration, tflops, price, terminal.note)
    print_json(about) if as_json else print_plan(about)


def _measure(path: Path, steps: int, skip: list[str], as_json: bool) -> None:
    from pellucid.errors import BitsDiffer, MeasuringFailed
    from pellucid.plan.measure import broken, failed, measure
    from pellucid.plan.tables import print_measured

    with on_terminal(quiet=as_json) as terminal:
        if "compile" not in skip:
            terminal.note("the last way compiles the model first, which can take minutes; --skip compile leaves it out")
        found = measure(path, steps, skip, terminal.progress)
    print_json(found) if as_json else print_measured(found)
    if differing := broken(found):
        raise BitsDiffer(path=path, axes=", ".join(differing))
    if missing := failed(found):
        raise MeasuringFailed(detail="; ".join(one["failed"] for one in missing))


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
    """
    from pellucid.look.status import status
    from pellucid.terminal import print_status

    _apply(folder, settings)
    run_stages(folder, only)
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
