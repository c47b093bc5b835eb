"""Check: evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pellucid.cli.common import (
    HERE,
    Json,
    Run,
    inputs_of,
    on_terminal,
    print_json,
    steps_named,
    teaches,
)
from pellucid.store import layout
from pellucid.terminal import plain


@teaches(
    """Ask the model of any step the examples of tasks, and keep every answer beside the run.

    pellucid evaluate mymodel
    pellucid evaluate mymodel --tasks agreement,brackets --steps log
    pellucid evaluate mymodel --tasks arc_easy,mytask.yaml --shots 5 --steps 0,150,last
    pellucid evaluate mymodel --tasks memorization --steps log
    pellucid evaluate --list

    Without --tasks, all built-in tasks but memorization are asked; they need no download. Every
    other name is a task of EleutherAI's lm-eval (pip install "pellucid[evaluate]") or a YAML file
    of its form. Answers go into evaluations/ of the run: `pellucid verify` checks them, `pellucid
    audit --evaluations` computes some again. States that are not stored are replayed. The same
    command skips answers that the run has. A sealed release stays as it is: its answers are printed
    and not kept. If the run has an index, the column `clean` has the number of the examples
    whose text the model had not read, and --json lists those that it had, with documents and steps.
    """
)
def evaluate(
    folder: Run = HERE,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Names of tasks and YAML files, with commas between.",
            show_default="all built-in tasks but memorization",
        ),
    ] = None,
    steps: Annotated[
        str, typer.Option(metavar="STEPS", help="0,150,last or every=50 or log.")
    ] = "last",
    shots: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Solved examples before each question of lm-eval's tasks.",
            show_default="the task's own",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**9, help="Ask only the first N documents of a task.", show_default="all"
        ),
    ] = None,
    foreign: Annotated[
        list[Path],
        typer.Option(
            metavar="FOLDER", help="Ask a Hugging Face model too, and print it beside the run's."
        ),
    ] = [],  # noqa: B006
    offline: Annotated[
        bool, typer.Option("--offline", help="Download nothing; name what is missing.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the built-in tasks.")] = False,
    as_json: Json = False,
) -> None:
    if listed:
        _list(as_json)
        return
    from pellucid.evaluate import kept
    from pellucid.evaluate.foreign import beside
    from pellucid.evaluate.measure import measure
    from pellucid.evaluate.suite.memorization import NAME
    from pellucid.evaluate.tasks import chosen
    from pellucid.measured import stored
    from pellucid.measured.summary import Summary, summary

    inputs = inputs_of(folder)
    ledger = inputs.recorded()
    at = steps_named("--steps", steps, ledger.first, ledger.steps_done)
    asked = chosen(tasks, inputs, shots=shots, limit=limit, offline=offline)
    sealed = (folder / layout.MANIFEST).exists()
    lookup = _lookup(folder)
    rows, known, pairs = list[tuple[Summary, Any]](), 0, list[Any]()
    held = nullcontext() if sealed else kept.writing(folder, asked, at)
    with held as chain, on_terminal(as_json) as terminal:
        watch, told = terminal.watch("replay"), _told(terminal)
        for place in foreign:
            # Whose tokens are others than those of the run's sequences.
            others = [task for task in asked if task.name != NAME]
            rows += [(row, None) for row in beside(place, others, told)]
        for task in asked:
            if task.name == NAME:
                terminal.note(_cost(task, len(at)))
        for result in measure(inputs, asked, at, watch, told, stored.entries(folder)):
            if result.entry:
                known += 1
                entry, lines = result.entry, partial(stored.lines, folder, result.entry)
            else:
                made = kept.evaluation(ledger, result.step, result.task, result.answers)
                if chain:
                    chain.keep(made)
                entry, lines = made.body, made.lines
            seen = None
            if result.task.name == NAME:  # What it asks for is in the training data by design.
                pairs.append((entry, [*lines()]))
            elif lookup:
                seen = lookup.of(entry, lines, partial(_searched, told, result.task))
            rows.append((summary(entry, lines()), seen))
    rows.sort(key=lambda row: (row[0].task, row[0].foreign or "", row[0].step))
    pairs.sort(key=lambda pair: pair[0]["step"])  # Processes give them as they get ready.
    _print(folder, rows, known, sealed, as_json, _memorization(folder, pairs))
    if not lookup and not as_json:
        print(
            "clean: the run has no index of its training data. To make one: "
            f"pellucid run {plain(folder)} --only index"
        )


def _cost(task: Any, steps: int) -> str:
    """What asking for sequences takes, before it is asked."""
    requests = [example.request for example in task.examples]
    tokens = sum(len(request.ids) + request.tokens for request in requests)
    return (
        f"{task.name}: {len(requests):,} sequences at {steps:,} step{'s' * (steps != 1)}, "
        f"{tokens * steps:,} tokens to read and write"
    )


def _memorization(folder: Path, pairs: Sequence[Any]) -> Any:
    """What the evaluations of the task memorization say, if it was asked."""
    from pellucid.analysis.memorization import of_evaluations
    from pellucid.look.show import Shown

    return of_evaluations(Shown(folder), pairs) if pairs else None


def _lookup(folder: Path) -> Any:
    """The training data of a run, to find examples in; None where there is no index of it."""
    from pellucid.analysis.contamination import Lookup
    from pellucid.errors import IndexMissing

    try:
        return Lookup(folder)
    except IndexMissing:
        return None


def _told(terminal: Any) -> Callable[[str, int, int], None]:
    """Progress of what is being asked, or looked up in the training data."""

    def told(what: str, done: int, total: int) -> None:
        terminal.progress(plain(what), done, total, "examples")

    return told


def _searched(told: Callable[[str, int, int], None], task: Any, done: int) -> None:
    told(f"{task.name} in the training data", done, len(task.examples))


def _list(as_json: bool) -> None:
    from pellucid.evaluate.tasks import listed

    about = listed()
    if as_json:
        print_json(about)
        return
    print(f"{'task':<16} examples  chance  metric")
    for task in about:
        size = "-" if task["examples"] is None else f"{task['examples']:,}"
        chance = "-" if task["chance"] is None else f"{task['chance']:.0%}"
        print(f"{task['name']:<16} {size:>8} {chance:>7}  {task['metric']}")
    print("Each is described in docs/evaluate.md. Every other name is a task of lm-eval.")


def _of(row: Any) -> str:
    """The model that was asked."""
    return f"{row.foreign[-24:]} (foreign)" if row.foreign else f"{row.step:,}"


def _print(
    folder: Path,
    rows: Sequence[tuple[Any, Any]],
    known: int,
    sealed: bool,
    as_json: bool,
    memorized: Any,
) -> None:
    """rows: each with its contamination, or None. known: so many are what the run kept before.
    memorized: what the task memorization says, or None."""
    from pellucid.analysis import memorization

    if as_json:
        about = {"kept": not sealed, "known": known}
        about["evaluations"] = [
            row.as_json() | {"contamination": seen and seen.as_json()} for row, seen in rows
        ]
        if memorized:
            about["memorization"] = memorization.as_json(memorized)
        print_json(about)
        return
    width = max((len(row.named) for row, _ in rows), default=0)
    named = max((len(_of(row)) for row, _ in rows), default=7)
    heads = f"{'task':<{width}} {'step':>{named}}  {'number':<14} value  95% interval "
    print(f"{heads}   chance  examples   clean")
    for row, seen in rows:
        value, between, chance, examples = row.cells()
        line = (
            f"{row.named:<{width}} {_of(row):>{named}}  {row.number:<14} {value}  {between:<14}"
            f" {chance:>7} {examples:>9}   {_clean(seen)}"
        )
        print(plain(line))
    for line in memorization.lines(memorized) if memorized else ():
        print(plain(line))
    methods = sorted({row.interval.method for row, _ in rows if row.interval})
    if methods:
        print(f"intervals: {'; '.join(methods)} (docs/evaluate.md)")
    _print_contamination(rows)
    if known:
        print(f"{known:,} of {len(rows):,} rows are the run's own record: no model was asked now.")
    if strangers := [row.foreign for row, _ in rows if row.foreign]:
        print(f"foreign, not of the run and not kept: {plain(', '.join(dict.fromkeys(strangers)))}")
    if sealed and known < len(rows):
        print(
            "not kept: the run is sealed. To keep them, remove its manifest.jsonl, evaluate, and "
            "run pellucid publish again."
        )
    else:
        print(
            f"kept in {plain(folder / 'evaluations')}. Compute some again: pellucid audit "
            f"{plain(folder)} --evaluations 20"
        )


def _clean(seen: Any) -> str:
    """The number of the clean examples, and how many they are."""
    if seen is None or seen.clean is None:
        return "-"
    value, _, _, examples = seen.clean.cells()
    return f"{value} of {examples}"


def _print_contamination(rows: Sequence[tuple[Any, Any]]) -> None:
    """What the column clean leaves out, of each task at its last step."""
    last = {row.task: (row, seen) for row, seen in rows if seen}
    for name, (row, seen) in last.items():
        states = ("contaminated", "too short", "not decided")
        left = [f"{count:,} {state}" for state in states if (count := seen.count(state))]
        if left:
            print(plain(f"clean: without {', '.join(left)} of {name}, step {row.step:,}"))
        for note in seen.notes():
            print(plain(f"clean: {name}: {note}"))
    if told := next((seen.of_fork for _, seen in last.values()), None):
        print(f"clean: {told}")
    if any(seen and seen.count("contaminated") for _, seen in rows):
        print("--json lists contaminated examples with documents and steps (docs/evaluate.md)")
