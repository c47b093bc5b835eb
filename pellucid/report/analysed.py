"""Memorization, forgetting, and the examples that the training data held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pellucid.analysis import memorization as memory
from pellucid.analysis.contamination import STATES, Contamination, Lookup
from pellucid.analysis.forgetting import Forgetting, forgetting
from pellucid.analysis.memorization import Memorization, Row
from pellucid.evaluate.suite.memorization import NAME
from pellucid.measured.intervals import Interval
from pellucid.measured.variants import Entry, Question
from pellucid.record.evaluations import OURS
from pellucid.report.blocks import (
    Command,
    Picture,
    Pictures,
    Section,
    Table,
    Words,
    missing,
    say,
)
from pellucid.report.chart import Chart, Line
from pellucid.report.evaluated import MOST_DRAWN
from pellucid.report.reported import Reported, safe
from pellucid.store.remote import RemotePath


def memorization(run: Reported) -> Section:
    """What the run wrote into its weights, and what repetition did to the losses."""
    if run.done == run.first:
        return missing("Memorization", "No step is taken yet.", run.command("run"))
    section, asked = Section(Words("Memorization")), run.command("evaluate", _ASKED)
    found = memory.matrix(run.folder)
    if found:
        section.blocks += [say(Words(_told(found))), _at_last(found), _over_steps(found)]
        audit = run.command("audit", "--evaluations 20")
        section.checks.append(Command(audit, Words("asks the model 20 examples again")))
    else:
        section.blocks.append(say(Words("No step was asked for its training sequences.")))
        section.checks.append(Command(asked, Words("asks for them")))
    section.numbers = {"matrix": memory.as_json(found) if found else None}
    if not isinstance(run.folder, RemotePath):  # It reads all of the largest table.
        again = forgetting(run.folder)
        section.blocks += _forgotten(again)
        section.numbers["forgetting"] = memory.as_json(again)
        section.checks.append(Command(run.command("verify"), Words("checks the losses of texts")))
    return section


_ASKED = f"--tasks {NAME} --steps log"


def _told(found: Memorization) -> str:
    return (
        f"The model was given {found.prompt} tokens of a sequence, and wrote the next "
        f"{found.tokens}. A sequence of the row `validation` was never trained on."
    )


def _at_last(found: Memorization) -> Table:
    """Every group of sequences at the last step that was asked."""
    groups = (
        ("drawn from steps", (*found.ranges, found.validation)),
        ("times trained on", found.times),
        ("steps since the last", found.recency),
        ("copies in the data", found.copies or ()),
    )
    rows = [
        (
            Words(heading),
            row.name,
            f"{cell.sequences:,}",
            *_rate(cell.share.value, cell.share.interval),
            *_rate(cell.exact.value, cell.exact.interval),
        )
        for heading, own in groups
        for row in own
        if (cell := row.cells[-1])
    ]
    between = "95% interval"
    head = ("sequences by", "group", "number", "right tokens", between, "all right", between)
    caption = Words(f"Sequences written again after step {found.steps[-1]:,}")
    return Table(caption, tuple(map(Words, head)), rows, 2)


def _rate(value: float, interval: Interval | None) -> tuple[str, str]:
    return f"{value:.3f}", f"{interval.low:.3f} to {interval.high:.3f}" if interval else "-"


def _over_steps(found: Memorization) -> Pictures:
    ranges = [_line(row) for row in (*found.ranges, found.validation)]
    times = [_line(row) for row in found.times]
    name = "share of right tokens"
    charts = (
        Picture("memorization", Chart("By the steps that a sequence is drawn from", name, ranges)),
        Picture("memorization-times", Chart("By the times trained on before", name, times)),
    )
    return Pictures([*charts])


def _line(row: Row) -> Line:
    known = [cell for cell in row.cells if cell]
    return Line(row.name, [(float(cell.step), cell.share.value) for cell in known])


def _forgotten(again: Forgetting) -> list[Any]:
    if not again.times:
        return [say(Words("No text was trained on twice."))]
    head = (
        "read",
        "parts",
        "loss",
        "95% interval",
        "change",
        "less that of its step",
        "95% interval",
    )
    rows = []
    for row in (*again.times, *again.recency):
        since = "" if row in again.times else "steps since the last: "
        change = "-" if row.change is None else f"{row.change.value:+.3f}"
        beside = _signed(row.beside.value, row.beside.interval) if row.beside else ("-", "-")
        loss = _rate(row.loss.value, row.loss.interval)
        rows.append((Words(f"{since}{row.name}"), f"{row.parts:,}", *loss, change, *beside))
    caption = Words("Texts that were trained on again: nats per token before the step")
    return [Table(caption, tuple(map(Words, head)), rows)]


def _signed(value: float, interval: Interval | None) -> tuple[str, str]:
    between = f"{interval.low:+.3f} to {interval.high:+.3f}" if interval else "-"
    return f"{value:+.3f}", between


def contamination(run: Reported) -> Section:
    """Of each task at its last step, which examples the steps before had read."""
    if not run.newest:
        made = run.command("evaluate", "--steps log")
        return missing("Contamination", "The run keeps no evaluation.", made)
    if isinstance(run.folder, RemotePath):
        words = "Looking up every example needs the folder of the release, not its address."
        return Section(Words("Contamination"), [say(Words(words))])
    if not run.about["stages"]["index"]:
        made = run.command("run", "--only index")
        return missing("Contamination", "The run has no index of its training data.", made)
    # What memorization asks for is in the training data by design.
    tasks = [asked for asked in run.newest if asked[0] != NAME]
    found = [*_looked_up(run, tasks[:MOST_DRAWN])]
    states = tuple(map(Words, STATES))
    head = (
        *map(Words, ("task", "step")),
        *states,
        *map(Words, ("value", "of the clean", _BETWEEN)),
    )
    rows = [cells for cells, _, _ in found]
    section = Section(Words("Contamination"))
    section.blocks = [say(Words(_LOOKED)), Table(Words("Examples that were read"), head, rows)]
    if left := len(tasks) - len(found):
        again = f"{left:,} more task{'s' * (left != 1)} of the run, behind these by name"
        section.blocks.append(say(Words(f"Not looked up: {again}.")))
    if told := next((own.of_fork for _, _, own in found), None):
        section.blocks.append(say(Words(f"Of this fork {told}.")))
    if notes := [(name, Words(note)) for (name, *_), _, own in found for note in own.notes()]:
        head = (Words("task"), Words("what to know"))
        section.blocks.append(Table(Words("About these numbers"), head, notes, 2))
    section.numbers = {"tasks": [numbers for _, numbers, _ in found], "left_out": left}
    section.checks = [*_again(run, tasks[:MOST_DRAWN])]
    return section


_BETWEEN = "95% interval"


def _again(run: Reported, tasks: Sequence[Question]) -> Iterator[Command]:
    """The commands that look these tasks up at the steps of the table: one for each step, number of
    solved examples and limit."""
    groups = dict[tuple[int, int | None, int | None], dict[str, None]]()
    for asked in tasks:
        entry = run.newest[asked][max(run.newest[asked])]
        ours, settings = entry["harness"] == OURS, entry["settings"]
        shots = None if ours else _count(settings.get("num_fewshot"))
        key = entry["step"], shots, _count(settings.get("limit"))
        groups.setdefault(key, {})[_task(entry)] = None
    for (step, shots, limit), names in groups.items():
        more = "" if shots is None else f" --shots {shots}"
        more += "" if limit is None else f" --limit {limit}"
        line = run.command("evaluate", f"--tasks {','.join(names)} --steps {step}{more} --json")
        files = "; PATH is the folder of a YAML task" if any(map(_is_file, names)) else ""
        yield Command(line, Words(f"looks these up again and lists the documents{files}"))


def _task(entry: Entry) -> str:
    """A task as a command names it: built-in tasks and those with data of the Hub by their names,
    others are of YAML files, whose place no run tells."""
    name = entry["task"]
    if not safe(name) or "," in name:
        return "PATH/TASK.yaml"
    known = entry["harness"] == OURS or entry["settings"].get("revision")
    return name if known else f"PATH/{name}.yaml"


def _is_file(name: str) -> bool:
    return name.startswith("PATH/")


def _count(value: object) -> int | None:
    return value if type(value) is int else None


_LOOKED = (
    "An example is contaminated if n-grams of 8 words that steps had read cover 20% of its words. "
    "Other words for the same thing are not found. An example is not decided if a bound of the "
    "lookup was reached, or if it depends on how many solved examples stand before its question."
)


def _looked_up(
    run: Reported, tasks: Sequence[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any], Contamination]]:
    """Of each task a row of the table, its numbers, and what was looked up."""
    lookup = Lookup(run.folder)
    for asked in tasks:
        entries = run.newest[asked]
        seen, row = lookup.of(entries[max(entries)]), run.tasks[asked][-1]
        counts = (f"{seen.count(state):,}" for state in STATES)
        clean = seen.clean.cells()[:2] if seen.clean else ("-", "-")
        numbers = {"task": row.task, "variant": row.variant, "step": row.step, **seen.as_json()}
        yield (row.named, f"{row.step:,}", *counts, row.cells()[0], *clean), numbers, seen
