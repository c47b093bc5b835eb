"""Look: show, sample and diff."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid import answers, machine
from pellucid.cli.common import (
    HERE,
    PLACES,
    SHOWN,
    Json,
    RunOrUrl,
    Step,
    finite,
    folder_only,
    inputs_of,
    most,
    new_file,
    on_terminal,
    print_json,
    step_number,
    step_or_last,
    steps_named,
    teaches,
)
from pellucid.errors import CommandInvalid, RunsDiffer
from pellucid.store import layout
from pellucid.store.home import home
from pellucid.terminal import plain, printable


@teaches(
    """Show what a step trained on, where a document was seen or what a block holds, with losses at
    any step.

    pellucid show step 120
    pellucid show mymodel document sympy/sympy/core/add.py --at every=50 --plot add.png
    pellucid show mymodel text "to be or not to be" --at 0,150,600
    pellucid show mymodel documents essays/

    Losses from training are read from the record. Losses at the steps of --at are computed from the
    states of those steps; states that are not stored are replayed.
    """
)
def show(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] WHAT",
            help="step K, block N, document ID, documents [TEXT], or text TEXT.",
        ),
    ],
    limit: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many documents to list; 0: all.", show_default="40; with --json all"
        ),
    ] = None,
    at: Annotated[
        str,
        typer.Option(
            metavar="STEPS",
            help="Compute the loss at these steps too: 150,last or every=50 or log.",
            show_default=False,
        ),
    ] = "",
    plot: Annotated[
        str,
        typer.Option(
            metavar="FILE.png", help="Draw the losses; - draws in the terminal.", show_default=False
        ),
    ] = "",
    characters: Annotated[int, typer.Option(min=0, help="Characters to print of each text.")] = 200,
    as_json: Json = False,
) -> None:
    from pellucid.look.show import Shown, list_documents

    folder, what, which = _what(words)
    _check_drawing(what, at, plot)
    if not at:
        machine.bound_memory()
    if what == "documents":
        if not _list(list_documents(folder, which), most(limit, as_json, SHOWN), as_json):
            _tell_none(folder, which)
        return
    shown = Shown(folder)
    name = which if what in ("document", "text") else step_number(which)
    about: dict[str, Any] = {"text": which} if what == "text" else getattr(shown, what)(name)
    if what == "step" and (evaluations := shown.evaluations(about["step"])):
        about["evaluations"] = evaluations
    if not as_json and what != "text":
        getattr(answers, f"print_{what}")(about, characters)
    if at:
        about["life"] = _life(folder, what, name, at, as_json)
    if at and not as_json:
        answers.print_life(about["life"])
    if as_json:
        print_json(about)
    if plot:
        _draw(what, which, about, plot, as_json)


def _tell_none(folder: Path, which: str) -> None:
    """That no id has this in it, as grep tells it: by the exit code too."""
    from pellucid.data.parquet import Documents

    near = Documents.open(folder).near(which) if which else ""
    print(plain(f"no document of {folder} has {which} in its id{near}"), file=sys.stderr)
    raise typer.Exit(1)


def _list(documents: Iterator[dict[str, Any]], limit: int | None, as_json: bool) -> int:
    """Print them; returns how many there are."""
    shown = list(itertools.islice(documents, limit))
    if as_json:
        print_json(shown)
    else:
        for document in shown:
            print(
                plain(
                    f"{document['id']}  {document['split']}  {document['characters']:,} "
                    f"characters  {answers.licence(document)}"
                )
            )
    more = sum(1 for _ in documents)
    if more:
        print(
            f"{len(shown):,} of {len(shown) + more:,} documents; --limit 0 lists all",
            file=sys.stderr,
        )
    return len(shown) + more


def _check_drawing(what: str, at: str, plot: str) -> None:
    """Raises CommandInvalid where the options do not fit what is asked about, and PlotMissing."""
    if what == "documents" and (at or plot):
        raise CommandInvalid(
            verb="show",
            word="--at" if at else "--plot",
            detail="this option is only for a single document",
        )
    if what in ("text", "step") and not at and (plot or what == "text"):
        detail = "name the steps to compute the loss at, as in --at every=50"
        raise CommandInvalid(verb="show", word="--plot" if plot else what, detail=detail)
    if plot and plot != "-" and not plot.lower().endswith(".png"):
        detail = "--plot takes a name that ends in .png, or - for the terminal"
        raise CommandInvalid(verb="show", word=plot, detail=detail)
    if plot and plot != "-":
        from pellucid.look import plot as picture

        new_file(plot)
        picture.figure()  # A missing library is told now, not after an hour of replay.


def _life(folder: Path, what: str, name: Any, at: str, quiet: bool) -> dict[str, Any]:
    from pellucid.look import life

    inputs = inputs_of(folder)
    ledger = inputs.recorded()
    steps = steps_named("--at", at, ledger.first, ledger.steps_done)
    with on_terminal(quiet) as terminal:
        return getattr(life, f"life_of_{what}")(
            inputs, name, steps, terminal.watch("replay")
        ).as_json()


def _draw(what: str, which: str, about: dict[str, Any], plot: str, quiet: bool) -> None:
    from pellucid.look.seen import recorded

    life = about.get("life") or {
        "at": [],
        "seen": recorded(about.get("rows", about.get("blocks", [about]))),
    }
    curve = [(row["step"], row["loss"]) for row in life["at"]]
    # A step records the losses of the state before it.
    marks = [(row["step"] - 1, row["loss"]) for row in life["seen"]]
    if not curve and not marks:
        detail = (
            "no step trained on it, so no loss is recorded: name steps to compute the loss at "
            "with --at"
        )
        raise CommandInvalid(verb="show", word="--plot", detail=detail)
    if plot != "-":
        from pellucid.look import plot as picture

        title = which if len(which) <= 60 else f"{which[:60]} …"
        picture.plot(Path(plot), plain(f"{what} {title}"), curve, marks)
    elif not quiet:
        answers.print_chart(curve, marks)


_KINDS = ("step", "block", "document", "documents", "text")


def _what(words: list[str]) -> tuple[Path, str, str]:
    """The run, the kind and its name, from `[RUN] KIND NAME` or `[RUN] step120`."""

    words = list(words)
    folder = home(
        HERE if words[0] in _KINDS or layout.step_number(words[0]) is not None else words.pop(0)
    )
    if len(words) == 1 and layout.step_number(words[0]) is not None:
        words = ["step", words[0]]
    if words == ["documents"]:
        words = ["documents", ""]
    if not words or words[0] not in _KINDS or len(words) != 2:
        detail = "write step K, block N, document ID, documents [TEXT] or text TEXT"
        raise CommandInvalid(verb="show", word=" ".join(words) or "WHAT", detail=detail)
    return folder, words[0], words[1]


@teaches(
    """Generate text from the model of any step. With --trace, show which parts of it are in its
    training data.

    pellucid sample mymodel --step 50 --prompt "def factor("
    pellucid sample mymodel --prompt "def factor(" --trace
    """
)
def sample(
    run: RunOrUrl = ".",
    prompt: Annotated[str, typer.Option(help="Beginning of the text.")] = "",
    step: Step = "",
    tokens: Annotated[int, typer.Option(min=1, help="The largest number of tokens.")] = 100,
    temperature: Annotated[
        float, typer.Option(min=0, callback=finite, help="0 takes the likeliest token each time.")
    ] = 0.8,
    top_k: Annotated[
        int, typer.Option(min=0, help="Choose among this many of the likeliest tokens; 0: all.")
    ] = 50,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 1,
    traced: Annotated[
        bool,
        typer.Option("--trace", help="Show which parts the model has seen word for word."),
    ] = False,
    as_json: Json = False,
) -> None:
    from pellucid.data.tokenizer import Tokenizer
    from pellucid.look.sample import sample
    from pellucid.replay.materialise import materialise

    folder = home(run)
    inputs = inputs_of(folder)
    number = step_or_last(inputs, step)
    with on_terminal() as terminal:
        state = materialise(inputs, number, terminal.watch("replay"))
    tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
    pieces = sample(
        state, tokenizer, prompt, tokens=tokens, temperature=temperature, top_k=top_k, seed=seed
    )
    if traced:
        _print_traced(folder, number, prompt, "".join(pieces), as_json)
        return
    if as_json:
        print_json({"step": number, "prompt": prompt, "text": "".join(pieces)})
        return
    print(printable(prompt, len(prompt)), end="", flush=True)
    for piece in pieces:
        print(printable(piece, len(piece)), end="", flush=True)
    print()


def _print_traced(folder: Path, step: int, prompt: str, text: str, as_json: bool) -> None:
    """What the model of a step wrote behind a prompt, and what it had seen of it."""
    from pellucid.trace.where import Traced

    about = Traced(folder).trace(text, before=step + 1, limit=most(None, as_json, PLACES))
    if as_json:
        print_json({"step": step, "prompt": prompt, **about})
        return
    print(printable(prompt, len(prompt)), end="", flush=True)
    answers.print_trace(about)


@teaches(
    """Find where two runs differ, and why: the first differing step, its microbatch, tensors,
    operation and causes.

    With one run, recompute all of it here and compare it with its ledger.

    pellucid diff mymodel theirs
    """
)
def diff(
    a: Annotated[
        Path,
        typer.Argument(
            parser=folder_only,
            metavar="A",
            help="A run folder or a release.",
            show_default="this folder",
        ),
    ] = HERE,
    b: Annotated[
        Path | None,
        typer.Argument(
            parser=folder_only,
            metavar="B",
            help="Another run or release.",
            show_default="A, recomputed here",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    from pellucid.replay.diff import diff, diff_here

    with on_terminal(quiet=as_json) as terminal:
        watch = terminal.watch("replay")
        watches = watch, terminal.search
        difference = diff_here(a, *watches) if b is None else diff(a, b, *watches)
    print_json(difference.as_json()) if as_json else answers.print_difference(difference.as_json())
    if not difference.equal:
        where = "the first entry" if difference.step is None else f"step {difference.step}"
        raise RunsDiffer(a=a, b=b or "its recomputation here", where=where)
