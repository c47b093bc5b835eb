"""Every step of a run: the segments between anchors need nothing of each
other, so processes share them.

Processes, since the threads of our kernels and of torch are one pool for each.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from pellucid import machine
from pellucid.errors import AuditLost
from pellucid.inputs import Inputs
from pellucid.recipe import load as load_recipe
from pellucid.replay.audit import Finding, Pass, run_pass
from pellucid.replay.effort import least_memory
from pellucid.replay.materialise import Watch
from pellucid.store import layout
from pellucid.train.processes import cores


def segments(inputs: Inputs) -> list[Pass]:
    """Every step of the run, cut at its anchors. The first segment begins with the first
    state, whatever is stored of it."""
    first, last = inputs.recipe.first, inputs.recorded().steps_done
    inner = [
        step for step in layout.steps_in(inputs.folder / layout.ANCHORS) if first < step < last
    ]
    bounds = zip([None, *inner], [*inner, last], strict=True)
    return [
        Pass(start, tuple(range(first if start is None else start + 1, end + 1)), first)
        for start, end in bounds
    ]


def workers(inputs: Inputs) -> int:
    """How many processes this machine has cores and memory for; native bits
    depend on the threads of each."""
    threads = int((inputs.identity.stack or {}).get("threads", 1))
    if inputs.recipe.placement.device != "cpu":
        return 1
    most = min(
        cores() // threads,
        machine.available() // least_memory(inputs),
        len(segments(inputs)),
    )
    return max(1, most)


def audit_all(inputs: Inputs, watch: Watch) -> list[Finding]:
    """Audit every step of the run, the initial state included. Raises AuditLost."""
    parts, processes = segments(inputs), workers(inputs)
    total = sum(part.length for part in parts)
    all_findings, done = [], 0
    if processes == 1:
        for part in parts:
            all_findings += run_pass(
                inputs, part, lambda at, _, before=done: watch(before + at, total)
            )
            done += part.length
        return all_findings
    for part, findings in _shared(inputs.folder, parts, processes):
        all_findings += findings
        done += part.length
        watch(done, total)
    return sorted(all_findings, key=lambda finding: finding.step)


def _shared(
    folder: Path, parts: list[Pass], processes: int
) -> Iterator[tuple[Pass, list[Finding]]]:
    threads = max(1, cores() // processes)
    # A fork would copy locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, context, _open, (folder, threads)) as pool:
            waiting = {
                pool.submit(_audit, part): part
                for part in sorted(parts, key=lambda part: -part.length)
            }
            for ready in as_completed(waiting):
                yield waiting[ready], ready.result()
    except BrokenProcessPool as error:
        raise AuditLost(path=folder) from error


_opened: list[Inputs] = []  # Of this process.


def _open(folder: Path, threads: int) -> None:
    recipe = load_recipe(folder)
    placement = recipe.placement.model_copy(update={"threads": threads})
    _opened.append(Inputs.load(folder, recipe.model_copy(update={"placement": placement})))


def _audit(part: Pass) -> list[Finding]:
    return run_pass(_opened[0], part, lambda done, total: None)
