"""A fork: a new run that goes on from a step of another, with something changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tomlkit

from pellucid.data.order import Order
from pellucid.errors import ForkUnfit
from pellucid.recipe import FILE, Recipe, parse, with_settings
from pellucid.store import anchors, files, layout

if TYPE_CHECKING:  # They bring torch, and a verifier reads this module's neighbours without.
    from pellucid.replay.inputs import Inputs
    from pellucid.replay.materialise import Watch

# What the state and the prepared data of the parent follow from.
_FIXED = ("seed", "tokenizer", "model", "data")


def fork(inputs: Inputs, step: int, target: Path, settings: list[str], without: list[str], watch: Watch) -> None:
    """Make the folder of a run that begins after a step of inputs' run; `pellucid run` then trains it.

    settings are as for --set; without names sources and documents of the parent. Raises ForkUnfit, FolderTaken,
    LinkInside, RecipeInvalid, StepUnknown, DocumentUnknown, and what materialising the step raises.
    """
    from pellucid.replay.materialise import about, materialise

    files.require_free(target)
    layout.refuse_links(inputs.folder)
    parent, ledger = inputs.recipe, inputs.recorded()
    state = materialise(inputs, step, watch)
    entry = ledger.step(step)
    # Said outright: in recipes of version 1 arithmetic had another default.
    settings = [f"name={target.resolve().name}", f"train.arithmetic={parent.train.arithmetic}", *settings]
    begun = {"parent": ledger.head, "step": step, "state": entry["state"]}
    content = _recipe(inputs.folder / FILE, target, begun, settings, without)
    recipe = parse(content, target / FILE)
    _check(parent, recipe)
    Order.of(inputs.folder, recipe, inputs.shards)  # Whether everything named in `without` is there.
    with files.whole_folder(target) as partial:
        layout.carry(inputs.folder, partial, "data")
        anchors.write(partial / layout.PARENT, state.groups(), about(inputs, state), None)
        files.write_bytes(partial / FILE, content)


def _recipe(path: Path, target: Path, begun: dict[str, object], settings: list[str], without: list[str]) -> bytes:
    """The parent's recipe, at path, with the fork's changes; begun is where it begins."""
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    earlier = list(document.get("fork", {}).get("without", []))
    document["version"] = max(3, int(document.get("version", 1)))
    document["fork"] = {**begun, "without": [*earlier, *without]}
    return with_settings(tomlkit.dumps(document).encode(), settings, f"the recipe of {target}", "fork")


def _check(parent: Recipe, recipe: Recipe) -> None:
    for name in _FIXED:
        before, after = getattr(parent, name), getattr(recipe, name)
        if name == "data":
            before, after = (_without_weights(one) for one in (before, after))
        if before != after:
            detail = "the parent's state and data follow from it" if name != "data" else "the data is the parent's"
            raise ForkUnfit(key=name, detail=detail)
    if parent.train.arithmetic != recipe.train.arithmetic:
        raise ForkUnfit(key="train.arithmetic", detail="the effect of a change could not be told from its own")


def _without_weights(data: object) -> object:
    """The data section without the sources' weights: they only say how often a sequence is seen."""
    sources = tuple(source.model_copy(update={"weight": 1}) for source in data.sources)  # type: ignore[attr-defined]
    return data.model_copy(update={"sources": sources})  # type: ignore[attr-defined]
