"""The licences of a run's documents: how many of each, and how much text and tokens they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pellucid.data import about, parquet
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shard, Shards
from pellucid.errors import FormatInvalid

_KNOWN = 10_000  # Different licences that are counted apart: what is in memory.


class Licence(NamedTuple):
    name: str
    documents: int
    bytes: int  # UTF-8, of their texts.
    tokens: int  # Their document tokens included.


class Licences(NamedTuple):
    counted: list[Licence]  # The commonest first, by documents; of equal ones by their names.
    others: (
        Licence  # Without a name: what is behind the first _KNOWN licences that the documents have.
    )
    unknown: dict[str, int]  # Documents of an unknown licence, by source; none where there is none.

    def commonest(self, most: int) -> tuple[list[Licence], Licence | None]:
        """So many of them, and the sum of the others, where there are any."""
        rest = [*self.counted[most:], self.others]
        documents, size, tokens = (sum(column) for column in list(zip(*rest, strict=True))[1:])
        return self.counted[:most], Licence("", documents, size, tokens) if documents else None


def licences(folder: Path) -> Licences:
    """Those of a run whose data are made. Raises FormatInvalid."""
    counts = dict[str, np.ndarray]()
    others, unknown = np.zeros(3, np.int64), dict[str, int]()
    for source, names, about_D3 in _rows(folder):
        plain = [about.UNKNOWN if about.is_unknown(name) else name for name in names]
        kinds, codes = np.unique(np.array(plain, object), return_inverse=True)
        for code, name in enumerate(kinds.tolist()):
            held = about_D3[codes == code].sum(axis=0)
            if name in counts or len(counts) < _KNOWN:
                counts[name] = counts.get(name, 0) + held
            else:
                others += held
            if name == about.UNKNOWN:
                unknown[source] = unknown.get(source, 0) + int(held[0])
    made = [Licence(name, *found.tolist()) for name, found in counts.items()]
    made.sort(key=lambda one: (-one.documents, one.name.encode()))
    return Licences(made, Licence("", *others.tolist()), unknown)


def _rows(folder: Path) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Of some documents the source, the licences, and of each (1, bytes, tokens), int64."""
    documents, shards = Documents.open(folder), Shards.open(folder)
    streams = [*shards.train, *shards.validation]
    following = {(one.source, one.split): iter(one.shards) for one in streams}
    for part in documents.parts:
        lengths = dict[str, Iterator[int]]()
        for rows in parquet.rows_of(part, ["licence", "bytes", "split"]):
            names, sizes, splits = (column.to_pylist() for column in rows.columns)
            for split in set(splits) - lengths.keys():
                shard = next(following.get((part.source, split), iter(())), None)
                lengths[split] = iter(_lengths(shard, part))
            tokens = [next(lengths[split], 0) for split in splits]
            yield part.source, names, np.stack([np.ones_like(sizes), sizes, tokens], axis=1)


def _lengths(shard: Shard | None, part: parquet.Part) -> list[int]:
    if shard is None:
        raise FormatInvalid(path=part.path, detail="has documents without tokens")
    return shard.documents_in()[1].tolist()
