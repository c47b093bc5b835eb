"""Programs that a model wrote, run in a process without rights, bounded in time, memory and output.

`confined.py` is what runs there. The results that would be right stay here: a program that prints
or exits as it likes gains nothing."""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from pellucid.errors import SandboxMissing
from pellucid.evaluate.suite import confined

_SECONDS = 20.0  # From start to end, whatever the process does.
_MOST_IN, _MOST_OUT = 1 << 15, 1 << 16  # Bytes: of the program, and of what is read from it.


class Outcome(NamedTuple):
    """How far a program came."""

    parses: bool
    compiles: bool
    values: tuple[str, ...]  # What its expressions are, until one failed.


def run(program: str, expressions: Sequence[str]) -> Outcome:
    """The outcome of a program, and of expressions behind it. Raises SandboxMissing where this
    machine cannot confine it."""
    job = marshal.dumps((program, [*expressions]))
    if len(job) > _MOST_IN:
        return Outcome(False, False, ())
    first, *lines = _output(job).split(b"\n")
    if first != b"confined":
        detail = first.decode("utf-8", "replace")[:200].removeprefix("free ")
        raise SandboxMissing(detail=detail or "the process ended before it was confined")
    values = [_value(line) for line in lines if line.startswith(b"is ")]
    return Outcome(b"parsed" in lines, b"compiled" in lines, tuple(values))


def _value(line: bytes) -> str:
    """Of a line that the program may have written itself."""
    try:
        return bytes.fromhex(line[3:].decode("ascii")).decode("utf-8")
    except ValueError:
        return ""


def _output(job: bytes) -> bytes:
    """What the process writes, until it ends or is ended."""
    command = [sys.executable, "-I", "-S", "-B", confined.__file__]
    with (
        tempfile.TemporaryDirectory() as empty,
        subprocess.Popen(
            command,
            cwd=empty,
            env={},
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        assert process.stdin and process.stdout
        try:
            with contextlib.suppress(BrokenPipeError):  # It ended, which its output tells.
                os.write(process.stdin.fileno(), job)
            process.stdin.close()
            return _bounded(process.stdout.fileno())
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _bounded(pipe: int) -> bytes:
    content, end = b"", time.monotonic() + _SECONDS
    while len(content) < _MOST_OUT:
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            break
        if not (piece := os.read(pipe, _MOST_OUT)):
            break
        content += piece
    return content[:_MOST_OUT]
