"""The stage "train": the steps of a run from where it stands, each of them recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid import huggingface
from pellucid.assist import facts
from pellucid.data import tokenizer
from pellucid.errors import Guarded, NotFinite, Stopped
from pellucid.inputs import Inputs, anchored_state, first_state
from pellucid.journal import Journal
from pellucid.recipe import Recipe
from pellucid.record.guards import in_words
from pellucid.recorder import Recorder
from pellucid.store import files, layout, metrics
from pellucid.store.aside import set_aside
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from pellucid.train.processes import ALONE, Processes, Word
from pellucid.train.signals import stop_signals
from pellucid.train.state import State
from pellucid.train.validation import validate
from pellucid.watcher import Watcher


def train(
    folder: Path, recipe: Recipe, journal: Journal, watcher: Watcher, processes: Processes = ALONE
) -> bool:
    """The stage "train", from where it stands; after a rollback once more. Always True: a
    finished run does not come here."""
    if processes.count > 1:
        processes.tell(Word.PREPARED)
    inputs = Inputs.load(folder, recipe)
    if processes.count > 1:
        processes.compare(facts(inputs))
    while incident := _train_on(inputs, journal, watcher, processes):
        journal.note("rollback", step=incident["step"], to=incident["to"], rule=incident["rule"])
        inputs = Inputs.load(folder, recipe)
    _finish(folder, recipe)
    journal.note("finish", step=recipe.train.steps)
    return True


def _train_on(
    inputs: Inputs, journal: Journal, watcher: Watcher, processes: Processes
) -> dict[str, Any] | None:
    """Train to the end, or to the incident, returned, that goes back from there. Raises
    Stopped, Guarded, NotFinite."""
    folder, recipe = inputs.folder, inputs.recipe
    for incident in inputs.ledger.rollbacks if inputs.ledger else ():
        set_aside(folder, incident)
    after = _resumed(inputs)
    with Recorder(folder, recipe, inputs.identity, after) as record, stop_signals() as stop:
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
                signal = next(iter(stop), "")
                record.keep(groups, force=bool(signal))
                if signal and state.step < recipe.train.steps:
                    record.flush()
                    raise Stopped(signal=signal, step=state.step, path=folder)
        except NotFinite as error:
            record.not_finite(error)
            if record.incidents[-1]["action"] == "stop":
                raise
            return _incident(record, folder, watcher)
        record.end()
    return None


def _begin(
    inputs: Inputs, after: int | None, record: Recorder, journal: Journal, watcher: Watcher
) -> State:
    """The state to train on from: the last anchor's, or the first one with
    all that is recorded of it."""
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


def _resumed(inputs: Inputs) -> int | None:
    """The anchor to go on from: the last of a step of which the ledger has every entry, and of
    which rows are on disk. None where the run begins with its first state.

    A power cut takes the tail of a ledger. An anchor made afterwards, for another
    placement, may lie behind the rows."""
    if inputs.ledger is None:
        return None
    done, reached = inputs.ledger.steps_done, metrics.reached(inputs.folder)
    last = done if reached is None else min(done, reached)
    stored = [step for step in layout.steps_in(inputs.folder / layout.ANCHORS) if step <= last]
    return next(
        (step for step in reversed(stored) if _complete(inputs.recipe, inputs.ledger, step)), None
    )


def _complete(recipe: Recipe, ledger: LedgerFile, step: int) -> bool:
    """Whether a ledger has all that is due at a step that it has."""
    kinds = {body["kind"] for body in ledger.between(step, step)}
    periods = {"validation": recipe.validation.every, "checkpoint": recipe.checkpoints.every}
    return all(kind in kinds for kind, period in periods.items() if recipe.scheduled(period, step))


def _incident(record: Recorder, folder: Path, watcher: Watcher) -> dict[str, Any] | None:
    """What the guards decided after a step, told; returned where the run goes back.
    Raises Guarded where it stops."""
    for incident in record.incidents:
        watcher.incident(incident)
        if incident["action"] == "stop":
            raise Guarded(
                step=incident["step"], what=in_words(incident), rule=incident["rule"], path=folder
            )
        if incident["action"] == "rollback":
            return incident
    return None


def _validate(state: State, inputs: Inputs, record: Recorder, watcher: Watcher) -> None:
    validated = validate(state, inputs.recipe, inputs.shards)
    record.validation(validated)
    watcher.validation(validated.step, validated.sources)


def _finish(folder: Path, recipe: Recipe) -> None:
    """The run folder itself becomes the final checkpoint; anchors kept
    for a stop only are removed."""
    final = layout.checkpoint(folder, recipe.train.steps)
    recorded_tokenizer = tokenizer.recorded(folder)
    shape = recipe.model.model_copy(update={"rope_theta": recipe.phases[-1].rope_theta})
    config = huggingface.architecture(
        shape, recorded_tokenizer.vocabulary, recorded_tokenizer.document_token
    )
    for step in layout.steps_in(folder / layout.ANCHORS):
        if not recipe.anchored(step):
            files.remove_folder(layout.anchor(folder, step))
    identity = files.read_json(final / "pellucid.json")
    weights, own = final / huggingface.WEIGHTS, tokenizer.Tokenizer.load(folder)
    huggingface.write_checkpoint(folder, weights, own, config, identity)
