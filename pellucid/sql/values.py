"""An answer's values as JSON has them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


_ROWS = 256


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows of values that JSON has. What it has not: an integer beyond 2^53 is a string, and so are
    inf, -inf and nan, dates and times; bytes are hex. Few rows at a time become Python's objects,
    which are many times larger than Arrow's."""
    for batch in table.to_batches(max_chunksize=_ROWS):
        for row in batch.to_pylist():
            yield {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        value = (
            int(value)
            if value == value.to_integral_value() and value.as_tuple().exponent == 0
            else float(value)
        )
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    unsafe = (isinstance(value, float) and not math.isfinite(value)) or (
        type(value) is int and abs(value) > 1 << 53
    )
    return (
        value
        if value is None or (isinstance(value, bool | int | float | str) and not unsafe)
        else str(value)
    )
