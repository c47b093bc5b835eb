"""Questions in SQL: the views are what the docs say, hold what the ledger says, and let a query reach nothing else."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from pellucid import sql
from pellucid.errors import (
    FormatInvalid,
    PellucidError,
    QueryInvalid,
    QueryLost,
    QueryStopped,
    QueryTooLarge,
    RunMissing,
)
from pellucid.record import digests
from pellucid.sql import asked, line, statements, tables, worker
from pellucid.store import parquet
from pellucid.store.home import home
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from tests.conftest import finish, make_run, pellucid, spiking
from tests.serving import serving

DOCS = Path(__file__).parents[1] / "docs/sql.md"
DEAF = "SELECT levenshtein(repeat('a', 400000), repeat('b', 400000)) AS n"  # In one call, which hears no interrupt.
ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3"


def table(folder: Path, query: str) -> pa.Table:
    """As sql.sql, but in this process: what is asked here is harmless, and a process each would take long."""
    with worker.named_errors(folder), connect(folder, statements.views_in(query)) as connection:
        statements.check(connection, query)
        return connection.sql(query).to_arrow_table()


def rows(folder: Path, query: str) -> list[dict]:
    return table(folder, query).to_pylist()


def connect(folder: Path, views: Iterable[str] = tuple(sql.VIEWS)) -> duckdb.DuckDBPyConnection:
    """What the process that answers has, without what confines that process."""
    connection = tables.engine(asked.MEMORY)
    tables.add(connection, folder, views)
    return connection


def questions() -> dict[str, tuple[str, list[str]]]:
    """The worked questions of the docs: query, and the columns of the answer printed there."""
    found = re.findall(r"^### (\d+\. .*?)$.*?```sql\n(.*?)```\n```text\n(.*?)\n", DOCS.read_text(), re.M | re.S)
    return {title: (query, printed.split()) for title, query, printed in found}


# ---- the schema ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sql.VIEWS)
def test_a_view_has_the_columns_that_the_docs_and_the_module_say(name: str, finished: Path) -> None:
    section = DOCS.read_text().split(f"\n### {name}\n")[1].split("\n### ")[0]
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", section, re.M)
    assert documented == [(one.name, one.type, one.meaning) for one in sql.VIEWS[name].columns]
    with connect(finished) as connection:
        found = connection.sql(f"DESCRIBE {name}").fetchall()
    assert [(row[0], row[1]) for row in found] == [(column, kind) for column, kind, _ in documented]


def test_the_docs_describe_every_view_and_no_other() -> None:
    described = re.findall(r"^### (\w+)$", DOCS.read_text(), re.M)
    assert described == list(sql.VIEWS) and len(set(described)) == len(described)


def test_before_anything_is_done_the_views_are_there_and_empty(tmp_path: Path, corpus: Path) -> None:
    folder = make_run(tmp_path / "run", corpus)
    views = sql.schema(folder)["views"]
    assert [one["view"] for one in views] == list(sql.VIEWS) and {one["rows"] for one in views} == {0}
    with connect(folder) as connection:
        for name, view in sql.VIEWS.items():
            found = connection.sql(f"DESCRIBE {name}").fetchall()
            assert [(row[0], row[1]) for row in found] == [(one.name, one.type) for one in view.columns]


@pytest.mark.parametrize("title", questions())
def test_a_question_of_the_docs_gives_the_columns_shown_there(title: str, finished: Path) -> None:
    query, columns = questions()[title]
    assert table(finished, query).schema.names == columns


def test_there_are_ten_questions_and_they_find_something(finished: Path) -> None:
    assert len(questions()) == 10
    found = {title: table(finished, query).num_rows for title, (query, _) in questions().items()}
    assert {title[:2] for title, count in found.items() if count} >= {"1.", "3.", "5.", "7.", "8.", "9."}


# ---- what is in the views -----------------------------------------------------------------------


def test_steps_are_those_of_the_ledger(finished: Path) -> None:
    ledger, found = LedgerFile(finished), rows(finished, "FROM steps ORDER BY step")
    assert [one["step"] for one in found] == list(range(1, 14))
    for one in found:
        entry = ledger.step(one["step"])
        for name in ("loss", "lr", "grad_norm", "weight_norm"):
            assert one[name] == digests.bits_float(entry[name])


def test_losses_of_the_views_add_up(finished: Path) -> None:
    for view in ("sequences", "segments", "sources", "microbatches"):
        found = rows(
            finished, f"SELECT step, sum(loss_sum) / sum(tokens) AS loss FROM {view} GROUP BY step ORDER BY step"
        )
        recorded = rows(finished, "SELECT step, loss FROM steps ORDER BY step")
        assert [one["step"] for one in found] == [one["step"] for one in recorded]
        assert all(math.isclose(a["loss"], b["loss"], rel_tol=1e-12) for a, b in zip(found, recorded, strict=True))
        assert rows(finished, f"SELECT count(*) AS n FROM {view} WHERE loss != loss_sum / tokens") == [{"n": 0}]


def test_segments_name_documents_by_their_index(finished: Path) -> None:
    from pellucid.look.show import Shown

    shown = Shown(finished).step(7)
    expected = {(row["row"], one["document"]) for row in shown["rows"] for one in row["segments"] if one["loss"]}
    query = "SELECT row, id FROM segments JOIN documents USING (document) WHERE step = 7"
    assert {(one["row"], one["id"]) for one in rows(finished, query)} == expected


def test_sources_have_their_weight_and_checkpoints_their_folder(finished: Path, tmp_path: Path) -> None:
    assert rows(finished, "SELECT DISTINCT source, weight FROM sources") == [{"source": "stones", "weight": 1}]
    found, ledger = rows(finished, "FROM checkpoints ORDER BY step"), LedgerFile(finished)
    assert [one["step"] for one in found] == [0, 6, 12, 13]
    assert [one["tokens"] for one in found] == [0, 6 * 128, 12 * 128, 13 * 128]
    for one in found:
        entry = ledger.step(one["step"])
        assert (one["weights"], one["state"]) == (entry["weights"], entry["state"])
        assert (finished / one["path"] / "model.safetensors").is_file()
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints/step6")
    assert rows(copy, "SELECT path FROM checkpoints WHERE step = 6") == [{"path": None}]


def test_incidents_are_listed_and_what_a_rollback_abandoned_is_left_out(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = {"loss": "{action = 'rollback', deviations = 8.0, least = 0.1, width = 2}", "window": "8", "back": "3"}
    settings = ["train.steps=16", "placement.anchors.every=4"] + [
        f"guards.{key}={value}" for key, value in guards.items()
    ]
    folder = make_run(tmp_path / "run", corpus, settings)
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, 11, 12))
    finish(folder)
    incident = next(iter(LedgerFile(folder).every("incident")))
    assert incident["action"] == "rollback"
    (found,) = rows(folder, "FROM incidents")
    assert (found["step"], found["rule"], found["back_to"]) == (incident["step"], "loss", incident["to"])
    assert found["threshold"] == digests.bits_float(incident["limit"]) and found["value"] > found["threshold"]
    assert found["branch"] == 1 and found["abandoned"] is False and "is over" in found["why"]
    assert found["passed_over"] == incident["passed_over"] and found["quantity"] is None
    for view, each in (("steps", 1), ("sequences", 4)):
        counted = rows(folder, f"SELECT step, count(*) AS n FROM {view} GROUP BY step ORDER BY step")
        assert counted == [{"step": step, "n": each} for step in range(1, 17)]
    assert rows(folder, "SELECT max(loss) < 20 AS calm FROM steps") == [{"calm": True}]


def test_a_run_that_goes_on_is_read_from_its_parts(finished: Path, release: Path) -> None:
    from pellucid.store import metrics

    whole = table(finished, "FROM segments ORDER BY step, row, start")
    metrics.Metrics(release).forget_after(13)  # Joined tables become parts again.
    assert not (release / "metrics/segments.parquet").exists()
    assert table(release, "FROM segments ORDER BY step, row, start").equals(whole)


def test_a_folder_with_a_name_like_a_pattern(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "it's [1]* ?"
    shutil.copytree(finished, folder)
    shutil.copytree(finished, tmp_path / "it's 1x x")
    assert rows(folder, "SELECT count(*) AS n FROM steps") == [{"n": 13}]


@pytest.mark.parametrize("title", questions())
def test_a_release_behind_a_url_gives_the_same_answers(title: str, finished: Path) -> None:
    query, _ = questions()[title]
    with serving(finished) as server:
        found = table(home(server.url), query)
    here = table(finished, query)
    assert found.schema == here.schema and found.num_rows == here.num_rows
    if title.startswith(("2.", "3.", "8.", "10.")):  # The others add floats up, in an order that threads decide.
        assert found.equals(here)


def test_behind_a_url_only_the_tables_named_are_fetched(finished: Path) -> None:
    with serving(finished) as server:
        folder = home(server.url)
        server.forget()
        assert rows(folder, "SELECT step, loss FROM steps WHERE step = 7") == rows(
            finished, "FROM steps SELECT step, loss WHERE step = 7"
        )
        assert {one.path for one in server.requests} <= {"recipe.toml", "metrics/steps.parquet"}
        assert rows(folder, "FROM checkpoints") == rows(finished, "FROM checkpoints")
        assert sql.schema(folder) == sql.schema(finished)  # Through the process that answers.
        with pytest.raises(QueryInvalid):
            sql.sql(folder, f"FROM read_parquet('{server.url}/metrics/steps.parquet')")
        done = pellucid("sql", server.url, "SELECT count(*) AS n FROM steps", "--json")
        assert json.loads(done.stdout) == [{"n": 13}]


# ---- what a query cannot do ---------------------------------------------------------------------

# Statements that write where they are executed: none may, through the verb or past what it refuses.
WRITES = [
    "COPY steps TO '{folder}/out.csv'",
    "COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet'",
    "COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet' (FORMAT parquet)",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1 AS a) TO '{run}/recipe.toml' (FORMAT csv)",
    "WITH x AS (COPY (SELECT 1 AS a) TO '{run}/metrics/steps.parquet') FROM x",
    "FROM (WITH x AS (COPY steps TO '{run}/recipe.toml' (FORMAT csv)) FROM x)",
    "SELECT (WITH x AS (COPY steps TO '{folder}/new.csv') SELECT count(*) FROM x)",
    "WITH x AS (INSERT INTO steps VALUES (1) RETURNING *) FROM x",
    "WITH x AS (DELETE FROM steps RETURNING *) FROM x",
    "WITH x AS (UPDATE steps SET step = 1 RETURNING *) FROM x",
    "ATTACH '{folder}/other.db'",
    "ATTACH '{run}/metrics/steps.parquet' AS x",
    "EXPORT DATABASE '{folder}/out'",
    "EXPLAIN ANALYZE EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}'",
    "CREATE TABLE mine AS SELECT 1",
    "EXPLAIN ANALYZE CREATE TABLE mine AS SELECT 1",
    "CREATE PERSISTENT SECRET s (TYPE http)",
    "PREPARE p AS COPY steps TO '{folder}/new.csv'",
    "DROP VIEW steps",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET temp_directory = '{folder}'",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "PRAGMA profiling_output = '{folder}/profile'",
    "CALL enable_logging(storage = 'file', storage_path = '{folder}/log')",
    "SELECT * FROM enable_logging(storage := 'file')",
    "SELECT 1; COPY steps TO '{folder}/out.csv'",
    "VACUUM",
    "CHECKPOINT",
    "BEGIN",
]
READS = [
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM read_parquet('{run}/metrics/steps.parquet')",
    "SELECT * FROM parquet_metadata('{run}/metrics/steps.parquet')",
    "SELECT * FROM '{run}/metrics/steps.parquet'",
    "SELECT * FROM read_csv('https://example.org/x.csv')",
    "SELECT * FROM query('FROM read_text(''{secret}'')')",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "WITH x AS (FROM read_text('{secret}')) FROM x",
    "SELECT 1 IN (SELECT 1 FROM glob('{folder}/*'))",
    "SUMMARIZE SELECT * FROM read_text('{secret}')",
    "FROM arrow_scan(1, 2, 3)",
    "FROM duckdb_settings()",
    "SELECT * FROM local_variable",
    "SELECT getenv('HOME')",
]
UNFIT = [
    "SELECT 1; SELECT 2",
    "EXPLAIN SELECT 1",
    "SELECT nothing FROM steps",
    "selec",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT error('\x1b[31m')",
    "SELECT '\udcff'",
    "\x00",
    "",
    "-- nothing",
]
SHORT: Any = {"ids": lambda query: query[:60].encode("ascii", "replace").decode()}


def everything(*folders: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file below, by its bytes and the time it was changed."""
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


@pytest.mark.parametrize("query", READS + UNFIT, **SHORT)
def test_a_query_reaches_nothing_but_the_views(query: str, finished: Path, tmp_path: Path) -> None:
    local_variable = pa.table({"a": [1]})
    secret = tmp_path / "secret.csv"
    secret.write_text("key\nsesame\n")
    with pytest.raises(QueryInvalid) as caught:
        table(finished, query.format(secret=secret, folder=tmp_path, run=finished))
    assert "sesame" not in str(caught.value) and local_variable.num_rows == 1


@pytest.mark.parametrize("query", WRITES, **SHORT)
def test_nothing_but_reading_is_a_question(query: str, finished: Path, tmp_path: Path) -> None:
    with tables.engine(asked.MEMORY) as connection, pytest.raises((QueryInvalid, duckdb.Error)):
        statements.check(connection, query.format(folder=tmp_path, run=finished))


@pytest.mark.parametrize("query", READS, **SHORT)
def test_the_engine_itself_reaches_no_file(query: str, finished: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("key\nsesame\n")
    with connect(finished) as connection, pytest.raises(duckdb.Error) as caught:
        found = connection.execute(query.format(secret=secret, folder=tmp_path, run=finished)).fetchall()
        assert query == "FROM duckdb_settings()" and found  # Harmless, and refused all the same.
        raise duckdb.Error
    assert "sesame" not in str(caught.value)


def test_whatever_is_asked_every_file_stays_as_it_is(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cwd", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = everything(tmp_path)
    for query in ("COPY steps TO 'steps.csv'", *WRITES[3:6]):
        with pytest.raises(QueryInvalid):
            sql.sql(release, query.format(folder=tmp_path, run=release))
    with connect(release) as connection:  # Past the list of statements: the engine refuses by itself.
        for query in WRITES:
            with contextlib.suppress(duckdb.Error):
                connection.execute(query.format(folder=tmp_path, run=release)).fetchall()
    assert everything(tmp_path) == before


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
    done = subprocess.run([sys.executable, "-c", CONFINED, kept, new], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EMFILE), str(errno.EMFILE), str(errno.EFBIG)]
    assert kept.read_bytes() == b"kept" and not new.exists()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) AS n FROM range(5) a, unnest([1, 2]) b",
        "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) FROM t",
        "SELECT 1 AS a UNION SELECT 2 EXCEPT SELECT 3 ORDER BY a DESC LIMIT 50%",
        "FROM (VALUES (1, 2)) t(a, b)",
        "SUMMARIZE steps",
        "SHOW TABLES",
        "FROM steps PIVOT (count(*) FOR epoch IN (0, 1))",
        "UNPIVOT (SELECT loss, lr FROM steps) ON loss, lr",
        "SELECT DISTINCT ON (epoch) step, epoch FROM steps ORDER BY epoch, step",
        "SELECT step, sum(tokens) OVER (ORDER BY step ROWS 3 PRECEDING) AS s FROM steps QUALIFY s > 3",
        "SELECT list_transform([1, 2], lambda x: x + 1) AS a, {'b': MAP {'c': 1}} AS d",
        "FROM steps TABLESAMPLE 50%",
        "FROM steps a ASOF JOIN validation b ON a.step >= b.step SELECT a.step",
        "SELECT * FROM (SELECT step FROM steps) a, LATERAL (SELECT a.step + 1 AS b)",
    ],
    **SHORT,
)
def test_what_reads_is_on_the_list(query: str) -> None:
    with tables.engine(asked.MEMORY) as connection:
        statements.check(connection, query)


def test_memory_is_bounded(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MEMORY", 64_000_000)
    with pytest.raises(QueryInvalid, match="Out of Memory"):
        sql.sql(finished, "SELECT range FROM range(100000000) ORDER BY hash(range)")
    with pytest.raises((QueryInvalid, QueryLost)):  # DuckDB does not count the strings that a function makes.
        sql.sql(finished, "SELECT length(repeat('x', 1000000000)) AS n")


def test_two_columns_of_one_name_are_named(finished: Path) -> None:
    with pytest.raises(QueryInvalid, match="two columns are called a"):
        sql.sql(finished, "SELECT 1 AS a, 2 AS a")


def test_an_answer_is_kept_no_further_than_asked(finished: Path) -> None:
    answer = sql.ask(finished, "SELECT range AS a FROM range(3000000)", limit=5)
    assert answer.rows == 3_000_000 and answer.table.to_pylist() == [{"a": a} for a in range(5)]
    assert sql.ask(finished, "SELECT 1 AS a WHERE false", limit=5) == (pa.table({"a": pa.array([], pa.int32())}), 0)


def test_an_answer_without_end_is_not_taken(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "ANSWER", 1 << 20)
    with pytest.raises(QueryTooLarge, match="1048576 bytes"):
        sql.sql(finished, "SELECT range AS a FROM range(1000000000000)")


@pytest.mark.parametrize("query", [ENDLESS, DEAF], ids=["endless", "deaf"])
def test_a_query_is_stopped_in_time(query: str, finished: Path) -> None:
    started = time.monotonic()
    with pytest.raises(QueryStopped, match=r"within 3 s"):
        sql.sql(finished, query, seconds=3)
    assert time.monotonic() - started < 20


def test_control_c_stops_a_query(finished: Path) -> None:
    interrupt = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # Test processes may ignore it.
    try:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            sql.sql(finished, DEAF, seconds=120)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_ends_with_whoever_asked_it(finished: Path) -> None:
    with asked._process() as process:
        assert process.stdin and process.stdout
        job = {"run": str(finished), "served": False, "query": DEAF, "limit": None, "memory": asked.MEMORY}
        asked._line(process).send(line.JOB, json.dumps(job).encode())
        process.stdin.close()
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize(
    "sent", [b"", b"B", b"D" + b"\xff" * 8, b"Z" + bytes(8)], ids=["end", "cut", "long", "unknown"]
)
def test_a_process_that_ends_or_lies_is_named(sent: bytes, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = f"import sys; sys.stdin.buffer.read(9); sys.stdout.buffer.write({sent!r})"
    monkeypatch.setattr(asked, "_CHILD", child.replace("{", "{{").replace("}", "}}"))
    with pytest.raises(QueryLost, match=r"exit code 0"):
        sql.sql(finished, "SELECT 1")


def test_an_error_arrives_as_it_was_raised() -> None:
    error = FormatInvalid(path=Path("a/b"), detail="is \x1b odd")
    told = line.untold(json.loads(json.dumps(line.told(error))))
    assert type(told) is FormatInvalid and str(told) == str(error)
    assert isinstance(line.untold({"error": "inspect", "fields": {}}), QueryLost)
    assert isinstance(line.untold({"error": None}), PellucidError)


# ---- what a file cannot do ----------------------------------------------------------------------


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunMissing):
        table(tmp_path / "nowhere", "FROM steps")


def test_a_table_with_other_columns_is_named(release: Path) -> None:
    parquet.write(release / "metrics/steps.parquet", pa.table({"step": pa.array([1], pa.int64())}))
    with pytest.raises(FormatInvalid, match=r"steps\.parquet: does not have the columns that this table has"):
        table(release, "FROM steps")
    assert rows(release, "SELECT count(*) AS n FROM sequences") == [{"n": 52}]  # Another file is not opened.


def test_a_file_that_is_no_parquet_is_named(release: Path) -> None:
    (release / "metrics/steps.parquet").write_bytes(b"PAR1" + b"\xff" * 100 + b"PAR1")
    with pytest.raises(FormatInvalid, match=r"steps\.parquet"):
        table(release, "FROM steps")


@pytest.mark.parametrize("seed", range(8))
def test_damaged_pages_give_a_named_error_or_rows(seed: int, release: Path) -> None:
    path = release / "metrics/segments.parquet"
    content = bytearray(path.read_bytes())
    for place in range(100 + 37 * seed, min(len(content) // 2, 1200), 61):
        content[place] ^= 0xFF
    path.write_bytes(content)
    try:
        found = table(release, "SELECT sum(loss_sum) AS s, sum(document) AS d FROM segments")
    except (QueryInvalid, FormatInvalid) as error:
        assert str(error)
    else:
        assert found.num_rows == 1


def test_a_part_outside_of_the_folder_is_refused(release: Path, tmp_path: Path) -> None:
    path = release / "data/documents/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["parts"][0]["file"] = "../../../other.parquet"
    path.write_text(json.dumps(manifest))
    done = pellucid("sql", release, "FROM documents", check=4)
    assert "PathUnsafe" in done.stderr


# ---- sums of floats -----------------------------------------------------------------------------


def plain_sums(text: str) -> list[str]:
    """Sums and means of DOUBLE columns whose bits depend on the order in which threads add."""
    doubles = {one.name for view in sql.VIEWS.values() for one in view.columns if one.type == "DOUBLE"}
    return re.findall(rf"\b(?:sum|avg|mean)\((?:\w+\.)?(?:{'|'.join(sorted(doubles))})\b", text, re.I)


def test_nothing_of_ours_adds_floats_in_the_order_of_threads() -> None:
    root = DOCS.parents[1]
    assert plain_sums("SELECT sum(s.loss_sum), AVG(loss), fsum(loss), sum(tokens)") == ["sum(s.loss_sum", "AVG(loss"]
    for path in [root / "README.md", *(root / "docs").glob("*.md")]:
        assert plain_sums(path.read_text()) == [], path
    for path in [*(root / "pellucid").rglob("*.py"), *(root / "bench").rglob("*.py")]:
        texts = [one.value for one in ast.walk(ast.parse(path.read_bytes())) if isinstance(one, ast.Constant)]
        assert [plain_sums(text) for text in texts if isinstance(text, str) and plain_sums(text)] == [], path


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_that_the_docs_advise_has_one_value(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    numbers = drawn.random(300_000) * 10.0 ** drawn.integers(-3, 3, 300_000)
    with tables.engine(asked.MEMORY) as connection:
        connection.register("numbers", pa.table({"x": numbers, "g": drawn.integers(0, 3, len(numbers))}))
        found = {connection.execute("SELECT fsum(x), favg(x) FROM numbers").fetchall()[0] for _ in range(6)}
    total = math.fsum(numbers)
    assert len(found) == 1 and next(iter(found)) == pytest.approx((total, total / len(numbers)), rel=4e-16)


# ---- the command line ---------------------------------------------------------------------------


def test_without_a_query_it_says_what_there_is(finished: Path) -> None:
    out = pellucid("sql", finished).stdout
    for name, view in sql.VIEWS.items():
        assert re.search(rf"^{name}  ", out, re.M)
        assert all(re.search(rf"^  {one.name} +{one.type} ", out, re.M) for one in view.columns)
    about = json.loads(pellucid("sql", finished, "--json").stdout)
    assert {one["view"]: one["rows"] for one in about["views"]}["steps"] == 13


def test_the_run_may_be_this_folder(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    assert pellucid("sql", "select max(step) as last from steps").stdout.split() == ["last", "13"]
    assert "checkpoints  4 rows" in pellucid("sql").stdout
    pellucid("sql", "select", "1", "2", check=2)


def test_a_table_says_how_many_rows_there_were(finished: Path) -> None:
    done = pellucid("sql", finished, "FROM sequences ORDER BY step, row")
    assert len(done.stdout.splitlines()) == 41 and done.stderr == "40 of 52 rows; --limit 0 prints all\n"
    done = pellucid("sql", finished, "FROM sequences", "--limit", 3)
    assert len(done.stdout.splitlines()) == 4 and done.stderr.startswith("3 of 52 rows")
    done = pellucid("sql", finished, "FROM sequences", "--limit", 0)
    assert len(done.stdout.splitlines()) == 53 and done.stderr == ""


def test_json_is_a_list_of_all_rows(finished: Path) -> None:
    found = json.loads(pellucid("sql", finished, "SELECT * FROM segments ORDER BY step, row, start", "--json").stdout)
    assert found == rows(finished, "SELECT * FROM segments ORDER BY step, row, start")
    assert json.loads(pellucid("sql", finished, "SELECT 1 AS a WHERE false", "--json").stdout) == []
    done = pellucid("sql", finished, "FROM steps", "--json", "--limit", 2)
    assert len(json.loads(done.stdout)) == 2 and done.stderr.startswith("2 of 13 rows")


def test_json_has_only_what_json_has(finished: Path) -> None:
    query = """SELECT 'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf, 9007199254740992 AS safe, 9007199254740993 AS big,
        -9223372036854775808 AS least, sum(7::BIGINT) AS total, 1.25::DECIMAL(5, 2) AS decimal, NULL AS nothing,
        [1, NULL] AS list, {'a': 'nan'::DOUBLE} AS struct, '\\xFF'::BLOB AS bytes, true AS yes, 'é\x1b' AS text,
        DATE '2026-01-02' AS day, 1e300 AS large"""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    out = pellucid("sql", finished, query, "--json").stdout
    assert json.loads(out, parse_constant=refuse) == [
        {
            "nan": "nan",
            "inf": "-inf",
            "safe": 9007199254740992,
            "big": "9007199254740993",
            "least": "-9223372036854775808",
            "total": 7,
            "decimal": 1.25,
            "nothing": None,
            "list": [1, None],
            "struct": {"a": "nan"},
            "bytes": "ff",
            "yes": True,
            "text": "é\x1b",
            "day": "2026-01-02",
            "large": 1e300,
        }
    ]
    assert "\x1b" not in out


def test_a_table_shows_no_control_characters_and_no_markup(finished: Path) -> None:
    query = """SELECT chr(27) || '[31mred' AS "a[bold]", '[blink]x[/blink]' AS b, repeat('long', 100) AS c, NULL AS d,
        'two' || chr(10) || 'lines' AS e, 1.0 / 3 AS f"""
    out = pellucid("sql", finished, query).stdout
    assert "\x1b" not in out and "[31mred" in out and "[blink]x[/blink]" in out and "a[bold]" in out
    assert "long" * 15 + " …" in out and "long" * 16 not in out and "two lines" in out and "0.333333" in out
    assert len(out.splitlines()) == 2


def test_errors_have_a_name_one_line_and_their_code(finished: Path) -> None:
    done = pellucid("sql", finished, "SELECT error('\x1b[31m' || chr(10) || 'next')", check=2)
    assert done.stderr.startswith("pellucid: QueryInvalid: ") and done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    done = pellucid("sql", finished, ENDLESS, "--seconds", 0.5, "--json", check=2)
    assert json.loads(done.stdout)["error"] == "QueryStopped"
