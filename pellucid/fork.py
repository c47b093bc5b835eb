"""A fork: a new run that goes on from a step of another, with something changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tomlkit

from pellucid.data.order import Order, sequences_of
from pellucid.errors import ForkUnfit
from pellucid.recipe import FILE, MAX_BYTES, Recipe, parse
from pellucid.record.history import History
from pellucid.settings import with_settings
from pellucid.store import anchors, files, layout

if TYPE_CHECKING:  # They bring torch, and a verifier reads this module's neighbours without.
    from pellucid.replay.inputs import Inputs
    from pellucid.replay.materialise import Watch

# All that a fork may change, by dotted key or section: what one update does, and what is recorded of it. Neither which
# sequences a step takes, nor how many, nor the data and the state that the parent gives.
_UPDATE = (
    "steps",
    "lr",
    "schedule",
    "warmup",
    "decay",
    "final_lr",
    "clip",
)
MAY_CHANGE = {"validation", "checkpoints", "record", "guards", "optimizer", *(f"train.{name}" for name in _UPDATE)}
_AGAIN = "it would train again on what its parent saw, or pass over what it did not see"
_TOLD = "the effect of a change could not be told from its own"
_WHY = {
    "version": "it says what the fields of the parent's recipe mean",
    "seed": "the parent's state and data follow from it",
    "model": "the parent's state follows from it",
    "tokenizer": "the data is the parent's",
    "data": "the data is the parent's",
    "data.sources": f"the data is the parent's, and in another order {_AGAIN}",
    "optimizer.kind": "the parent's state holds what its own optimizer keeps",
    "train.frozen": "the parent's state holds nothing of another optimizer's tensors",
    "train.batch": f"its steps would take their sequences from another place in the order: {_AGAIN}",
    "train.microbatch": f"gradients would be added in another order, and {_TOLD}",
    "train.arithmetic": _TOLD,
    "train.precision": _TOLD,
    "fork": "`pellucid fork` writes where it begins; --step and --without say it",
}


def fork(inputs: Inputs, step: int, target: Path, settings: list[str], without: list[str], watch: Watch) -> None:
    """Make the folder of a run that begins after a step of inputs' run; `pellucid run` then trains it.

    settings are as for --set, of what MAY_CHANGE; without names sources and documents of the parent. Raises ForkUnfit,
    FolderTaken, LinkInside, RecipeInvalid, StepUnknown, DocumentUnknown, and what materialising the step raises.
    """
    from pellucid.replay.materialise import about, materialise

    parent, ledger = inputs.recipe, inputs.recorded()
    entry = ledger.step(step)
    settings = [f"name={target.resolve().name}", *settings]
    begun = {"parent": ledger.head, "step": step, "state": entry["state"]}
    begun["without"] = [*parent.fork.without, *without]
    content = _recipe(inputs.folder / FILE, target, begun, settings)
    if not files.holds(target / FILE, content):
        files.require_free(target)
    recipe = parse(content, target / FILE)
    _check(parent, begun, recipe)
    _check_place(ledger.history, step)
    _check_without(inputs, recipe, without)
    state = materialise(inputs, step, watch)  # Takes long: after everything that can be refused.
    with files.new_folder(target) as partial:
        layout.carry(inputs.folder, partial, "data")
        anchors.write(partial / layout.PARENT, state.groups(), about(inputs, state), None)
        files.write_bytes(partial / FILE, content)


def _recipe(path: Path, target: Path, begun: dict[str, object], settings: list[str]) -> bytes:
    """The parent's recipe, at path, with the fork's changes; begun is its section `fork`."""
    document = tomlkit.parse(files.read_bytes(path, MAX_BYTES).decode("utf-8"))
    document["fork"] = begun
    return with_settings(tomlkit.dumps(document).encode(), settings, f"the recipe of {target}", "fork")


def _check(parent: Recipe, begun: dict[str, object], recipe: Recipe) -> None:
    """Raises ForkUnfit where a recipe is its parent's with more changed than a fork may change."""
    before = parent.fields() | {"data.sources": _names(parent)}
    before |= {f"fork.{name}": value for name, value in begun.items()}
    after = {**recipe.fields(), "data.sources": _names(recipe)}
    for key in {**before, **after}:
        if before.get(key) != after.get(key) and not may_change(key):
            raise ForkUnfit(key=key, detail=next(_WHY[name] for name in _sections(key) if name in _WHY))


def _check_without(inputs: Inputs, recipe: Recipe, without: list[str]) -> None:
    """Raises DocumentUnknown, CorpusTooSmall, and ForkUnfit where no step trains on what is left out anyway."""
    Order.of(inputs.folder, recipe, inputs.shards)
    for name in without:
        alone = recipe.model_copy(update={"fork": recipe.fork.model_copy(update={"without": (name,)})})
        if not sequences_of(inputs.folder, alone, inputs.shards).size:
            raise ForkUnfit(key="fork.without", detail=f"no step trains on {name}, which is kept for validation")


def _names(recipe: Recipe) -> list[str]:
    return [source.name for source in recipe.data.sources]


def may_change(key: str) -> bool:
    """Whether a fork may have another value of a field than its parent."""
    return key not in _WHY and bool(MAY_CHANGE.intersection(_sections(key)))


def _sections(key: str) -> list[str]:
    """A dotted key and the sections that it lies in, the innermost first."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _check_place(history: History, step: int) -> None:
    """Raises ForkUnfit where the parent took its batches from further on: a fork counts its own from its first step."""
    if (passed_over := history.at(step).passed_over) > 0:
        detail = (
            f"before step {step} the parent rolled back and passed over {passed_over} batches, so {_AGAIN}. Fork it "
            f"after step {history.spans[1].after} or an earlier one"
        )
        raise ForkUnfit(key="the order of the batches", detail=detail)
