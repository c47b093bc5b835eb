"""The command line: what every verb needs. Each verb calls one public function; what
is heavy is imported there."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.models import ArgumentInfo

from pellucid import __version__, machine
from pellucid.answers import print_status
from pellucid.errors import (
    AuditFailed,
    CommandInvalid,
    FolderNeeded,
    PellucidError,
    RunMissing,
    RunsDiffer,
    TooMuchMemory,
    TorchMissing,
    VerifyFailed,
)
from pellucid.store import layout
from pellucid.store.home import is_url
from pellucid.terminal import Terminal, plain

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train language models in the open: every step can be replayed, traced and checked.",
)


Verb = TypeVar("Verb", bound=Callable[..., Any])
_HELP: dict[Callable[..., Any], str] = {}
# What stays of this command if it is interrupted, where its verb tells.
_STAYS: list[str] = []
_GIVEN: list[str] = []  # The verb of this command; root() writes it before a verb's words are read.


def teaches(text: str) -> Callable[[Verb], Verb]:
    """The help of a verb. Not its docstring, which `python -OO` leaves out."""

    def mark(verb: Verb) -> Verb:
        _HELP[verb] = inspect.cleandoc(text)
        return verb

    return mark


def help_of(verb: Callable[..., Any]) -> str:
    """What a verb teaches; its examples keep their lines, where others are filled."""
    return _HELP[verb].replace("\n\npellucid ", "\n\n\b\npellucid ")


def finite(value: float | None) -> float | None:
    """The callback of every option that takes a float: its bounds alone let nan pass, and inf."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number.")
    return value


def name_of(verb: Callable[..., Any]) -> str:
    """As it is typed."""
    return verb.__name__.replace("_", "-")


def reads_addresses(verb: Callable[..., Any]) -> bool:
    """Whether a verb takes the URL of a release: its run is one, or one of its words, which
    home() opens."""
    marks = (
        mark
        for hint in get_type_hints(verb, include_extras=True).values()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, ArgumentInfo)
    )
    return any(
        mark.parser is None and str(mark.metavar).startswith(("RUN", "[RUN]")) for mark in marks
    )


def verb_at_hand() -> str:
    """The verb that was given, for what several verbs share."""
    return _GIVEN[-1] if _GIVEN else "show"


def folder_only(text: str | Path) -> Path:
    if is_url(text):
        verbs = ", ".join(name_of(verb) for verb in _HELP if reads_addresses(verb))
        others = f" Verbs that read an address: {verbs}."
        raise FolderNeeded(what=f"pellucid {verb_at_hand()}", url=text, others=others)
    return Path(text)


def new_file(text: str) -> Path:
    """The parser of every option that names a file to write. Raises FileTaken."""
    layout.require_new_file(Path(text))
    return Path(text)


Run = Annotated[
    Path,
    typer.Argument(
        parser=folder_only,
        metavar="RUN",
        help="A run folder or a release.",
        show_default="this folder",
    ),
]
RunOrUrl = Annotated[  # As it was written: home() turns it into a path, which asks the server.
    str,
    typer.Argument(
        metavar="RUN", help="A run folder, a release, or its URL.", show_default="this folder"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a field of the recipe; may be repeated."
    ),
]
Step = Annotated[
    str,
    typer.Option("--step", metavar="K", help="A step: 120 or step120.", show_default="the last"),
]
HERE = Path()
INTERRUPTED = 130  # 128 and the number of SIGINT.
PLACES = 10  # Of a text that are printed without --limit.
SHOWN = 40  # Rows of a table, and documents, that are printed without --limit.
# Verbs that read somebody else's release and compute nothing; as show without --at.
READING = ("verify", "status", "view", "sql", "where", "trace", "report")


def main() -> None:
    """The console script: every error of ours becomes one line and its exit code."""
    as_json = "--json" in sys.argv
    machine.settle()
    try:
        app()
    except PellucidError as error:
        _report(machine.limit_reached(error.__cause__) or _with_verb(error), as_json)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # As typer ends where it hears Ctrl-C.
            _tell_interrupted()
        raise
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _report(TorchMissing(verbs=", ".join(READING)), as_json)
    except (
        ImportError,
        OSError,
    ) as error:  # A library that does not fit, or no file that can be opened.
        if not (reached := machine.limit_reached(error)):
            raise
        _report(reached, as_json)
    except MemoryError as error:
        _report(machine.limit_reached(error) or TooMuchMemory(), as_json)
    except KeyboardInterrupt:
        _tell_interrupted()
        sys.exit(INTERRUPTED)


def stays(told: str) -> None:
    """Say what an interruption from now on leaves of this command."""
    _STAYS[:] = [told]


def _tell_interrupted() -> None:
    told = _STAYS[-1] if _STAYS else "finished work is kept, and the same command continues"
    with contextlib.suppress(OSError):
        print(f"pellucid: interrupted; {told}", file=sys.stderr)


def _with_verb(error: PellucidError) -> PellucidError:
    """The error, with the verb that was given where it misses a run and none was named."""
    if isinstance(error, RunMissing) and str(error.fields["path"]) == str(HERE) and _GIVEN:
        return RunMissing(HERE, verb=verb_at_hand())
    return error


def _report(error: PellucidError, as_json: bool) -> None:
    # Those have printed their report.
    if as_json and not isinstance(error, VerifyFailed | AuditFailed | RunsDiffer):
        print(json.dumps({"ok": False, "error": error.name, "detail": str(error)}))

    with contextlib.suppress(OSError):  # The terminal may be gone; the exit code still tells.
        print(f"pellucid: {error.name}: {plain(error)}", file=sys.stderr)
    sys.exit(error.exit_code)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


@contextlib.contextmanager
def on_terminal(quiet: bool = False) -> Iterator[Any]:

    with Terminal(quiet) as terminal:
        yield terminal


def most(limit: int | None, as_json: bool, shown: int) -> int | None:
    """How many places or rows are told, None standing for all: a person is shown
    so many, a script gets all."""
    if limit is None:
        return None if as_json else shown
    return limit or None


def step_number(text: str) -> int:

    number = layout.step_number(text)
    if number is None:
        raise CommandInvalid(
            verb=verb_at_hand(), word=text, detail="write a step as 120 or step120"
        )
    return number


def steps_named(option: str, words: str, first: int, last: int) -> list[int]:
    """The steps that an option names: numbers, last, every=N with the first and the last state, and
    log: the powers of two with both. Raises CommandInvalid."""
    numbers = set[int]()
    for word in words.split(","):
        every = re.fullmatch("every=([1-9][0-9]{0,15})", word)
        number = layout.step_number(word)
        if word == "last":
            numbers.add(last)
        elif word == "log":
            powers = (1 << power for power in range(last.bit_length()))
            numbers |= {first, last, *(step for step in powers if first <= step <= last)}
        elif every:
            length = int(every.group(1))
            numbers |= {first, last, *range(first + -first % length, last + 1, length)}
        elif number is not None:
            numbers.add(number)
        else:
            detail = f"{option} takes steps, last, every=N and log: 0,150,last or every=50"
            raise CommandInvalid(verb=verb_at_hand(), word=word or words, detail=detail)
    return sorted(numbers)


def inputs_of(folder: Path) -> Any:
    from pellucid.inputs import Inputs
    from pellucid.recipe import load

    return Inputs.load(folder, load(folder))


def step_or_last(inputs: Any, text: str) -> int:
    return step_number(text) if text else inputs.recorded().steps_done


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"pellucid {__version__}")
        return
    if context.invoked_subcommand is None:
        _welcome()
        return
    _GIVEN[:] = [context.invoked_subcommand]
    _STAYS.clear()
    if context.invoked_subcommand in READING:
        machine.bound_memory()


def _welcome() -> None:
    from pellucid.recipe import FILE

    if (HERE / FILE).is_file():
        from pellucid.look.status import status

        about = status(HERE)
        print_status(about)
        print("\nNext:\n  " + "\n  ".join(_next_commands(about)))
        return
    print("Pellucid trains language models in the open. Start with:\n")
    print(
        "  pellucid demo                         the whole job on a small corpus, in a few minutes"
    )
    print(
        "  pellucid new mymodel --data PATH      make a recipe for your own texts; then: "
        "pellucid run mymodel"
    )
    print("  pellucid verify RELEASE               check a release")


def _next_commands(about: dict[str, Any]) -> list[str]:
    """Three commands that make sense where a run stands."""
    last = about["steps_done"]
    if about["finished"]:
        sealed = "pellucid verify" if about["sealed"] else "pellucid publish"
        return [sealed, f"pellucid audit --step {last}", f"pellucid show step {last}"]
    looks = [f"pellucid show step {last}", f"pellucid sample --step {last}"]
    return ["pellucid run", *(looks if last else ["pellucid status", "pellucid run --help"])]
