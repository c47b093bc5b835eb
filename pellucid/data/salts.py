"""The salts of documents: what makes a leaf of a short text unguessable, or not.

With data.salts = "seed" a document's salt follows from the recipe's seed and its index, so two
strangers have the same data root; and whoever guesses a text can check the guess by its leaf. With
"random" each is 32 random bytes, kept beside the part of the documents: a text can then be taken
out, its salt with it, and nothing of it can be guessed from the leaves that stay."""

from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pellucid.data import stage
from pellucid.data.parquet import Documents, Part
from pellucid.errors import FormatInvalid
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.store import arrays, files

SIZE = 32  # Bytes of one.


class Salts(Protocol):
    def of(self, document: int) -> bytes:
        """The salt of a document. Raises FormatInvalid where none is kept."""
        ...


class Public:
    """Those that follow from the seed."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def of(self, document: int) -> bytes:
        return digests.salt(self._seed, "document", document)


class Kept:
    """Those that were drawn, in a file beside each part of the documents."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._firsts = [part.first_index for part in parts]
        self._arrays: dict[int, np.ndarray] = {}

    def of(self, document: int) -> bytes:
        number = max(0, bisect.bisect_right(self._firsts, document) - 1)
        if not self._parts:
            raise FormatInvalid(path=stage.DOCUMENTS, detail="has no parts, so no salts")
        path = file_of(self._parts[number].path)
        if number not in self._arrays:
            self._arrays[number] = arrays.mapped(path, "u1", SIZE)
        kept, place = self._arrays[number], document - self._firsts[number]
        if not 0 <= place < len(kept):
            raise FormatInvalid(path=path, detail=f"has no salt of document {document}")
        return np.asarray(kept[place]).tobytes()


def of_run(folder: Path, recipe: Recipe) -> Salts:
    """The salts of a run's documents. Raises FormatInvalid, FileMissing."""
    if recipe.data.salts == "seed":
        return Public(recipe.seed)
    return of_documents(Documents.open(folder), recipe)


def of_documents(documents: Documents, recipe: Recipe) -> Salts:
    """The salts of these documents."""
    return Public(recipe.seed) if recipe.data.salts == "seed" else Kept(documents.parts)


def file_of(part: Path) -> Path:
    """The file of the salts beside a part of the documents."""
    return part.parent / name_of(part.name)


def name_of(part: str) -> str:
    """Its name, from the part's."""
    return part.removesuffix(".parquet") + ".salts.bin"


class Drawn:
    """Those of a part that is being written: drawn as they are asked for, in their order."""

    def __init__(self) -> None:
        self._drawn = bytearray()

    def of(self, document: int) -> bytes:
        salt = os.urandom(SIZE)
        self._drawn += salt
        return salt

    def write(self, part: Path) -> None:
        """Beside a part of the documents."""
        files.write_bytes(file_of(part), bytes(self._drawn))


def wrong_with(part: Part, recipe: Recipe) -> str:
    """What is wrong with the file of salts beside a part; nothing where all is well."""
    path = file_of(part.path)
    if recipe.data.salts == "seed":
        return (
            "has salts beside it, and the recipe takes them from the seed" if path.exists() else ""
        )
    if not files.is_file(path):
        return "has no salts beside it, and the recipe draws them"
    size = path.stat().st_size
    if size != part.documents * SIZE:
        return f"has {size} bytes of salts beside it for {part.documents} documents"
    return ""
