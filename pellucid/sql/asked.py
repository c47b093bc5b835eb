"""Asking: a process answers, and whoever asked takes its rows, serves it what
lies behind a URL, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pellucid.errors import FormatInvalid, PellucidError, QueryLost, QueryStopped, QueryTooLarge
from pellucid.sql import line
from pellucid.sql.line import Line
from pellucid.sql.views import VIEWS
from pellucid.store import layout
from pellucid.store.remote import RemotePath

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY = 2_000_000_000  # Bytes that DuckDB may have.
ANSWER = 1 << 30  # Bytes of an answer.
_CHILD = "import sys; sys.path[:] = {path!r}; from pellucid.sql.worker import main; main()"


class Answer(NamedTuple):
    """The first rows of an answer, and how many there were."""

    table: pa.Table
    rows: int


def sql(folder: Path, query: str, seconds: float | None = None) -> pa.Table:
    """The whole answer to a SELECT over the run's views, as an Arrow table. A sum
    of BIGINTs is decimal128(38, 0).

    Raises RunMissing, QueryInvalid, QueryStopped after so many seconds, QueryTooLarge, QueryLost,
    and FormatInvalid for a damaged table."""
    return ask(folder, query, seconds=seconds).table


def schema(folder: Path) -> dict[str, Any]:
    """The views of a run with their columns and how many rows each has. Raises as sql."""
    counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in VIEWS)
    rows = sql(folder, f"SELECT {counts}").to_pylist()[0]
    return {
        "views": [
            {
                "view": name,
                "meaning": view.meaning,
                "rows": rows[name],
                "columns": [
                    {"name": column.name, "type": column.type, "meaning": column.meaning}
                    for column in view.columns
                ],
            }
            for name, view in VIEWS.items()
        ]
    }


def ask(folder: Path, query: str, limit: int | None = None, seconds: float | None = None) -> Answer:
    """As sql, but of the answer's rows only the first `limit` are kept, and the
    rest counted. Ctrl-C ends it."""
    served = isinstance(folder, RemotePath)
    run = str(folder if served else folder.absolute())
    job = {"run": run, "served": served, "query": query, "limit": limit, "memory": MEMORY}
    with _process() as process:
        try:
            return _within(seconds, lambda: _talk(_line(process), folder, job))
        except (EOFError, BrokenPipeError) as error:
            raise QueryLost(detail=_ended(process)) from error


@contextlib.contextmanager
def _process() -> Iterator[subprocess.Popen[bytes]]:
    # Not a fork, which would copy locks of threads that it does not copy; nor -m, which
    # looks into this folder first.
    path = [str(Path(entry).absolute()) for entry in sys.path]
    # It asks for no more than it uses.
    environment = dict(os.environ) | {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    command, pipe, nowhere = (
        [sys.executable, "-P", "-c", _CHILD.format(path=path)],
        subprocess.PIPE,
        subprocess.DEVNULL,
    )
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for end in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # What it had not read yet.
                assert end
                end.close()


def _line(process: subprocess.Popen[bytes]) -> Line:
    assert process.stdin and process.stdout
    return Line(process.stdout, process.stdin)  # type: ignore[arg-type]


def _within(seconds: float | None, work: Callable[[], Answer]) -> Answer:
    """What the work returns or raises. It may be left behind at any moment, for the
    process that it hears will end."""
    outcome = queue.SimpleQueue[tuple[Answer | None, BaseException | None]]()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for.
            outcome.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = outcome.get(timeout=seconds)
    except queue.Empty as error:
        raise QueryStopped(seconds=seconds) from error
    if error is not None:
        raise error
    assert answer is not None
    return answer


def _ended(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    return f"{signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _talk(way: Line, folder: Path, job: dict[str, Any]) -> Answer:
    way.send(line.JOB, json.dumps(job).encode())
    import pyarrow as pa  # Meanwhile.

    columns, batches, size = None, list[Any](), 0
    while True:
        kind, content = way.receive()
        if kind == line.ASKED and isinstance(folder, RemotePath):
            way.send(*_served(folder, json.loads(content)))
        elif kind == line.FAULT:
            raise line.untold(json.loads(content))
        elif kind == line.SCHEMA:
            columns = pa.ipc.read_schema(pa.py_buffer(content))
        elif kind == line.ROWS:
            size += len(content)
            if size > ANSWER:
                raise QueryTooLarge(most=ANSWER)
            batches += _batches(folder, content)
        elif kind == line.DONE:
            return Answer(pa.Table.from_batches(batches, columns), int(json.loads(content)))
        else:
            raise EOFError


def _batches(folder: Path, content: bytes) -> list[pa.RecordBatch]:
    """Rows, held against their own description: they are of files that nobody has checked."""
    import pyarrow as pa

    try:
        batches = list(pa.ipc.open_stream(content))
        for batch in batches:
            batch.validate(full=True)  # Also that texts are Unicode.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatInvalid(path=folder, detail=str(error).rstrip(".")) from error
    return batches


def _served(folder: RemotePath, request: dict[str, Any]) -> tuple[bytes, bytes]:
    """The bytes of a release behind a URL that the process asks for; or why there are none."""
    try:
        path, spans = request["path"], request["spans"]
        if spans is None:
            return line.SERVED, (folder / layout.MANIFEST).read_bytes()
        return line.SERVED, b"".join(folder.served.spans(path, spans))
    except PellucidError as error:
        return line.FAULT, json.dumps(line.told(error)).encode()
