"""The record's numbers for other programs: CSV files, or the events that TensorBoard reads."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pellucid.errors import TensorboardMissing
from pellucid.sql.asked import sql
from pellucid.store import files
from pellucid.store.ledger import LedgerFile

if TYPE_CHECKING:
    import pyarrow as pa

ORDERS = {  # The views that are written, and the order of their rows.
    "steps": "step",
    "sources": "step, source",
    "validation": "step, source",
    "incidents": "step, branch",
    "evaluations": "n, number",
}
_EVENTS = "events.out.tfevents.pellucid"  # TensorBoard looks for "tfevents" in names.
_ROWS = 1 << 13  # That become Python values at once.

Tables = dict[str, "pa.Table"]


def export_numbers(folder: Path, kind: str, target: Path) -> dict[str, int]:
    """Write the views of ORDERS into a new folder, as "csv" or "tensorboard"; the rows of each
    view. Of a run in progress: what its tables hold.

    Raises NotTrained, FolderTaken, FolderUnfit, TensorboardMissing, and as `sql`."""
    last = LedgerFile(folder).steps_done
    tables = {name: _rows(folder, name, order, last) for name, order in ORDERS.items()}
    with files.new_folder(target) as partial:
        KINDS[kind](tables, partial)
    return {name: table.num_rows for name, table in tables.items()}


def _rows(folder: Path, name: str, order: str, last: int) -> pa.Table:
    """A view's rows. A run that goes back removes rows later than it says so in the ledger: the
    last step is the ledger's. Incidents tell of abandoned steps too."""
    kept = "" if name == "incidents" else f"WHERE step <= {last} "
    return sql(folder, f"SELECT * FROM {name} {kept}ORDER BY {order}")


def _write_csv(tables: Tables, folder: Path) -> None:
    """A file for each view. A float is its shortest form that reads as the same double."""
    for name, table in tables.items():
        made = (folder / f"{name}.csv").open("xb")
        with io.TextIOWrapper(made, encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.column_names)
            for batch in table.to_batches(_ROWS):
                writer.writerows(zip(*(column.to_pylist() for column in batch), strict=True))


def _write_events(tables: Tables, folder: Path) -> None:
    """A curve for each number of a view. The time of a step is the sum of all steps' seconds."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ModuleNotFoundError as error:
        raise TensorboardMissing() from error
    seconds = itertools.accumulate(tables["steps"].column("seconds").to_pylist())
    times = dict(zip(tables["steps"].column("step").to_pylist(), seconds, strict=True))
    with (folder / _EVENTS).open("xb") as file:
        writer = RecordWriter(file)
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        for step, numbers in _numbers(tables):
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
            summary = Summary(value=values)
            event = Event(wall_time=times.get(step, 0.0), step=step, summary=summary)
            writer.write(event.SerializeToString())


def _numbers(tables: Tables) -> Iterator[tuple[int, dict[str, float]]]:
    """The numbers of each row, by their names in TensorBoard. It has no place for incidents, and a
    curve has one value a step: a task may be asked twice."""
    for name in ("steps", "sources", "validation"):
        for batch in tables[name].to_batches(_ROWS):
            for row in batch.to_pylist():
                step, source = row.pop("step"), row.pop("source", "")
                yield (
                    step,
                    {
                        f"{name}/{column}{source and '/'}{source}": float(value)
                        for column, value in row.items()
                        if isinstance(value, int | float)
                    },
                )


KINDS: dict[str, Callable[[Tables, Path], None]] = {
    "csv": _write_csv,
    "tensorboard": _write_events,
}
