"""The command line: verbs only. Each calls one public function; what is heavy is imported there."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid import __version__
from pellucid.errors import AuditFailed, CommandInvalid, PellucidError, TorchMissing, VerifyFailed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train language models in the open: every step can be replayed, traced and checked.",
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder or a release.", show_default="this folder")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe; may be repeated.")
]
Step = Annotated[str, typer.Option("--step", metavar="K", help="A step: 120 or step120.", show_default="the last")]
HERE = Path()


def main() -> None:
    """The console script: every error of ours becomes one line and its exit code."""
    as_json = "--json" in sys.argv
    try:
        app()
    except PellucidError as error:
        _report(error, as_json)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        _report(TorchMissing(), as_json)
    except KeyboardInterrupt:
        sys.exit(130)


def _report(error: PellucidError, as_json: bool) -> None:
    if as_json and not isinstance(error, VerifyFailed | AuditFailed):  # Those have printed their report.
        print(json.dumps({"ok": False, "error": error.name, "detail": str(error)}))
    print(f"pellucid: {error.name}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


@contextlib.contextmanager
def _terminal(quiet: bool = False) -> Iterator[Any]:
    from pellucid.terminal import Terminal

    with Terminal(quiet) as terminal:
        yield terminal


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"pellucid {__version__}")
    elif context.invoked_subcommand is None:
        _welcome()


def _welcome() -> None:
    from pellucid.recipe import FILE

    if (HERE / FILE).is_file():
        from pellucid.look.status import status
        from pellucid.terminal import print_status

        about = status(HERE)
        print_status(about)
        print("\nNext:\n  " + "\n  ".join(_next_commands(about)))
        return
    print("Pellucid trains language models in the open. Begin with:\n")
    print("  pellucid demo                         the whole job on a small corpus, in a few minutes")
    print("  pellucid new mymodel --data PATH      a recipe for your own texts; then: pellucid run mymodel")
    print("  pellucid verify RELEASE               check somebody else's")


def _next_commands(about: dict[str, Any]) -> list[str]:
    """Three commands that make sense where a run stands."""
    last = about["steps_done"]
    if about["finished"]:
        sealed = "pellucid verify" if about["sealed"] else "pellucid publish"
        return [sealed, f"pellucid audit --step {last}", f"pellucid show step {last}"]
    looks = [f"pellucid show step {last}", f"pellucid sample --step {last}"]
    return ["pellucid run", *(looks if last else ["pellucid status", "pellucid run --help"])]


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The run folder to make.")],
    data: Annotated[
        list[str],
        typer.Option("--data", metavar="PATH", help="A file, a folder, FORMAT:PATH or package:NAME; may be repeated."),
    ],
    preset: Annotated[str, typer.Option(help="The model's size: 1M, 3M, 10M, 30M, 100M, 300M or 1B.")] = "3M",
    settings: Set = [],  # noqa: B006 - typer reads the default and never changes it.
    as_json: Json = False,
) -> None:
    """Make a run folder with a commented recipe.

    pellucid new mymodel --data books/ --data notes.jsonl.gz --preset 10M --set train.steps=500
    """
    from pellucid.new import new
    from pellucid.recipe import FILE

    new(folder, data, preset, settings)
    if as_json:
        _print_json({"run": str(folder), "recipe": str(folder / FILE)})
    else:
        print(f"{folder / FILE} is written: look through it, then run: pellucid run {folder}")


@app.command()
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
    _run(folder, only)
    about = status(folder)
    _print_json(about) if as_json else print_status(about)


def _apply(folder: Path, settings: list[str]) -> None:
    """Write --set into recipe.toml; a run that has begun refuses what would change its bits."""
    if settings:
        from pellucid.run import change_recipe

        change_recipe(folder, settings)


def _run(folder: Path, only: str | None = None) -> None:
    from pellucid.run import run

    with _terminal() as terminal:
        run(folder, terminal, only)


@app.command()
def status(folder: Run = HERE, as_json: Json = False) -> None:
    """Where a run stands: steps, head, digest of the weights, validation."""
    from pellucid.look.status import status
    from pellucid.terminal import print_status

    about = status(folder)
    _print_json(about) if as_json else print_status(about)


@app.command()
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
            _print_json(listed)
        for one in [] if as_json else listed:
            print(f"{one['id']}  {one['split']}  {one['characters']:,} characters  {one['licence']}")
        return
    about = shown.document(which) if what == "document" else getattr(shown, what)(_step_number(which))
    _print_json(about) if as_json else getattr(terminal, f"print_{what}")(about, characters)


_KINDS = ("step", "sequence", "document", "documents")


def _what(words: list[str]) -> tuple[Path, str, str]:
    """The run, the kind and its name, from `[RUN] KIND NAME` or `[RUN] step120`."""
    from pellucid.store.layout import step_number

    words = list(words)
    folder = HERE if words[0] in _KINDS or step_number(words[0]) is not None else Path(words.pop(0))
    if len(words) == 1 and step_number(words[0]) is not None:
        words = ["step", words[0]]
    if not words or words[0] not in _KINDS or len(words) != (1 if words[0] == "documents" else 2):
        detail = "write step K, sequence N, document ID or documents"
        raise CommandInvalid(verb="show", word=" ".join(words) or "WHAT", detail=detail)
    return folder, words[0], words[-1]


def _step_number(text: str) -> int:
    from pellucid.store.layout import step_number

    number = step_number(text)
    if number is None:
        raise CommandInvalid(verb="show", word=text, detail="write a step as 120 or step120")
    return number


def _inputs(folder: Path) -> Any:
    from pellucid.recipe import load
    from pellucid.replay import inputs

    return inputs.load(folder, load(folder))


def _step_or_last(inputs: Any, text: str) -> int:
    return _step_number(text) if text else inputs.recorded().steps_done


@app.command()
def sample(
    folder: Run = HERE,
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

    inputs = _inputs(folder)
    number = _step_or_last(inputs, step)
    with _terminal() as terminal:
        state = materialise(inputs, number, terminal.watch("replay"))
    tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
    pieces = sample(state, tokenizer, prompt, tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
    if as_json:
        _print_json({"step": number, "prompt": prompt, "text": "".join(pieces)})
        return
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(printable(piece, len(piece)), end="", flush=True)
    print()


@app.command()
def export(
    folder: Run = HERE,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where to write it: a new or empty folder.")] = ...,  # type: ignore[assignment]
    step: Step = "",
    kind: Annotated[
        str, typer.Option("--as", metavar="hf|state", help="A Hugging Face folder, or the full state.")
    ] = "hf",
    as_json: Json = False,
) -> None:
    """Write any step, stored or materialised, to a folder of its own.

    pellucid export mymodel --step 120 --as hf --to step120
    """
    from pellucid.release.export import export

    if kind not in ("hf", "state"):
        raise CommandInvalid(verb="export", word=kind, detail="--as takes hf or state")
    inputs = _inputs(folder)
    number = _step_or_last(inputs, step)
    with _terminal() as terminal:
        export(inputs, number, kind, to, terminal.watch("replay"))
    if as_json:
        _print_json({"step": number, "as": kind, "to": str(to)})
    else:
        print(f"step {number} is in {to}")


@app.command()
def verify(folder: Run = HERE, as_json: Json = False) -> None:
    """Check everything that needs no computing: files, chains, data, batches, numbers, states. No torch."""
    from pellucid.release.verify import verify

    report = verify(folder, lambda what: None)
    if as_json:
        _print_json(report.as_json())
    else:
        for problem in report.problems:
            print(f"{problem.error}: {problem.where}: {problem.detail}")
        found = "ok" if report.ok else f"{len(report.problems)} problem(s)"
        sealed = "" if report.sealed else " (not sealed: files are not held against a manifest)"
        print(f"verify: {found} in {report.seconds:.2f} s: {', '.join(report.checked)}{sealed}")
    if not report.ok:
        raise VerifyFailed(path=folder, count=len(report.problems))


@app.command()
def audit(
    folder: Run = HERE,
    step: Annotated[
        list[str],
        typer.Option("--step", metavar="K", help="A step to audit; may be repeated.", show_default="one at random"),
    ] = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Compute steps again from the anchor before each, and compare their bits with the ledger.

    pellucid audit RELEASE --step 120 --step 300
    """
    _audit(folder, [_step_number(text) for text in step], as_json)


def _audit(folder: Path, steps: list[int], as_json: bool = False) -> None:
    from pellucid.demo import random_step
    from pellucid.replay.audit import audit_step

    inputs, findings = _inputs(folder), []
    for number in steps or [random_step(folder)]:
        with _terminal(quiet=as_json) as terminal:
            finding = audit_step(inputs, number, terminal.watch(f"step {number}"))
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    ok = all(finding.ok for finding in findings)
    if as_json:
        _print_json({"ok": ok, "steps": [finding.as_json() for finding in findings]})
    if not ok:
        wrong = ", ".join(f"step {finding.step}" for finding in findings if not finding.ok)
        raise AuditFailed(path=folder, steps=wrong)


def _print_finding(finding: Any) -> None:
    for problem in finding.problems:
        print(f"  {problem}")
    verdict = "bit-equal" if finding.ok else "NOT the recorded bits"
    print(f"audit: step {finding.step} {verdict}: {finding.replayed} step(s) replayed in {finding.seconds:.1f} s")
    if finding.ok:
        print(f"       state {finding.actual}")


@app.command()
def publish(
    folder: Run = HERE,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also make a copy there, hard-linked where it can be.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Seal a finished run: README, LICENSE, and a manifest of every file. Sealing twice gives the same bytes."""
    from pellucid.release.publish import publish

    sealed = publish(folder, to)
    if as_json:
        _print_json(sealed)
    else:
        print(f"sealed {sealed['files']:,} files, {sealed['bytes'] / 1e6:,.1f} MB, in {sealed['folder']}")
        print(f"head   {sealed['head']}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make it.")] = Path("demo"),
    data: Annotated[
        list[str], typer.Option("--data", metavar="PATH", help="Another corpus.", show_default="the sources of SymPy")
    ] = [],  # noqa: B006
    settings: Set = [],  # noqa: B006
) -> None:
    """The whole job on a small corpus: raw text, training, sealing, verify, audit. A few minutes."""
    from pellucid import demo
    from pellucid.new import new
    from pellucid.recipe import FILE

    if not (folder / FILE).is_file():
        given = (list(data), []) if data else (demo.DATA, demo.SETTINGS)
        new(folder, given[0], demo.PRESET, [*given[1], *settings])
    _run(folder)
    publish(folder, to=None, as_json=False)
    verify(folder, as_json=False)
    _audit(folder, [])
    _print_comparison(folder)
    print(f"\n{demo.reproduced(folder)}")
    me = _myself()
    print(f"\nThree things to try:\n  {me} show {folder} step 10")
    print(f'  {me} sample {folder} --prompt "{demo.prompt(folder)}"')
    print(f"  {me} export {folder} --step 25 --as hf --to {folder.name}-step25")


def _myself() -> str:
    """How this program was called, for lines that are to be copied: it may not be on the path."""
    import os
    import shutil

    program = sys.argv[0]
    if shutil.which("pellucid") or program.endswith("__main__.py"):
        return "pellucid"
    return os.path.relpath(program)


def _print_comparison(folder: Path) -> None:
    from pellucid.demo import compare

    found = compare(folder)
    print(f"\nbits per byte on the same {found.bytes:,} bytes of validation text:")
    for name in ("model", "xz", "gzip", "unigram"):
        print(f"  {name:<8} {getattr(found, name):.3f}")
