"""The process that answers one question: it opens the tables, gives up the right to open or write
anything more, and only then looks at what the question asks for."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pellucid.errors import FormatInvalid, PellucidError, QueryInvalid, QueryLost
from pellucid.sql import line, statements, tables
from pellucid.sql.line import Line
from pellucid.store.remote import RemotePath
from pellucid.store.served import Served

_BATCH = 1 << 14  # Rows taken from DuckDB at a time.
_FILES = 1 << 16  # Files that may be open: a run that goes on has one for each anchor and table.


class Inbox:
    """What the other end sends, read by a thread of its own: when the other end
    is gone, so is this process."""

    def __init__(self, way: Line) -> None:
        self._way, self._frames = way, queue.SimpleQueue[tuple[bytes, bytes]]()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._frames.put(self._way.receive())
        os._exit(1)

    def next(self) -> tuple[bytes, bytes]:
        return self._frames.get()


class Through:
    """A remote folder's bytes, asked for at the other end. A Transport; one question at a time."""

    def __init__(self, way: Line, inbox: Inbox) -> None:
        self._way, self._inbox, self._lock = way, inbox, threading.Lock()

    def first(self, path: str, limit: int) -> bytes:
        return self._asked({"path": path, "spans": None})

    def ranges(self, path: str, spans: Sequence[tuple[int, int]], size: int) -> list[bytes]:
        content, ends = self._asked({"path": path, "spans": spans}), [0]
        ends += itertools.accumulate(stop - start for start, stop in spans)
        return [content[start:stop] for start, stop in itertools.pairwise(ends)]

    def _asked(self, what: dict[str, Any]) -> bytes:
        with self._lock:
            self._way.send(line.ASKED, json.dumps(what).encode())
            kind, content = self._inbox.next()
        if kind == line.FAULT:
            raise line.untold(json.loads(content))
        return content


def main() -> None:
    """Answer the question that comes in at standard input, at standard output."""
    # Ctrl-C is for whoever asked, who then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever a library prints goes elsewhere.
    way = Line(os.fdopen(0, "rb"), outgoing)
    inbox = Inbox(way)
    job = json.loads(inbox.next()[1])
    served = job.pop("served")
    folder = (
        RemotePath(Served(job.pop("run"), Through(way, inbox))) if served else Path(job.pop("run"))
    )
    try:
        with named_errors(folder):
            rows = answer(folder, job["query"], job["limit"], job["memory"], way)
        way.send(line.DONE, json.dumps(rows).encode())
    except PellucidError as error:
        way.send(line.FAULT, json.dumps(line.told(error)).encode())
    except Exception as error:  # noqa: BLE001 - told at the other end.
        lost = QueryLost(detail=f"{type(error).__name__}: {error}")
        way.send(line.FAULT, json.dumps(line.told(lost)).encode())


def answer(folder: Path, query: str, limit: int | None, memory: int, way: Line) -> int:
    """Send the first `limit` rows; returns how many there were. Confines the process for good."""
    with tables.engine(memory) as connection:
        statements.check(connection, query)
        _allow_many_files()
        tables.add(connection, folder, statements.views_in(query))
        # What is imported for that is imported now.
        connection.sql("SELECT 1 AS a").to_arrow_reader(1).read_all()
        confine(memory)
        return _send(connection, query, limit, way)


def _allow_many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def confine(memory: int) -> None:
    """From now on this process opens no file, writes none, and takes
    at most twice that memory more.

    Twice: what DuckDB counts is kept to it by DuckDB; what it and Arrow do
    not count has as much again."""
    # Where there is no such file or limit, DuckDB's own has to do.
    with contextlib.suppress(ValueError, OSError):
        most = _taken() + 2 * memory
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _taken() -> int:
    """Bytes of memory that this process may write to, by Linux' count."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmData"].split()[0]) << 10


def _send(connection: duckdb.DuckDBPyConnection, query: str, limit: int | None, way: Line) -> int:
    reader = connection.sql(query).to_arrow_reader(_BATCH)
    if twice := [name for name in reader.schema.names if reader.schema.names.count(name) > 1]:
        raise QueryInvalid(detail=f"two columns are called {twice[0]}: rename a column with AS")
    way.send(line.SCHEMA, memoryview(reader.schema.serialize()))
    rows = 0
    for batch in reader:
        if limit is None or rows < limit:
            kept = batch if limit is None else batch.slice(0, limit - rows)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, reader.schema) as stream:
                stream.write_batch(kept)
            way.send(line.ROWS, memoryview(sink.getvalue()))
        rows += batch.num_rows
    return rows


@contextlib.contextmanager
def named_errors(folder: Path) -> Iterator[None]:
    """What DuckDB says is wrong with a query, and what runs out of memory, as QueryInvalid; what
    Arrow says is wrong with a file as FormatInvalid."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise QueryInvalid(detail="the query is not Unicode") from error
    except MemoryError as error:
        raise QueryInvalid(detail="the query needs more memory than it may use") from error
    except (pa.ArrowException, OSError) as error:
        raise FormatInvalid(
            path=folder, detail=str(error).partition("\n")[0].rstrip(".")
        ) from error
    except duckdb.Error as error:
        # What follows the first paragraph repeats the query, or advises
        # settings that are locked here.
        detail = " ".join(str(error).partition("\n\n")[0].split())
        raise QueryInvalid(detail=detail.rstrip(".")) from error
