"""Check: evaluate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from pellucid.cli.common import (
    HERE,
    Json,
    Run,
    inputs_of,
    on_terminal,
    print_json,
    stays,
    steps_named,
    teaches,
)
from pellucid.store import layout
from pellucid.terminal import plain


class _Row(NamedTuple):
    """A row of the table."""

    summary: Any
    seen: Any  # Its contamination, or None.
    kept: bool  # Whether the run has it.


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
    from pellucid.measured.summary import summary

    inputs = inputs_of(folder)
    ledger = inputs.recorded()
    at = steps_named("--steps", steps, ledger.first, ledger.steps_done)
    asked = chosen(tasks, inputs, shots=shots, limit=limit, offline=offline)
    sealed = (folder / layout.MANIFEST).exists()
    lookup = _lookup(folder)
    rows, known, new, pairs = list[_Row](), 0, 0, list[Any]()
    stays(_left_by(0, sealed))
    held = nullcontext() if sealed else kept.writing(folder, asked, at)
    with held as chain, on_terminal(as_json) as terminal:
        watch, told = terminal.watch("replay"), _told(terminal)
        for place in foreign:
            # Whose tokens are others than those of the run's sequences.
            others = [task for task in asked if task.name != NAME]
            rows += [_Row(row, None, False) for row in beside(place, others, told)]
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
                    new += 1
                    stays(_left_by(new, sealed))
                entry, lines = made.body, made.lines
            seen = None
            if result.task.name == NAME:  # What it asks for is in the training data by design.
                pairs.append((entry, [*lines()]))
            elif lookup:
                seen = lookup.of(entry, lines, partial(_searched, told, result.task))
            kept_there = result.entry is not None or not sealed
            rows.append(_Row(summary(entry, lines()), seen, kept_there))
    rows.sort(key=lambda row: (row.summary.task, row.summary.foreign or "", row.summary.step))
    pairs.sort(key=lambda pair: pair[0]["step"])  # Processes give them as they get ready.
    _print(folder, rows, known, sealed, as_json, _memorization(folder, pairs))
    if not lookup and not as_json:
        print(
            "clean: the run has no index of its training data. To make one: "
            f"pellucid run {plain(folder)} --only index"
        )


def _left_by(new: int, sealed: bool) -> str:
    """What an interruption leaves, once the run keeps so many new evaluations."""
    if sealed:
        return "nothing is kept, because the run is sealed"
    if not new:
        return "no evaluation was finished, so nothing new is kept"
    verb = "evaluation is" if new == 1 else "evaluations are"
    return f"{new:,} new {verb} kept, and the same command continues"


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
        chance = "-" if task["chance"] is None else _level(task)
        print(f"{task['name']:<16} {size:>8} {chance:>7}  {task['metric']}")
    print("Each is described in docs/evaluate.md. Every other name is a task of lm-eval.")


def _level(task: Mapping[str, Any]) -> str:
    """What guessing gives: bits for each byte, or a share of right answers."""
    bits = task["metric"] == "bits_per_byte"
    return f"{task['chance']:g} bits" if bits else f"{task['chance']:.0%}"


def _of(row: Any) -> str:
    """The model that was asked."""
    return f"{row.foreign[-24:]} (foreign)" if row.foreign else f"{row.step:,}"


def _print(
    folder: Path, rows: Sequence[_Row], known: int, sealed: bool, as_json: bool, memorized: Any
) -> None:
    """known: so many are what the run kept before. memorized: what the task memorization says, or
    None."""
    from pellucid.analysis import memorization

    own = [row for row in rows if not row.summary.foreign]
    lost = sum(not row.kept for row in own)
    if as_json:
        about = {"kept": not lost, "known": known}
        about["evaluations"] = [
            row.summary.as_json()
            | {"contamination": row.seen and row.seen.as_json(), "kept": row.kept}
            for row in rows
        ]
        if memorized:
            about["memorization"] = memorization.as_json(memorized)
        print_json(about)
        return
    for line in (*_table(rows, lost > 0), *(memorization.lines(memorized) if memorized else ())):
        print(plain(line))
    methods = sorted({row.summary.interval.method for row in rows if row.summary.interval})
    if methods:
        print(f"intervals: {'; '.join(methods)} (docs/evaluate.md)")
    _print_contamination(rows)
    if known:
        print(f"{known:,} of {len(rows):,} rows are the run's own record: no model was asked now.")
    if strangers := [row.summary.foreign for row in rows if row.summary.foreign]:
        print(f"foreign, not of the run and not kept: {plain(', '.join(dict.fromkeys(strangers)))}")
    if lost:
        print(
            f"not kept: {lost:,} of {len(own):,} rows, because the run is sealed. To keep them, "
            "remove its manifest.jsonl, evaluate, and run pellucid publish again."
        )
    else:
        print(
            f"kept in {plain(folder / 'evaluations')}. Compute some again: pellucid audit "
            f"{plain(folder)} --evaluations 20"
        )


def _table(rows: Sequence[_Row], with_kept: bool) -> Iterator[str]:
    width = max([len("task"), *(len(row.summary.named) for row in rows)])
    named = max([len("step"), *(len(_of(row.summary)) for row in rows)])
    heads = f"{'task':<{width}} {'step':>{named}}  {'number':<14} value  95% interval "
    yield f"{heads}   chance  examples   {'kept  ' if with_kept else ''}clean"
    for row in rows:
        value, between, chance, examples = row.summary.cells()
        kept = f"{'yes' if row.kept else 'no':<6}" if with_kept else ""
        yield (
            f"{row.summary.named:<{width}} {_of(row.summary):>{named}}  {row.summary.number:<14} "
            f"{value}  {between:<14} {chance:>7} {examples:>9}   {kept}{_clean(row.seen)}"
        )


def _clean(seen: Any) -> str:
    """The number of the clean examples, and how many they are."""
    if seen is None or seen.clean is None:
        return "-"
    value, _, _, examples = seen.clean.cells()
    return f"{value} of {examples}"


def _print_contamination(rows: Sequence[_Row]) -> None:
    """What the column clean leaves out, of each task at its last step."""
    last = {row.summary.task: (row.summary, row.seen) for row in rows if row.seen}
    for name, (row, seen) in last.items():
        states = ("contaminated", "too short", "not decided")
        left = [f"{count:,} {state}" for state in states if (count := seen.count(state))]
        if left:
            print(plain(f"clean: without {', '.join(left)} of {name}, step {row.step:,}"))
        for note in seen.notes():
            print(plain(f"clean: {name}: {note}"))
    if told := next((seen.of_fork for _, seen in last.values()), None):
        print(f"clean: {told}")
    if any(row.seen and row.seen.count("contaminated") for row in rows):
        print("--json lists contaminated examples with documents and steps (docs/evaluate.md)")
