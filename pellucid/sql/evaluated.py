"""The rows of the views `evaluations` and `examples`, from what a run keeps in evaluations/."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.evaluate import builtin
from pellucid.measured import stored
from pellucid.measured.intervals import Interval, of_mean
from pellucid.measured.summary import Columns
from pellucid.record import digests
from pellucid.record.evaluations import Line
from pellucid.record.requests import Answer, Likelihoods
from pellucid.store import files

_BATCH = 1 << 22  # Characters of texts that are in memory at once, about.


def evaluations(folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each number of each evaluation. Raises EvaluationBroken, TaskDiffers,
    FileMissing."""
    for entry in builtin.of_run(folder):
        columns = Columns(entry)
        for line in stored.lines(folder, entry):
            columns.take(line)
        about = {**entry, "settings": _json(entry["settings"]), "examples": columns.count}
        is_ratio = columns.name not in entry["numbers"]
        if is_ratio:  # Its parts are sums over documents of any size: their means have no interval.
            ends = _ends(columns.interval())
            yield {**about, **ends, "number": columns.name, "value": columns.value()}
        for number, bits in entry["numbers"].items():
            known = is_ratio or number == "chance"
            interval = None if known else of_mean(columns.numbers[number], columns.clusters)
            yield {
                **about,
                **_ends(interval),
                "number": number,
                "value": digests.bits_float(bits),
            }


def _ends(interval: Interval | None) -> dict[str, Any]:
    return interval._asdict() if interval else dict.fromkeys(Interval._fields)


def write_examples(folder: Path, schema: pa.Schema) -> pa.NativeFile:
    """A row for each number of each example, as a Parquet file without a name: the lines are more
    than memory may hold. Raises EvaluationBroken, FileMissing, DiskFull."""
    place = tempfile.gettempdir()
    with files.named_errors(place):
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as what reads it.
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for rows in _batches(folder):
                writer.write_table(pa.Table.from_pylist(rows, schema))
        file.flush()
    return pa.PythonFile(file, "r")


def _batches(folder: Path) -> Iterator[list[dict[str, Any]]]:
    rows, size = list[dict[str, Any]](), 0
    for entry in builtin.of_run(folder):
        for line in stored.lines(folder, entry):
            example = _example(entry, line)
            rows += [
                {**example, "number": number, "value": value}
                for number, value in line.numbers.items()
            ]
            size += sum(len(value) for value in example.values() if isinstance(value, str))
            if size > _BATCH or len(rows) > _BATCH >> 6:
                yield rows
                rows, size = [], 0
    yield rows


def _example(entry: Mapping[str, Any], line: Line) -> dict[str, Any]:
    return {
        "n": entry["n"],
        "step": entry["step"],
        "task": entry["task"],
        "example": line.example.name,
        "cluster": line.example.cluster,
        "request": _json(line.example.request.spelled()),
        "answer": _json(_answer(line.answer)),
        "target": _json(line.example.target),
    }


def _answer(answer: Answer) -> dict[str, Any]:
    """As a line spells it, with numbers in place of their bits."""
    nats = {"nats": [*answer.nats]} if isinstance(answer, Likelihoods) else {}
    return {**answer.spelled(), **nats}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
