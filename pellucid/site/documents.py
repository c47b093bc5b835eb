"""Documents as the page "document" shows them: what each is, where its text lies, and every time
that a step trained on something of it. Neighbouring documents lie in one pack, and a pack has
columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.site.numbers import coded, losses
from pellucid.site.places import OWN, Places, Segments
from pellucid.site.texts import Texts

DOCUMENTS = 128  # Of a pack, at least,
PACKS = 8192  # of which there are no more: a folder has few entries.
_LEAST = {1: 64}  # The same in earlier schemas.
_SHOWN = 16  # Hex digits of a text's SHA-256 where the site holds no texts.
_CODED = ("source", "split", "licence")
_NAMES = ["id", *_CODED, "origin", "date", "characters", "bytes", "sha256"]


def per_pack(documents: int, schema: int) -> int:
    """How many documents of a run lie in one pack."""
    return max(_LEAST.get(schema, DOCUMENTS), -(-documents // PACKS))


def in_order(segments: Segments) -> np.ndarray:
    """Where the segments of each document stand, document by document: of each branch by the place
    in the document, and of one place by the step."""
    own = (segments.row, segments.step, segments.begin, segments.branch, segments.document)
    return np.lexsort(own)


def pack(texts: Texts, places: Places, segments: Segments, first: int, last: int) -> dict[str, Any]:
    """The documents first..last. segments: theirs, of all steps, in that order."""
    about = texts.between(first, last, _NAMES)
    columns = {name: about.column(name).to_pylist() for name in _NAMES}
    sizes = about.column("characters").to_numpy()
    indices = np.arange(first, last + 1)
    own, pieces = texts.places(indices, np.zeros_like(indices), sizes)
    codes = {name: coded(columns[name]) for name in _CODED}
    shown = None if texts.held else _SHOWN
    return {
        "first": first,
        **{f"{name}s": values for name, (values, _) in codes.items()},
        "documents": {
            "id": columns["id"],
            **{name: numbers for name, (_, numbers) in codes.items()},
            "origin": [
                None if name == f"{source}/{origin}" else origin
                for name, source, origin in zip(
                    *(columns[name] for name in ("id", "source", "origin")), strict=True
                )
            ],
            "date": columns["date"],
            "characters": columns["characters"],
            "bytes": (about.column("bytes").to_numpy() - sizes).tolist(),
            "tokens": places.lengths(first, last),
            "sha256": [digest[:shown] for digest in columns["sha256"]],
            "times": np.bincount(segments.document - first, minlength=len(indices)).tolist(),
            **own,
        },
        "times": _times(segments, sizes[segments.document - first]),
        "pieces": pieces,
    }


def _times(segments: Segments, sizes: np.ndarray) -> dict[str, list[Any]]:
    """begin: behind the end of the time before it, if that is of the same document; first: the same
    in tokens; left: how much of the document follows. sizes: the characters of each one's
    document."""
    same = np.diff(segments.document, prepend=-1) == 0
    before = np.where(same, np.append(0, segments.end)[:-1], 0)
    tokens_before = np.where(same, np.append(0, segments.first + segments.tokens)[:-1], 0)
    return {
        "branch": np.where(segments.branch == OWN, 0, segments.branch).tolist(),
        "step": segments.step.tolist(),
        "row": segments.row.tolist(),
        "begin": (segments.begin - before).tolist(),
        "left": (sizes - segments.end).tolist(),
        "first": (segments.first - tokens_before).tolist(),
        "tokens": segments.tokens.tolist(),
        "loss": losses(segments.loss_sum, segments.tokens),
    }
