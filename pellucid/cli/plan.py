"""Train: plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.common import HERE, Json, finite, folder_only, on_terminal, print_json, teaches
from pellucid.errors import BitsDiffer, MeasuringFailed


@teaches(
    """Estimate memory, time, storage and cost of a run before it starts.

    pellucid plan mymodel
    pellucid plan mymodel --measure --skip compile
    """
)
def plan(
    path: Annotated[
        Path,
        typer.Argument(
            parser=folder_only,
            metavar="RUN",
            help="A run folder or a recipe file.",
            show_default="this folder",
        ),
    ] = HERE,
    no_calibration: Annotated[
        bool,
        typer.Option("--no-calibration", help="Do not measure the speed of this machine."),
    ] = False,
    speed: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            callback=finite,
            metavar="TFLOPS",
            help="Use this speed, instead of measuring this machine.",
        ),
    ] = None,
    tflops: Annotated[
        float,
        typer.Option(
            min=1e-6, callback=finite, help="Speed of a GPU in the comparison, in TFLOP/s."
        ),
    ] = 400.0,
    price: Annotated[
        float, typer.Option(min=0, callback=finite, help="Price of a GPU-hour, in dollars.")
    ] = 2.0,
    measured: Annotated[
        bool,
        typer.Option(
            "--measure", help="Take real steps and report which ways of running keep the bits."
        ),
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="With --measure: steps to take each way.")] = 3,
    skip: Annotated[
        list[str],
        typer.Option(
            metavar="KIND",
            help="With --measure: leave out threads, isa, processes, resume, portable, native or "
            "compile.",
        ),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    if measured:
        _measure(path, steps, skip, as_json)
        return
    from pellucid.plan.estimate import plan
    from pellucid.plan.tables import print_plan

    with on_terminal(quiet=as_json) as terminal:
        about = plan(path, speed, not no_calibration, tflops, price, terminal.note)
    print_json(about) if as_json else print_plan(about)


def _measure(path: Path, steps: int, skip: list[str], as_json: bool) -> None:
    from pellucid.plan.measure import broken, failed, measure
    from pellucid.plan.tables import print_measured

    with on_terminal(quiet=as_json) as terminal:
        if "compile" not in skip:
            terminal.note(
                "the last way compiles the model first, which can take minutes; skip it "
                "with --skip compile"
            )
        measured = measure(path, steps, skip, terminal.progress)
    print_json(measured) if as_json else print_measured(measured)
    if differing := broken(measured):
        raise BitsDiffer(path=path, axes=", ".join(differing))
    if missing := failed(measured):
        raise MeasuringFailed(detail="; ".join(way["failed"] for way in missing))
