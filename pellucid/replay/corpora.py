"""Two corpora and two batches side by side: the first document, row and token that differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.documents import Documents
from pellucid.train.events import Batch

_COLUMNS = ("id", "sha256", "licence", "origin", "date", "split")


def first_document(a: Path, b: Path) -> dict[str, Any] | None:
    """The first document that differs between two runs: its index, and what
    of it does with both values."""
    for index, (row_a, row_b) in enumerate(
        itertools.zip_longest(_documents(a), _documents(b), fillvalue={})
    ):
        if row_a != row_b:
            names = [name for name in _COLUMNS if row_a.get(name) != row_b.get(name)]
            return {
                "index": index,
                "id": row_a.get("id", row_b.get("id")),
                "fields": names,
                "a": row_a,
                "b": row_b,
            }
    return None


def _documents(folder: Path) -> Iterator[dict[str, Any]]:
    for batch in Documents.open(folder).rows(list(_COLUMNS)):
        yield from batch.to_pylist()


def differing_rows(a: Batch, b: Batch) -> list[dict[str, Any]]:
    """Every row in which two batches differ: their blocks, and the first token
    that does, with its document."""
    rows = []
    for row in range(min(len(a.tokens_BS), len(b.tokens_BS))):
        tokens_a, tokens_b = a.tokens_BS[row], b.tokens_BS[row]
        places = {
            side: (int(batch.blocks_B[row]), int(batch.starts_B[row]))
            for side, batch in (("a", a), ("b", b))
        }
        if (
            len(tokens_a) == len(tokens_b)
            and not (tokens_a != tokens_b).any()
            and places["a"] == places["b"]
        ):
            continue
        about: dict[str, Any] = {"row": row}
        for number, name in enumerate(("block", "start")):
            about[name] = {side: place[number] for side, place in places.items()}
        width = min(len(tokens_a), len(tokens_b))
        differ = np.flatnonzero(tokens_a[:width] != tokens_b[:width])
        if differ.size:
            place = int(differ[0])
            about |= {
                "position": place,
                "token": {"a": int(tokens_a[place]), "b": int(tokens_b[place])},
                "document": {
                    "a": int(a.documents_BS[row, place]),
                    "b": int(b.documents_BS[row, place]),
                },
            }
        rows.append(about)
    return rows


def words(row: dict[str, Any]) -> str:
    """A differing row in words."""
    a, b = (f"block {row['block'][side]} from {row['start'][side]} on" for side in ("a", "b"))
    text = f"row {row['row']}: " + (f"{a} in both" if a == b else f"{a} in A and {b} in B")
    if "position" in row:
        token = row["token"]
        text += (
            f"; from position {row['position']} on other tokens ({token['a']} and {token['b']}), "
        )
        text += f"in document {row['document']['a']} of A"
    return text
