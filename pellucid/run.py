"""All stages of a run, in order: each reads folders and writes one, and a
finished one is not redone."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pellucid import huggingface
from pellucid.data import documents, shards, sources, stage, tokenizer
from pellucid.errors import (
    FormatInvalid,
    Guarded,
    NotFinite,
    NotTrained,
    PellucidError,
    ReleaseSealed,
    RunMissing,
    SettingTooLate,
    StageUnknown,
    Stopped,
)
from pellucid.journal import Journal, code_archive
from pellucid.recipe import FILE, MAX_BYTES, Recipe, parse
from pellucid.recipe import load as load_recipe
from pellucid.record import digests
from pellucid.settings import with_settings
from pellucid.store import files, layout, metrics, repair
from pellucid.store.ledger import LedgerFile
from pellucid.trace import index
from pellucid.train.processes import ALONE, Processes, Word
from pellucid.train.processes import count as process_count

if TYPE_CHECKING:  # They bring torch, which only the stage "train" needs.
    from pellucid.recorder import Recorder
    from pellucid.replay.inputs import Inputs
    from pellucid.train.state import State

_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_DATA = ("documents", "tokenizer", "shards")
STAGES = (*_DATA, "index", "train")


class Watcher(Protocol):
    """Who looks on: the terminal, or nobody."""

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None: ...
    def documents(self, report: list[dict[str, Any]]) -> None: ...
    def begin(self, first: int, last: int) -> None: ...
    def step(self, number: int, loss: float, tokens_per_second: float, lr: float) -> None: ...
    def validation(self, step: int, sources: list[dict[str, Any]]) -> None: ...
    def incident(self, incident: dict[str, Any]) -> None: ...
    def note(self, text: str) -> None: ...


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
    from pellucid.train import messages

    with messages.joined(folder, _device(folder, settings)) as processes:
        if processes.rank:
            return _assist(folder, processes)
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
    wanted = [
        name
        for name in STAGES
        if name == only or (only is None and (name != "index" or recipe.placement.trace))
    ]
    if not _finished(folder, recipe):
        # Sealed, so it was finished: something of it is damaged or gone.
        if (folder / layout.MANIFEST).exists():
            raise ReleaseSealed(path=folder)
        return wanted
    if "index" not in wanted or index.done(folder):
        return []
    if (folder / layout.MANIFEST).exists():
        if only is None:
            return []
        raise ReleaseSealed(path=folder)
    return ["index"]


def _ledger(folder: Path) -> LedgerFile | None:
    try:
        return LedgerFile(folder)
    except NotTrained:
        return None


def _finished(folder: Path, recipe: Recipe) -> bool:
    """Whether this very recipe has been run to its end, the final checkpoint included."""
    try:
        ledger = _ledger(folder)
    except FormatInvalid:
        if (folder / layout.MANIFEST).exists():
            raise
        ledger = None  # Damaged at its end, and not sealed: it can be repaired.
    if ledger is None:
        return False
    same = ledger.genesis["recipe"] == recipe.digest().hex()
    return same and ledger.ended and (folder / huggingface.WEIGHTS).is_file()


def change_recipe(folder: Path, settings: list[str]) -> None:
    """Put settings into recipe.toml. Raises SettingTooLate where the run has begun with other bits,
    ReleaseSealed, and for a source that it reads otherwise what sources.check raises."""
    path = folder / FILE
    recipe = load_recipe(folder)
    content = with_settings(files.read_bytes(path, MAX_BYTES), settings, path)
    with layout.writing(folder):
        if (folder / layout.LEDGER).is_file() and parse(content, path).digest() != recipe.digest():
            raise SettingTooLate(settings=" --set ".join(settings), run=folder)
        if (folder / layout.MANIFEST).exists():
            raise ReleaseSealed(path=folder)
        sources.check_changed(recipe, parse(content, path), folder)
        files.write_bytes(path, content)


def place_anchors(
    folder: Path, placement: str, watch: Callable[[int, int], None]
) -> tuple[list[int], list[int]]:
    """Give a run the anchors of another placement, "every=500,powers_of_two=false";
    returns those made and removed.

    What is missing is made before anything is removed; the same call goes on after a kill. Raises
    ReleaseSealed, NotTrained, and the errors of a recipe and of a replay."""
    change_recipe(folder, [f"placement.anchors.{one.strip()}" for one in placement.split(",")])
    from pellucid.replay import anchoring
    from pellucid.replay import inputs as replay_inputs

    with layout.writing(folder), Journal(folder) as journal:
        inputs = replay_inputs.load(folder, load_recipe(folder))
        files.remove_partial(folder, layout.belongs)
        made, removed = anchoring.missing(inputs), anchoring.surplus(inputs)
        if made or removed:
            journal.start(processes=1)
            anchoring.make(inputs, made, watch)
            anchoring.remove(folder, removed)
            journal.note("anchors", placement=placement, made=len(made), removed=len(removed))
    return made, removed


def _assist(folder: Path, processes: Processes) -> None:
    """What every process but the first does: its part of the
    training, and nothing in the folder."""
    if processes.told()[0] == Word.END:
        return  # There was nothing to train.
    from pellucid.replay import inputs as replay_inputs
    from pellucid.train import loop, state

    inputs = replay_inputs.load(folder, load_recipe(folder))
    processes.compare(_facts(inputs))
    with _stop_signals() as processes.signals:
        loop.follow(
            state.empty(inputs.recipe, inputs.vocabulary),
            inputs.recipe,
            inputs.order,
            inputs.shards,
            processes,
        )


def _facts(inputs: Inputs) -> dict[str, bytes]:
    """The digests that every process of a run must share with the first."""
    identity = inputs.identity
    return {
        "code of pellucid": hashlib.sha256(code_archive()).digest(),
        "recipe": inputs.recipe.digest(),
        "data root": bytes.fromhex(identity.data),
        "tokenizer": bytes.fromhex(identity.tokenizer),
        "arithmetic or stack": digests.of_value("stack", [identity.arithmetic, identity.stack]),
    }


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
        "train": lambda: train(folder, recipe, journal, watcher, processes),
    }
    if ledger := _ledger(folder):
        from pellucid.replay.inputs import check_recipe

        # Before data are made that the run could not use.
        check_recipe(folder, recipe, ledger.genesis)
    if _bound(folder, recipe, ledger):
        names = [name for name in names if name not in _DATA]
    for name in names:
        started = time.perf_counter()
        if stages[name]():
            journal.note("stage", stage=name, seconds=f"{time.perf_counter() - started:.1f}")


def _bound(folder: Path, recipe: Recipe, ledger: LedgerFile | None) -> bool:
    """Whether all data is there that a run began with, or of a fork's parent: then it is not made
    again, whatever paths the recipe names. A release has none."""
    if not all((folder / layout.DATA / name / "manifest.json").is_file() for name in ("", *_DATA)):
        return False
    if ledger is None:
        return bool(recipe.fork.parent)
    return stage.read_manifest(folder / stage.DATA, "data").get("root") == ledger.genesis["data"]


def train(
    folder: Path, recipe: Recipe, journal: Journal, watcher: Watcher, processes: Processes = ALONE
) -> bool:
    """The stage "train", from where it stands; after a rollback once more. Always True: a
    finished run does not come here."""
    if processes.count > 1:
        from pellucid.replay import inputs as replay_inputs

        processes.tell(Word.PREPARED)
        processes.compare(_facts(replay_inputs.load(folder, recipe)))
    while incident := _train_on(folder, recipe, journal, watcher, processes):
        journal.note("rollback", step=incident["step"], to=incident["to"], rule=incident["rule"])
    _finish(folder, recipe)
    journal.note("finish", step=recipe.train.steps)
    return True


def _train_on(
    folder: Path, recipe: Recipe, journal: Journal, watcher: Watcher, processes: Processes
) -> dict[str, Any] | None:
    """Train to the end, or to the incident, returned, that goes back from there. Raises
    Stopped, Guarded, NotFinite."""
    from pellucid.recorder import Recorder
    from pellucid.replay import inputs as replay_inputs
    from pellucid.store.aside import set_aside
    from pellucid.train import loop

    inputs = replay_inputs.load(folder, recipe)
    for incident in inputs.ledger.rollbacks if inputs.ledger else ():
        set_aside(folder, incident)
    after = _resumed(inputs)
    with Recorder(folder, recipe, inputs.identity, after) as record, _stop_signals() as stop:
        processes.signals = stop
        if record.torn:
            journal.note("repair", removed=f"{record.torn} bytes of an unfinished ledger entry")
        try:
            state = _begin(inputs, after, record, journal, watcher)
            processes.share(state, inputs.history.rollbacks)
            for stepped in loop.steps(state, recipe, inputs.batch, recipe.train.steps, processes):
                groups = state.groups()  # Once a step: on a GPU this copies the whole state.
                loss = record.step(stepped, groups)
                watcher.step(state.step, loss, stepped.losses_BT.size / stepped.seconds, stepped.lr)
                if ended := _incident(record, folder, watcher):
                    return ended
                if recipe.scheduled(recipe.validation.every, state.step):
                    _validate(state, inputs, record, watcher)
                # Read once: a signal that comes later is the next step's.
                asked = next(iter(stop), "")
                record.keep(groups, force=bool(asked))
                if asked and state.step < recipe.train.steps:
                    record.flush()
                    raise Stopped(signal=asked, step=state.step, path=folder)
        except NotFinite as error:
            record.not_finite(error)
            if record.incidents[-1]["action"] == "stop":
                raise
            return _incident(record, folder, watcher)
        record.end()
    return None


def _resumed(inputs: Inputs) -> int | None:
    """The anchor to go on from: the last of a step of which the ledger has every entry, and of
    which rows are on disk. None where the run begins with its first state.

    A power cut takes the tail of a ledger. An anchor made afterwards, for another
    placement, may lie behind the rows."""
    if inputs.ledger is None:
        return None
    done, reached = inputs.ledger.steps_done, metrics.reached(inputs.folder)
    last = done if reached is None else min(done, reached)
    held = [step for step in layout.steps_in(inputs.folder / layout.ANCHORS) if step <= last]
    return next(
        (step for step in reversed(held) if _whole(inputs.recipe, inputs.ledger, step)), None
    )


def _whole(recipe: Recipe, ledger: LedgerFile, step: int) -> bool:
    """Whether a ledger has all that is due at a step that it has."""
    kinds = {body["kind"] for body in ledger.between(step, step)}
    every = {"validation": recipe.validation.every, "checkpoint": recipe.checkpoints.every}
    return all(kind in kinds for kind, period in every.items() if recipe.scheduled(period, step))


def _incident(record: Recorder, folder: Path, watcher: Watcher) -> dict[str, Any] | None:
    """What the guards decided after a step, told; returned where the run goes back.
    Raises Guarded where it stops."""
    from pellucid.look.status import in_words

    for incident in record.incidents:
        watcher.incident(incident)
        if incident["action"] == "stop":
            raise Guarded(
                step=incident["step"], what=in_words(incident), rule=incident["rule"], path=folder
            )
        if incident["action"] == "rollback":
            return incident
    return None


def _begin(
    inputs: Inputs, after: int | None, record: Recorder, journal: Journal, watcher: Watcher
) -> State:
    """The state to train on from: the last anchor's, or the first one with
    all that is recorded of it."""
    from pellucid.replay.materialise import anchored_state, first_state

    watcher.begin(inputs.recipe.first if after is None else after, inputs.recipe.train.steps)
    if after is not None:
        journal.note("resume", step=after)
        watcher.note(f"Continuing from step {after}.")
        return anchored_state(inputs, after)
    state = first_state(inputs)
    groups = state.groups()
    record.begin(groups)
    _validate(state, inputs, record, watcher)
    record.keep(groups)
    return state


def _validate(state: State, inputs: Inputs, record: Recorder, watcher: Watcher) -> None:
    from pellucid.look.status import LOSSY, lossless
    from pellucid.train import loop

    validated = loop.validate(state, inputs.recipe, inputs.shards)
    record.validation(validated)
    watcher.validation(validated.step, validated.sources)
    if not lossless(inputs.folder, inputs.recipe):
        watcher.note(LOSSY)


def _finish(folder: Path, recipe: Recipe) -> None:
    """The run folder itself becomes the final checkpoint; anchors kept
    for a stop only are removed."""
    final = layout.checkpoint(folder, recipe.train.steps)
    made = tokenizer.recorded(folder)
    shape = recipe.model.model_copy(update={"rope_theta": recipe.phases[-1].rope_theta})
    config = huggingface.architecture(shape, made.vocabulary, made.document_token)
    for step in layout.steps_in(folder / layout.ANCHORS):
        if not recipe.anchored(step):
            files.remove_folder(layout.anchor(folder, step))
    identity = files.read_json(final / "pellucid.json")
    weights, own = final / huggingface.WEIGHTS, tokenizer.Tokenizer.load(folder)
    huggingface.write_checkpoint(folder, weights, own, config, identity)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[str]]:
    """A list that SIGTERM, SIGHUP or the first Ctrl-C puts its name into; a
    second Ctrl-C interrupts at once.

    What the process was started to ignore (SIGHUP under nohup) it ignores.
    """
    received: list[str] = []

    def handle(number: int, _: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    heard = [number for number in _TO_STOP if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in heard}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            # A lost process may have replaced it (train/messages.py).
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)
