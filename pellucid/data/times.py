"""Dates and times of Arrow's columns as text, spelled one way.

`2024-05-01` and `2024-05-01T12:30:00.25`: as many digits of a fraction as it needs, and a `Z` where
the column names a time zone, for Arrow counts such times in UTC. A year that ISO 8601 has no four
digits for is missing. Arrow's own values of Python would refuse nanoseconds, and some years.
"""

from __future__ import annotations

import datetime

import pyarrow as pa

_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime.datetime(1970, 1, 1)
_DAY = 24 * 60 * 60


def spelled(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with every date and time as text, those in objects too."""
    columns = [_spelled(column) for column in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names)


def _spelled(array: pa.Array) -> pa.Array:
    kind = array.type
    if not _timed(kind):
        return array
    if pa.types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        inner = [_spelled(element) for element in array.flatten()]
        return pa.StructArray.from_arrays(inner, names=names, mask=array.is_null())
    if pa.types.is_date32(kind):
        return _texts(array.cast(pa.int32()), 1, "", days=True)
    if pa.types.is_date64(kind):
        return _texts(array.cast(pa.int64()), _DAY * 1000, "", days=True)
    if pa.types.is_timestamp(kind):
        return _texts(array.cast(pa.int64()), _UNITS[kind.unit], "Z" if kind.tz else "")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return array.cast(_counted(kind))  # Of many values none is the record's.
    return pa.nulls(len(array))  # A time of day, or how long something took.


def _timed(kind: pa.DataType) -> bool:
    if pa.types.is_nested(kind):
        return any(_timed(kind.field(index).type) for index in range(kind.num_fields))
    return pa.types.is_temporal(kind)


def _counted(kind: pa.DataType) -> pa.DataType:
    """The type with times as the integers that they are."""
    if pa.types.is_struct(kind):
        fields = (kind.field(index) for index in range(kind.num_fields))
        return pa.struct([field.with_type(_counted(field.type)) for field in fields])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return made(kind.value_field.with_type(_counted(kind.value_type)))
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    return kind


def _texts(counts: pa.Array, unit: int, zone: str, days: bool = False) -> pa.Array:
    """counts: since 1970 so many units; unit: as many make a second, or with `days` a day."""
    texts = [
        None if value is None else _text(value, unit, zone, days) for value in counts.to_pylist()
    ]
    return pa.array(texts, pa.string())


def _text(count: int, unit: int, zone: str, days: bool) -> str | None:
    whole, rest = divmod(count, unit)
    try:
        time = _EPOCH + datetime.timedelta(seconds=whole * (_DAY if days else 1))
    except OverflowError:
        return None
    if days:
        return time.date().isoformat()
    fraction = f".{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return time.isoformat() + fraction + zone
