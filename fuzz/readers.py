"""What reads each file of a release, and what a reader may do with one that is hostile.

Allowed are a PellucidError, and a problem in the report of verify. Everything else is a
finding: another exception, a changed file that verify calls sound, more memory than
LIMIT, more time than SECONDS."""

from __future__ import annotations

import contextlib
import itertools
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz import archives, proofs, site
from fuzz.inputs import INPUTS, taken
from fuzz.mutations import STRUCTURED, Choices, mutate
from pellucid.analysis import forgetting, memorization
from pellucid.data.covered import covered
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import FormatForeign, PellucidError
from pellucid.inputs import Inputs
from pellucid.journal import code_in
from pellucid.look.show import Shown
from pellucid.look.status import status
from pellucid.measured import stored
from pellucid.recipe import load as load_recipe
from pellucid.record import evaluations, notes, verdict
from pellucid.record.metrics import MEASURED
from pellucid.release import evaluations as chains
from pellucid.release import manifest
from pellucid.release.states import States
from pellucid.release.steps import Steps
from pellucid.release.tables import check as pages
from pellucid.release.verify import plan_of, verify
from pellucid.replay import surroundings
from pellucid.replay.audit import audit_step
from pellucid.replay.materialise import materialise
from pellucid.report.markdown import markdown
from pellucid.report.page import page
from pellucid.report.reported import Reported
from pellucid.report.write import of_run
from pellucid.sql import VIEWS, worker
from pellucid.sql import tables as sql_tables
from pellucid.store import anchors, files, layout, log, metrics, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.trace.check import check as check_index
from pellucid.trace.where import Traced

_TOKENIZER = "data/tokenizer/tokenizer.json"
LIMIT = 256 << 20  # Bytes that reading the small release may take beyond what the process had.
SECONDS = 10.0  # Of computing, for one input.

Reader = Callable[[Path], object]
STRUCTURED |= {".tar": [archives.changed] * 3, ".proof": [proofs.changed] * 3}
STRUCTURED |= site.CHANGES


def ledger(folder: Path) -> None:
    plan = plan_of(load_recipe(folder))
    exhaust(verdict.judge(layout.LEDGER, log.read_together(folder / layout.LEDGER), plan))
    opened = LedgerFile(folder)
    for step in (0, 1, 7, opened.steps_done):
        opened.step(step)
    opened.of_kind("validation")
    opened.of_kind("checkpoint")


def journal(folder: Path) -> None:
    exhaust(notes.problems(layout.JOURNAL, log.read(folder / layout.JOURNAL)))


def code(folder: Path) -> None:
    code_in(folder / layout.CODE)


def sealed(folder: Path) -> None:
    exhaust(manifest.check(folder))


def steps(folder: Path) -> None:
    exhaust(Steps(folder).check())


def states(folder: Path) -> None:
    exhaust(States(folder).check())


def documents(folder: Path) -> None:
    opened = Documents.open(folder)
    for number in (0, opened.count // 2, opened.count - 1):
        opened.find(opened.get(number)["id"])


def shards(folder: Path) -> None:
    opened = Shards.open(folder)
    for block in range(min(opened.blocks, 100)):
        opened.ids(block)
        opened.pieces(block)
        opened.source_of(block)
    for one in covered(opened, load_recipe(folder)):
        one.read(0, min(one.tokens, 200))
        one.documents_at(0, min(one.tokens, 200))


def tokenizer(folder: Path) -> None:
    made = Tokenizer.load(folder)
    assert made.digest
    made.decode(list(range(300)))
    made.encode("the river, 東京\n")


def tables(folder: Path) -> None:
    exhaust(pages(folder))
    for table in metrics.TABLES:
        metrics.of_step(folder, table, 7)
        metrics.Cursor(folder, table).take(0)


def safetensors(folder: Path) -> None:
    for step in layout.steps_in(folder / layout.ANCHORS):
        anchors.read(layout.anchor(folder, step))
    tensors.Tensors(folder / "model.safetensors").root("weights")


def shown(folder: Path) -> None:
    opened = Shown(folder)
    opened.step(7)
    opened.block(3)
    for row in itertools.islice(opened.list_documents(), 3):
        opened.document(row["id"])


def audited(folder: Path) -> None:
    for step in (0, 6, 10):
        audit_step(Inputs.load(folder, load_recipe(folder)), step, lambda done, total: None)


def materialised(folder: Path) -> None:
    materialise(Inputs.load(folder, load_recipe(folder)), 5, lambda done, total: None)


def exhaust(problems: Iterator[Any]) -> None:
    for _ in problems:
        pass


def traced(folder: Path) -> None:
    opened = Traced(folder)
    for text in ("the river", "e", "東京", "er. "):
        opened.where(text, limit=4)
        opened.where(text, before=6, limit=4)
    opened.trace("light through clear water shows every stone", least=6)


def index(folder: Path) -> None:
    exhaust(check_index(folder))


def evaluated(folder: Path) -> None:
    listed = (folder / layout.EVALUATIONS).parent.glob("[0-9]*.jsonl")
    paths = [path for path in listed if layout.room_of(path.relative_to(folder).as_posix())]
    chains.strays(folder, {path.relative_to(folder).as_posix() for path in paths})
    exhaust(chains.check(folder))
    for path, metric in itertools.product(paths, (MEASURED, "accuracy", "extraction")):
        examples = evaluations.Examples(metric)  # Behind no digest, as another maker writes it.
        if not any(map(examples.take, path.read_bytes().splitlines(keepends=True))):
            examples.numbers()
    exhaust(stored.summaries(folder, stored.of_run(folder)))


def memorised(folder: Path) -> None:
    if found := memorization.matrix(folder):
        memorization.lines(found)


def forgotten(folder: Path) -> None:
    forgetting.lines(forgetting.forgetting(folder))


def asked(folder: Path) -> None:
    # In this process, for its coverage; a question of a user has one of its own.
    for view in VIEWS:
        with worker.named_errors(folder), sql_tables.engine(LIMIT) as connection:
            sql_tables.add(connection, folder, [view])
            next(iter(connection.sql(f"select * from {view}").to_arrow_reader(5)), None)


def reported(folder: Path) -> None:
    made = of_run(Reported(str(folder)))
    assert markdown(made) and page(made)


def anything(folder: Path) -> None:
    files.walk(folder)
    status(folder)


READERS: list[tuple[str, list[Reader]]] = [
    ("recipe.toml", [load_recipe, ledger]),
    (layout.LEDGER, [ledger, status]),
    (layout.JOURNAL, [journal]),
    (layout.CODE, [code, surroundings.of_run]),
    (layout.MANIFEST, [sealed]),
    ("data/documents/", [documents]),
    ("data/shards/", [shards, steps]),
    ("data/tokenizer/", [tokenizer, states]),
    ("metrics/", [tables, steps, asked, forgotten]),
    ("trace/", [traced, index, memorised]),
    ("anchors/", [safetensors, materialised, states]),
    ("checkpoints/", [states]),
    ("evaluations/", [evaluated, memorised]),
    ("site/", [site.sited]),
    ("pages/", [site.paged]),
    ("", [safetensors, anything]),
]


def _room(path: str) -> int:
    """Which of READERS reads a file."""
    return next(number for number, (prefix, _) in enumerate(READERS) if path.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Finding:
    """What should not have happened: where, for whom, and how to see it again."""

    reader: str
    path: str
    what: str
    where: str
    content: bytes

    @property
    def kind(self) -> tuple[str, str, str]:
        """What two findings of one fault have in common."""
        return self.reader, self.what.partition(":")[0], self.where


class Release:
    """A copy of a sealed release whose files are changed one at a time, and put back."""

    def __init__(self, sealed: Path, copy: Path) -> None:
        self.folder = Path(shutil.copytree(sealed, copy))
        self.contents = {
            path: (self.folder / path).read_bytes() for path in files.walk(self.folder)
        }
        paths = [path for path in self.contents if path not in ("LICENSE", "README.md")]
        rooms = [
            [path for path in paths if _room(path) == number] for number in range(len(READERS))
        ]
        self._rooms = [room for room in rooms if room]
        own = ("tokenizer.json", self.contents[_TOKENIZER], taken)
        self._inputs = [*INPUTS, own, *proofs.made(sealed)]

    def read_all(self) -> None:
        """Every reader on the release as it is: what raises here is a mistake of ours."""
        for reader in {one for _, readers in READERS for one in readers} | set(MORE):
            reader(self.folder)
        place = self.folder.with_name("inputs")
        place.mkdir()
        for name, content, reader in self._inputs:
            (place / name).write_bytes(content)
            with contextlib.suppress(FormatForeign):  # Which is what a table is told to be.
                reader(place / name)
        shutil.rmtree(place)

    def attack(self, data: bytes) -> list[Finding]:
        """Change one file as the bytes say and read it; the findings."""
        choices = Choices(data)
        if not choices.below(4):
            return self._attack_input(choices)
        path = choices.of(choices.of(self._rooms))  # Rooms first: most files are weights.
        content = mutate(path, self.contents[path], choices)
        changed = content != self.contents[path]
        self._put(path, content)
        try:
            return list(self._read(path, content, changed, choices))
        finally:
            self._put(path, self.contents[path])

    def _attack_input(self, choices: Choices) -> list[Finding]:
        """The same for what a user gives besides a release."""
        name, content, reader = choices.of(self._inputs)
        content = mutate(name, content, choices)
        place = self.folder.with_name("inputs") / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        try:
            return list(_read_input(reader, place, content))
        finally:
            shutil.rmtree(place.parent)

    def _put(self, path: str, content: bytes) -> None:
        """As a new file: what is still mapped of the old one stays as it is."""
        new = self.folder.with_name("new")
        new.write_bytes(content)
        new.replace(self.folder / path)

    def _read(
        self, path: str, content: bytes, changed: bool, choices: Choices
    ) -> Iterator[Finding]:
        own = READERS[_room(path)][1]
        more = [choices.of(MORE)] if choices.below(2) else []
        for reader in [*own, *more]:
            sound = yield from _watched(reader, self.folder, path, content)
            if changed and sound and self._wrongly(reader, path, content):
                yield Finding(_name(reader), path, "a changed file is called sound", "", content)

    def _wrongly(self, reader: Reader, path: str, content: bytes) -> bool:
        """Whether a reader may not call a release with this file sound."""
        if reader is verified:  # A manifest that fits itself is another release of the same files.
            return path != layout.MANIFEST
        if reader is not site.sited:
            return False
        return not site.says_the_same(self.folder, path, content, self.contents[path])


def _read_input(reader: Reader, place: Path, content: bytes) -> Iterator[Finding]:
    if (yield from _watched(reader, place, place.name, content)):
        yield Finding(_name(reader), place.name, "a changed proof is taken", "", content)


def _watched(
    reader: Reader, place: Path, path: str, content: bytes
) -> Generator[Finding, None, object]:
    """What should not have happened while a reader read; returns what the reader does."""
    started, before, read = time.process_time(), _peak(reset=True), None
    try:
        read = reader(place)
    except PellucidError:
        pass
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        yield Finding(
            _name(reader),
            path,
            f"{type(error).__name__}: {str(error)[:200]}",
            _place(error),
            content,
        )
    if (spent := time.process_time() - started) > SECONDS:
        yield Finding(_name(reader), path, f"{spent:.1f} s of computing", "", content)
    if (grown := _peak() - before) > LIMIT:
        yield Finding(_name(reader), path, f"{grown >> 20} MB of memory", "", content)
    return read


def verified(folder: Path) -> bool:
    return verify(folder, lambda what: None).ok


MORE: list[Reader] = [
    verified,
    shown,
    audited,
    status,
    traced,
    asked,
    reported,
    site.viewed,
]  # The whole release, after a file's own readers.


def _name(reader: Reader) -> str:
    return getattr(reader, "__name__", "reader")


def _place(error: BaseException) -> str:
    """The last line of ours that the error went through."""
    frames = [
        one for one in traceback.extract_tb(error.__traceback__) if "/pellucid/" in one.filename
    ]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _peak(reset: bool = False) -> int:
    """The process's largest resident memory, in bytes, since it was last reset."""
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return int(text.partition("VmHWM:")[2].split()[0]) << 10
