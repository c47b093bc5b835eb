"""Steps as the page "step" shows them: entries of the ledger, and the rows of each batch with its
documents and their losses. Neighbouring steps lie in one pack, and a pack has columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pellucid.site import entries
from pellucid.site.numbers import coded, differences, losses
from pellucid.site.places import Rows, Segments
from pellucid.site.texts import Texts
from pellucid.store.ledger import LedgerFile

STEPS = 16  # Of a pack, at least,
PACKS = 8192  # of which there are no more: a folder has few entries.


def per_pack(first: int, done: int, schema: int) -> int:
    """How many steps of a run from `first` to `done` lie in one pack."""
    return max(STEPS, -(-(done + 1 - origin(first, schema)) // PACKS))


def origin(first: int, schema: int) -> int:
    """The step from which packs are counted: 0, so that the number of a step tells its pack. In
    schema 1 it is the first step of the run."""
    return first if schema == 1 else 0


def pack(
    ledger: LedgerFile, texts: Texts, rows: Rows, segments: Segments, steps: tuple[int, int]
) -> tuple[dict[str, Any], bytes]:
    """The steps first..last that were taken, and the digests of their entries. rows, segments:
    those of these steps alone, of the run's own branch. Raises FormatInvalid."""
    told, digests = entries.told(ledger.between(*steps))
    sources, source = coded([rows.names[number] for number in rows.source.tolist()])
    return {
        "first": steps[0],
        **told,
        "sources": sources,
        "rows": {
            "step": differences(rows.step),
            "row": differences(rows.row),
            "epoch": rows.epoch.tolist(),
            "source": source,
            "block": rows.block.tolist(),
            "start": rows.start.tolist(),
            "tokens": rows.tokens.tolist(),
            "segments": np.bincount(segments.place, minlength=len(rows.step)).tolist(),
        },
        "segments": {
            "document": differences(segments.document),
            "begin": segments.begin.tolist(),
            "length": (segments.end - segments.begin).tolist(),
            "tokens": _tokens(rows, segments).tolist(),
            "loss": losses(segments.loss_sum, segments.tokens),
        },
        **_documents(segments, texts),
    }, digests


def _tokens(rows: Rows, segments: Segments) -> np.ndarray:
    """The tokens of segments; of a row's last one how many more they are than the row has left."""
    place, tokens = segments.place, segments.tokens.copy()
    last = np.flatnonzero(np.diff(place, append=len(rows.step)))
    sums = np.add.reduceat(tokens, np.append(0, last[:-1] + 1)) if len(last) else tokens
    tokens[last] = sums - rows.tokens[place[last]]
    return tokens


def _documents(segments: Segments, texts: Texts) -> dict[str, Any]:
    """The documents of some segments, in the order in which they first come, with the places of
    what was read of each."""
    order = np.argsort(segments.document, kind="stable")
    indices, at = np.unique(segments.document[order], return_index=True)
    came = np.argsort(order[at])  # The documents in the order in which they first come.
    if len(indices):
        begins = np.minimum.reduceat(segments.begin[order], at)[came]
        ends = np.maximum.reduceat(segments.end[order], at)[came]
    else:
        begins, ends = indices, indices
    indices = indices[came]
    about = texts.abouts.select(["id", "licence"]).take(pa.array(indices))
    licences, licence = coded(about.column("licence").to_pylist())
    own, pieces = texts.places(indices, begins, ends)
    return {
        "licences": licences,
        "documents": {"id": about.column("id").to_pylist(), "licence": licence, **own},
        "pieces": pieces,
    }
