"""A fork: a new run that goes on from a step of another, with something changed."""

from __future__ import annotations

from pathlib import Path

import tomlkit

from pellucid.data.order import Order, blocks_by_name
from pellucid.errors import ForkUnfit
from pellucid.inputs import Inputs
from pellucid.recipe import FILE, MAX_BYTES, Recipe, parse
from pellucid.replay import origin
from pellucid.replay.materialise import Watch, about, materialise
from pellucid.schedule import Passed, Start, stretch_of
from pellucid.settings import with_settings
from pellucid.store import anchors, files, layout

# All that a fork may change, by dotted key or section: what one update does, which rows it takes,
# and what is recorded of it. Neither the data nor the state that the parent gives.
_UPDATE = (
    "steps",
    "batch",
    "microbatch",
    "lr",
    "schedule",
    "warmup",
    "decay",
    "final_lr",
    "clip",
)
MAY_CHANGE = {
    "phase",
    "model.context",
    "model.rope_theta",
    "data.sources.weight",
    "validation",
    "checkpoints",
    "record",
    "guards",
    "optimizer",
    "objective",
    *(f"train.{name}" for name in _UPDATE),
}
_TOLD = "the effect of a change could not be told from its own"
_WHY = {
    "version": "it says what the fields of the parent's recipe mean",
    "seed": "the parent's state and data follow from it",
    "model": "the parent's state follows from it",
    "tokenizer": "the data is the parent's",
    "data": "the data is the parent's",
    "optimizer.kind": "the parent's state holds what its own optimizer keeps",
    "train.frozen": "the parent's state holds nothing of another optimizer's tensors",
    "train.arithmetic": _TOLD,
    "train.precision": _TOLD,
    "fork": "`pellucid fork` writes where it begins; --step and --without say it",
}


def fork(
    inputs: Inputs, step: int, target: Path, settings: list[str], without: list[str], watch: Watch
) -> list[Passed]:
    """Make the folder of a run that begins after a step of inputs' run;
    `pellucid run` then trains it.

    Returns what it passes over where its phases begin, the first one at its first step.

    settings are as for --set, of what MAY_CHANGE; without names sources and documents of the
    parent. Raises ForkUnfit, FolderTaken, LinkInside, RecipeInvalid, StepUnknown,
    DocumentUnknown, and what materialising the step raises."""
    parent, ledger = inputs.recipe, inputs.recorded()
    entry = ledger.step(step)
    settings = [f"name={target.resolve().name}", *settings]
    begun: dict[str, object] = {"parent": ledger.head, "step": step, "state": entry["state"]}
    begun["without"] = [*parent.fork.without, *without]
    begun["tokens"] = parent.schedule.tokens(step)
    begun |= _start_fields(
        inputs, Start(stretch_of(inputs.order.stretches, step).cursors_after(step))
    )
    draft = parse(_recipe(inputs.folder / FILE, target, begun, settings), target / FILE)
    _check(parent, begun, draft)
    own = Order.of(inputs.folder, draft, inputs.shards)
    begun |= _start_fields(inputs, origin.start(inputs, own, step))
    content = _recipe(inputs.folder / FILE, target, begun, settings)
    if not files.holds(target / FILE, content):
        files.require_free(target)
    recipe = parse(content, target / FILE)
    order = _order(inputs, recipe, without)
    state = materialise(inputs, step, watch)  # Takes long: after everything that can be refused.
    with files.new_folder(target) as partial:
        layout.carry(inputs.folder, partial, "data")
        anchors.write(partial / layout.PARENT, state.groups(), about(inputs, state), None)
        files.write_bytes(partial / FILE, content)
    return order.route.passed(_names(recipe), origin.seen(inputs, step))


def _start_fields(inputs: Inputs, start: Start) -> dict[str, object]:
    """Where a fork begins, as its recipe says it."""
    names = [source.name for source in inputs.recipe.data.sources]
    return {"cursors": dict(zip(names, start.cursors, strict=True)), "rows": start.rows}


def _recipe(path: Path, target: Path, begun: dict[str, object], settings: list[str]) -> bytes:
    """The parent's recipe, at path, with the fork's changes; begun is its section `fork`."""
    document = tomlkit.parse(files.read_bytes(path, MAX_BYTES).decode("utf-8"))
    document["fork"] = begun
    return with_settings(
        tomlkit.dumps(document).encode(), settings, f"the recipe of {target}", "fork"
    )


def _check(parent: Recipe, begun: dict[str, object], recipe: Recipe) -> None:
    """Raises ForkUnfit where a recipe is its parent's with more changed than a fork may change."""
    before = parent.fields() | {"data.sources": _names(parent)}
    for name, value in begun.items():
        own = (
            {f"fork.{name}.{inner}": inner_value for inner, inner_value in value.items()}
            if isinstance(value, dict)
            else {}
        )
        before |= own or {f"fork.{name}": value}
    after = {**recipe.fields(), "data.sources": _names(recipe)}
    for key in {**before, **after}:
        if key == "data.block" or before.get(key) == after.get(key):
            continue  # Written out or not: what it comes to is asked below.
        of_source = (
            f"data.sources.{key.rpartition('.')[2]}" if key.startswith("data.sources.") else ""
        )
        if not may_change(key) and of_source not in MAY_CHANGE:
            raise ForkUnfit(
                key=key, detail=next(_WHY[name] for name in _sections(key) if name in _WHY)
            )
    if recipe.block != parent.block:
        detail = (
            f"a fork keeps its parent's blocks of {parent.block} targets, "
            "and a longer context needs longer blocks"
        )
        key = "data.block" if recipe.data.block != parent.data.block else "model.context"
        raise ForkUnfit(key=key, detail=detail)


def _order(inputs: Inputs, recipe: Recipe, without: list[str]) -> Order:
    """The order of a fork. Raises DocumentUnknown, CorpusTooSmall, and ForkUnfit where no step
    trains on what is left out anyway."""
    order = Order.of(inputs.folder, recipe, inputs.shards)
    blocks = blocks_by_name(inputs.folder, recipe, inputs.shards) if without else {}
    for name in without:
        if not blocks[name].size:
            raise ForkUnfit(
                key="fork.without",
                detail=f"no step trains on {name}: it is in the validation split",
            )
    return order


def _names(recipe: Recipe) -> list[str]:
    return [source.name for source in recipe.data.sources]


def may_change(key: str) -> bool:
    """Whether a fork may have another value of a field than its parent."""
    return key not in _WHY and bool(MAY_CHANGE.intersection(_sections(key)))


def _sections(key: str) -> list[str]:
    """A dotted key and the sections that it lies in, the innermost first."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
