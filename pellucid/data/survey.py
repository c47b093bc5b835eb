"""A quick look at what the sources hold, bounded in time: what a new recipe has to fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from pellucid.data import packings, sources, stage
from pellucid.data.documents import split_of
from pellucid.recipe import Recipe

MOST_DOCUMENTS = 20_000  # Looked at, of each source; of bytes, what a sample has.


class Surveyed(NamedTuple):
    """The first documents of a source, without duplicates."""

    name: str
    # The digest that each one's split follows from, and its bytes.
    documents: tuple[tuple[bytes, int], ...]
    characters: int
    whole: bool  # Nothing lies behind them.
    # The part of the source's bytes that its longest text is, as far as the sizes of files tell.
    largest: float

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.documents)

    def split(self, share: int) -> tuple[int, int]:
        """The bytes for training and for validation."""
        held = sum(
            size for digest, size in self.documents if split_of(digest, share) == "validation"
        )
        return self.bytes - held, held


def survey(recipe: Recipe, folder: Path, progress: stage.Progress = stage.silent) -> list[Surveyed]:
    """The first documents of each source that has any among its first records. Raises what
    sources.check raises, and SourceUnreadable."""
    surveyed, seen = list[Surveyed](), set[bytes]()
    meter = stage.Meter(progress, "look", "bytes")
    readers = sources.readers(recipe, folder)
    for reader in readers:
        own = _first(reader, recipe.data.split == "texts", seen, meter)
        if own.documents:
            surveyed.append(own)
        elif own.whole or (not surveyed and reader is readers[-1]):
            raise sources.empty(reader, [source.name for source in surveyed])
    return surveyed


def _first(reader: sources.Reader, texts: bool, seen: set[bytes], meter: stage.Meter) -> Surveyed:
    """The first documents of a source; seen: the texts before, of other sources too."""
    documents, size, characters, whole, passing = [], 0, 0, True, False
    try:
        for number, document in enumerate(reader.sample()):
            if size >= packings.SAMPLE or number >= MOST_DOCUMENTS:
                raise packings.SampleFull
            content = document.text.encode("utf-8")
            meter.add(len(content))
            if document.part <= 1:
                passing = document.whole in seen
                seen.add(document.whole)
            if passing:
                reader.left.add("duplicate", document.id)
                continue
            digest = document.whole if texts else hashlib.sha256(content).digest()
            documents.append((digest, len(content)))
            size, characters = size + len(content), characters + len(document.text)
    except packings.SampleFull:
        whole = False
    sizes = [size] if whole or reader.alone else [place.stat().st_size for place in reader.places()]
    largest = max(sizes, default=0) / max(1, sum(sizes)) if reader.source.format == "text" else 0.0
    return Surveyed(reader.source.name, tuple(documents), characters, whole, largest)
