"""The built-in tasks of a run, drawn again: whoever says that a model was asked one of them has
asked these examples. No torch.

Rules and the run's own data give every example, so a reader needs no more than the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pellucid.data.covered import covered
from pellucid.data.order import Order
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards
from pellucid.errors import TaskDiffers
from pellucid.evaluate.suite import BUILT_IN, memorization, texts
from pellucid.evaluate.suite.memorization import Drawn
from pellucid.evaluate.task import Task
from pellucid.measured import stored
from pellucid.recipe import Recipe, load
from pellucid.record import merkle
from pellucid.record.evaluations import OURS, question_leaf
from pellucid.record.history import History
from pellucid.record.requests import Example
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile, places
from pellucid.store.remote import RemotePath

VALIDATION = "validation"  # Made from the run's own documents.
# Asked by its name only: one step says little, and it writes more tokens than all others together.
MEMORIZATION = memorization.NAME
BY_DEFAULT = (*BUILT_IN, VALIDATION)
NAMES = (*BY_DEFAULT, MEMORIZATION)
_MOST = 20_000  # Sequences that a reader draws of a run, of all its evaluations together.

Entry = Mapping[str, Any]


class Run(Protocol):
    """What the built-in tasks are made from."""

    @property
    def folder(self) -> Path: ...
    @property
    def recipe(self) -> Recipe: ...
    @property
    def shards(self) -> Shards: ...
    @property
    def order(self) -> Order: ...  # Along the run's rollbacks.


def made(name: str, run: Run) -> Task:
    """A built-in task, whole. Raises FormatInvalid, TaskUnfit."""
    if name == MEMORIZATION:
        drawn = Drawn.of(run.recipe)
        return memorization.memorization(run.recipe, run.shards, run.order, drawn)
    return texts.validation(_documents(run)) if name == VALIDATION else BUILT_IN[name]()


def _documents(run: Run) -> Iterator[tuple[str, str, str]]:
    """The documents that the run's validation covers: source, id and text."""
    documents = Documents.open(run.folder)
    for stream in covered(run.shards, run.recipe):
        for index in stream.documents.tolist():
            yield stream.source, documents.about(index)["id"], documents.text(index)


def of_run(folder: Path) -> list[dict[str, Any]]:
    """The entries of weights that the run has. Raises EvaluationBroken, and TaskDiffers where one
    has the name of a built-in task and asks something else. By an address, the run's own texts and
    sequences are not read for this."""
    entries = stored.of_run(folder)
    known = BuiltIn(folder, entries)
    for entry in entries:
        if isinstance(folder, RemotePath) and entry["task"] in (VALIDATION, MEMORIZATION):
            continue
        if detail := known.wrong(entry):
            path = folder / layout.EVALUATIONS
            raise TaskDiffers(path=path, entry=entry["n"], task=entry["task"], detail=detail)
    return entries


class _Data(NamedTuple):
    """A run, read for what its tasks are made from."""

    folder: Path
    recipe: Recipe
    shards: Shards
    order: Order  # As if the run had never gone back.


class _Whole(NamedTuple):
    """A built-in task, as far as it tells whether an entry asks it."""

    metric: str
    version: object
    leaves: list[bytes]  # Of all its examples.

    @classmethod
    def of(cls, task: Task) -> _Whole:
        return cls(task.metric, task.settings["version"], _leaves(task.examples))


def _leaves(examples: Iterable[Example]) -> list[bytes]:
    return [question_leaf(example) for example in examples]


class BuiltIn:
    """The built-in tasks that entries of a run name. Each is drawn when it is needed, and once."""

    def __init__(self, folder: Path, entries: Iterable[Entry]) -> None:
        self.folder = folder
        self._named = {entry["head"] for entry in entries}
        self._whole = dict[str, _Whole]()
        self._sequences = dict[tuple[Drawn, int], list[bytes]]()
        self._digests = dict[tuple[object, ...], str]()
        self._left = _MOST

    def wrong(self, entry: Entry) -> str:
        """Whether an entry says that it asks a built-in task and does not: what is wrong with it,
        or nothing. Raises what reading the run's data raises."""
        name = entry["task"]
        if name not in NAMES:
            return "there is no built-in task of this name" if entry["harness"] == OURS else ""
        if entry["harness"] != OURS:
            return f"it was made by {entry['harness']}, and a built-in task has this name"
        settings, limit = dict(entry["settings"]), entry["settings"].get("limit")
        if limit is not None and (type(limit) is not int or limit < 1):
            return "its setting limit is no number of examples"
        if name == MEMORIZATION:
            return self._wrong_sequences(entry, settings)
        if name not in self._whole:
            task = BUILT_IN[name]() if name in BUILT_IN else made(name, self._data)
            self._whole[name] = _Whole.of(task)
        whole = self._whole[name]
        settings.pop("limit", None)
        if repr(settings) != repr({"version": whole.version}):  # true is no 1.
            return _of_version(whole.version)
        return self._compared(entry, whole.metric, whole.leaves, (name,), limit)

    def _wrong_sequences(self, entry: Entry, settings: dict[str, object]) -> str:
        known = memorization.drawn_of(settings)
        if known is None:
            return _of_version(memorization.VERSION)
        drawn, limit = known
        history = self._history(entry["head"])
        key = (drawn, history.branch)
        if key not in self._sequences:
            if (count := drawn.ranges * drawn.sequences) > self._left:
                return f"a reader draws {_MOST:,} sequences at most, of all evaluations of a run"
            self._left -= count
            _, recipe, shards, order = self._data
            held = memorization.examples(recipe, shards, order.along(history.rollbacks), drawn)
            self._sequences[key] = _leaves(one.example for one in held)
        leaves = self._sequences[key]
        return self._compared(entry, memorization.METRIC, leaves, key, limit)

    def _compared(
        self, entry: Entry, metric: str, leaves: Sequence[bytes], key: object, limit: int | None
    ) -> str:
        if entry["metric"] != metric:
            return f"it is rated by {entry['metric']}, and the task by {metric}"
        count = len(leaves) if limit is None else min(limit, len(leaves))
        if (key, count) not in self._digests:
            tree = merkle.Tree()
            for leaf in leaves[:count]:
                tree.add(leaf)
            self._digests[key, count] = tree.root().hex()
        same = entry["task_digest"] == self._digests[key, count]
        return "" if same else "it asks other examples than those of the task, drawn again"

    # ---- the run --------------------------------------------------------------------------------

    @cached_property
    def _data(self) -> _Data:
        recipe, shards = load(self.folder), Shards.open(self.folder)
        return _Data(self.folder, recipe, shards, Order.of(self.folder, recipe, shards))

    @cached_property
    def _ledger(self) -> LedgerFile:
        return LedgerFile(self.folder)

    def _history(self, head: str) -> History:
        """That of the run when its ledger had this head; of one that it never had, that of now."""
        ledger = self._ledger
        if ledger.rollbacks:
            last = self._heads.get(head, 1 << 62)
            later = (one for one in ledger.rollbacks if one["n"] > last)
            if rollback := next(later, None):
                return ledger.before(rollback)
        return ledger.history

    @cached_property
    def _heads(self) -> dict[str, int]:
        return places(self.folder, self._named)


def _of_version(version: object) -> str:
    return f"it has other settings than version {version} of the task, the one that is known here"
