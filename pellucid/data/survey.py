"""A quick look at what the sources hold, bounded in time: what a new recipe has to fit."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from pellucid.data import sources
from pellucid.data.documents import split_of
from pellucid.recipe import Recipe

MOST_BYTES = 16 << 20  # Read of each source.
MOST_DOCUMENTS = 20_000


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


def survey(recipe: Recipe, folder: Path) -> list[Surveyed]:
    """Each source's first documents. Raises what sources.check raises, and SourceUnreadable."""
    surveyed, seen, passing = [], set[bytes](), False
    for reader in sources.readers(recipe, folder):
        documents, size, characters, whole = [], 0, 0, True
        before = [source.name for source in surveyed]
        for document, _ in reader.documents():
            if size >= MOST_BYTES or len(documents) >= MOST_DOCUMENTS:
                whole = False
                break
            if document.part <= 1:
                passing = document.whole in seen
                seen.add(document.whole)
            if passing:
                reader.left.add("duplicate", document.id)
            else:
                content = document.text.encode("utf-8")
                texts = recipe.data.split == "texts"
                documents.append(
                    (document.whole if texts else hashlib.sha256(content).digest(), len(content))
                )
                size, characters = size + len(content), characters + len(document.text)
        if not documents:
            raise sources.empty(reader, before)
        sizes = (
            [size] if whole or reader.alone else [place.stat().st_size for place in reader.places()]
        )
        largest = (
            max(sizes, default=0) / max(1, sum(sizes)) if reader.source.format == "text" else 0.0
        )
        surveyed.append(Surveyed(reader.source.name, tuple(documents), characters, whole, largest))
    return surveyed
