"""Every data file of a site, by its name, made from the run folder: what publish writes, what
verify makes again and compares, and what `pellucid view` makes when a page asks for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pellucid.data.tokenizer import FILE
from pellucid.errors import FormatInvalid
from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.recipe import MAX_BYTES
from pellucid.site import (
    baselines,
    documents,
    evaluations,
    ranked,
    samples,
    steps,
    validation,
)
from pellucid.site.curves import Curves, top
from pellucid.site.overview import SCHEMA, corpus, overview, states
from pellucid.site.pack import canonical, spans
from pellucid.site.places import OWN, Places, Rows, Segments
from pellucid.site.seams import SEAMS, Seams
from pellucid.site.texts import Texts
from pellucid.store import files, layout

TEXT_BYTES = 200_000_000  # Of more text a site holds none unless asked to.
_TOKENIZER_BYTES = 64 << 20
_NAME = re.compile(
    r"overview|states|validation|evaluations|ranked|tokenizer|dictionary|baselines|samples"
    r"|(curves)/level([0-9]{1,2})/([0-9]{5,9})"
    r"|(steps|documents|texts|seams)/([0-9]{5,9})"
)

# What depends on data and recipe alone, and takes long to read.
_OF_DATA = {"_corpus", "_shown", "_places", "_texts", "_seams", "_baselines"}


class NoSuchFile(Exception):
    """A name that no data file has."""


class _Tables(NamedTuple):
    """The tables of a site that is made whole, read once."""

    rows: Rows
    segments: Segments
    own: np.ndarray  # The rows of the run's own segments, which come first; they ascend.


class Site:
    """The data files of a run as it stands. Make another one when the run has gone on.

    texts: whether it holds the texts; None: if they are not too large. written: what the states
    write behind the prompts of the plan; None: it holds no samples. schema: of a site that an
    earlier version of Pellucid wrote, the one that its scripts read."""

    def __init__(
        self,
        folder: Path,
        texts: bool | None = None,
        written: Callable[[samples.Plan], list[list[str]]] | None = None,
        schema: int = SCHEMA,
    ) -> None:
        self.folder, self.schema = folder, schema
        self._asked = texts
        self._written = written
        self._all: _Tables | None = None

    def renewed(self) -> Site:
        """The run as it stands now. Of its data only what has changed is read again."""
        site = type(self)(self.folder, self._asked, schema=self.schema)
        if site._manifest is not None and site._manifest == self._manifest:
            site.__dict__ |= {name: self.__dict__[name] for name in _OF_DATA & self.__dict__.keys()}
        return site

    @cached_property
    def _manifest(self) -> bytes | None:
        """That of the data, and the recipe; None before the data are made."""
        place, recipe = self.folder / layout.DATA_MANIFEST, self.folder / layout.RECIPE
        if not place.is_file():
            return None
        return files.read_bytes(place, files.JSON_BYTES) + files.read_bytes(recipe, MAX_BYTES)

    @cached_property
    def _corpus(self) -> dict:
        about = {"seams": self._seams.count, "seams_per_pack": SEAMS}
        return corpus(self.folder, self.schema) | about

    @cached_property
    def _status(self) -> dict:
        return status(self.folder)

    @cached_property
    def overview(self) -> dict:
        made = self._manifest is not None  # Before the rest is read: it may be made meanwhile.
        about = {
            **overview(self.folder, self._status, self.schema),
            "data_made": made,
            **(self._corpus if made else {}),
        }
        size = sum(int(source["bytes"]) for source in about.get("sources", []))
        about["texts"] = size <= TEXT_BYTES if self._asked is None else self._asked
        about["samples"] = bool(self._written and samples.plan(self.folder, about))
        return about

    @property
    def _done(self) -> int:
        return max(self.overview["first"], self.overview["steps_done"])

    @property
    def _taken(self) -> int:
        return self._done - self.overview["first"]

    def names(self) -> Iterator[str]:
        """The name of every data file; those of texts before those that say where texts lie."""
        yield "overview"
        yield "states"
        if self.overview["validation"]:
            yield validation.NAME
        if self.overview["evaluations"]:
            yield evaluations.NAME
        for level in range(top(self._taken) + 1):
            for number in range(self._curves.parts(level)):
                yield f"curves/level{level}/{number:05d}"
        if self.overview["data_made"]:
            yield "tokenizer"
            yield ranked.NAME
            if self.overview["validation"]:
                yield baselines.NAME
            if self.overview["samples"]:
                yield samples.NAME
            if self.overview["texts"]:
                yield "dictionary"
                for number in range(self._texts.count):
                    yield f"texts/{number:05d}"
            for number in range(-(-self.overview["documents"] // self._documents_per_pack)):
                yield f"documents/{number:05d}"
            for number in range(-(-self.overview["seams"] // SEAMS)):
                yield f"seams/{number:05d}"
        if self.overview["genesis"]:
            for number in self._step_packs:
                yield f"steps/{number:05d}"

    def read_all(self) -> None:
        """Read the tables once, for a site that is made whole. Raises FormatInvalid."""
        rows = self._places.rows()
        segments = self._places.segments(rows=rows)
        self._all = _Tables(rows, segments, segments.place[segments.branch == OWN])

    def placed(self, name: str, content: bytes) -> None:
        """A data file is there: steps and documents say where in it a text lies."""
        if name.startswith("texts/"):
            self._texts.placed(int(name.removeprefix("texts/")), spans(content, name))

    def dictionary(self, name: str) -> bytes:
        """What the pieces of a data file are packed behind."""
        return self._texts.dictionary if name.startswith("texts/") else b""

    def pieces(self, name: str) -> Iterator[bytes]:
        """What a data file holds. Raises NoSuchFile for a name that is none, FormatInvalid."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise NoSuchFile(name)
        level, part, kind, number = match[2], match[3], match[4], match[5]
        if name == "overview":
            yield self._canonical(self.overview)
        elif name == "states":
            yield self._canonical(states(self.folder, self._status["validation"]))
        elif name == validation.NAME:
            yield self._canonical(self._validations())
        elif name == evaluations.NAME:
            if not self.overview["evaluations"]:
                raise NoSuchFile(name)
            yield self._canonical(evaluations.told(self.folder, self.schema))
        elif name == "tokenizer":
            place = self.folder / layout.TOKENIZER / FILE
            yield files.read_bytes(place, _TOKENIZER_BYTES)
        elif name == "dictionary":
            if not (self.overview["data_made"] and self.overview["texts"]):
                raise NoSuchFile(name)
            yield self._texts.dictionary
        elif name == baselines.NAME:
            yield self._canonical(self._validated())
        elif name == ranked.NAME:
            yield self._canonical(self._ranked())
        elif name == samples.NAME:
            yield self._canonical(self._samples())
        elif match[1]:
            yield self._canonical(self._curve(int(level), int(part)))
        elif kind == "steps":
            columns, digests = self._steps(int(number))
            yield self._canonical(columns)
            yield digests
        elif kind == "documents":
            yield self._canonical(self._documents(int(number)))
        elif kind == "seams":
            yield self._canonical(self._seam(int(number)))
        else:
            yield from self._text(int(number))

    def _canonical(self, value: object) -> bytes:
        """Raises FormatInvalid for what JSON in UTF-8 cannot hold: manifests are JSON of others."""
        try:
            return canonical(value)
        except ValueError as error:
            detail = f"holds a number or a text that no page can show ({error})"
            raise FormatInvalid(path=self.folder, detail=detail) from error

    def _validated(self) -> dict:
        if not (self.overview["data_made"] and self.overview["validation"]):
            raise NoSuchFile(baselines.NAME)
        return self._baselines

    def _samples(self) -> dict:
        plan = samples.plan(self.folder, self.overview)
        if not (self._written and plan):
            raise NoSuchFile(samples.NAME)
        return plan.filled(self._written(plan))

    @cached_property
    def _baselines(self) -> dict:
        return baselines.made(self.folder)

    def _validations(self) -> dict:
        if not (self.overview["validation"] and self.overview["genesis"]):
            raise NoSuchFile(validation.NAME)
        tokens = int(self.overview["genesis"].get("tokens", 0))
        return validation.curve(self._status["validation"], self._curves, tokens)

    def _ranked(self) -> dict:
        if not self.overview["data_made"]:
            raise NoSuchFile(ranked.NAME)
        return ranked.ranked(self._by_document[0], self._texts)

    def _curve(self, level: int, number: int) -> dict:
        if level > top(self._taken) or number >= self._curves.parts(level):
            raise NoSuchFile(number)
        return self._curves.part(level, number)

    def _text(self, number: int) -> Iterator[bytes]:
        if number >= self._texts.count:
            raise NoSuchFile(number)
        return self._texts.pieces(number)

    @property
    def _step_packs(self) -> range:
        origin = steps.origin(self.overview["first"], self.schema)
        size = self.overview["steps_per_pack"]
        return range((self.overview["first"] - origin) // size, (self._done - origin) // size + 1)

    def _steps(self, number: int) -> tuple[dict, bytes]:
        ledger = self._shown.ledger()
        if ledger is None or number not in self._step_packs:
            raise NoSuchFile(number)
        size = self.overview["steps_per_pack"]
        begin = steps.origin(self.overview["first"], self.schema) + number * size
        first, last = max(begin, self.overview["first"]), min(begin + size - 1, self._done)
        return steps.pack(ledger, self._texts, *self._between(first, last), (first, last))

    def _between(self, first: int, last: int) -> tuple[Rows, Segments]:
        """The rows of some steps, and their segments: of a site that is made whole, from all of
        them."""
        if self._all is None:
            own_steps = (first, last)
            segments = self._places.segments(own_steps)
            return self._places.rows(own_steps), segments.where(segments.branch == OWN)
        rows, segments, own = self._all
        low, high = rows.step.searchsorted([first, last + 1]).tolist()
        begin, end = own.searchsorted([low, high]).tolist()
        kept = segments.where(slice(begin, end))
        return rows.where(slice(low, high)), kept._replace(place=kept.place - low)

    @property
    def _documents_per_pack(self) -> int:
        return self.overview["documents_per_pack"]

    def _documents(self, number: int) -> dict:
        first = number * self._documents_per_pack
        last = min(first + self._documents_per_pack, self.overview["documents"]) - 1
        if first > last:
            raise NoSuchFile(number)
        segments, order, indices = self._by_document
        low, high = indices.searchsorted([first, last + 1])
        kept = segments.where(order[low:high])
        return documents.pack(self._texts, self._places, kept, first, last)

    def _seam(self, number: int) -> dict:
        if number * SEAMS >= self._seams.count:
            raise NoSuchFile(number)
        return self._seams.pack(number)

    @cached_property
    def _seams(self) -> Seams:
        return Seams(self.folder)

    @cached_property
    def _shown(self) -> Shown:
        return Shown(self.folder)

    @cached_property
    def _places(self) -> Places:
        return Places(self._shown)

    @cached_property
    def _texts(self) -> Texts:
        return Texts(self._shown.documents, self.overview["texts"])

    @cached_property
    def _by_document(self) -> tuple[Segments, np.ndarray, np.ndarray]:
        """All segments, their order by documents, and the document of each in that order."""
        segments = self._places.segments() if self._all is None else self._all.segments
        order = documents.in_order(segments)
        return segments, order, segments.document[order]

    @cached_property
    def _curves(self) -> Curves:
        sources = [source["name"] for source in self.overview.get("sources", [])]
        return Curves(self.folder, self.overview["first"], self._done, sources)


class Numbers(Site):
    """The numbers of a run alone, as if its data were not made: what lies over the curves of
    another run needs no documents, which may be many and far away."""

    @cached_property
    def _manifest(self) -> bytes | None:
        return None
