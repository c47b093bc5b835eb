"""The source files of an installed Python distribution, checked
against the hashes in its RECORD."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pellucid.data import formats
from pellucid.errors import PackageDiffers, PackageMissing, RecipeInvalid
from pellucid.recipe import Source
from pellucid.store import files, layout

PREFIX = "package:"
EXCLUDED = ("**/tests/**", "**/testing/**")
_SPELLING = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?:==([A-Za-z0-9.!+_-]+))?")


class Entry(NamedTuple):
    """One file of RECORD."""

    path: str
    sha256: str  # Hex; empty where RECORD has none.
    place: Path


class Package:
    """An installed distribution. Raises PackageMissing; PackageDiffers
    where its version is another."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name, self.asked = spelling(source.path, source.name)
        try:
            self._distribution = importlib.metadata.distribution(self.name)
        except importlib.metadata.PackageNotFoundError as error:
            raise PackageMissing(
                source=source.name, package=source.path.removeprefix(PREFIX)
            ) from error
        self.version = self._distribution.version
        if self.asked and self.asked != self.version:
            raise self.differs("the version", f"is {self.version}, not {self.asked}")

    @property
    def url(self) -> str:
        """The package URL, as in pkg:pypi/sympy@1.14.0."""
        return f"pkg:pypi/{_canonical(self.name)}@{self.version}"

    @property
    def licence(self) -> str:
        """The licence that the distribution's metadata names, or "unknown"."""
        metadata = self._distribution.metadata
        for key in ("License-Expression", "License"):
            value = (metadata.get_all(key) or [""])[0].strip()
            if value and value.upper() != "UNKNOWN" and "\n" not in value and len(value) <= 200:
                return value
        named = [
            line for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")
        ]
        return named[0].rsplit("::", 1)[1].strip() if named else "unknown"

    def entries(self) -> Iterator[Entry]:
        """The files of RECORD that lie in the package's own folders, sorted by their UTF-8 bytes.

        Left out: scripts and manuals outside the import folders, and the .dist-info
        folder, which the installer writes to. RECORD is parsed here because
        importlib.metadata hides missing files."""
        record = self._distribution.read_text("RECORD")
        if record is None:
            raise self.differs("RECORD", "is missing")
        rows = [row for row in csv.reader(record.splitlines()) if row]
        for row in sorted(rows, key=lambda row: row[0].replace("\\", "/").encode()):
            path = row[0].replace("\\", "/")
            first, _, rest = path.partition("/")
            if (
                path.startswith("/")
                or ".." in path.split("/")
                or (rest and first.endswith((".dist-info", ".data")))
            ):
                continue
            place = Path(str(self._distribution.locate_file(path)))
            yield Entry(path, _hex(row[1] if len(row) > 1 else ""), place)

    def read(self, entry: Entry, how: formats.How) -> Iterator[formats.Record]:
        """The file as one record, if its bytes are those RECORD names. Raises PackageDiffers."""
        if not entry.sha256:
            raise self.differs(entry.path, "has no SHA-256 in RECORD")
        try:
            with files.named_errors(entry.place, "read"):
                content = entry.place.read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise self.differs(entry.path, "is missing") from error
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise self.differs(entry.path, "differs from its hash in RECORD")
        yield formats.text_record(content, how)

    def differs(self, path: str, detail: str) -> PackageDiffers:
        package = f"{self.name}=={self.asked or self.version}"
        return PackageDiffers(source=self.source.name, path=path, package=package, detail=detail)


def spelling(path: str, source: str) -> tuple[str, str]:
    """Name and version ("" for any) of package:NAME[==VERSION]. Raises RecipeInvalid."""
    match = _SPELLING.fullmatch(path.removeprefix(PREFIX))
    if not match or not path.startswith(PREFIX):
        detail = f"source {source}: {path!r} is not package:NAME or package:NAME==VERSION"
        raise RecipeInvalid(path=layout.RECIPE, key="data.sources.path", detail=detail)
    return match[1], match[2] or ""


def is_of(origin: str, path: str) -> bool:
    """Whether a document's origin is of the package, and the version if it has one, that a source's
    path spells; of any where the path is empty, which says nothing."""
    match = _SPELLING.fullmatch(path.removeprefix(PREFIX))
    if not path or not match or not path.startswith(PREFIX):
        return not path
    version = f"{match[2]}#" if match[2] else ""
    return origin.startswith(f"pkg:pypi/{_canonical(match[1])}@{version}")


def _canonical(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _hex(field: str) -> str:
    """The hex form of RECORD's sha256=URLSAFE_BASE64_WITHOUT_PADDING."""
    kind, _, value = field.partition("=")
    if kind != "sha256":
        return ""
    try:
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex()
    except ValueError:
        return ""
