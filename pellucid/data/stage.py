"""What the stages of the data room share: progress, manifests, and how
a stage continues after a kill.

A stage is done when its manifest exists; the manifest is written last and appears
whole. While a stage works, `unfinished.json` beside its parts lists the parts that are
complete and where to continue."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pellucid.errors import CorpusTooSmall, FormatInvalid, FormatTooNew
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.store import files

FORMAT = 1
_STATE = 1  # Of what unfinished.json holds, in any stage.

DATA = "data/manifest.json"
DOCUMENTS = "data/documents"
TOKENIZER = "data/tokenizer"
SHARDS = "data/shards"
MANIFEST = "manifest.json"
UNFINISHED = "unfinished.json"

PAUSE = 0.1  # Seconds between two words of progress.


class Progress(Protocol):
    """Told now and then how far a stage is; total is None where it is not known."""

    def __call__(self, stage: str, done: int, total: int | None, unit: str) -> None: ...


def silent(stage: str, done: int, total: int | None, unit: str) -> None:
    """A Progress that tells nobody."""


class Meter:
    """Counts a stage's work and passes it on at most once in PAUSE seconds."""

    def __init__(
        self, progress: Progress, stage: str, unit: str, done: int = 0, total: int | None = None
    ) -> None:
        self.done = done
        self._progress, self._stage, self._unit, self._total = progress, stage, unit, total
        self._next = 0.0

    def add(self, amount: int) -> None:
        self.done += amount
        if time.monotonic() >= self._next:
            self.tell()

    def tell(self) -> None:
        """Pass it on now: at the end of a part."""
        self._next = time.monotonic() + PAUSE
        self._progress(self._stage, self.done, self._total, self._unit)


def require_batches(recipe: Recipe, blocks: Mapping[str, int], what: str) -> None:
    """blocks: of each trained source, as many as there are or, in a first estimate, may be.

    Raises CorpusTooSmall, which calls them `what`, where one pass has fewer rows than a batch.
    """
    for rows, phase in recipe.rows_of_a_pass(blocks):
        if rows < phase.batch:
            raise CorpusTooSmall(
                found=rows,
                what=what,
                needed=phase.batch,
                fix="Add text, or lower train.batch or model.context: a batch is larger than "
                "the corpus.",
            )


def read_manifest(path: Path, kind: str) -> dict[str, Any]:
    """A manifest of this kind. Raises FormatInvalid, FormatTooNew."""
    manifest = files.read_json(path)
    version = manifest.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise FormatTooNew(path=path, found=version, known=FORMAT)
    if version != FORMAT or manifest.get("kind") != kind:
        raise FormatInvalid(path=path, detail=f"is not a manifest of kind {kind}, format {FORMAT}")
    return manifest


def done(place: Path, kind: str, made_from: str) -> bool:
    """Whether the stage in this folder is finished, and made from
    these recipe fields and inputs."""
    manifest = place / MANIFEST
    if not manifest.is_file() or read_manifest(manifest, kind).get("recipe") != made_from:
        return False
    (place / UNFINISHED).unlink(missing_ok=True)
    return True


def unfinished(place: Path, made_from: str) -> dict[str, Any] | None:
    """What a killed process wrote down about this stage, if it was made from the same and says it
    in this way."""
    path = place / UNFINISHED
    if not path.is_file():
        return None
    state = files.read_json(path)
    return state if _noted(made_from).items() <= state.items() else None


def note(place: Path, made_from: str, state: dict[str, Any]) -> None:
    """Write down how far the stage is, whole."""
    files.write_json(place / UNFINISHED, _noted(made_from) | state)


def _noted(made_from: str) -> dict[str, Any]:
    """What any stage notes, and asks of a note."""
    return {"format": FORMAT, "state": _STATE, "recipe": made_from}


def finish(place: Path, manifest: dict[str, Any]) -> None:
    """The last act of a stage."""
    files.write_json(place / MANIFEST, manifest)
    (place / UNFINISHED).unlink(missing_ok=True)


def keep_only(place: Path, names: list[str]) -> None:
    """Remove from a stage's folder what its list of complete parts does not name."""
    wanted = {*names, UNFINISHED}
    for name in files.walk(place) if place.is_dir() else []:
        if name not in wanted:
            (place / name).unlink()


def count_in(entry: Any, key: str, path: Path, most: int = 2**62) -> int:
    """An integer field of a manifest, also where it is written as a
    string. Raises FormatInvalid."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise FormatInvalid(path=path, detail=f"{key} is {str(value)[:40]!r}, not a count")
    return value


def digest_in(entry: Any, key: str, path: Path) -> str:
    """A digest field of a manifest, in hex. Raises FormatInvalid."""
    value = text_in(entry, key, path)
    if not digests.is_digest(value):
        raise FormatInvalid(path=path, detail=f"{key} is {value[:40]!r}, not a digest")
    return value


def text_in(entry: Any, key: str, path: Path) -> str:
    """A string field of a manifest. Raises FormatInvalid."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, str):
        raise FormatInvalid(path=path, detail=f"{key} is {str(value)[:40]!r}, not a text")
    return value


def list_in(entry: dict[str, Any], key: str, path: Path) -> list[Any]:
    """A list field of a manifest. Raises FormatInvalid."""
    value = entry.get(key)
    if not isinstance(value, list):
        raise FormatInvalid(path=path, detail=f"{key} is not a list")
    return value
