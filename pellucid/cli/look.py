"""Look: show, sample and diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.common import (
    HERE,
    Json,
    RunOrUrl,
    Step,
    folder_only,
    inputs_of,
    on_terminal,
    print_json,
    step_number,
    step_or_last,
)
from pellucid.errors import CommandInvalid, RunsDiffer
from pellucid.store.home import home


def show(
    words: Annotated[
        list[str], typer.Argument(metavar="[RUN] WHAT", help="step K, sequence N, document ID, or documents.")
    ],
    characters: Annotated[int, typer.Option(help="How much of each text to print.")] = 200,
    as_json: Json = False,
) -> None:
    """What a step trained on, where a document was seen, what a sequence holds.

    pellucid show step 120
    pellucid show mymodel document sympy/sympy/core/add.py
    pellucid show mymodel documents
    """
    from pellucid import terminal
    from pellucid.look.show import Shown

    folder, what, which = _what(words)
    shown = Shown(folder)
    if what == "documents":
        listed = shown.list_documents()
        if as_json:
            print_json(listed)
        for one in [] if as_json else listed:
            print(terminal.plain(f"{one['id']}  {one['split']}  {one['characters']:,} characters  {one['licence']}"))
        return
    about = shown.document(which) if what == "document" else getattr(shown, what)(step_number(which))
    print_json(about) if as_json else getattr(terminal, f"print_{what}")(about, characters)


_KINDS = ("step", "sequence", "document", "documents")


def _what(words: list[str]) -> tuple[Path, str, str]:
    """The run, the kind and its name, from `[RUN] KIND NAME` or `[RUN] step120`."""
    from pellucid.store.layout import step_number

    words = list(words)
    folder = HERE if words[0] in _KINDS or step_number(words[0]) is not None else home(words.pop(0))
    if len(words) == 1 and step_number(words[0]) is not None:
        words = ["step", words[0]]
    if not words or words[0] not in _KINDS or len(words) != (1 if words[0] == "documents" else 2):
        detail = "write step K, sequence N, document ID or documents"
        raise CommandInvalid(verb="show", word=" ".join(words) or "WHAT", detail=detail)
    return folder, words[0], words[-1]


def sample(
    run: RunOrUrl = ".",
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    step: Step = "",
    tokens: Annotated[int, typer.Option(help="How many tokens at most.")] = 100,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among so many tokens; 0: all.")] = 50,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 1,
    as_json: Json = False,
) -> None:
    """Text from the model of any step.

    pellucid sample mymodel --step 50 --prompt "def factor("
    """
    from pellucid.data.tokenizer import Tokenizer
    from pellucid.look.sample import sample
    from pellucid.replay.materialise import materialise
    from pellucid.store import layout
    from pellucid.terminal import printable

    folder = home(run)
    inputs = inputs_of(folder)
    number = step_or_last(inputs, step)
    with on_terminal() as terminal:
        state = materialise(inputs, number, terminal.watch("replay"))
    tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
    pieces = sample(state, tokenizer, prompt, tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
    if as_json:
        print_json({"step": number, "prompt": prompt, "text": "".join(pieces)})
        return
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(printable(piece, len(piece)), end="", flush=True)
    print()


def diff(
    a: Annotated[
        Path,
        typer.Argument(parser=folder_only, metavar="A", help="A run folder or a release.", show_default="this folder"),
    ] = HERE,
    b: Annotated[
        Path | None,
        typer.Argument(
            parser=folder_only, metavar="B", help="Another one.", show_default="what A's recipe and data give here"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Where two runs part, and why: the first differing step, its microbatch, tensors, operation, and known causes.

    With one run, all of it is computed again here and held against its ledger.

    pellucid diff mymodel theirs
    """
    from pellucid.replay.diff import diff, diff_here
    from pellucid.terminal import print_difference

    with on_terminal(quiet=as_json) as terminal:
        watch = terminal.watch("replay")
        found = diff_here(a, watch) if b is None else diff(a, b, watch)
    print_json(found.as_json()) if as_json else print_difference(found.as_json())
    if not found.equal:
        where = "their beginnings" if found.step is None else f"step {found.step}"
        raise RunsDiffer(a=a, b=b or "what is computed here", where=where)
