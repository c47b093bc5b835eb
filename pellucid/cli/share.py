"""Share: export, publish, download."""

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
from pellucid.errors import CommandInvalid, VerifyFailed
from pellucid.store import layout
from pellucid.store.home import home, is_url
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
    """Seal a finished run: write README, LICENSE, cards and a manifest of its files. Sealing twice
    gives the same bytes.

    The cards are papers that others read: a dataset card, Croissant, CITATION.cff, the class of the
    Model Openness Framework, and the European summary of training content. They follow from the
    record, and from publisher.toml, where you say what only you know.

    Other files in the folder (notes, .git, .env) are listed and left out. The paths of sources are
    removed from recipe.toml: they describe your machine, and the run no longer needs them.
    """
)
def publish(
    folder: Run = HERE,
    to: Annotated[
        str,
        typer.Option(
            metavar="DIR|URL",
            help="Also copy the release there: with hard links where possible, or to an address "
            "as s3://bucket/name.",
            show_default=False,
        ),
    ] = "",
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

    url = to if is_url(to) else ""
    with on_terminal() as terminal:
        sealed = publish(
            folder,
            Path(to) if to and not url else None,
            not without_site,
            offline_text or None,
            functools.partial(_written, folder, terminal.progress) if samples else None,
            terminal.progress,
        )
        sent = _sent(folder, url, terminal.progress) if url else None
    if as_json:
        print_json(sealed | ({"sent": sent._asdict()} if sent else {}))
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
        _tell_cards(sealed["cards"])
        if samples and not (folder / layout.SITE / "data/samples.js").exists():
            print("The pages have no samples: see `publish --samples` in docs/site.md.")
        _tell_left_out(sealed["left_out"], folder, in_place=not to)
        if sent:
            print(
                f"sent {sent.files:,} files, {sent.bytes / 1e6:,.1f} MB, to {plain(sent.url)}: "
                f"{sent.copied:,} more are equal to these, and {sent.kept:,} were there; all were "
                "read back"
            )


def _sent(folder: Path, url: str, progress: Any) -> Any:
    """The sealed release at an address. Raises VerifyFailed: what is not sound is not published."""
    from pellucid.places.send import send
    from pellucid.release.verify import verify

    report = verify(folder, lambda what: None)
    if not report.ok:
        first = report.problems[0]
        fix = (
            f"Nothing was sent. The first is {first.error}: {first.where}: {first.detail}. List "
            f"all: pellucid verify {folder}"
        )
        raise VerifyFailed(path=folder, count=len(report.problems), fix=plain(fix))
    return send(folder, url, progress)


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


def _tell_cards(cards: dict[str, Any]) -> None:
    """The class of openness, and what only the publisher can add."""
    print(f"cards: {cards['name']} of the Model Openness Framework")
    for lack in cards["next_class_needs"]:
        print(plain(f"  {cards['next_class']} needs {lack}"))
    if cards["not_said"]:
        print(
            f"  publisher.toml leaves {len(cards['not_said'])} things open that only you can say "
            "(docs/publish.md)"
        )


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


@teaches(
    """Bring a release from its address into a folder, whole or in part. Every file is held against
    the manifest while it comes; a download that was stopped goes on where it was.

    pellucid download https://example.org/mymodel mymodel

    pellucid download s3://bucket/mymodel mymodel --only record --only checkpoints/step512
    """
)
def download(
    url: Annotated[str, typer.Argument(metavar="URL", help="The address of a sealed release.")],
    to: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one begun before.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A file or folder of the release; once for each."),
    ] = None,
    as_json: Json = False,
) -> None:
    from pellucid.places.download import download
    from pellucid.store.remote import RemotePath

    source = home(url)
    if not isinstance(source, RemotePath):
        raise CommandInvalid(verb="download", word=url, detail="is no address, as https://host/run")
    with on_terminal() as terminal:
        done = download(source, to, only or [], terminal.progress)
    if as_json:
        print_json({"to": str(to)} | done.as_json())
        return
    size = f"{done.bytes / 1e6:,.1f} MB"
    print(f"{done.files:,} files, {size}, came to {to}; {done.kept:,} were there")
    told = done.as_json()["left_out"]
    if told["files"]:
        print(
            f"not here, so not checked: {told['files']:,} files, {told['bytes'] / 1e6:,.1f} MB, in "
            f"{plain(', '.join(told['parts']))}"
        )
        print(f"the rest: pellucid download {plain(url)} {to}")
    else:
        print(f"check it: pellucid verify {to}")
