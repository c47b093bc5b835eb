"""Train: run, fork and status."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.answers import print_status
from pellucid.cli.common import (
    HERE,
    Json,
    Run,
    RunOrUrl,
    Set,
    Step,
    inputs_of,
    on_terminal,
    print_json,
    step_or_last,
    teaches,
)
from pellucid.cli.view import beside_training
from pellucid.store.home import home
from pellucid.terminal import plain


@teaches(
    """Run every stage that is not done yet: data, tokenizer, shards, index, training.

    pellucid run mymodel
    pellucid run mymodel --anchors every=500,powers_of_two=false
    torchrun --nproc-per-node 4 -m pellucid run mymodel

    Stop a run with Ctrl-C, SIGTERM or SIGHUP, or kill it: the same command continues, with the same
    bits. Several processes give the same bits too.

    --anchors changes which full states are kept. Missing states are recomputed and checked, others
    are removed; the ledger does not change. A sealed release refuses: remove its manifest.jsonl,
    change the anchors, and publish it again.
    """
)
def run(
    folder: Run = HERE,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE",
            help="Run only one stage: documents, tokenizer, shards, index or train.",
        ),
    ] = None,
    settings: Set = [],  # noqa: B006
    anchors: Annotated[
        str,
        typer.Option(
            metavar="PLACEMENT",
            help="Change which anchors are kept, of finished steps too: every=500.",
            show_default="",
        ),
    ] = "",
    viewed: Annotated[
        bool, typer.Option("--view", help="Show the run in the browser while it trains.")
    ] = False,
    as_json: Json = False,
) -> None:
    from pellucid.look.status import status
    from pellucid.train import processes

    processes.follow_launcher()
    first = processes.rank() == 0  # It keeps the run and speaks; the others only compute.
    report = run_stages(folder, only, settings, anchors, viewed and first)
    if first:
        about = status(folder) | ({"left_out": report} if report else {})
        print_json(about) if as_json else print_status(about)
        if not as_json:
            _tell_next(str(folder), about)


def _tell_next(run: str, about: dict[str, Any]) -> None:
    """The commands that follow, where there is something left to do."""
    run = shlex.quote(run)
    if not about["finished"]:
        print(f"\nContinue with: pellucid run {run}")
    elif not about["sealed"]:
        print(f"\nNext:\n  pellucid sample {run} --prompt TEXT\n  pellucid publish {run}")


def run_stages(
    folder: Path,
    only: str | None = None,
    settings: Sequence[str] = (),
    anchors: str = "",
    viewed: bool = False,
) -> list[dict[str, Any]]:
    """Every stage, or one; returns what was left out of the sources,
    where this call has read them."""
    from pellucid.changes import change_recipe
    from pellucid.run import run

    with on_terminal() as terminal, beside_training(folder, terminal, viewed):

        def before() -> None:
            if settings:
                change_recipe(folder, list(settings))
            if anchors:
                _place(folder, anchors, terminal)

        run(folder, terminal, only, settings, before)
        return terminal.report


def _place(folder: Path, anchors: str, terminal: Any) -> None:
    from pellucid.replay.anchoring import place_anchors

    made, removed = place_anchors(folder, anchors, terminal.watch("anchors"))
    terminal.note(f"anchors: {len(made)} made, {len(removed)} removed")


@teaches(
    """Start a new run after any step of another run. Change settings, or leave texts out.

    pellucid fork mymodel --step 300 --without sympy/sympy/core/add.py --to without-add
    pellucid fork mymodel --step 300 --set train.lr=1e-3 --to slower
    """
)
def fork(
    folder: Run = HERE,
    step: Step = "",
    to: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The new or empty folder to make."),
    ] = ...,  # type: ignore[assignment]
    settings: Set = [],  # noqa: B006
    without: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE|DOCUMENT",
            help="Leave out a source or document: other blocks take its places; may be repeated.",
        ),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    from pellucid.fork import fork

    inputs = inputs_of(folder)
    number = step_or_last(inputs, step)
    with on_terminal(quiet=as_json) as terminal:
        passed = fork(inputs, number, to, settings, without, terminal.watch("replay"))
    if as_json:
        about = {"parent": inputs.recorded().head, "step": number, "to": str(to)}
        print_json({**about, "passed_over": [asdict(step_passed) for step_passed in passed]})
    else:
        for step_passed in passed:
            print(plain(str(step_passed)))
        print(f"{to} starts after step {number} of {folder}. Train it with: pellucid run {to}")
        if not settings and not without:
            print(
                "The fork changes nothing, so it will take the same steps. Change it "
                "with --set or --without."
            )


@teaches("""Show where a run stands: steps, head, digest of the weights, validation.""")
def status(run: RunOrUrl = ".", as_json: Json = False) -> None:
    from pellucid.look.status import printed

    about = printed(home(run))
    print_json(about) if as_json else print_status(about)
    if not as_json:
        _tell_next(run, about)
