"""What gzip and xz make of the texts that validation is measured on: a model predicts those texts
better than either, or it has learned little."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pellucid.data.covered import covered
from pellucid.data.documents import Documents
from pellucid.data.streams import Shards
from pellucid.recipe import load

MOST = 1 << 20  # Bytes that are packed, of all sources together: xz takes a second for them.


class Packed(NamedTuple):
    """Sizes in bytes. of: all texts of the validation; bytes: those that were packed."""

    bytes: int
    of: int
    gzip: int
    xz: int


def packed(content: bytes, of: int) -> Packed:
    """Of what `validated` gives."""
    return Packed(
        bytes=len(content),
        of=of,
        gzip=len(gzip.compress(content, 9, mtime=0)),
        # A larger preset only looks back further than these texts go, for 700 MB of memory.
        xz=len(lzma.compress(content, preset=6 | lzma.PRESET_EXTREME)),
    )


def validated(folder: Path) -> tuple[bytes, int]:
    """The texts whose bytes the validation counts, in its order, and how many bytes they have. Of
    more than MOST bytes, an equal share of each source, from its beginning. Raises
    FormatInvalid."""
    documents, streams = Documents.open(folder), covered(Shards.open(folder), load(folder))
    of = sum(stream.bytes for stream in streams)
    share = of if of <= MOST else MOST // len(streams)
    parts = (_beginning(documents, stream.documents.tolist(), share) for stream in streams)
    return b"".join(parts), of


def _beginning(documents: Documents, indices: list[int], most: int) -> bytes:
    return b"".join(_texts(documents, indices, most))[:most]


def _texts(documents: Documents, indices: list[int], most: int) -> Iterator[bytes]:
    for index in indices:
        if most <= 0:
            return
        text = documents.get(index)["text"].encode("utf-8")
        most -= len(text)
        yield text
