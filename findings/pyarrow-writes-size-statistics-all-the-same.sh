#!/usr/bin/env bash
# pyarrow 26.0.1: write_statistics=False leaves out minimum, maximum and counts of nulls, and still writes size statistics.
#
# A reader would guess that a file written so holds no statistics. From some version after 18 on, the footer's
# ColumnMetaData has its field 16, SizeStatistics (bytes of the strings, histograms of levels), whatever the option
# says, and the writer has no option against it. Who wants a footer of nothing but the layout has to write it again.
#
# Seen: fields of the column's ColumnMetaData 1 to 7, 9, 11, 13, 16 with pyarrow 26.0.1, and no 16 with 18.1.0.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat > "$place/fields.py" <<'PYTHON'
"""The numbers of the fields in the ColumnMetaData of a file's first column, read from the footer's compact Thrift."""
import io, sys

import pyarrow as pa
import pyarrow.parquet as pq


def varint(data):
    shift = value = 0
    while True:
        (byte,) = data.read(1)
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value


def value(data, kind):
    if kind in (1, 2):
        return kind == 1
    if kind == 3:
        return data.read(1)
    if kind in (4, 5, 6):
        return varint(data)
    if kind == 7:
        return data.read(8)
    if kind == 8:
        return data.read(varint(data))
    if kind in (9, 10):
        (head,) = data.read(1)
        count = head >> 4 if head >> 4 < 15 else varint(data)
        return [value(data, 3 if head & 15 in (1, 2) else head & 15) for _ in range(count)]
    found, number = {}, 0
    while head := data.read(1)[0]:
        number = number + (head >> 4) if head >> 4 else (varint(data) + 1) // 2
        found[number] = value(data, head & 15)
    return found


sink = io.BytesIO()
pq.write_table(pa.table({"text": ["a", "bb", None]}), sink, write_statistics=False)
content = sink.getvalue()
size = int.from_bytes(content[-8:-4], "little")
footer = value(io.BytesIO(content[-8 - size : -8]), 12)
column = footer[4][0][1][0][3]  # Row groups; their columns; the column's metadata.
print(pa.__version__, "fields", sorted(column), "statistics", 12 in column, "size statistics", 16 in column)
assert 12 not in column and (16 in column) == (sys.argv[1] == "yes")
PYTHON
for pair in 18.1.0:no 26.0.1:yes; do
    python3 -m venv "$place/${pair%:*}"
    "$place/${pair%:*}/bin/pip" install --quiet --disable-pip-version-check "pyarrow==${pair%:*}"
    "$place/${pair%:*}/bin/python" "$place/fields.py" "${pair#*:}"
done
