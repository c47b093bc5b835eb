"""All stages of a run, in order: each reads folders and writes one, and a
finished one is not redone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pellucid import huggingface
from pellucid.changes import check_recipe
from pellucid.data import documents, shards, stage, tokenizer
from pellucid.errors import FormatInvalid, PellucidError, ReleaseSealed, RunMissing, StageUnknown
from pellucid.journal import Journal
from pellucid.recipe import FILE, MAX_BYTES, Recipe, parse
from pellucid.recipe import load as load_recipe
from pellucid.settings import with_settings
from pellucid.store import files, layout, repair
from pellucid.store import ledger as ledgers
from pellucid.store.ledger import LedgerFile
from pellucid.trace import index
from pellucid.train.processes import ALONE, Processes
from pellucid.train.processes import count as process_count
from pellucid.watcher import Watcher

_DATA = ("documents", "tokenizer", "shards")
STAGES = (*_DATA, "index", "train")


def run(
    folder: Path,
    watcher: Watcher,
    only: str | None = None,
    settings: Sequence[str] = (),
    before: Callable[[], None] = lambda: None,
) -> None:
    """Do every stage that is not done yet, or one. Raises the errors
    of the stages, RunBusy, Stopped.

    Where torchrun started several processes, all of them train and the first does everything
    else; raises ProcessLost, ProcessDiffers. `before` is what it does first, `settings` what that
    puts into the recipe: once all have met, for the others wait for it as long as it takes, but
    to meet it a few minutes only."""
    if process_count() == 1:
        before()
        return _run(folder, watcher, only, ALONE)
    # Imported here, because both bring torch, which a run with nothing to train does not need.
    from pellucid.assist import assist
    from pellucid.train import messages

    with messages.joined(folder, _device(folder, settings)) as processes:
        if processes.rank:
            return assist(folder, processes)
        before()
        return _run(folder, watcher, only, processes)


def _device(folder: Path, settings: Sequence[str]) -> str:
    """What the run will compute on: every process finds the same, whether the recipe
    has its settings yet or not."""
    path = folder / FILE
    if not path.is_file():
        return "cpu"  # The first process says what is missing.
    return parse(
        with_settings(files.read_bytes(path, MAX_BYTES), list(settings), path), path
    ).placement.device


def _run(folder: Path, watcher: Watcher, only: str | None, processes: Processes) -> None:
    if only is not None and only not in STAGES:
        raise StageUnknown(stage=only, known=", ".join(STAGES))
    if not (folder / FILE).is_file():
        raise RunMissing(path=folder)
    recipe = load_recipe(folder)
    names = _pending(folder, recipe, only)
    if not names:
        return  # Without an entry in the journal, which would break the seal of a release.
    with layout.writing(folder), Journal(folder) as journal:
        removed = files.remove_partial(folder, layout.belongs)
        journal.start(processes.count)
        if removed:
            journal.note("repair", removed=", ".join(removed))
        try:
            if not (folder / layout.MANIFEST).exists() and (cut := repair.ledger(folder)):
                journal.note("repair", removed=cut)
                watcher.note(f"Repaired: removed {cut}")
            _stages(folder, recipe, journal, watcher, names, processes)
        except PellucidError as error:
            journal.note("stop", error=error.name, detail=error)
            raise


def _pending(folder: Path, recipe: Recipe, only: str | None) -> list[str]:
    """The stages to go through. Raises ReleaseSealed where that would add to a release."""
    stages = [
        name
        for name in STAGES
        if name == only or (only is None and (name != "index" or recipe.placement.trace))
    ]
    if not _finished(folder, recipe):
        # Sealed, so it was finished: something of it is damaged or gone.
        if (folder / layout.MANIFEST).exists():
            raise ReleaseSealed(path=folder)
        return stages
    if "index" not in stages or index.done(folder):
        return []
    if (folder / layout.MANIFEST).exists():
        if only is None:
            return []
        raise ReleaseSealed(path=folder)
    return ["index"]


def _finished(folder: Path, recipe: Recipe) -> bool:
    """Whether this very recipe has been run to its end, the final checkpoint included."""
    try:
        ledger = ledgers.begun(folder)
    except FormatInvalid:
        if (folder / layout.MANIFEST).exists():
            raise
        ledger = None  # Damaged at its end, and not sealed: it can be repaired.
    if ledger is None:
        return False
    same_recipe = ledger.genesis["recipe"] == recipe.digest().hex()
    return same_recipe and ledger.ended and (folder / huggingface.WEIGHTS).is_file()


def _stages(
    folder: Path,
    recipe: Recipe,
    journal: Journal,
    watcher: Watcher,
    names: list[str],
    processes: Processes,
) -> None:
    stages: dict[str, Callable[[], bool]] = {
        "documents": lambda: documents.prepare(recipe, folder, watcher.progress, watcher.documents),
        "tokenizer": lambda: tokenizer.prepare(recipe, folder, watcher.progress),
        "shards": lambda: shards.prepare(recipe, folder, watcher.progress),
        "index": lambda: index.prepare(recipe, folder, watcher.progress),
        "train": lambda: _train(folder, recipe, journal, watcher, processes),
    }
    if ledger := ledgers.begun(folder):
        # Before data are made that the run could not use.
        check_recipe(folder, recipe, ledger.genesis)
    if _bound(folder, recipe, ledger):
        names = [name for name in names if name not in _DATA]
    for name in names:
        started = time.perf_counter()
        if stages[name]():
            journal.note("stage", stage=name, seconds=f"{time.perf_counter() - started:.1f}")


def _train(
    folder: Path, recipe: Recipe, journal: Journal, watcher: Watcher, processes: Processes
) -> bool:
    from pellucid import training  # It brings torch.

    return training.train(folder, recipe, journal, watcher, processes)


def _bound(folder: Path, recipe: Recipe, ledger: LedgerFile | None) -> bool:
    """Whether all data is there that a run began with, or of a fork's parent: then it is not made
    again, whatever paths the recipe names. A release has none."""
    if not all((folder / layout.DATA / name / "manifest.json").is_file() for name in ("", *_DATA)):
        return False
    if ledger is None:
        return bool(recipe.fork.parent)
    return stage.read_manifest(folder / stage.DATA, "data").get("root") == ledger.genesis["data"]
