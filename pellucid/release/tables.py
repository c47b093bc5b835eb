"""Every Parquet file of a release, page by page: that it holds the
values it says, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pellucid.data import stage
from pellucid.data.parquet import SCHEMA
from pellucid.errors import PellucidError
from pellucid.record.verdict import Problem
from pellucid.store import files, layout, metrics, parquet
from pellucid.store.dictionaries import check_dictionaries

_METRICS = re.compile(
    rf"(?:{layout.ABANDONED}/[^/]+/)?{layout.METRICS}/([a-z]+)(?:/[0-9]+)?\.parquet"
)


def check(folder: Path) -> Iterator[Problem]:
    """Every file whose footer or pages say what is not so, or what nothing proves.
    What it holds others check."""
    for path in files.walk(folder):
        schema = _schema(path)
        if schema is None:
            continue
        try:
            check_dictionaries(folder / path, schema, parquet.check_pages(folder / path, schema))
        except PellucidError as error:
            yield Problem(error.name, path, str(error))


def _schema(path: str) -> pa.Schema | None:
    if path.startswith(f"{stage.DOCUMENTS}/") and path.endswith(".parquet"):
        return SCHEMA
    match = _METRICS.fullmatch(path)
    return metrics.TABLES.get(match.group(1)) if match else None
