"""Questions to a run in SQL: DuckDB views over its Parquet files, and over what its ledger says.

The views hold the steps that were kept. What a rollback abandoned lies below abandoned/branchN in the same layout, and
is in none of them but `incidents`, which tells of it. What is read is what the run's tables say; `pellucid verify`
holds them against the ledger.

A query can read these views and nothing else: DuckDB may open the files of the views alone, cannot load extensions,
write, or change its settings, sees no Python variable, and has bounded memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from pellucid.data import stage
from pellucid.data.parquet import SCHEMA, Documents
from pellucid.errors import FormatInvalid, NotTrained, QueryInvalid, QueryStopped, RunMissing
from pellucid.look.status import in_words
from pellucid.recipe import FILE, Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import digests
from pellucid.store import layout, metrics, parquet
from pellucid.store.ledger import LedgerFile
from pellucid.store.remote import RemotePath

MEMORY = "2GB"  # What DuckDB may have. It writes nothing to disk to get along with less.
THREADS = 4
_PART = re.compile(r"[0-9]{12}\.parquet")
_BATCH = 65536  # Rows taken from DuckDB at a time.
_ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


class Column(NamedTuple):
    """A column of a view."""

    name: str
    type: str  # As DuckDB names it.
    meaning: str
    value: str = ""  # SQL over the columns of the file; where empty, the column of that name.


class View(NamedTuple):
    """What a row of a view is, and its columns."""

    meaning: str
    columns: tuple[Column, ...]


def _columns(kind: str, **meanings: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, meaning) for name, meaning in meanings.items())


_STEP = Column("step", "BIGINT", "the step, from 1")
_ROW = Column("row", "BIGINT", "the row of its batch, from 0")
_SOURCE = Column("source", "VARCHAR", "the source's name")
_TOKENS = Column("tokens", "BIGINT", "targets, in tokens")
_LOSS_SUM = Column("loss_sum", "DOUBLE", "the sum of the targets' losses before the step's update, in nats")
_LOSS = Column("loss", "DOUBLE", "their mean, in nats per token", "loss_sum / nullif(tokens, 0)")
_LOSSES = (_TOKENS, _LOSS_SUM, _LOSS)

VIEWS = {
    "steps": View(
        "a step of the run",
        (
            _STEP,
            Column("epoch", "BIGINT", "the epoch of its last row, from 0"),
            Column("tokens", "BIGINT", "targets so far, in tokens: step · batch · context"),
            *_columns(
                "DOUBLE",
                loss="mean over its targets before its update, in nats per token",
                lr="the learning rate",
                grad_norm="norm of the gradient before clipping",
                weight_norm="norm of the weights after the update",
                seconds="how long it took: what happened, not what was computed",
                tokens_per_second="targets per second",
            ),
            Column("memory_bytes", "BIGINT", "the most memory the process had so far"),
        ),
    ),
    "sequences": View(
        "a row of a step's batch",
        (
            _STEP,
            _ROW,
            Column("epoch", "BIGINT", "the epoch, from 0"),
            _SOURCE,
            Column("sequence", "BIGINT", "the number of the sequence"),
            *_LOSSES,
        ),
    ),
    "segments": View(
        "the part of a row that one document fills",
        (
            _STEP,
            _ROW,
            Column("document", "BIGINT", "the document, as in documents"),
            Column("start", "BIGINT", "its first target in the row, from 0"),
            *_LOSSES,
        ),
    ),
    "sources": View(
        "a source in a step's batch",
        (
            _STEP,
            _SOURCE,
            Column("weight", "BIGINT", "how often each of its sequences stands in an epoch"),
            *_LOSSES,
        ),
    ),
    "microbatches": View(
        "a microbatch of a step",
        (
            _STEP,
            Column("microbatch", "BIGINT", "its place in the step, from 0", '"index"'),
            *_LOSSES,
            Column("gradient_root", "VARCHAR", "the digest of its gradient; empty where the recipe commits to none"),
        ),
    ),
    "validation": View(
        "a source at a step with validation",
        (
            Column("step", "BIGINT", "the step; the first is the state that the run begins with"),
            _SOURCE,
            _TOKENS,
            Column("bytes", "BIGINT", "UTF-8 bytes of the documents covered"),
            Column("loss_sum", "DOUBLE", "the sum of the targets' losses, in nats"),
            Column("loss", "DOUBLE", "their mean, in nats per token"),
            Column("bits_per_byte", "DOUBLE", "loss_sum / ln 2 / bytes"),
        ),
    ),
    "documents": View(
        "a document of the corpus, trained on or not",
        (
            Column("document", "BIGINT", "its index, from 0", '"index"'),
            *_columns("VARCHAR", id="source/name", source="the source's name", licence="its licence"),
            *_columns("VARCHAR", origin="the file it is from, or a package URL", split="train or validation"),
            *_columns("BIGINT", characters="code points of its text", bytes="UTF-8 bytes of its text"),
            *_columns("VARCHAR", sha256="of its text's UTF-8, in hex", text="the text itself"),
        ),
    ),
    "incidents": View(
        "an incident that the recipe's guards decided, of abandoned branches too",
        (
            Column("step", "BIGINT", "the last step recorded by then"),
            *_columns("VARCHAR", rule="loss, grad_norm or not_finite", action="note, stop or rollback"),
            *_columns("DOUBLE", value="what was found; may be inf or nan", threshold="what it was over (`limit`)"),
            Column("width", "BIGINT", "how many steps in a row had to be high"),
            Column("quantity", "VARCHAR", "not_finite: what was not finite"),
            Column("back_to", "BIGINT", "rollback: the step it goes back to (`to`)"),
            Column("passed_over", "BIGINT", "rollback: batches of the order passed over so far"),
            Column("branch", "BIGINT", "the branch it lies in; of a rollback the one that begins"),
            Column("abandoned", "BOOLEAN", "whether a later rollback went back to before it"),
            Column("why", "VARCHAR", "in words"),
        ),
    ),
    "checkpoints": View(
        "a published checkpoint",
        (
            Column("step", "BIGINT", "the step whose weights it holds"),
            Column("tokens", "BIGINT", "targets trained on by then"),
            *_columns("VARCHAR", root="what the ledger commits to: weights, tokenizer, architecture"),
            *_columns("VARCHAR", weights="the digest of the weights", state="the digest of the full state"),
            Column("path", "VARCHAR", "its folder in the run; NULL where it is not there"),
        ),
    ),
}
_FROM_LEDGER = ("incidents", "checkpoints")
_ARROW = {"BIGINT": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string(), "BOOLEAN": pa.bool_()}
_DUCKDB = {kind: name for name, kind in _ARROW.items()}


class Answer(NamedTuple):
    """The first rows of an answer, and how many there were."""

    table: pa.Table
    rows: int


def sql(folder: Path, query: str, seconds: float | None = None) -> pa.Table:
    """The whole answer to a SELECT over the run's views, as an Arrow table. A sum of BIGINTs is decimal128(38, 0).

    Raises RunMissing, QueryInvalid, QueryStopped after so many seconds, and FormatInvalid for a damaged table.
    """
    return ask(folder, query, seconds=seconds).table


def ask(folder: Path, query: str, limit: int | None = None, seconds: float | None = None) -> Answer:
    """As sql, but of the answer's rows only the first `limit` are kept, and the rest counted. Ctrl-C ends it."""
    with _named_errors(), connect(folder, _views_in(query)) as connection:
        return _interruptible(connection, lambda: _take(connection, _checked(query), limit), seconds)


def schema(folder: Path) -> dict[str, Any]:
    """The views of a run with their columns and how many rows each has. Raises as sql."""
    with _named_errors(), connect(folder) as connection:
        return {
            "views": [
                {
                    "view": name,
                    "meaning": view.meaning,
                    "rows": connection.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0],
                    "columns": [{"name": one.name, "type": one.type, "meaning": one.meaning} for one in view.columns],
                }
                for name, view in VIEWS.items()
            ]
        }


def connect(folder: Path, views: Iterable[str] = tuple(VIEWS)) -> duckdb.DuckDBPyConnection:
    """A connection that has these views of the run and can reach nothing else. Raises RunMissing, FormatInvalid."""
    if not (folder / FILE).is_file():
        raise RunMissing(path=folder)
    recipe = load_recipe(folder)
    tables = {name: _from_ledger(folder, name) for name in views if name in _FROM_LEDGER}
    paths = {name: _paths(folder, name) for name in views if name not in _FROM_LEDGER}
    connection = duckdb.connect(":memory:", config=_settings())
    for name, table in tables.items():
        connection.register("taken", table)
        connection.execute(f"CREATE TABLE {name} AS FROM taken")
        connection.unregister("taken")
    if isinstance(folder, RemotePath):
        for name, of in paths.items():
            connection.register(_served(name), _dataset(of, _schema(name)))
    else:
        here = [str(path.absolute()) for of in paths.values() for path in of]
        connection.execute(f"SET allowed_paths = {_list([*here, *map(_pattern, here)])}")
    for name, of in paths.items():
        connection.execute(_view(name, of, recipe))
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _settings() -> dict[str, Any]:
    off = ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions")
    return {
        **dict.fromkeys((*off, "allow_persistent_secrets", "python_enable_replacements"), "false"),
        "memory_limit": MEMORY,
        "threads": str(THREADS),
        "temp_directory": "",
    }


def _views_in(query: str) -> list[str]:
    """The views that a query may be about, so that no other file is opened: those it names, or all."""
    return [name for name in VIEWS if name in query.casefold()] or list(VIEWS)


def _checked(query: str) -> str:
    """The query itself, where it is one statement that only reads. Raises QueryInvalid."""
    statements = duckdb.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in _ALLOWED:
        raise QueryInvalid(detail="a question is one statement that only reads: SELECT, FROM, DESCRIBE or EXPLAIN")
    return query


def _take(connection: duckdb.DuckDBPyConnection, query: str, limit: int | None) -> Answer:
    reader = connection.sql(query).to_arrow_reader(_BATCH)
    if twice := [name for name in reader.schema.names if reader.schema.names.count(name) > 1]:
        raise QueryInvalid(detail=f"two columns are called {twice[0]}: give one of them another name with AS")
    kept, rows = [], 0
    for batch in reader:
        if limit is None or rows < limit:
            kept.append(batch if limit is None else batch.slice(0, limit - rows))
        rows += batch.num_rows
    return Answer(pa.Table.from_batches(kept, reader.schema), rows)


def _interruptible(connection: duckdb.DuckDBPyConnection, work: Callable[[], Answer], seconds: float | None) -> Answer:
    # While DuckDB computes in the main thread, Python does not notice Ctrl-C.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(work)
        try:
            return asked.result(seconds)
        except TimeoutError as error:
            connection.interrupt()
            raise QueryStopped(seconds=seconds) from error
        except KeyboardInterrupt:
            connection.interrupt()
            raise


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        # What follows the first paragraph repeats the query, or advises settings that are locked here.
        detail = " ".join(str(error).partition("\n\n")[0].split())
        raise QueryInvalid(detail=detail.rstrip(".")) from error


# ---- what the views are made of -----------------------------------------------------------------


def _view(name: str, paths: list[Path], recipe: Recipe) -> str:
    """The statement that makes a view over its files; over no row where there is no file yet."""
    columns = ", ".join(f'{one.value or one.name} AS "{one.name}"' for one in VIEWS[name].columns)
    nothing = ", ".join(f'NULL::{_DUCKDB[field.type]} AS "{field.name}"' for field in _schema(name))
    if paths and isinstance(paths[0], RemotePath):
        rows = _served(name)
    else:
        here = [_pattern(str(path.absolute())) for path in paths]
        rows = f"read_parquet({_list(here)})" if paths else f"(SELECT {nothing} WHERE false)"
    weights = f" LEFT JOIN {_weights(recipe)} USING (source)" if name == "sources" else ""
    return f"CREATE VIEW {name} AS SELECT {columns} FROM {rows}{weights}"


def _served(name: str) -> str:
    """What a view behind a URL is over: DuckDB itself may reach no network."""
    return f"{name}_served"


def _dataset(paths: list[Path], schema: pa.Schema) -> ds.FileSystemDataset:
    """Files behind a URL, of which only those columns and row groups are fetched that a query needs."""
    kind = ds.ParquetFileFormat(default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True))
    streams = [pa.PythonFile(path.ranges(), "r") for path in paths if isinstance(path, RemotePath)]
    return ds.FileSystemDataset([kind.make_fragment(stream) for stream in streams], schema, kind)


def _weights(recipe: Recipe) -> str:
    rows = ", ".join(f"({_text(one.name)}, {one.weight}::BIGINT)" for one in recipe.data.sources)
    return f"(VALUES {rows}) AS weights(source, weight)"


def _schema(name: str) -> pa.Schema:
    return SCHEMA if name == "documents" else metrics.TABLES[name]


def _paths(folder: Path, name: str) -> list[Path]:
    """The files of a view, their columns checked. Raises FormatInvalid, FileMissing."""
    if name == "documents":
        if not (folder / stage.DOCUMENTS / stage.MANIFEST).is_file():
            return []
        parts = Documents.open(folder).parts
        return [part.path for part in parts if part.opened()]
    whole, parts = folder / layout.METRICS / f"{name}.parquet", folder / layout.METRICS / name
    found = [path for path in parts.iterdir() if _PART.fullmatch(path.name)] if parts.is_dir() else []
    paths = sorted(found) or [whole] * whole.exists()
    for path in paths:
        try:
            fits = parquet.opened(path).schema_arrow.equals(metrics.TABLES[name])
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatInvalid(path=path, detail=str(error).rstrip(".")) from error
        if not fits:
            raise FormatInvalid(path=path, detail=f"does not have the columns of the table {name}")
    return paths


def _from_ledger(folder: Path, name: str) -> pa.Table:
    schema = pa.schema([(one.name, _ARROW[one.type]) for one in VIEWS[name].columns])
    try:
        ledger = LedgerFile(folder)
    except NotTrained:
        return schema.empty_table()
    rows = _incidents(ledger) if name == "incidents" else _checkpoints(folder, ledger)
    return pa.Table.from_pylist(list(rows), schema)


def _incidents(ledger: LedgerFile) -> Iterator[dict[str, Any]]:
    for body in ledger.every("incident"):
        branch = body.get("branch", 0)
        finite = body["rule"] != "not_finite"
        yield {
            **body,
            "value": digests.bits_float(body["value"]) if finite else float(body["value"]),
            "threshold": digests.bits_float(body["limit"]) if finite else None,
            "back_to": body.get("to"),
            "branch": branch,
            "abandoned": ledger.history.at(body["step"]).branch != branch,
            "why": in_words(body),
        }


def _checkpoints(folder: Path, ledger: LedgerFile) -> Iterator[dict[str, Any]]:
    for body in ledger.of_kind("checkpoint"):
        entry, path = ledger.step(body["step"]), f"{layout.CHECKPOINTS}/{layout.step_name(body['step'])}"
        yield {
            "step": body["step"],
            "tokens": int(entry.get("tokens", "0")),
            "root": body["root"],
            "weights": entry["weights"],
            "state": entry["state"],
            "path": path if (folder / path).is_dir() else None,
        }


def _pattern(path: str) -> str:
    """The pattern that a file alone has: DuckDB takes every name for one, and asks leave for both."""
    return re.sub(r"[*?\[]", r"[\g<0>]", path)


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _text(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


# ---- an answer's values -------------------------------------------------------------------------


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows of values that JSON has. What it has not: an integer beyond 2^53 is a string, and so are inf, -inf and nan,
    dates and times; bytes are hex."""
    for batch in table.to_batches():
        for row in batch.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() and value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    unsafe = (isinstance(value, float) and not math.isfinite(value)) or (type(value) is int and abs(value) > 1 << 53)
    return value if value is None or (isinstance(value, bool | int | float | str) and not unsafe) else str(value)
