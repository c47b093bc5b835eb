"""What a recipe says of a source, held against the ids and origins of its documents.

A document is called by the path of its file in the source and, of the formats whose files hold
several, by its record; its origin is that name, of a package behind the package's URL. So the
recipe's format and patterns show in them, and of a package its name and version. Where the source
names a field for the origin, licence or date, a document may have any that a field can give."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pellucid.data import cutting, endings, packages, parquet
from pellucid.data.about import fits, keys_of
from pellucid.data.sources import Patterns, path_of
from pellucid.data.tables import VALUES
from pellucid.recipe import Source

_URL = re.compile(r"(pkg:pypi/[a-z0-9]+(?:-[a-z0-9]+)*@[^#\s]+)#(.+)", re.DOTALL)
_LINE = re.compile(r"(.+):[1-9][0-9]*", re.DOTALL)
_COLONS = 64  # Of a FASTA name, behind which its record's name is looked for.


class Claims:
    """Of one source. Memory holds no more than a few names."""

    def __init__(self, source: Source) -> None:
        self._source = source
        # Files without endings may be the source's: _mixed().
        self._patterns = Patterns(source, [])
        self._url, self._paths, self._several = "", [""], False
        self._refused = ""  # Why the one path so far is not taken.
        self._ended: set[bool] = set()  # Whether files have one of the format's endings.

    def wrong(self, row: parquet.Row) -> str:
        """What the next document contradicts; "" where nothing."""
        name = cutting.text_of(row.id)[0].removeprefix(f"{self._source.name}/")
        if self._source.format == "package":
            if not packages.is_of(row.origin, self._source.path):
                return f"its origin {row.origin[:60]!r} is not of {self._source.path[:60]!r}"
            match = _URL.fullmatch(row.origin)
            if match is None or match[2] != name or match[1] != (self._url or match[1]):
                return (
                    f"its origin {row.origin[:60]!r} is not that of {name[:60]!r} in the one "
                    "package of its source"
                )
            self._url = match[1]
        elif self._source.path.startswith(packages.PREFIX):
            return f"its source is {self._source.path[:60]!r}, and its format {self._source.format}"
        elif wrong := self._unfit(row, name):
            return wrong
        paths = list(self._meant(name))
        if not paths:
            return f"{name[:60]!r} is no name that the format {self._source.format} gives"
        return "" if paths == self._paths else self._next(paths)

    def _unfit(self, row: parquet.Row, name: str) -> str:
        """What no field gives, nor what stands for one that is missing."""
        keys = keys_of(self._source)
        if row.origin != name and not ("origin" in keys and fits(row.origin, "origin")):
            return f"its origin is {row.origin[:60]!r}, and its id that of {name[:60]!r}"
        own = "licence" in keys and row.licence != self._source.licence
        if own and not fits(row.licence, "licence"):
            return f"its licence {row.licence[:60]!r} is none that a field gives"
        if row.date and "date" in keys and not fits(row.date, "date"):
            return f"its date {row.date[:60]!r} is none that a field gives"
        return ""

    def _meant(self, name: str) -> Iterator[str]:
        """The paths that may be meant: several only where records are called by any word."""
        paths = [name]
        if self._source.format == "fasta" or self._source.id_key:
            parts = name.split(":", _COLONS)
            paths = [":".join(parts[:count]) for count in range(1, len(parts))]
        elif self._source.format == "lines" or self._source.format in VALUES:
            match = _LINE.fullmatch(name)
            paths = [match[1]] if match else []
        return (path for one in paths if one and (path := path_of(one)))

    def _next(self, paths: list[str]) -> str:
        """What is wrong with a path. A file named by itself, the only one of
        its source, is always taken."""
        self._several = self._several or self._paths[0] not in ("", paths[0])
        self._paths = paths
        reasons = [self._patterns.refused(path) for path in paths]
        if "" not in reasons:
            self._refused = reasons[0]
            self._several = self._several or "/" in paths[0] or self._source.format == "package"
        elif len(paths) == 1 and self._mixed(paths[0]):
            return "its source has files with endings of its format, and files without"
        if self._refused and self._several:
            reason, self._refused = self._refused.replace("_", " "), ""
            return f"the file {paths[0][:60]!r}, or the one before it, is {reason} by the recipe"
        return ""

    def _mixed(self, path: str) -> bool:
        """Files without endings are taken only where no file has one of the format's."""
        if not self._source.include:
            self._ended.add(endings.fits(path, self._source.format))
        return len(self._ended) > 1
