"""The tasks that names mean: built in, or of lm-eval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pellucid.errors import CommandInvalid
from pellucid.evaluate import builtin
from pellucid.evaluate.suite import BUILT_IN, memorization, texts
from pellucid.evaluate.task import Task
from pellucid.inputs import Inputs


def chosen(
    names: str | None,
    inputs: Inputs,
    *,
    shots: int | None = None,
    limit: int | None = None,
    offline: bool = False,
) -> list[Task]:
    """The tasks of names with commas between; of None all built-in tasks but memorization.

    Raises CommandInvalid, HarnessMissing, TaskUnknown, TaskInvalid, TaskNameTaken, TaskUnfit,
    TaskDataInvalid, TaskDataMissing, RightChoiceMissing."""
    wanted = (
        [*builtin.BY_DEFAULT]
        if names is None
        else [one for word in names.split(",") if (one := word.strip())]
    )
    if not wanted:
        detail = "it names no task. Leave it out to ask the built-in tasks"
        raise CommandInvalid(verb="evaluate", word="--tasks", detail=detail)
    if shots is not None and (ours := [name for name in wanted if name in builtin.NAMES]):
        detail = f"built-in tasks have no solved examples, such as {ours[0]}. Leave one of both out"
        raise CommandInvalid(verb="evaluate", word="--shots", detail=detail)
    others = [name for name in dict.fromkeys(wanted) if name not in builtin.NAMES]
    theirs: Sequence[Task] = ()
    if others:
        from pellucid.evaluate.harness import Wanted, prepare

        asked = [Wanted(name, shots) for name in others]
        theirs = prepare(asked, limit=limit, offline=offline, ours=builtin.NAMES)
    own = [name for name in dict.fromkeys(wanted) if name in builtin.NAMES]
    ours = [_made(name, inputs, limit) for name in own]
    return [*ours, *theirs]


def listed() -> list[dict[str, Any]]:
    """Of every built-in task what it asks; of the run's own texts how many there are depends."""
    about = [
        {
            "name": task.name,
            "examples": len(task.examples),
            "chance": task.chance,
            "metric": task.metric,
        }
        for task in (make() for make in BUILT_IN.values())
    ]
    own = (
        (builtin.VALIDATION, texts.UNIFORM, "bits_per_byte"),
        (memorization.NAME, None, memorization.METRIC),
    )
    return about + [
        {"name": name, "examples": None, "chance": chance, "metric": metric}
        for name, chance, metric in own
    ]


def _made(name: str, inputs: Inputs, limit: int | None) -> Task:
    task = builtin.made(name, inputs)
    settings = {**task.settings, "limit": limit}
    return replace(task, examples=task.examples[:limit], settings=settings)
