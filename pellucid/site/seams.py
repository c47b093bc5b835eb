"""Where long texts were cut into documents that one split holds both: what the page "search" looks
through for a text that goes over a cut. The index knows documents, and nothing crosses them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pellucid.data.cutting import text_of
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards
from pellucid.errors import FormatInvalid

SEAMS = 4096  # Of a pack.
NEAR = 64  # Characters that a pack has of either side.


class Seam(NamedTuple):
    """A document that the next one goes on; the shard's place in its manifest, and the token of the
    shard behind the document."""

    document: int
    shard: int
    end: int


class Seams:
    """The cuts of a run whose data are made."""

    def __init__(self, folder: Path) -> None:
        self._documents, self._shards = Documents.open(folder), Shards.open(folder)

    @property
    def count(self) -> int:
        return len(self._all)

    def pack(self, number: int) -> dict[str, Any]:
        """Some of them, each with the characters before it and behind it."""
        seams, text, at = [], "", -1
        for seam in self._all[number * SEAMS : (number + 1) * SEAMS]:
            before = text if at == seam.document else self._text(seam.document)
            at = seam.document + 1
            text = self._text(at)
            seams.append([*seam, before[-NEAR:], text[:NEAR]])
        return {"first": number * SEAMS, "seams": seams}

    def _text(self, document: int) -> str:
        return self._documents.get(document)["text"]

    @cached_property
    def _all(self) -> list[Seam]:
        """In the order of documents."""
        cut = self._cut()
        if not len(cut):
            return []
        streams = (*self._shards.train, *self._shards.validation)
        shards = {(stream.source, stream.split): iter(stream.shards) for stream in streams}
        found = []
        for number, entry in enumerate(self._shards.manifest["parts"]):
            shard = next(shards[entry["source"], entry["split"]])
            begins, lengths = shard.documents_in()
            indices = np.asarray(shard.table)[:, 0].astype(np.int64)
            here = np.flatnonzero(np.isin(indices, cut))
            ends = (begins + lengths)[here].tolist()
            found += map(Seam, indices[here].tolist(), [number] * len(here), ends)
        if len(found) != len(cut):
            place = self._documents.parts[0].path.parent
            raise FormatInvalid(path=place, detail="has documents that no shard holds")
        return sorted(found)

    def _cut(self) -> np.ndarray:
        """The documents behind which the next one goes on with a text, in the same split."""
        cut, last = [], ("", 0, "")
        at = 0
        for batch in self._documents.rows(["id", "split"]):
            ids, splits = (batch.column(name).to_pylist() for name in ("id", "split"))
            for name, split in zip(ids, splits, strict=True):
                text, part = text_of(name) if "#" in name else ("", 0)
                if last == (text, part - 1, split) and part > 1:
                    cut.append(at - 1)
                last, at = (text, part, split), at + 1
        return np.array(cut, np.int64)
