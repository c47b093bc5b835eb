"""Two corpora and two batches side by side: the first document, row and token that differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.data.documents import Documents
from pellucid.train.events import Batch

_COLUMNS = ("id", "sha256", "licence", "origin", "split")


def first_document(a: Path, b: Path) -> dict[str, Any] | None:
    """The first document that differs between two runs: its index, and what of it does with both values."""
    for index, (one, other) in enumerate(itertools.zip_longest(_documents(a), _documents(b), fillvalue={})):
        if one != other:
            names = [name for name in _COLUMNS if one.get(name) != other.get(name)]
            return {"index": index, "id": one.get("id", other.get("id")), "fields": names, "a": one, "b": other}
    return None


def _documents(folder: Path) -> Iterator[dict[str, Any]]:
    for batch in Documents.open(folder).rows(list(_COLUMNS)):
        yield from batch.to_pylist()


def differing_rows(a: Batch, b: Batch) -> list[dict[str, Any]]:
    """Every row in which two batches differ: their sequences, and the first token that does, with its document."""
    found = []
    for row in range(min(len(a.tokens_BS), len(b.tokens_BS))):
        mine, theirs = a.tokens_BS[row], b.tokens_BS[row]
        if len(mine) == len(theirs) and not (mine != theirs).any() and a.sequences_B[row] == b.sequences_B[row]:
            continue
        about: dict[str, Any] = {"row": row, "sequence": {"a": int(a.sequences_B[row]), "b": int(b.sequences_B[row])}}
        width = min(len(mine), len(theirs))
        places = np.flatnonzero(mine[:width] != theirs[:width])
        if places.size:
            place = int(places[0])
            about |= {
                "position": place,
                "token": {"a": int(mine[place]), "b": int(theirs[place])},
                "document": {"a": int(a.documents_BS[row, place]), "b": int(b.documents_BS[row, place])},
            }
        found.append(about)
    return found


def words(row: dict[str, Any]) -> str:
    """A differing row in words."""
    sequences = row["sequence"]
    said = f"row {row['row']}: "
    if sequences["a"] != sequences["b"]:
        said += f"sequence {sequences['a']} in A and {sequences['b']} in B"
    else:
        said += f"sequence {sequences['a']} in both"
    if "position" in row:
        token = row["token"]
        said += f"; from position {row['position']} on other tokens ({token['a']} and {token['b']}), "
        said += f"in document {row['document']['a']} of A"
    return said
