"""Documents as the page "document" shows them: what each is, where its text lies, and every time
that a step trained on something of it."""

from __future__ import annotations

from typing import Any

from pellucid.site.numbers import finite
from pellucid.site.places import OWN, Places, Segments
from pellucid.site.texts import Texts

DOCUMENTS = 64  # Of a pack, at least,
PACKS = 8192  # of which there are no more: a folder has few entries.
_NAMES = [
    "id", "source", "split", "licence", "origin", "date", "characters", "bytes", "sha256",
]  # fmt: skip


def per_pack(documents: int) -> int:
    """How many documents of a run lie in one pack."""
    return max(DOCUMENTS, -(-documents // PACKS))


def pack(texts: Texts, places: Places, segments: Segments, first: int, last: int) -> dict[str, Any]:
    """The documents first..last. segments: of all steps, in the order of documents."""
    low, high = segments.document.searchsorted([first, last + 1])
    times: dict[int, list[list[Any]]] = {}
    own, indices = segments.where(slice(low, high)), list(range(first, last + 1))
    for branch, step, row, document, *span, loss_sum in zip(
        *(column.tolist() for column in own), strict=True
    ):
        number = None if branch == OWN else branch
        times.setdefault(document, []).append([number, step, row, *span, finite(loss_sum)])
    return {
        "first": first,
        "documents": [
            about
            | texts.ranges(index, 0, about["characters"])
            | {"tokens": places.length_of(index), "times": times.get(index, [])}
            for index, about in zip(indices, texts.about(indices, _NAMES), strict=True)
        ],
    }
