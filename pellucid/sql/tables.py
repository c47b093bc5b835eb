"""What the views are over: a run's tables, opened here and given to DuckDB as Arrow data.

DuckDB itself gets no path and may open nothing: there is nothing that a query could read
or write beside the views."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from pellucid.data import stage
from pellucid.data.parquet import SCHEMA, Documents
from pellucid.errors import FormatInvalid, RunMissing
from pellucid.recipe import FILE, Recipe
from pellucid.recipe import load as load_recipe
from pellucid.record import digests
from pellucid.record.guards import in_words
from pellucid.sql import evaluated
from pellucid.sql.views import VIEWS
from pellucid.store import layout, metrics, parquet
from pellucid.store.ledger import LedgerFile, begun

THREADS = 4
_PART = re.compile(r"[0-9]{12}\.parquet")
_FROM_CHAINS = ("incidents", "checkpoints", "evaluations")
_ARROW = {
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BOOLEAN": pa.bool_(),
}


def engine(memory: int) -> duckdb.DuckDBPyConnection:
    """A connection that can reach nothing outside of this process, and no Python
    variable in it; nor ever will."""
    off = (
        "autoinstall_known_extensions",
        "autoload_known_extensions",
        "allow_community_extensions",
    )
    settings: dict[str, Any] = {
        **dict.fromkeys((*off, "allow_persistent_secrets", "python_enable_replacements"), "false"),
        "enable_external_access": "false",
        "memory_limit": f"{memory}B",
        "temp_directory": "",  # It writes nothing to disk to get along with less memory.
        "threads": str(THREADS),
        "lock_configuration": "true",
    }
    return duckdb.connect(":memory:", config=settings)


def add(
    connection: duckdb.DuckDBPyConnection, folder: Path, views: Iterable[str] = tuple(VIEWS)
) -> None:
    """Give a connection these views of a run. Raises RunMissing, FormatInvalid, FileMissing."""
    if not (folder / FILE).is_file():
        raise RunMissing(path=folder)
    recipe = load_recipe(folder)
    for name in views:
        connection.register(_rows(name), _opened(folder, name))
        connection.execute(_view(name, recipe))


def _rows(name: str) -> str:
    """What a view is over."""
    return f"{name}_rows"


def _view(name: str, recipe: Recipe) -> str:
    """The statement that makes a view."""
    columns = ", ".join(
        f'{column.value or column.name} AS "{column.name}"' for column in VIEWS[name].columns
    )
    weights = f" LEFT JOIN {_weights(recipe)}" if name == "sources" else ""
    return f"CREATE VIEW {name} AS SELECT {columns} FROM {_rows(name)}{weights}"


def _weights(recipe: Recipe) -> str:
    """The weight of each source in the steps of each phase; NULL where a phase has shares."""
    names, schedule, rows = [source.name for source in recipe.data.sources], recipe.schedule, []
    for phase, last in zip(schedule.phases, schedule.ends, strict=True):
        weights = phase.weights or (None,) * len(names)
        for name, weight in zip(names, weights, strict=True):
            value = "NULL" if weight is None else weight
            rows.append(f"({_text(name)}, {last - phase.steps + 1}, {last}, {value}::BIGINT)")
    given = f"(VALUES {', '.join(rows)}) AS weights(of_source, first, last, weight)"
    return f"{given} ON source = of_source AND step BETWEEN first AND last"


def _text(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _opened(folder: Path, name: str) -> pa.Table | ds.Dataset:
    """The rows of a view: files, of which only the columns and row groups are read
    that a query needs, or a table. Raises EvaluationBroken, FormatInvalid, FileMissing."""
    if name in _FROM_CHAINS:
        return _from_chains(folder, name)
    schema = _schema(name)
    kind = ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True)
    )
    if name == "examples":
        sources = [evaluated.write_examples(folder, schema)]
    else:
        sources = [parquet.source(path) for path in _paths(folder, name)]
    fragments = [kind.make_fragment(source) for source in sources]
    return ds.FileSystemDataset(fragments, schema, kind) if fragments else schema.empty_table()


def _paths(folder: Path, name: str) -> list[Path]:
    """The files of a view, their columns checked. Raises FormatInvalid, FileMissing."""
    if name == "documents":
        if not (folder / stage.DOCUMENTS / stage.MANIFEST).is_file():
            return []
        parts = Documents.open(folder).parts
        return [part.path for part in parts if part.opened()]
    whole, parts = folder / layout.METRICS / f"{name}.parquet", folder / layout.METRICS / name
    part_paths = (
        [path for path in parts.iterdir() if _PART.fullmatch(path.name)] if parts.is_dir() else []
    )
    paths = sorted(part_paths) or [whole] * whole.exists()
    for path in paths:
        try:
            parquet.opened(path, metrics.TABLES[name])
        except (pa.ArrowException, OSError, ValueError) as error:
            raise FormatInvalid(path=path, detail=str(error).rstrip(".")) from error
    return paths


def _schema(name: str) -> pa.Schema:
    if name == "documents":
        return SCHEMA
    if name in metrics.TABLES:
        return metrics.TABLES[name]
    return pa.schema([(column.name, _ARROW[column.type]) for column in VIEWS[name].columns])


def _from_chains(folder: Path, name: str) -> pa.Table:
    schema = _schema(name)
    if (ledger := begun(folder)) is None:
        return schema.empty_table()
    if name == "evaluations":
        rows = evaluated.evaluations(folder)
    else:
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
        entry, path = (
            ledger.step(body["step"]),
            f"{layout.CHECKPOINTS}/{layout.step_name(body['step'])}",
        )
        yield {
            "step": body["step"],
            "tokens": int(entry.get("tokens", "0")),
            "root": body["root"],
            "weights": entry["weights"],
            "state": entry["state"],
            "path": path if (folder / path).is_dir() else None,
        }
