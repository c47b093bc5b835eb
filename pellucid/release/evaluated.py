"""The evaluations in a README, as each version of its template tells them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pellucid.cards.markdown import escape
from pellucid.errors import EvaluationBroken, FileMissing, TaskDiffers
from pellucid.evaluate import builtin
from pellucid.measured import stored, variants
from pellucid.measured.summary import Summary, summary

Rows = Callable[[Path], tuple[list[str], int]]  # Of a table, and the step that they are of.


def first(folder: Path) -> list[str]:
    """In template 1: of a task that was asked in several ways, the way that was asked last."""
    return _section(folder, _FIRST, _rows_of_first)


def second(folder: Path) -> list[str]:
    """In template 2: one variant of each task, by a rule that the section states."""
    return _section(folder, _SECOND, _rows)


def third(folder: Path) -> list[str]:
    """In template 3: the same, and variants of other steps are counted too."""
    return _section(folder, _THIRD, _rows_with_all_variants)


def _section(folder: Path, template: str, rows: Rows) -> list[str]:
    """No section where the run has no evaluation."""
    try:
        told, step = rows(folder)
    except (EvaluationBroken, TaskDiffers, FileMissing):  # Their check names what is wrong.
        return [_UNREADABLE]
    return [template.format(step=step, rows="\n".join(told))] if told else []


def _rows(folder: Path) -> tuple[list[str], int]:
    return _chosen(folder, all_steps=False)


def _rows_with_all_variants(folder: Path) -> tuple[list[str], int]:
    return _chosen(folder, all_steps=True)


def _chosen(folder: Path, all_steps: bool) -> tuple[list[str], int]:
    """One variant of each task: the one with the most examples, and of these the one that was asked
    first. So neither a part of a task nor a later try takes the place of the whole. all_steps:
    whether a variant that was asked at another step counts among the others."""
    entries = builtin.of_run(folder)
    step = max((entry["step"] for entry in entries), default=0)
    named, first_asked = variants.named(entries), dict[variants.Question, int]()
    for entry in entries:
        first_asked.setdefault(variants.question(entry), entry["n"])
    by_task = dict[str, list[tuple[int, int, str, Summary]]]()
    for asked, by_step in variants.newest(entries).items():
        if entry := by_step.get(step):
            row = summary(entry, stored.lines(folder, entry))._replace(variant=named[asked])
            by_task.setdefault(row.task, []).append(
                (-row.examples, first_asked[asked], entry["metric"], row)
            )
    rows = []
    for own in by_task.values():
        _, _, metric, row = min(own, key=lambda variant: variant[:2])
        variants_of = sum(asked[0] == row.task for asked in named) if all_steps else len(own)
        others = f"{variants_of - 1:,}"
        cells = (*map(escape, (row.named, metric, row.number)), *row.cells(), others)
        rows.append(f"| {' | '.join(cells)} |")
    return sorted(rows), step


def _rows_of_first(folder: Path) -> tuple[list[str], int]:
    entries = stored.of_run(folder)
    step = max((entry["step"] for entry in entries), default=0)
    newest = {entry["task"]: entry for entry in entries if entry["step"] == step}
    rows = []
    for entry in newest.values():
        row = summary(entry, stored.lines(folder, entry), joined=False)
        named = (escape(name) for name in (row.task, entry["metric"], row.number))
        rows.append(f"| {' | '.join((*named, *row.cells()))} |")
    return sorted(rows), step


_UNREADABLE = """## Evaluations

The evaluations of this release cannot be read. `pellucid verify .` says what is wrong.
"""
_FIRST = """## Evaluations

The last evaluation of each task, of the model after step {step:,}, from `evaluations/`:

| task | metric | number | value | 95% interval | chance | examples |
|---|---|---|---|---|---|---|
{rows}

`pellucid audit . --evaluations 20` asks the model 20 of the examples again, and compares the bits \
of its answers.
`pellucid sql . "FROM evaluations"` lists all steps. Numbers of the metric `measured` come from \
their harness alone.
"""


_SECOND = """## Evaluations

The model after step {step:,} was asked these tasks. Of several variants of a task, the table has \
the one with the most examples, and of those the one that was asked first. Variants differ in \
their shots, a limit, or the program that made the examples.

| task | metric | number | value | 95% interval | chance | examples | other variants |
|---|---|---|---|---|---|---|---|
{rows}

Tasks without the name of a program are those that are built in. `pellucid verify .` draws their \
examples again.
`pellucid audit . --evaluations 20` asks the model 20 of the examples again, and compares the bits \
of its answers.
`pellucid sql . "FROM evaluations"` lists all steps and variants. Numbers of the metric `measured` \
come from their harness alone.
"""


_THIRD = _SECOND.replace(
    "a limit, or the program that made the examples.",
    "a limit, their questions, or the program that made these. The last column counts those of "
    "all steps.",
)
