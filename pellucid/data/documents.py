"""The stage "documents": sources become numbered, deduplicated, split documents in Parquet parts.

Document i is the i-th that is kept, over all sources in the recipe's order. Of equal texts the
first is kept, with all its parts. The split follows from a hash alone: that of the text a document
is of, or with data.split = "parts" its own."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import platform
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pellucid.data import beside, cutting, parquet, reasons, sources, stage
from pellucid.data.formats import Seen
from pellucid.data.parquet import Documents
from pellucid.data.salts import Drawn, Public, file_of
from pellucid.errors import CorpusTooSmall, NoValidation
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.store import files

__all__ = ["Documents", "prepare", "root_of", "split_of"]

_SEEN = files.TEMPORARY + "seen.sqlite"


Report = list[dict[str, Any]]  # Of each source what became of it: reasons.report().


def prepare(
    recipe: Recipe,
    folder: Path,
    progress: stage.Progress = stage.silent,
    tell: Callable[[Report], None] = lambda report: None,
) -> bool:
    """Write data/documents; continues after a kill, and returns at once where it is done. What was
    left out is told once all sources are read, or one of them cannot be. What a stopped process had
    finished is kept as far as the sources still give it.

    Raises what sources.check raises, and SourceUnreadable, NoValidation, CorpusTooSmall, DiskFull.
    """
    place = beside.find(folder, recipe, stage.DOCUMENTS)
    if place.done:
        return False
    sources.check(recipe, folder)
    state = place.begin()
    read = sources.fingerprint(recipe, folder)
    if state and state["read"] != read:
        state = _Stage(recipe, folder, place, None, read, progress, tell).still(state)
    _Stage(recipe, folder, place, state, read, progress, tell).work()
    beside.settle(place)
    return True


def split_of(sha256: bytes, validation_per_10000: int) -> str:
    """The split of a text, or of a part of one, from the SHA-256 of its UTF-8."""
    return (
        "validation"
        if int.from_bytes(sha256[:8], "big") % 10000 < validation_per_10000
        else "train"
    )


def key_of(sha256: bytes) -> int:
    """By what validation chooses among documents (data/covered.py), from the SHA-256 of the text:
    the split is decided by the first eight bytes of it, this by the next."""
    return int.from_bytes(sha256[8:16], "big")


def root_of(part_roots: list[str]) -> bytes:
    """The documents' root: the Merkle root whose leaves are the parts' roots, given in hex."""
    return digests.documents_root(part_roots)


class _Stage:
    """The stage at work: what is finished so far, and how to go on."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        place: beside.Place,
        state: dict[str, Any] | None,
        read: str,
        progress: stage.Progress,
        tell: Callable[[Report], None],
    ) -> None:
        """read: the fingerprint of the sources."""
        self._tell = tell
        self._recipe, self._place, self._made_from, self._read = (
            recipe,
            place.path,
            place.made_from,
            read,
        )
        self._readers = sources.readers(recipe, folder)
        state = state or {
            "parts": [],
            "sources": [],
            "cursor": None,
            "left": None,
            "reports": [],
            "last": "",
        }
        self._parts: list[dict[str, Any]] = state["parts"]
        self._sources: list[dict[str, Any]] = state["sources"]  # The finished ones.
        self._cursor = sources.Cursor(*state["cursor"]) if state["cursor"] else None
        self._left: dict[str, Any] | None = state["left"]  # At the cursor.
        self._reports: Report = state["reports"]  # Of the finished sources.
        self._last: str = state["last"]  # The digest of the text that the last document is of.
        self._passing = False  # Whether the text at hand is a duplicate.
        self._count = sum(part["train"] + part["validation"] for part in self._parts)
        self._meter = stage.Meter(
            progress, "documents", "bytes", sum(part["bytes"] for part in self._parts)
        )

    def still(self, state: dict[str, Any]) -> dict[str, Any]:
        """Of what was finished, that which reading the sources again gives:
        they were moved, or corrected."""
        kept = self._state()
        with contextlib.closing(Seen()) as self._seen:
            for number, reader in enumerate(self._readers):
                rows = self._rows(reader)
                for part in (
                    part for part in state["parts"] if part["source"] == reader.source.name
                ):
                    if not self._gives(rows, part):
                        return kept
                    self._parts.append(part)
                    kept = self._state()
                if number >= len(state["sources"]) or next(rows, None) is not None:
                    return kept
                self._end(reader)
                kept = self._state()
        return kept

    def _gives(self, rows: Iterator[parquet.Row], entry: dict[str, Any]) -> bool:
        """Whether the next rows are those of a part, and it would end where it does."""
        names = ["id", "licence", "origin", "date", "split", "sha256"]
        for stored in self._stored(entry, names):
            row = next(rows, None)
            if row is None or tuple(getattr(row, name) for name in names) != stored:
                return False
        return entry["bytes"] >= parquet.PART_BYTES or next(rows, None) is None

    def _stored(self, entry: dict[str, Any], columns: list[str]) -> Iterator[tuple[str, ...]]:
        """Columns of a finished part, row by row."""
        rows = entry["train"] + entry["validation"]
        part = parquet.Part(
            self._place / entry["file"], entry["source"], entry["first_index"], rows
        )
        for group in range(part.groups):
            batch = part.read(group, columns)
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)

    def work(self) -> None:
        names = [part["file"] for part in self._parts]
        stage.keep_only(self._place, [*names, *(file_of(Path(name)).name for name in names)])
        try:
            with contextlib.closing(Seen(self._place / _SEEN)) as self._seen:
                self._recall()
                for reader in self._readers[len(self._sources) :]:
                    self._source(reader)
        finally:
            (self._place / _SEEN).unlink(missing_ok=True)
        self._tell(self._reports)
        self._finish()

    def _recall(self) -> None:
        """The texts of the finished parts count as seen."""
        texts = cutting.Texts()
        for entry in self._parts:
            for name, text in self._stored(entry, ["id", "text"]):
                if (digest := texts.take(name, text.encode("utf-8"))) is not None:
                    self._seen.add(digest)
        if self._last:  # It may go on behind the finished parts.
            self._seen.add(bytes.fromhex(self._last))

    def _source(self, reader: sources.Reader) -> None:
        """Write one source's parts, from the cursor on."""
        if self._left:
            reader.left.restore(self._left)
        rows = self._rows(reader)
        while (first := next(rows, None)) is not None:
            name = f"{len(self._parts):05d}.parquet"
            drawn = Drawn() if self._recipe.data.salts == "random" else None
            salts = drawn or Public(self._recipe.seed)
            with files.whole_file(self._place / name) as partial:
                # chain, for a generator that delegates to rows would close it at the part's end.
                totals = parquet.write_part(partial, itertools.chain([first], rows), salts.of)
            if drawn is not None:
                drawn.write(self._place / name)
            self._parts.append({"file": name, "source": reader.source.name, **totals})
            self._note()
            self._meter.tell()
        self._end(reader)
        self._note()

    def _end(self, reader: sources.Reader) -> None:
        """A source has been read. Raises SourceEmpty, SourceRepeated, TextKeyMissing."""
        self._reports.append(self._report(reader))
        self._sources.append(self._summary(reader))
        self._cursor, self._left = None, None

    def _rows(self, reader: sources.Reader) -> Iterator[parquet.Row]:
        data = self._recipe.data
        for document, cursor in reader.documents(self._cursor):
            content = document.text.encode("utf-8")
            digest = hashlib.sha256(content).digest()
            if self._duplicate(document):
                if document.part <= 1:
                    reader.left.add("duplicate", document.id, len(content))
                continue
            reader.left.texts += document.part <= 1
            self._meter.add(len(content))
            self._cursor, self._left, self._last = cursor, reader.left.state(), document.whole.hex()
            split = split_of(
                document.whole if data.split == "texts" else digest, data.validation_per_10000
            )
            yield parquet.Row(
                self._count, document.id, document.source, document.licence, document.origin,
                document.date, split, len(document.text), len(content), digest.hex(), document.text,
            )  # fmt: skip
            self._count += 1

    def _duplicate(self, document: sources.Document) -> bool:
        if document.part <= 1:  # The parts behind it share its fate.
            self._passing = not self._seen.add(document.whole)
        return self._passing

    def _note(self) -> None:
        stage.note(self._place, self._made_from, self._state())

    def _state(self) -> dict[str, Any]:
        """What a later process needs to go on from here."""
        cursor = list(self._cursor) if self._cursor else None
        done = {"parts": [*self._parts], "sources": [*self._sources], "reports": [*self._reports]}
        return {
            "read": self._read,
            **done,
            "cursor": cursor,
            "left": self._left,
            "last": self._last,
        }

    def _check_enough(self) -> None:
        """No tokenizer made here gives more than a token per byte, and one per document: so a
        corpus that is too small by that measure is known before a tokenizer is trained."""
        recipe, trained, blocks = self._recipe, self._recipe.trained, dict[str, int]()
        for source, entry in zip(recipe.data.sources, self._sources, strict=True):
            tokens = int(entry["bytes"]) + entry["documents"]
            blocks[source.name] = max(0, (tokens - 1) // recipe.block)
            if source.name in trained and tokens <= recipe.block:
                raise CorpusTooSmall(
                    found=tokens,
                    what=f"tokens (or fewer) from the source {source.name}",
                    needed=recipe.block + 1,
                    fix="Add text, or lower model.context and data.block: a block is longer "
                    "than the corpus.",
                )
        stage.require_batches(recipe, blocks, "train rows (or fewer)")

    def _report(self, reader: sources.Reader) -> dict[str, Any]:
        parts = [part for part in self._parts if part["source"] == reader.source.name]
        documents, size = (
            sum(part["train"] + part["validation"] for part in parts),
            sum(part["bytes"] for part in parts),
        )
        return reasons.report(reader.source, documents, size, reader.left)

    def _summary(self, reader: sources.Reader) -> dict[str, Any]:
        source = reader.source
        parts = [part for part in self._parts if part["source"] == source.name]
        if not parts:
            self._tell(self._reports)
            raise sources.empty(reader, [one["name"] for one in self._sources])
        total = {
            key: sum(part[key] for part in parts)
            for key in ("train", "validation", "bytes", "characters")
        }
        return {
            "name": source.name,
            "licence": reader.licence,
            "format": source.format,
            "documents": total["train"] + total["validation"],
            "bytes": str(total["bytes"]),
            "characters": str(total["characters"]),
            "validation_documents": total["validation"],
            "dropped": dict(sorted(reader.left.counts.items())),
        }

    def _finish(self) -> None:
        documents = sum(source["documents"] for source in self._sources)
        if not any(part["validation"] for part in self._parts):
            raise NoValidation(documents=documents, share=self._recipe.data.validation_per_10000)
        if self._recipe.tokenizer.kind != "file":
            self._check_enough()
        parts = [
            {
                "file": part["file"],
                "source": part["source"],
                "documents": part["train"] + part["validation"],
                "validation_documents": part["validation"],
                "first_index": part["first_index"],
                "bytes": str(part["bytes"]),
                "root": part["root"],
            }
            for part in self._parts
        ]
        manifest = {
            "format": stage.FORMAT,
            "kind": "documents",
            "recipe": self._made_from,
            "documents": documents,
            "bytes": str(sum(part["bytes"] for part in self._parts)),
            "characters": str(sum(part["characters"] for part in self._parts)),
            "root": root_of([part["root"] for part in self._parts]).hex(),
            "parts": parts,
            "sources": self._sources,
            "made_with": {
                "python": platform.python_version(),
                "pyarrow": pa.__version__,
                "unicode": unicodedata.unidata_version,
            },
        }
        stage.finish(self._place, manifest)
