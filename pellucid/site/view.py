"""`pellucid view`: the pages of a run as it stands, also while it trains. Nothing is written.

A page asks /site/live for a mark, every few seconds. Another mark means that the run has gone on:
the page loads the overview again, and with it the run is read anew."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import threading
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from pellucid import machine
from pellucid.data import stage
from pellucid.errors import (
    CommandInvalid,
    NotTrained,
    PellucidError,
    RunMissing,
    RunTwice,
    TooMuchMemory,
)
from pellucid.recipe import FILE
from pellucid.site import shell
from pellucid.site.data import NoSuchFile, Numbers, Site
from pellucid.site.pack import canonical, packed
from pellucid.site.pages import Pages
from pellucid.site.server import JSON, Answer, Refused, Server, as_json
from pellucid.store import files, layout
from pellucid.store.ledger import begun
from pellucid.store.remote import RemotePath

FIRST = "/site/index.html"
_SHARE = 5  # A run is read anew after so many times the time that reading it took.
_ATTEMPTS = 3
_TEXT = "text/plain; charset=utf-8"  # A README of somebody else's too: no browser runs it.
_SCRIPT = "text/javascript; charset=utf-8"
_SHELL_KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": _SCRIPT,
}
_DATA = re.compile("/site/data/([a-z0-9/]+)[.]js")
_RUNS = 8  # At once: a curve of each has a colour and a dash of its own.
_OTHER = re.compile(
    "/site/others/([0-9])/data/(overview|validation|curves/level[0-9]{1,2}/[0-9]{5,9})[.]js"
)
_PAGE = re.compile("/site/pages/([a-z0-9_/-]+)[.]html")
_PICTURES = {name: f"image/{name}" for name in ("png", "jpeg", "gif", "webp")}
_KINDS = {"json": JSON, "jsonl": _TEXT, "toml": _TEXT, "md": _TEXT, "lock": _TEXT, "LICENSE": _TEXT}
_KINDS |= _PICTURES | {"jpg": _PICTURES["jpeg"]}
# Files and folders of which one changes wherever a run goes on: its size, or when it was written.
_SIGNS = (
    *(FILE, layout.LEDGER, layout.MANIFEST, layout.CHECKPOINTS, layout.ANCHORS, layout.METRICS),
    layout.EVALUATIONS,
    *(f"{layout.METRICS}/{table}" for table in ("steps", "sequences", "segments", "sources")),
    *(f"{layout.DATA}/{name}/{stage.MANIFEST}" for name in ("documents", "tokenizer", "shards")),
    *(layout.DATA_MANIFEST, f"{layout.TRACE}/{stage.MANIFEST}", layout.PAGES),
)


def server(folder: Path, port: int = 0, others: Sequence[Path] = ()) -> Server:
    """What serves a run, or a release behind a URL, until it is closed. others: the runs whose
    curves its pages draw over its own. Raises RunMissing, PortUnusable; of others RunTwice,
    NotTrained, CommandInvalid."""
    if len(others) >= _RUNS:
        raise CommandInvalid(word="RUN", detail=f"more than {_RUNS} runs", verb="view")
    known = set[str]()
    for run in (folder, *others):
        if not (run / FILE).is_file():
            raise RunMissing(path=run)
        if (place := _place(run)) in known:
            raise RunTwice(path=run, verb="view")
        known.add(place)
    for run in others:
        _require_steps(run)
    return Server(port, View(folder, others).answer)


def _place(run: Path) -> str:
    return str(run).rstrip("/") if isinstance(run, RemotePath) else str(run.resolve())


def _require_steps(run: Path) -> None:
    """Raises NotTrained. A run that cannot be read is named on the pages."""
    try:
        ledger = begun(run)
    except PellucidError:
        return
    if ledger is None or ledger.steps_done <= ledger.first:
        raise NotTrained(path=run, detail="there is no curve to draw")


class Live(NamedTuple):
    """How far a run is. mark: another one wherever the run has gone on."""

    mark: str
    done: int
    ended: bool


class View:
    """Answers for one run, to several threads; and for the curves of others over its own."""

    def __init__(self, folder: Path, others: Sequence[Path] = (), kind: type[Site] = Site) -> None:
        """kind: what is told of the run."""
        self.folder, self._kind = folder, kind
        self._others = [View(other, kind=Numbers) for other in others]
        self._told: Live | None = None
        self._due = 0.0  # When the run is looked at again, by the clock.
        self._site: tuple[str, Site] | None = None  # With the mark of what it was made from.
        self._looking, self._reading = threading.Lock(), threading.Lock()

    def answer(self, path: str) -> Answer:
        """What a path holds. Paths are on closed lists, and none of them is decoded. Raises
        Refused, and what the readers raise."""
        try:
            return self._answer(path)
        except MemoryError as error:
            raise machine.limit_reached(error) or TooMuchMemory() from error

    def _answer(self, path: str) -> Answer:
        if path in ("/", "/site", "/site/"):
            return Answer(io.BytesIO(), _TEXT, HTTPStatus.FOUND, FIRST)
        if path.removeprefix("/") in shell.files():
            return Answer(io.BytesIO(), _TEXT, HTTPStatus.FOUND, f"/site{path}")
        if path == "/site/live":
            return as_json(self._all_live()._asdict())
        if match := _OTHER.fullmatch(path):
            return self._of_other(int(match[1]), match[2])
        if match := _DATA.fullmatch(path):
            return Answer(io.BytesIO(self._data(match[1])), _SCRIPT)
        if match := _PAGE.fullmatch(path):
            return Answer(io.BytesIO(self._page(match[1])), _SHELL_KINDS["html"])
        if content := shell.files().get(path.removeprefix("/site/")):
            return Answer(io.BytesIO(content), _SHELL_KINDS[path.rpartition(".")[2]])
        return self._file(path.removeprefix("/"))

    def live(self) -> Live:
        """Raises FormatInvalid, FormatTooNew."""
        with self._looking:
            told = self._told
            if told is None or (time.monotonic() >= self._due and told.mark != self._mark()):
                mark, ledger = self._mark(), begun(self.folder)
                done, ended = (ledger.steps_done, ledger.ended) if ledger else (0, False)
                told = self._told = Live(mark, done, ended)
            return told

    def _all_live(self) -> Live:
        """How far the run is; ended where all the others are, too."""
        own, others = self.live(), self._others_live()
        ended = own.ended and all(told.ended for told in others)
        return Live(_joint(own.mark, others), own.done, ended)

    def _others_live(self) -> list[Live]:
        return [other._live_or_broken() for other in self._others]

    def _live_or_broken(self) -> Live:
        """As live(): a run that cannot be read goes on once its files change."""
        try:
            return self.live()
        except (PellucidError, OSError):
            with contextlib.suppress(PellucidError, OSError):
                return Live(self._mark(), 0, True)
            return Live("", 0, True)

    def _of_other(self, number: int, name: str) -> Answer:
        if number >= len(self._others):
            raise Refused(HTTPStatus.NOT_FOUND, f"no other run {number}")
        return Answer(io.BytesIO(self._others[number]._data(name)), _SCRIPT)

    def _look_again(self) -> None:
        with self._looking:
            self._told = None

    def _mark(self) -> str:
        signs = []
        for name in _SIGNS:
            try:
                about = (self.folder / name).stat()
            except (FileNotFoundError, NotADirectoryError):
                signs.append(None)
            else:
                signs.append((about.st_size, about.st_mtime_ns))
        return hashlib.sha256(repr(signs).encode("ascii")).hexdigest()[:16]

    def _data(self, name: str) -> bytes:
        """A data file. Raises Refused for a name that is none, LinkInside."""
        with self._reading:
            if not isinstance(self.folder, RemotePath):
                layout.refuse_links(self.folder)
            for attempt in range(_ATTEMPTS):
                began = time.thread_time()
                mark, site = self._current(name == "overview")
                try:
                    return packed(name, self._pieces(site, name, mark), site.dictionary(name))
                except (PellucidError, NoSuchFile, OSError) as error:
                    # Files come and go under a reader's hands while a run goes on.
                    if attempt + 1 < _ATTEMPTS and self._mark() != mark:
                        self._site = None
                        self._look_again()
                    elif isinstance(error, NoSuchFile):
                        raise Refused(HTTPStatus.NOT_FOUND, f"no data file {name}") from error
                    else:
                        raise
                finally:
                    rest = _SHARE * (time.thread_time() - began)
                    self._due = max(self._due, time.monotonic() + rest)
            raise AssertionError("the last attempt returns or raises")

    def _current(self, anew: bool) -> tuple[str, Site]:
        """The run as the pages know it: an overview is of the run as it stands, and what a page
        loads behind it is of the same run."""
        if self._site is None:
            self._site = self.live().mark, self._kind(self.folder)
        elif anew and (mark := self.live().mark) != self._site[0]:
            self._site = mark, self._site[1].renewed()
        return self._site

    def _pieces(self, site: Site, name: str, mark: str) -> Iterator[bytes]:
        """What a data file holds. The overview says that there is a server to ask, for which runs,
        and by which mark it knows them as they are told."""
        if name != "overview":
            yield from site.pieces(name)
            return
        sealed = (site.folder / layout.MANIFEST).is_file()
        about = site.overview | {"live": _joint(mark, self._others_live()), "sealed": sealed}
        if self._others:
            at, *others = (_named(view.folder) for view in (self, *self._others))
            about |= {"at": at, "others": others}
        yield canonical(about)

    def _page(self, name: str) -> bytes:
        """A page of the maker's, as its Markdown stands. Raises Refused, PageInvalid."""
        try:
            return Pages(self.folder).render(name)
        except KeyError as error:
            raise Refused(HTTPStatus.NOT_FOUND, f"no page {name}") from error

    def _file(self, path: str) -> Answer:
        """A file of the run's own. Raises Refused for a name that the closed list lacks."""
        if layout.room_of(path) is None or path.startswith(f"{layout.SITE}/"):
            raise Refused(HTTPStatus.NOT_FOUND, "no such file in this run")
        opened = files.open_file(files.inside(self.folder, path, str(self.folder)))
        return Answer(opened, _KINDS.get(path.rpartition(".")[2], "application/octet-stream"))


def _joint(own: str, others: Sequence[Live]) -> str:
    """One mark of several runs: another one wherever one of them has gone on."""
    if not others:
        return own
    marks = "".join((own, *(told.mark for told in others)))
    return hashlib.sha256(marks.encode("ascii")).hexdigest()[:16]


def _named(folder: Path) -> str:
    """Where a run lies, as text of any page: names of files may be no UTF-8."""
    return str(folder).encode("utf-8", "backslashreplace").decode("utf-8")
