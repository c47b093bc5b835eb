"""Share: export and publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.common import (
    HERE,
    Json,
    Run,
    RunOrUrl,
    Step,
    inputs_of,
    on_terminal,
    print_json,
    step_or_last,
    teaches,
)
from pellucid.errors import CommandInvalid
from pellucid.store.home import home
from pellucid.terminal import plain

_SHOWN = 10  # Names of what was left out.


@teaches(
    """Write any step, stored or materialised, to a folder of its own.

    pellucid export mymodel --step 120 --as hf --to step120
    """
)
def export(
    run: RunOrUrl = ".",
    to: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write it: a new or empty folder.")
    ] = ...,  # type: ignore[assignment]
    step: Step = "",
    kind: Annotated[
        str,
        typer.Option("--as", metavar="hf|state", help="A Hugging Face folder, or the full state."),
    ] = "hf",
    as_json: Json = False,
) -> None:
    from pellucid.release.export import export

    if kind not in ("hf", "state"):
        raise CommandInvalid(verb="export", word=kind, detail="--as takes hf or state")
    inputs = inputs_of(home(run))
    number = step_or_last(inputs, step)
    with on_terminal() as terminal:
        export(inputs, number, kind, to, terminal.watch("replay"))
    if as_json:
        print_json({"step": number, "as": kind, "to": str(to)})
    else:
        print(f"step {number} is in {to}")


@teaches(
    """Seal a finished run: README, LICENSE, and a manifest of its files. Sealing twice gives the same bytes.

    What else lies in the folder (notes, .git, .env) is named and left out. recipe.toml loses the paths of its sources:
    they tell of your machine, and nothing needs them once the texts are in the run.
    """
)
def publish(
    folder: Run = HERE,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also make a copy there, hard-linked where it can be."),
    ] = None,
    as_json: Json = False,
) -> None:
    from pellucid.release.publish import publish

    sealed = publish(folder, to)
    if as_json:
        print_json(sealed)
    else:
        print(
            f"sealed {sealed['files']:,} files, {sealed['bytes'] / 1e6:,.1f} MB, in {sealed['folder']}"
        )
        print(f"head   {sealed['head']}")
        for key, path in sealed["paths"].items():
            print(plain(f"Taken out of recipe.toml, which others will read: {key} = {path}"))
        if sealed["unlicensed"]:
            _tell_unlicensed(sealed["unlicensed"])
        _tell_left_out(sealed["left_out"], folder, in_place=to is None)


def _tell_unlicensed(unknown: dict[str, int]) -> None:
    """unknown: documents, by source."""
    whose = ", ".join(f"{count:,} documents of {name}" for name, count in unknown.items())
    print(
        plain(f"The licence of {whose} is unknown, and their texts are in the release. It stands")
    )
    print("in every document and so in the head: a new run states it, before it is trained, with")
    print(plain(f"  --set data.sources.{next(iter(unknown))}.licence=CC-BY-4.0"))


def _tell_left_out(names: list[str], folder: Path, in_place: bool) -> None:
    if not names:
        return
    print(f"Left out ({len(names):,}), since they are no part of a run:")
    for name in names[:_SHOWN]:
        print(f"  {plain(name)}")
    if len(names) > _SHOWN:
        print(f"  … and {len(names) - _SHOWN:,} more")
    if in_place:
        print(
            "They still lie in the sealed folder, and verify names each (FileAdded). Move them away, or give others"
        )
        print(f"a copy without them: pellucid publish {folder} --to DIR")
