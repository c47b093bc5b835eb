"""Start: new and demo."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.audit import audit_random_step
from pellucid.cli.check import verify
from pellucid.cli.common import Json, Set, on_terminal, print_json, teaches
from pellucid.cli.share import publish
from pellucid.cli.train import run_stages


@teaches(
    """Make a run folder with a commented recipe.

    pellucid new mymodel --data books/ --data notes.jsonl.gz --preset 10M --set train.steps=500
    """
)
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The run folder to make.")],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="PATH",
            help="A file, a folder, package:NAME, or FORMAT:PATH; may be repeated. "
            "Formats: text, jsonl, json, csv, parquet, lines, fasta.",
        ),
    ],
    preset: Annotated[
        str, typer.Option(help="The model's size: 1M, 3M, 10M, 30M, 100M, 300M or 1B.")
    ] = "3M",
    settings: Set = [],  # noqa: B006 - typer reads the default and never changes it.
    as_json: Json = False,
) -> None:
    from pellucid.new import new
    from pellucid.recipe import FILE

    with on_terminal(quiet=as_json) as terminal:
        notes = new(folder, data, preset, settings, terminal.progress)
    if as_json:
        print_json({"run": str(folder), "recipe": str(folder / FILE), "notes": notes})
    else:
        for note in notes:
            print(note)
        print(f"Wrote {folder / FILE}. Look through it, then run: pellucid run {folder}")


@teaches(
    """Do the whole job on a small corpus: raw text, training, sealing, verify, audit. Takes a few
    minutes."""
)
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The run folder to make.")] = Path(
        "demo"
    ),
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            metavar="PATH",
            help="Use another corpus.",
            show_default="the sources of SymPy",
        ),
    ] = [],  # noqa: B006
    settings: Set = [],  # noqa: B006
) -> None:
    from pellucid import demo
    from pellucid.new import new
    from pellucid.recipe import FILE

    if not (folder / FILE).is_file():
        given = (list(data), []) if data else (demo.DATA, demo.SETTINGS)
        new(folder, given[0], demo.PRESET, [*given[1], *settings])
    run_stages(folder)
    publish(folder, to="", samples=True, as_json=False)
    verify(str(folder), as_json=False)
    audit_random_step(folder)
    _print_comparison(folder)
    print(f"\n{demo.reproduced(folder)}")
    me = _myself()
    print(f"\nFive things to try:\n  {me} view {folder}")
    print(f"  {me} show {folder} step 10")
    words = demo.prompt(folder)
    print(f'  {me} where {folder} "{words}"')
    print(f'  {me} sample {folder} --prompt "{words}"')
    print(f"  {me} export {folder} --step 25 --as hf --to {folder.name}-step25")


def _myself() -> str:
    """How this program was called, for lines that are to be copied: it may not be on the path."""
    program = sys.argv[0]
    if shutil.which("pellucid") or program.endswith("__main__.py"):
        return "pellucid"
    return os.path.relpath(program)


def _print_comparison(folder: Path) -> None:
    from pellucid.demo import compare

    comparison = compare(folder)
    print(f"\nbits per byte on the same {comparison.bytes:,} bytes of validation text:")
    for name in ("model", "xz", "gzip", "unigram"):
        print(f"  {name:<8} {getattr(comparison, name):.3f}")
