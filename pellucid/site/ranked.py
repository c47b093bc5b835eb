"""The documents that the model knew best and worst when it last read them: their mean loss in the
last step that trained on something of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from pellucid.site.numbers import losses
from pellucid.site.places import OWN, Segments
from pellucid.site.texts import Texts

NAME = "ranked"
_SHOWN = 10
_LEAST = 16  # Tokens of a reading: the mean of fewer says little.


def ranked(segments: Segments, texts: Texts) -> dict[str, Any]:
    """segments: all that are written, of all branches."""
    own = segments.where(segments.branch == OWN)
    count = len(texts.abouts)
    last_D = np.full(count, -1)
    np.maximum.at(last_D, own.document, own.step)
    read = own.where(own.step == last_D[own.document])
    tokens_D = np.bincount(read.document, read.tokens, count).astype(np.int64)
    sums_D = np.bincount(read.document, read.loss_sum, count)
    with np.errstate(all="ignore"):  # Tables are others' words.
        means_D = sums_D / tokens_D
    known = np.flatnonzero((tokens_D >= _LEAST) & np.isfinite(means_D))

    def told(order: np.ndarray) -> list[dict[str, Any]]:
        chosen = known[order[:_SHOWN]]
        ids = texts.abouts.column("id").take(chosen).to_pylist()
        means = losses(sums_D[chosen], tokens_D[chosen])
        columns = (chosen.tolist(), ids, last_D[chosen].tolist(), tokens_D[chosen].tolist(), means)
        names = ("document", "id", "step", "tokens", "loss")
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    return {
        "least": _LEAST,
        "lowest": told(np.argsort(means_D[known], kind="stable")),
        "highest": told(np.argsort(-means_D[known], kind="stable")),
    }
