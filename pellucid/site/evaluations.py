"""The evaluations of a run, for its pages: of each task the number that tables show, over the steps
that were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import EvaluationBroken, FileMissing, TaskDiffers
from pellucid.evaluate import builtin
from pellucid.measured import stored, variants
from pellucid.measured.summary import Summary
from pellucid.site.curves import short

NAME = "evaluations"
TASKS = 64  # That a page shows, by name.
STEPS = 256  # Of a task; of more every so many-th, and the last.
_NAMES = ("task", "metric", "harness", "version", "settings")
_ALIKE = ("task", "task_digest", "metric", "harness", "version", "settings")  # In schema 1.


def told(folder: Path, schema: int) -> dict[str, Any]:
    """Of each task its course over steps; the latest evaluation of a step counts. Of evaluations
    that cannot be read, that they cannot: their check names what is wrong."""
    try:
        return {"unreadable": False, **(_told(folder) if schema > 1 else _told_first(folder))}
    except (EvaluationBroken, TaskDiffers, FileMissing):
        return {"unreadable": True, "left_out": 0, "tasks": []}


def _told(folder: Path) -> dict[str, Any]:
    entries = builtin.of_run(folder)
    newest, named = variants.newest(entries), variants.named(entries)
    tasks = [
        {**_course(folder, by_step), "variant": named[asked]}
        for asked, by_step in [*newest.items()][:TASKS]
    ]
    return {"left_out": len(newest) - len(tasks), "tasks": tasks}


def _told_first(folder: Path) -> dict[str, Any]:
    """In schema 1, each version of a harness had a course, and equal requests no cluster."""
    by_task = dict[str, dict[int, Mapping[str, Any]]]()
    for entry in stored.of_run(folder):
        alike = repr([entry[name] for name in _ALIKE])
        by_task.setdefault(alike, {})[entry["step"]] = entry
    shown = sorted(by_task)[:TASKS]
    tasks = [_course(folder, by_task[key], joined=False) for key in shown]
    return {"left_out": len(by_task) - len(shown), "tasks": tasks}


def _course(
    folder: Path, by_step: Mapping[int, Mapping[str, Any]], joined: bool = True
) -> dict[str, Any]:
    entries = [by_step[step] for step in _thinned(sorted(by_step))]
    rows = [*stored.summaries(folder, entries, joined)]
    last, row = entries[-1], rows[-1]
    return {
        **{name: last[name] for name in _NAMES},
        "number": row.number,
        "examples": row.examples,
        "chance": None if row.chance is None else short(row.chance),
        "method": row.interval.method if row.interval else None,
        "step": [each.step for each in rows],
        "value": [short(each.value) for each in rows],
        "low": [_end(each, "low") for each in rows],
        "high": [_end(each, "high") for each in rows],
    }


def _thinned(steps: Sequence[int]) -> Sequence[int]:
    every = -(-len(steps) // STEPS)
    return steps[::-1][::every][::-1]


def _end(row: Summary, end: str) -> float | None:
    return short(getattr(row.interval, end)) if row.interval else None
