"""Share: export and publish."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

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
from pellucid.store import layout
from pellucid.store.home import home
from pellucid.terminal import plain

_SHOWN = 10  # Names of what was left out.
_NUMBERS = ("csv", "tensorboard")
_KINDS = ("hf", "state", *_NUMBERS)


@teaches(
    """Write the model or the full state of any step, or the run's numbers, to a new folder. A step
    that is not stored is replayed.

    pellucid export mymodel --step 120 --as hf --to step120

    pellucid export mymodel --as csv --to numbers
    """
)
def export(
    run: RunOrUrl = ".",
    to: Annotated[
        Path, typer.Option(metavar="DIR", help="The new or empty folder to write.")
    ] = ...,  # type: ignore[assignment]
    step: Step = "",
    kind: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="|".join(_KINDS),
            help="A Hugging Face folder, the full state, or the numbers of all steps.",
        ),
    ] = "hf",
    as_json: Json = False,
) -> None:
    if kind not in _KINDS:
        raise CommandInvalid(verb="export", word=kind, detail=f"--as takes {', '.join(_KINDS)}")
    if kind in _NUMBERS:
        _export_numbers(run, to, step, kind, as_json)
        return
    from pellucid.release.export import export

    inputs = inputs_of(home(run))
    number = step_or_last(inputs, step)
    with on_terminal() as terminal:
        export(inputs, number, kind, to, terminal.watch("replay"))
    if as_json:
        print_json({"step": number, "as": kind, "to": str(to)})
    else:
        print(f"step {number} is in {to}")


def _export_numbers(run: str, to: Path, step: str, kind: str, as_json: bool) -> None:
    from pellucid.sql.exported import export_numbers

    if step:
        raise CommandInvalid(verb="export", word=step, detail=f"--as {kind} writes all steps")
    rows = export_numbers(home(run), kind, to)
    if as_json:
        print_json({"as": kind, "to": str(to), "rows": rows})
    else:
        print(f"the numbers of {rows['steps']:,} steps are in {to}")


@teaches(
    """Seal a finished run: write README, LICENSE and a manifest of its files. Sealing twice gives
    the same bytes.

    Other files in the folder (notes, .git, .env) are listed and left out. The paths of sources are
    removed from recipe.toml: they describe your machine, and the run no longer needs them.
    """
)
def publish(
    folder: Run = HERE,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also copy the release there, with hard links where possible."
        ),
    ] = None,
    without_site: Annotated[
        bool, typer.Option("--without-site", help="Leave out the pages for browsers.")
    ] = False,
    offline_text: Annotated[
        bool,
        typer.Option(
            "--offline-text", help="Keep the texts in the pages, also if they are over 200 MB."
        ),
    ] = False,
    samples: Annotated[
        bool,
        typer.Option(
            "--samples", help="Show in the pages what stored states write behind some prompts."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    from pellucid.release.publish import publish

    with on_terminal() as terminal:
        sealed = publish(
            folder,
            to,
            not without_site,
            offline_text or None,
            functools.partial(_written, folder, terminal.progress) if samples else None,
            terminal.progress,
        )
    if as_json:
        print_json(sealed)
    else:
        print(
            f"sealed {sealed['files']:,} files, {sealed['bytes'] / 1e6:,.1f} MB, in "
            f"{sealed['folder']}"
        )
        print(f"head   {sealed['head']}")
        for key, path in sealed["paths"].items():
            print(plain(f"Removed from recipe.toml, which will be public: {key} = {path}"))
        if sealed["unlicensed"]:
            _tell_unlicensed(sealed["unlicensed"])
        if samples and not (folder / layout.SITE / "data/samples.js").exists():
            print("The pages have no samples: see `publish --samples` in docs/site.md.")
        _tell_left_out(sealed["left_out"], folder, in_place=to is None)


def _written(folder: Path, progress: Any, plan: Any) -> list[list[str]]:
    """What the states of a site's samples write."""
    from pellucid.data.stage import Meter
    from pellucid.look.samples import samples

    texts, meter = [], Meter(progress, "samples", "states", 0, len(plan.steps))
    for own in samples(inputs_of(folder), plan.steps, plan.prompts, plan.tokens):
        texts.append(own)
        meter.add(1)
    meter.tell()
    return texts


def _tell_unlicensed(unknown: dict[str, int]) -> None:
    """unknown: documents, by source."""
    whose = ", ".join(
        f"{count:,} document{'s' * (count != 1)} of {name}" for name, count in unknown.items()
    )
    print(plain(f"The release contains texts without a licence: {whose}."))
    print("The head depends on licences. In a new run, set each licence before training:")
    for name in unknown:
        print(plain(f"  --set data.sources.{name}.licence=CC-BY-4.0"))


def _tell_left_out(names: list[str], folder: Path, in_place: bool) -> None:
    if not names:
        return
    print(f"Left out, as not part of a run ({len(names):,}):")
    for name in names[:_SHOWN]:
        print(f"  {plain(name)}")
    if len(names) > _SHOWN:
        print(f"  … and {len(names) - _SHOWN:,} more")
    if in_place:
        print(
            "They are still in the sealed folder, and verify reports each (FileAdded). Move "
            "them away, or publish"
        )
        print(f"a copy without them: pellucid publish {folder} --to DIR")
