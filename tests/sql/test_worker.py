"""The process that answers: confined, bounded in time and memory, and named where it is lost."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pellucid import sql
from pellucid.errors import (
    QueryInvalid,
    QueryLost,
    QueryStopped,
    QueryTooLarge,
)
from pellucid.sql import asked, line
from tests.sql.answers import DEAF, ENDLESS

CONFINED = """
import os, sys
from pellucid.sql.worker import confine
held = open(sys.argv[1], "r+b")
confine(10**9)
for attempt in (
    lambda: open(sys.argv[1], "rb"),
    lambda: open(sys.argv[2], "wb"),
    lambda: os.write(held.fileno(), b"x"),
):
    try:
        attempt()
    except OSError as error:
        print(error.errno)
"""


def test_a_confined_process_opens_no_file_and_writes_none(tmp_path: Path) -> None:
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_bytes(b"kept")
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, kept, new], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(errno.EMFILE), str(errno.EMFILE), str(errno.EFBIG)]
    assert kept.read_bytes() == b"kept" and not new.exists()


def test_memory_is_bounded(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MEMORY", 64_000_000)
    with pytest.raises(QueryInvalid, match="Out of Memory"):
        sql.sql(finished, "SELECT range FROM range(100000000) ORDER BY hash(range)")
    # DuckDB does not count the strings that a function makes.
    with pytest.raises((QueryInvalid, QueryLost)):
        sql.sql(finished, "SELECT length(repeat('x', 1000000000)) AS n")


def test_two_columns_of_one_name_are_named(finished: Path) -> None:
    with pytest.raises(QueryInvalid, match="two columns are called a"):
        sql.sql(finished, "SELECT 1 AS a, 2 AS a")


def test_an_answer_is_kept_no_further_than_asked(finished: Path) -> None:
    answer = sql.ask(finished, "SELECT range AS a FROM range(3000000)", limit=5)
    assert answer.rows == 3_000_000 and answer.table.to_pylist() == [{"a": a} for a in range(5)]
    assert sql.ask(finished, "SELECT 1 AS a WHERE false", limit=5) == (
        pa.table({"a": pa.array([], pa.int32())}),
        0,
    )


def test_an_answer_without_end_is_not_taken(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "ANSWER", 1 << 20)
    with pytest.raises(QueryTooLarge, match="1048576 bytes") as caught:
        sql.sql(finished, "SELECT range AS a FROM range(1000000000000)")
    assert "--json" not in str(caught.value), "it would not print this answer either"


@pytest.mark.parametrize("query", [ENDLESS, DEAF], ids=["endless", "deaf"])
def test_a_query_is_stopped_in_time(query: str, finished: Path) -> None:
    started = time.monotonic()
    with pytest.raises(QueryStopped, match=r"within 3 s"):
        sql.sql(finished, query, seconds=3)
    assert time.monotonic() - started < 20


@pytest.mark.usefixtures("interruptible")
def test_control_c_stops_a_query(finished: Path) -> None:
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        sql.sql(finished, DEAF, seconds=120)


def test_a_process_ends_with_whoever_asked_it(finished: Path) -> None:
    with asked._process() as process:
        assert process.stdin and process.stdout
        job = {
            "run": str(finished),
            "served": False,
            "query": DEAF,
            "limit": None,
            "memory": asked.MEMORY,
        }
        asked._line(process).send(line.JOB, json.dumps(job).encode())
        process.stdin.close()
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    "sent", [b"", b"B", b"D" + b"\xff" * 8, b"Z" + bytes(8)], ids=["end", "cut", "long", "unknown"]
)
def test_a_process_that_ends_or_lies_is_named(
    sent: bytes, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = f"import sys; sys.stdin.buffer.read(9); sys.stdout.buffer.write({sent!r})"
    monkeypatch.setattr(asked, "_CHILD", child.replace("{", "{{").replace("}", "}}"))
    with pytest.raises(QueryLost, match=r"exit code 0"):
        sql.sql(finished, "SELECT 1")
