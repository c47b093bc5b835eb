"""The published numbers: Parquet tables, written in parts while a run
goes on and joined at its end.

Memory holds at most HELD rows and those of one step, however far apart the anchors
are and however long the run."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.errors import FormatInvalid
from pellucid.store import files, layout, parquet

I64, F64, TEXT = pa.int64(), pa.float64(), pa.string()

TABLES: dict[str, pa.Schema] = {
    "steps": pa.schema(
        {
            "step": I64,
            "phase": TEXT,
            "tokens": I64,
            "loss": F64,
            "objective": F64,
            "lr": F64,
            "grad_norm": F64,
            "weight_norm": F64,
            "seconds": F64,
            "tokens_per_second": F64,
            "memory_bytes": I64,
        }
    ),
    "sequences": pa.schema(
        {
            "step": I64,
            "row": I64,
            "epoch": I64,
            "source": TEXT,
            "block": I64,
            "start": I64,
            "tokens": I64,
            "loss_sum": F64,
        }
    ),
    "segments": pa.schema(
        {
            "step": I64,
            "row": I64,
            "document": I64,
            "start": I64,
            "tokens": I64,
            "weight": I64,
            "loss_sum": F64,
        }
    ),
    "sources": pa.schema({"step": I64, "source": TEXT, "tokens": I64, "loss_sum": F64}),
    # What the leaves of each step's microbatches hold; gradient_root is empty where the
    # recipe does not commit to it.
    "microbatches": pa.schema(
        {
            "step": I64,
            "index": I64,
            "tokens": I64,
            "weight": I64,
            "loss_sum": F64,
            "objective": F64,
            "gradient_root": TEXT,
        }
    ),
    "validation": pa.schema(
        {
            "step": I64,
            "source": TEXT,
            "tokens": I64,
            "bytes": I64,
            "loss_sum": F64,
            "loss": F64,
            "bits_per_byte": F64,
        }
    ),
}
MOST = 1 << 20  # Rows of one step; who knows the batch says how many it can have.
# Rows in a row group of a joined table: who asks about one step reads this many, and the footer.
GROUP = 1 << 13
HELD = 1 << 16  # Rows kept in memory before they become a part.
# What a row takes there at most: its tuple, its columns, and a part that waits to be written.
ROW_BYTES = 504
_PART = re.compile(r"([0-9]{12})\.parquet")


class Metrics:
    """Rows gathered in memory and flushed to parts named by their last step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / layout.METRICS
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in TABLES}

    @property
    def full(self) -> bool:
        """Whether so many rows are held that they should become a part."""
        return sum(map(len, self._rows.values())) >= HELD

    def add(self, table: str, *rows: tuple[Any, ...]) -> None:
        self._rows[table].extend(rows)

    def take(self) -> dict[str, pa.Table]:
        """The rows so far, as tables; the buffers are empty afterwards."""
        taken = {}
        for name, schema in TABLES.items():
            rows, self._rows[name] = self._rows[name], []
            columns = list(zip(*rows, strict=True)) or [()] * len(schema)
            taken[name] = pa.table(
                [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
            )
        return taken

    def write_part(self, step: int, tables: dict[str, pa.Table]) -> None:
        for name, table in tables.items():
            if table.num_rows:
                _write(_part(self.folder / name, step), name, table.to_batches())

    def forget_after(self, step: int) -> None:
        """Remove the rows of later steps: they will be made again. A joined table becomes a part
        again, and a part that holds steps on both sides another that ends with this one."""
        for name in TABLES:
            joined, place = self.folder / f"{name}.parquet", self.folder / name
            if joined.exists():
                files.remove_folder(place)
                self._keep(name, joined, step)
            for path, last in _parts(place):
                if last > step:
                    self._keep(name, path, step)

    def _keep(self, name: str, path: Path, step: int) -> None:
        """A part with the rows of a file's steps up to this one, in the file's place."""
        remaining = (batch for batch in read(path, name, (0, step)) if batch.num_rows)
        if (first := next(remaining, None)) is not None:
            _write(_part(self.folder / name, step), name, itertools.chain([first], remaining))
        path.unlink()

    def join(self) -> None:
        """One file a table, and no parts. Joining again does nothing."""
        for name in TABLES:
            if (self.folder / name).is_dir() or not (self.folder / f"{name}.parquet").exists():
                _write(self.folder / f"{name}.parquet", name, rows(self.folder.parent, name))
                files.remove_folder(self.folder / name)


def reached(folder: Path) -> int | None:
    """The last step whose rows are on disk; None where there are none, or all of them."""
    ends = [last for name in TABLES for _, last in _parts(folder / layout.METRICS / name)]
    return max(ends, default=None)


def _part(folder: Path, step: int) -> Path:
    return folder / f"{step:012}.parquet"


def _write(path: Path, name: str, batches: Iterable[pa.RecordBatch]) -> None:
    """A table's rows as a whole file, in even row groups, a few of them in memory."""
    with (
        files.whole_file(path) as partial,
        parquet.writer(partial, TABLES[name]) as writer,
    ):
        for table in _gathered(iter(batches)):
            writer.write_table(table, row_group_size=GROUP)


def _gathered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The same rows in tables of one row group each, wherever the parts that they come from end."""
    gathered: list[pa.RecordBatch] = []
    room = GROUP
    for batch in batches:
        while batch.num_rows:
            gathered.append(batch.slice(0, room))
            batch = batch.slice(gathered[-1].num_rows)
            room -= gathered[-1].num_rows
            if not room:
                yield pa.Table.from_batches(gathered)
                gathered, room = [], GROUP
    if gathered:
        yield pa.Table.from_batches(gathered)


def _parts(folder: Path) -> list[tuple[Path, int]]:
    matches = (
        [(path, _PART.fullmatch(path.name)) for path in folder.iterdir()] if folder.is_dir() else []
    )
    return sorted((path, int(match.group(1))) for path, match in matches if match)


def rows(
    folder: Path, table: str, columns: list[str] | None = None, steps: tuple[int, int] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a table in order, each once, whether joined or still in parts; with steps those
    of first..last, no others, and "step" must be among the columns.

    Raises FormatInvalid.
    """
    for path in _paths(folder / layout.METRICS, table, steps):
        yield from read(path, table, steps, columns)


def read(
    path: Path, table: str, steps: tuple[int, int] | None = None, columns: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of one file, as `rows` gives them. Raises FormatInvalid."""
    try:
        with parquet.opened(path, TABLES[table]) as file:
            for batch in file.iter_batches(
                65536, row_groups=_row_groups(file, steps), columns=columns
            ):
                batch.validate(full=True)  # Also that texts are Unicode.
                if any(column.null_count for column in batch.columns):
                    raise FormatInvalid(path=path, detail="has a row with a missing value")
                yield batch if steps is None else _within(batch, *steps)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise FormatInvalid(path=path, detail=str(error).rstrip(".")) from error


def _paths(place: Path, table: str, steps: tuple[int, int] | None) -> list[Path]:
    """The files of a table that can hold some steps. A part holds the
    steps behind the part before it."""
    joined, parts = place / f"{table}.parquet", _parts(place / table)
    if not parts:
        return [joined] * joined.exists()
    first, end = (
        (0, len(parts))
        if steps is None
        else (bisect.bisect_left(parts, step, key=_last) for step in steps)
    )
    return [path for path, _ in parts[first : end + 1]]


def _last(part: tuple[Path, int]) -> int:
    return part[1]


def _within(batch: pa.RecordBatch, first: int, last: int) -> pa.RecordBatch:
    """The rows of the steps first..last: a row group also holds those of the
    steps around. Raises ValueError."""
    steps = batch.column("step").to_numpy()
    if (steps[1:] < steps[:-1]).any():
        raise ValueError("has steps that do not ascend")
    low, high = steps.searchsorted(first, "left"), steps.searchsorted(last, "right")
    return batch.slice(low, high - low)


def _row_groups(file: pq.ParquetFile, steps: tuple[int, int] | None) -> list[int]:
    """The row groups that can hold some steps, which ascend through the table: bisected by reading
    the first step of each, for no statistics tell. Raises ValueError."""
    groups = list(range(file.num_row_groups))
    if steps is None:
        return groups
    before = bisect.bisect_left(groups, steps[0], key=lambda group: _first_step(file, group))
    end = bisect.bisect_right(groups, steps[1], key=lambda group: _first_step(file, group))
    return groups[max(before - 1, 0) : end]


def _first_step(file: pq.ParquetFile, group: int) -> int:
    """The first step of a row group. Raises ValueError where it has none."""
    first = next(file.iter_batches(1, row_groups=[group], columns=["step"]), None)
    if first is None or first.num_rows == 0 or first.column(0).null_count:
        raise ValueError(f"has no step in its row group {group}")
    return first.column(0)[0].as_py()


def of_step(folder: Path, table: str, step: int, most: int = MOST) -> list[dict[str, Any]]:
    """The rows of one step. Raises FormatInvalid where there are more than it can have."""
    records = []
    for batch in rows(folder, table, steps=(step, step)):
        records += batch.to_pylist()
        if len(records) > most:
            detail = f"has more than the {most} rows that step {step} can have"
            raise FormatInvalid(path=folder / layout.METRICS / table, detail=detail)
    return records


def copy(folder: Path, target: Path, first: int, last: int) -> None:
    """The rows of the steps first..last as tables of their own, below another folder."""
    for name in TABLES:
        _write(
            target / layout.METRICS / f"{name}.parquet",
            name,
            rows(folder, name, steps=(first, last)),
        )


class Cursor:
    """The rows of a table, taken step by step in order, as tuples in the schema's order."""

    def __init__(self, folder: Path, table: str) -> None:
        self._rows = (
            row
            for batch in rows(folder, table)
            for row in zip(
                *(batch.column(name).to_pylist() for name in TABLES[table].names), strict=True
            )
        )
        self._next = next(self._rows, None)

    def take(self, step: int, most: int = MOST) -> list[tuple[Any, ...]]:
        """The next rows, as long as they are of this step, and no more than it can have."""
        taken = []
        while self._next is not None and self._next[0] == step and len(taken) < most:
            taken.append(self._next)
            self._next = next(self._rows, None)
        return taken

    @property
    def left(self) -> bool:
        """Whether rows remain that nobody has taken."""
        return self._next is not None
