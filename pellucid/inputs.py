"""Everything the training of a run follows from, read from its folder
and held against its ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pellucid import huggingface, operations
from pellucid.changes import check_recipe
from pellucid.data import salts, stage, tokenizer
from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.errors import DataDiffers, NotTrained, StackDiffers, StageNotReady, StateDiffers
from pellucid.recipe import Recipe
from pellucid.record.arithmetics import ARITHMETICS
from pellucid.record.history import History, with_branch
from pellucid.recorder import Identity
from pellucid.store import anchors, layout
from pellucid.store import ledger as ledgers
from pellucid.store.ledger import LedgerFile
from pellucid.store.remote import RemotePath
from pellucid.train import loop, processes
from pellucid.train.events import Batch
from pellucid.train.state import State, initial, restored


@dataclass(frozen=True, slots=True)
class Inputs:
    folder: Path
    recipe: Recipe
    shards: Shards
    vocabulary: int
    identity: Identity
    ledger: LedgerFile | None  # None before the first entry.
    history: History  # The ledger's, or that of the run as it stood earlier.
    order: Order  # Along the history.

    @classmethod
    def load(cls, folder: Path, recipe: Recipe) -> Inputs:
        """Read and check. Raises StageNotReady, RecipeChanged, DataDiffers, StackDiffers,
        ShardDamaged, and what the arithmetic needs and misses here: KernelsMissing,
        DeviceMissing."""
        if not isinstance(folder, RemotePath):
            layout.refuse_links(folder)
        if not (folder / layout.DATA_MANIFEST).is_file():
            raise StageNotReady(stage="training", needs="prepared data", path=folder)
        ledger, vocabulary = ledgers.begun(folder), tokenizer.recorded(folder).vocabulary
        identity = _identity(folder, recipe, ledger)
        if ledger:
            _check(folder, recipe, identity, ledger)
        shards = Shards.open(folder)
        history = ledger.history if ledger else History.begun(recipe.first)
        order = Order.of(folder, recipe, shards).along(history.rollbacks)
        return cls(folder, recipe, shards, vocabulary, identity, ledger, history, order)

    def along(self, history: History) -> Inputs:
        """These inputs of the run as it stood when it had another history."""
        return replace(self, history=history, order=self.order.along(history.rollbacks))

    def batch(self, step: int) -> Batch:
        """What a step trains on."""
        return loop.batch_of(self.order, self.shards, step)

    def branched(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An entry made again, as that of the branch in which its step lies."""
        return with_branch(entry, self.history.at(entry["step"]).branch)

    def recorded(self) -> LedgerFile:
        if self.ledger is None:
            raise NotTrained(path=self.folder, detail="its ledger is empty")
        return self.ledger


def first_state(inputs: Inputs) -> State:
    """The state that the run begins with: from the seed, or a fork's from its
    parent. Raises StateDiffers."""
    recipe = inputs.recipe
    if not recipe.fork.parent:
        return initial(recipe, inputs.vocabulary)
    groups, _ = anchors.check(inputs.folder / layout.PARENT, recipe.first, recipe.fork.state)
    return restored(recipe, inputs.vocabulary, recipe.first, groups)


def anchored_state(inputs: Inputs, anchor: int | None) -> State:
    """The state of an anchor, checked against the ledger; for None
    the one that the run begins with.

    Raises StateDiffers, FormatInvalid.
    """
    first = inputs.recipe.first
    recorded = inputs.recorded().step(first if anchor is None else anchor)["state"]
    if anchor is not None:
        groups, _ = anchors.check(layout.anchor(inputs.folder, anchor), anchor, recorded)
        return restored(inputs.recipe, inputs.vocabulary, anchor, groups)
    state = first_state(inputs)
    computed = state.roots().state.hex()
    if computed != recorded:
        fix = "Run `pellucid audit` on another machine to tell which of the two is wrong."
        place = "The initial state, as computed here,"
        raise StateDiffers(path=place, found=computed, recorded=recorded, step=first, fix=fix)
    return state


def _identity(folder: Path, recipe: Recipe, ledger: LedgerFile | None) -> Identity:
    """What a run of these data gives here, with the threads that the ledger names."""
    path = folder / layout.DATA_MANIFEST
    root = stage.digest_in(stage.read_manifest(path, "data"), "root", path)
    recorded_tokenizer = tokenizer.recorded(folder)
    recorded = ledger.genesis.get("stack", {}) if ledger else {}
    threads = int(recorded.get("threads", 0)) or recipe.placement.threads or processes.cores()
    device = recipe.placement.device
    ops = operations.of(recipe.train.arithmetic, device)
    ops.configure(device, threads)
    return Identity(
        data=root,
        tokenizer=recorded_tokenizer.digest,
        arithmetic=ARITHMETICS[recipe.train.arithmetic].name,
        stack=ops.stack(device, threads),
        config=huggingface.architecture(
            recipe.model, recorded_tokenizer.vocabulary, recorded_tokenizer.document_token
        ),
        salts=salts.of_run(folder, recipe),
    )


def _check(folder: Path, recipe: Recipe, identity: Identity, ledger: LedgerFile) -> None:
    genesis = ledger.genesis
    check_recipe(folder, recipe, genesis)
    if genesis["data"] != identity.data:
        raise DataDiffers(pinned=genesis["data"], found=identity.data)
    recorded, stack = genesis.get("stack", {}), identity.stack or {}
    if recorded != stack:
        names = [key for key in sorted({*recorded, *stack}) if recorded.get(key) != stack.get(key)]
        detail = ", ".join(
            f"{key}: {recorded.get(key)} there, {stack.get(key)} here" for key in names
        )
        raise StackDiffers(recorded=_listed(recorded), found=_listed(stack), detail=detail)


def _listed(stack: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in stack.items())
