"""Which ways to take the same steps give the same bits, and what each costs: some real steps under
each, in processes of their own, compared by the digest of the whole state after every step."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid import counts, machine, operations
from pellucid.data import stage
from pellucid.errors import CommandInvalid, MeasuringFailed, MemoryTooSmall
from pellucid.journal import Journal
from pellucid.kernels import library
from pellucid.plan.estimate import read
from pellucid.plan.facts import facts
from pellucid.recipe import Recipe
from pellucid.store import layout
from pellucid.train.processes import cores

KINDS = ("threads", "isa", "processes", "resume", "portable", "native", "compile")

Told = Callable[[str, int, int, str], None]  # As a stage's progress: what, done, to do, unit.


@dataclass(frozen=True, slots=True)
class Axis:
    """One way to take the steps."""

    name: str
    kind: str  # What --skip leaves out.
    arithmetic: str
    threads: int  # Of each process.
    isa: str = ""  # Of the portable kernels; empty: the one taken here.
    compiled: bool = False
    processes: int = 1
    killed: bool = False  # Before the last step, which another process takes from the stored state.
    keeps: bool = True  # Whether its bits are promised to be those of the first.


def axes(recipe: Recipe) -> list[Axis]:
    """The recipe as it would run here, then one thing changed at a time."""
    own, threads = recipe.train.arithmetic, recipe.placement.threads or cores()
    portable = own == "portable"
    counted = sorted({1, 2, cores()} - {threads})
    sets = instruction_sets()[1:] if portable else []
    place = (recipe.placement.device, recipe.train.precision)
    fits_portable = not operations.missing("portable", *place)
    return [
        Axis(f"{own}, {_threads(threads)}", "", own, threads),
        *(Axis(_threads(number), "threads", own, number, keeps=portable) for number in counted),
        *(Axis(f"instruction set {name}", "isa", own, threads, isa=name) for name in sets),
        # Gradients are added in one tree, so bits keep on either arithmetic;
        # native's follow the threads.
        Axis(
            "2 processes",
            "processes",
            own,
            max(1, threads // 2),
            processes=2,
            keeps=portable or threads == 1,
        ),
        Axis("killed and resumed", "resume", own, threads, killed=True),
        *(
            [Axis("portable", "portable", "portable", threads, keeps=False)]
            if not portable and fits_portable
            else []
        ),
        *([Axis("native, eager", "native", "native", threads, keeps=False)] if portable else []),
        Axis("native, compiled", "compile", "native", threads, compiled=True, keeps=False),
    ]


def instruction_sets() -> list[str]:
    """Those whose kernels run here, the one that is taken first; without
    "software", which exists for tests."""
    loaded = library.load()
    taken = library.isa(loaded)
    known = [
        name
        for name in library.KNOWN
        if name != "software" and loaded.pellucid_start(name.encode(), 1)
    ]
    library.start(loaded, taken, 1)  # Asking took each of them.
    return [taken, *(name for name in known if name != taken)]


def _threads(number: int) -> str:
    return f"{number} thread" + "s" * (number != 1)


def measure(path: Path, steps: int, skip: list[str], told: Told) -> dict[str, Any]:
    """Take the first steps of a run, or of a recipe file, under every axis; into the
    journal of a run that has one.

    Raises CommandInvalid, MemoryTooSmall, RunBusy, and what reading the recipe and its data raises.
    """
    for name in skip:
        if name not in KINDS:
            raise CommandInvalid(verb="plan", word=name, detail=f"--skip takes {', '.join(KINDS)}")
    if steps < 2:
        raise CommandInvalid(
            verb="plan", word=f"--steps {steps}", detail="resuming a run needs 2 or more steps"
        )
    folder, recipe = read(path)
    known = facts(folder, recipe)
    needed = counts.memory(recipe, known.vocabulary, recipe.placement.threads or cores()).peak
    if recipe.placement.device == "cpu" and needed > machine.memory():
        gigabytes = (f"{value / 1e9:,.1f}" for value in (needed, machine.memory()))
        raise MemoryTooSmall(
            what=f"A step of {path}", needed=next(gigabytes), found=next(gigabytes)
        )
    noted = (
        path.is_dir()
        and (folder / layout.JOURNAL).is_file()
        and not (folder / layout.MANIFEST).is_file()
    )
    with layout.writing(folder) if noted else contextlib.nullcontext():
        chosen = [axis for axis in axes(recipe) if axis.kind not in skip]
        rows = [_row(path, known.vocabulary, axis, steps, told) for axis in chosen]
        for row in rows:
            _compare(row, rows[0])
        tokens = "own" if (folder / stage.DATA).is_file() else "generated"
        about = {"name": recipe.name, "steps": steps, "data": tokens, "noted": noted, "axes": rows}
        if noted:
            _note(folder, about)
    return about


def _row(path: Path, vocabulary: int, axis: Axis, steps: int, told: Told) -> dict[str, Any]:
    row: dict[str, Any] = dataclasses.asdict(axis) | {"states": [], "failed": ""}
    taken: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory() as place:
            for part in _parts(axis, steps):
                job = {
                    "path": str(path),
                    "vocabulary": vocabulary,
                    "arithmetic": axis.arithmetic,
                    "place": place,
                }
                job |= {
                    "threads": axis.threads,
                    "compiled": axis.compiled,
                    "state": taken[-1]["state"] if taken else "",
                }
                taken += _process(
                    job | part, axis, lambda done: told(axis.name, done, steps, "steps")
                )
    except MeasuringFailed as error:
        return row | {"failed": str(error.fields["detail"])}
    later = [line["seconds"] for line in taken[1 : steps - axis.killed]] or [taken[0]["seconds"]]
    return row | {
        "states": [line["state"] for line in taken],
        "first_seconds": taken[0]["seconds"],
        "seconds": statistics.median(later),
        "peak": max(line["peak"] for line in taken),
    }


def _parts(axis: Axis, steps: int) -> list[dict[str, Any]]:
    """What one process takes, or two: the first of those is killed before the last step."""
    if axis.killed:
        return [
            {"first": 0, "last": steps - 1, "die": True},
            {"first": steps - 1, "last": steps, "die": False},
        ]
    return [{"first": 0, "last": steps, "die": False}]


def _process(job: dict[str, Any], axis: Axis, told: Callable[[int], None]) -> list[dict[str, Any]]:
    """The lines of one worker. Raises MeasuringFailed where it does not end as it should."""
    environment = dict(os.environ) | ({library.VARIABLE: axis.isa} if axis.isa else {})
    torchrun = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(axis.processes),
    ]
    launch = torchrun if axis.processes > 1 else []
    command = [sys.executable, *launch, "-m", "pellucid.plan.worker", json.dumps(job)]
    with tempfile.TemporaryFile() as complaints:
        pipes = {"stdout": subprocess.PIPE, "stderr": complaints}
        with subprocess.Popen(
            command, env=environment, text=True, encoding="utf-8", **pipes
        ) as process:  # type: ignore[call-overload]
            try:
                lines = _lines(process, job["first"], told)
            except BaseException:
                process.kill()  # Ctrl-C: nobody may go on computing behind our back.
                raise
        if process.returncode != (-signal.SIGKILL if job["die"] else 0):
            complaints.seek(0)
            complaint = (
                complaints.read()[-10_000:].decode(errors="replace").strip().rpartition("\n")[2]
            )
            detail = f"{axis.name} ended with exit code {process.returncode}: {complaint[:300]}"
            raise MeasuringFailed(detail=detail)
    return lines


def _lines(
    process: subprocess.Popen[str], first: int, told: Callable[[int], None]
) -> list[dict[str, Any]]:
    assert process.stdout is not None
    told(first)
    lines = []
    for line in process.stdout:
        lines.append(json.loads(line))
        told(lines[-1]["step"])
    return lines


def _compare(row: dict[str, Any], first: dict[str, Any]) -> None:
    """Put in what is said against the first: the step at which the bits part, 0 for
    none; how much longer it takes."""
    if row["failed"] or first["failed"]:
        return
    pairs = zip(row["states"], first["states"], strict=True)
    row["differs_at"] = next(
        (step for step, (ours, theirs) in enumerate(pairs, 1) if ours != theirs), 0
    )
    row["ratio"] = row["seconds"] / first["seconds"]


def _note(folder: Path, about: dict[str, Any]) -> None:
    figures = {
        row["name"]: {"failed": row["failed"]} if row["failed"] else _figures(row)
        for row in about["axes"]
    }
    with Journal(folder) as journal:
        journal.note("measure", steps=about["steps"], data=about["data"], **figures)


def _figures(row: dict[str, Any]) -> dict[str, str]:
    bits = "not compared"
    if "differs_at" in row:
        bits = f"differ at step {row['differs_at']}" if row["differs_at"] else "equal"
    return {"bits": bits, "seconds": f"{row['seconds']:.3f}", "peak_bytes": str(row["peak"])}


def broken(found: dict[str, Any]) -> list[str]:
    """The axes whose bits were promised and differ."""
    return [row["name"] for row in found["axes"] if row["keeps"] and row.get("differs_at")]


def failed(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["axes"] if row["failed"]]
