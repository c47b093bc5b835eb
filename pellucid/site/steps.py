"""Steps as the page "step" shows them: entries of the ledger, and the rows of each batch with its
documents and their losses. Neighbouring steps lie in one pack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from pellucid.record import chain
from pellucid.site.numbers import finite, of_bits
from pellucid.site.places import OWN, Segments
from pellucid.site.texts import Texts
from pellucid.store.ledger import LedgerFile

STEPS = 16  # Of a pack, at least,
PACKS = 8192  # of which there are no more: a folder has few entries.
_ABOUT = ["id", "licence"]
_FLOATS = ("loss", "objective", "lr", "grad_norm", "weight_norm")


def per_pack(steps: int) -> int:
    """How many steps of a run lie in one pack."""
    return max(STEPS, -(-(steps + 1) // PACKS))


def pack(
    ledger: LedgerFile,
    texts: Texts,
    sequences: Iterable[pa.RecordBatch],
    segments: Segments,
    steps: tuple[int, int],
) -> dict[str, Any]:
    """The steps first..last that were taken. sequences: their rows in that table; segments: theirs,
    of any branch. Raises FormatInvalid."""
    own = segments.where(segments.branch == OWN)
    rows, documents = _rows(sequences, own), _documents(own, texts)
    shown: dict[int, dict[str, Any]] = {}
    for entry in ledger.between(*steps):
        number = entry.get("step", 0)
        step = shown.setdefault(number, {"step": number, "rows": rows.get(number, [])})
        step.setdefault("entries", []).append(
            {"digest": chain.digest_of_body(entry), "body": entry}
        )
        if entry["kind"] == "step":
            step |= {name: of_bits(entry[name]) for name in _FLOATS if name in entry}
    return {
        "first": steps[0],
        "steps": list(shown.values()),
        "documents": documents,
    }


def _documents(segments: Segments, texts: Texts) -> dict[int, dict[str, Any]]:
    """The documents that some steps trained on, with the places of what they read of each."""
    order = np.argsort(segments.document, kind="stable")
    indices, at = np.unique(segments.document[order], return_index=True)
    abouts = texts.about(indices.tolist(), _ABOUT)
    if len(indices):
        begins = np.minimum.reduceat(segments.begin[order], at).tolist()
        ends = np.maximum.reduceat(segments.end[order], at).tolist()
        for index, about, begin, end in zip(indices.tolist(), abouts, begins, ends, strict=True):
            about |= texts.ranges(index, begin, end)
    return dict(zip(indices.tolist(), abouts, strict=True))


def _rows(
    sequences: Iterable[pa.RecordBatch], segments: Segments
) -> dict[int, list[dict[str, Any]]]:
    """The rows of each step's batch, with their segments."""
    by_row: dict[tuple[int, int], list[list[Any]]] = {}
    for _, step, row, *segment, loss_sum in zip(*(c.tolist() for c in segments), strict=True):
        by_row.setdefault((step, row), []).append([*segment, finite(loss_sum)])
    rows: dict[int, list[dict[str, Any]]] = {}
    for batch in sequences:
        for record in batch.to_pylist():
            step = record.pop("step")
            record["loss_sum"] = finite(record["loss_sum"])
            record["segments"] = by_row.get((step, record["row"]), [])
            rows.setdefault(step, []).append(record)
    return rows
