"""Everything the training of a run follows from, read from its folder
and held against its ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid import huggingface, machine, operations
from pellucid.data import salts, stage, tokenizer
from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.errors import DataDiffers, NotTrained, RecipeChanged, StackDiffers, StageNotReady
from pellucid.recipe import FILE, Recipe
from pellucid.record import entries
from pellucid.record.arithmetics import ARITHMETICS
from pellucid.record.history import History, with_branch
from pellucid.recorder import Identity
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile
from pellucid.store.remote import RemotePath
from pellucid.train import loop, processes
from pellucid.train.events import Batch


@dataclass(frozen=True, slots=True)
class Inputs:
    folder: Path
    recipe: Recipe
    shards: Shards
    vocabulary: int
    identity: Identity
    order: Order  # Along what the ledger's history holds.
    ledger: LedgerFile | None  # None before the first entry.

    @property
    def history(self) -> History:
        return self.ledger.history if self.ledger else History.begun(self.recipe.first)

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


def load(folder: Path, recipe: Recipe) -> Inputs:
    """Read and check. Raises StageNotReady, RecipeChanged, DataDiffers, StackDiffers, ShardDamaged,
    and what the arithmetic needs and misses here: KernelsMissing, DeviceMissing."""
    if not isinstance(folder, RemotePath):
        layout.refuse_links(folder)
    if not (folder / layout.DATA_MANIFEST).is_file():
        raise StageNotReady(stage="training", needs="prepared data", path=folder)
    path = folder / layout.DATA_MANIFEST
    root = stage.digest_in(stage.read_manifest(path, "data"), "root", path)
    made = tokenizer.recorded(folder)
    ledger = _ledger(folder)
    recorded = ledger.genesis.get("stack", {}) if ledger else {}
    threads = int(recorded.get("threads", 0)) or recipe.placement.threads or cores()
    device = recipe.placement.device
    ops = operations.of(recipe.train.arithmetic, device)
    ops.configure(device, threads)
    identity = Identity(
        data=root,
        tokenizer=made.digest,
        arithmetic=ARITHMETICS[recipe.train.arithmetic].name,
        stack=ops.stack(device, threads),
        config=huggingface.architecture(recipe.model, made.vocabulary, made.document_token),
        salts=salts.of_run(folder, recipe),
    )
    if ledger:
        _check(folder, recipe, identity, ledger)
    shards = Shards.open(folder)
    order = Order.of(folder, recipe, shards)
    if ledger:
        order = order.along(ledger.history.rollbacks)
    return Inputs(folder, recipe, shards, made.vocabulary, identity, order, ledger)


def cores() -> int:
    """How many cores this process may use; several processes on one machine share them."""
    return max(1, machine.cores() // processes.on_this_machine())


def _ledger(folder: Path) -> LedgerFile | None:
    try:
        return LedgerFile(folder)
    except NotTrained:
        return None


def _check(folder: Path, recipe: Recipe, identity: Identity, ledger: LedgerFile) -> None:
    genesis = ledger.genesis
    check_recipe(folder, recipe, genesis)
    if genesis["data"] != identity.data:
        raise DataDiffers(pinned=genesis["data"], found=identity.data)
    recorded, found = genesis.get("stack", {}), identity.stack or {}
    if recorded != found:
        names = [key for key in sorted({*recorded, *found}) if recorded.get(key) != found.get(key)]
        detail = ", ".join(
            f"{key}: {recorded.get(key)} there, {found.get(key)} here" for key in names
        )
        raise StackDiffers(recorded=_words(recorded), found=_words(found), detail=detail)


def check_recipe(folder: Path, recipe: Recipe, genesis: dict[str, object]) -> None:
    """Raises RecipeChanged where recipe.toml is no longer the one the run was begun with."""
    if genesis["recipe"] != recipe.digest().hex():
        detail = f"ledger format {entries.FORMAT}, recipe version {genesis.get('recipe_version')}"
        digests = {"found": recipe.digest().hex(), "recorded": genesis["recipe"]}
        raise RecipeChanged(path=folder / FILE, run=folder, **digests, detail=detail)


def _words(stack: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in stack.items())
