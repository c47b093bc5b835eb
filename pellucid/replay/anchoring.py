"""Other anchors for a run that has been trained: placement alone, so the ledger does not change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.changes import change_recipe
from pellucid.errors import FormatInvalid
from pellucid.inputs import Inputs
from pellucid.journal import Journal
from pellucid.recipe import load as load_recipe
from pellucid.replay.materialise import Watch, about, walk
from pellucid.store import anchors, files, layout, tensors


def place_anchors(folder: Path, placement: str, watch: Watch) -> tuple[list[int], list[int]]:
    """Give a run the anchors of another placement, "every=500,powers_of_two=false";
    returns those made and removed.

    What is missing is made before anything is removed; the same call goes on after a kill. Raises
    ReleaseSealed, NotTrained, and the errors of a recipe and of a replay."""
    change_recipe(
        folder, [f"placement.anchors.{setting.strip()}" for setting in placement.split(",")]
    )
    with layout.writing(folder), Journal(folder) as journal:
        inputs = Inputs.load(folder, load_recipe(folder))
        files.remove_partial(folder, layout.belongs)
        made, removed = missing(inputs), surplus(inputs)
        if made or removed:
            journal.start(processes=1)
            make(inputs, made, watch)
            remove(folder, removed)
            journal.note("anchors", placement=placement, made=len(made), removed=len(removed))
    return made, removed


def missing(inputs: Inputs) -> list[int]:
    """The steps that the recipe's placement gives an anchor and that have none, ascending."""
    stored = set(layout.steps_in(inputs.folder / layout.ANCHORS))
    steps = range(inputs.recipe.first, inputs.recorded().steps_done + 1)
    return [step for step in steps if _placed(inputs, step) and step not in stored]


def surplus(inputs: Inputs) -> list[int]:
    """The anchors that the placement does not ask for; the last one of a run that goes
    on is what it goes on from."""
    stored = layout.steps_in(inputs.folder / layout.ANCHORS)
    needed = [] if inputs.recorded().ended else stored[-1:]
    return [step for step in stored if not _placed(inputs, step) and step not in needed]


def _placed(inputs: Inputs, step: int) -> bool:
    return inputs.recipe.anchored(step)


def make(inputs: Inputs, steps: list[int], watch: Watch) -> None:
    """Write the anchors of these steps, ascending, by one replay forward,
    every step of which is compared.

    Raises StateDiffers, LedgerDiffers, DiskFull. Every anchor appears whole, so a kill
    loses only the one being made."""
    for state in walk(inputs, steps, watch):
        described = about(inputs, state)
        place = layout.anchor(inputs.folder, state.step)
        anchors.write(place, state.groups(), described, _weights(inputs.folder, described))


def _weights(folder: Path, described: dict[str, Any]) -> Path | None:
    """The weights file of the step's checkpoint, where it has one and it is
    sound: weights lie on disk once."""
    path = layout.checkpoint(folder, described["step"]) / anchors.WEIGHTS
    if not path.is_file():
        return None
    read = tensors.Tensors(path)
    if read.root("weights").hex() != described["weights"]:
        raise FormatInvalid(
            path=path, detail=f"does not hold the weights of step {described['step']}"
        )
    return path if read.metadata == anchors.weights_metadata(described) else None


def remove(folder: Path, steps: list[int]) -> None:
    """Remove anchors, each at once."""
    for step in steps:
        files.remove_folder(layout.anchor(folder, step))
