"""The evaluations of a run, for its pages: of each task the number that tables show, over the steps
that were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import EvaluationBroken, FileMissing
from pellucid.measured import stored
from pellucid.measured.summary import Summary
from pellucid.site.curves import short

NAME = "evaluations"
TASKS = 64  # That a page shows, by name.
STEPS = 256  # Of a task; of more every so many-th, and the last.
_ALIKE = ("task", "task_digest", "metric", "harness", "version", "settings")


def told(folder: Path) -> dict[str, Any]:
    """Of each task its course over steps; the latest evaluation of a step counts. Of evaluations
    that cannot be read, that they cannot: their check names what is wrong."""
    try:
        return {"unreadable": False, **_told(folder)}
    except (EvaluationBroken, FileMissing):
        return {"unreadable": True, "left_out": 0, "tasks": []}


def _told(folder: Path) -> dict[str, Any]:
    by_task = dict[str, dict[int, Mapping[str, Any]]]()
    for entry in stored.of_run(folder):
        by_task.setdefault(_alike(entry), {})[entry["step"]] = entry
    shown = sorted(by_task)[:TASKS]
    return {
        "left_out": len(by_task) - len(shown),
        "tasks": [_course(folder, by_task[key]) for key in shown],
    }


def _alike(entry: Mapping[str, Any]) -> str:
    """Equal for evaluations that differ in their weights alone; in the order of the tasks."""
    return repr([entry[name] for name in _ALIKE])


def _course(folder: Path, by_step: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    entries = [by_step[step] for step in _thinned(sorted(by_step))]
    rows = [*stored.summaries(folder, entries)]
    last, row = entries[-1], rows[-1]
    return {
        **{name: last[name] for name in ("task", "metric", "harness", "version", "settings")},
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
