"""Work on a run that processes of this machine share, and with it the audit of every step: the
segments between anchors need nothing of each other.

Processes, since the threads of our kernels and of torch are one pool for each.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from pellucid import machine
from pellucid.errors import AuditLost, MachineError
from pellucid.inputs import Inputs
from pellucid.recipe import load as load_recipe
from pellucid.replay.audit import Finding, Pass, run_pass
from pellucid.replay.effort import least_memory
from pellucid.replay.materialise import Watch
from pellucid.store import layout
from pellucid.train.processes import cores

_SECONDS = 0.5  # Between two looks at how far the processes are.

Part = TypeVar("Part")
Result = TypeVar("Result")
# (kind, number): so many units of a kind of work are done. The kinds are the work's own.
Tell = Callable[[int, int], None]
KINDS = 2


def workers(inputs: Inputs, parts: int) -> int:
    """How many processes this machine has cores and memory for, of so many parts; native bits
    depend on the threads of each."""
    threads = int((inputs.identity.stack or {}).get("threads", 1))
    if inputs.recipe.placement.device != "cpu":
        return 1
    most = min(cores() // threads, machine.available() // least_memory(inputs), parts)
    return max(1, most)


def shared(
    folder: Path,
    processes: int,
    work: Callable[[Inputs, Part, Tell], Iterator[Result]],
    parts: Sequence[Part],
    watch: Callable[[list[int]], None],
    lost: type[MachineError],
) -> Iterator[tuple[Part, Result]]:
    """Everything that work gives for the parts, as soon as it is ready; begun in their order.

    watch: told every moment how much is done of each of KINDS. Raises `lost` if a process was
    killed, and what work raises."""
    threads = max(1, cores() // processes)
    # A fork would copy locks of threads that it does not copy.
    context = multiprocessing.get_context("spawn")
    done: Any = context.Array("q", KINDS)
    given, arrived = context.SimpleQueue(), queue.SimpleQueue[tuple[int, Any]]()
    # A process that is killed may leave half of a result: it keeps this thread waiting alone.
    threading.Thread(target=_receive, args=(given, arrived), daemon=True).start()
    try:
        about = (folder, threads, done, given, os.getpid())
        with ProcessPoolExecutor(processes, context, _open, about) as pool:
            try:
                with _without_interrupts():
                    waiting = {pool.submit(_do, work, at, part) for at, part in enumerate(parts)}
                owed = 0  # Results of parts that are done, less those that arrived.
                while waiting or owed:
                    watch(done[:])
                    for at, result in _next(arrived):
                        owed -= 1
                        yield parts[at], result
                    ready = {one for one in waiting if one.done()}
                    waiting -= ready
                    owed += sum(one.result() for one in ready)
                watch(done[:])
            except BaseException:  # Nobody waits for what the others do, which may take minutes.
                for process in [*(getattr(pool, "_processes", None) or {}).values()]:
                    process.terminate()
                raise
            given.put(None)
    except BrokenProcessPool as error:
        raise lost(path=folder) from error


def _receive(given: Any, arrived: queue.SimpleQueue[tuple[int, Any]]) -> None:
    while (one := given.get()) is not None:
        arrived.put(one)


def _next(arrived: queue.SimpleQueue[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """The next result, if one comes soon."""
    try:
        one = arrived.get(timeout=_SECONDS)
    except queue.Empty:
        return
    yield one


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never get a Ctrl-C, not even while they import: whoever
    started them ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_opened: list[tuple[Inputs, Any, Any]] = []  # Of this process.


def _open(folder: Path, threads: int, done: Any, given: Any, parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    recipe = load_recipe(folder)
    placement = recipe.placement.model_copy(update={"threads": threads})
    inputs = Inputs.load(folder, recipe.model_copy(update={"placement": placement}))
    _opened.append((inputs, done, given))


def _end_with(parent: int) -> None:
    """A parent that is killed tells nobody, and its processes would wait for work for good."""
    while os.getppid() == parent:
        time.sleep(_SECONDS)
    os._exit(1)


def _do(work: Callable[[Inputs, Part, Tell], Iterator[Result]], at: int, part: Part) -> int:
    """How many results were given."""
    inputs, done, given = _opened[0]

    def tell(kind: int, number: int) -> None:
        with done.get_lock():
            done[kind] += number

    count = 0
    for result in work(inputs, part, tell):
        given.put((at, result))
        count += 1
    return count


# ---- the audit of every step ----------------------------------------------------------------


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


def audit_all(inputs: Inputs, watch: Watch) -> list[Finding]:
    """Audit every step of the run, the initial state included. Raises AuditLost."""
    parts = segments(inputs)
    total = sum(part.length for part in parts)
    processes = workers(inputs, len(parts))
    if processes == 1:
        findings, done = [], 0
        for part in parts:
            findings += run_pass(inputs, part, lambda at, _, before=done: watch(before + at, total))
            done += part.length
        return findings
    longest = sorted(parts, key=lambda part: -part.length)
    each = shared(
        inputs.folder, processes, _audit, longest, lambda done: watch(done[0], total), AuditLost
    )
    return sorted(
        (finding for _, findings in each for finding in findings), key=lambda one: one.step
    )


def _audit(inputs: Inputs, part: Pass, tell: Tell) -> Iterator[list[Finding]]:
    at = 0

    def watch(done: int, _: int) -> None:
        nonlocal at
        tell(0, done - at)
        at = done

    findings = run_pass(inputs, part, watch)
    watch(part.length, part.length)  # A pass ends early where it finds a fault.
    yield findings
