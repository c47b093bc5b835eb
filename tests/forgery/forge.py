"""What a dishonest trainer has: our own recorder for steps taken otherwise, and the
means to fit a release to a lie."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pellucid import huggingface
from pellucid.data.parquet import DICTIONARIES
from pellucid.inputs import Inputs
from pellucid.recipe import Recipe, load
from pellucid.record import chain
from pellucid.recorder import write_checkpoint
from pellucid.release import manifest
from pellucid.release.publish import publish
from pellucid.store import anchors, files, layout, parquet, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from pellucid.train.events import Batch, Stepped
from pellucid.train.state import State
from tests.conftest import finish

Step = Callable[[State, Batch, Recipe], Stepped]
Cheat = Callable[[Step, State, Batch, Recipe], Stepped]  # The honest step first.
Body = dict[str, Any]
STEP = 7  # Where most forgeries lie: two steps after an anchor, one before another.


def opened(folder: Path) -> Inputs:
    return Inputs.load(folder, load(folder))


def quiet(*_: object) -> None:
    pass


# ---- steps taken otherwise ---------------------------------------------------------------------


def at(step: int, cheat: Cheat) -> Cheat:
    """Honest but for one step."""
    return lambda real, state, batch, recipe: (cheat if batch.step == step else honestly)(
        real, state, batch, recipe
    )


def honestly(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    return real(state, batch, recipe)


def untrained(honest: Path, folder: Path) -> None:
    """The recipe and the data of a run, and nothing trained."""
    shutil.copytree(honest / "data", folder / "data")
    shutil.copyfile(honest / "recipe.toml", folder / "recipe.toml")


def train(honest: Path, folder: Path, cheat: Cheat = honestly) -> None:
    """A whole run of the honest recipe and data: everything recorded fits everything else."""
    untrained(honest, folder)
    real = loop.training_step

    def taken(state: State, batch: Batch, recipe: Recipe, *_: object) -> Stepped:
        return cheat(real, state, batch, recipe)

    with mock.patch.object(loop, "training_step", taken):
        finish(folder)


def change_state(
    state: State, change: Callable[[str, str, np.ndarray], np.ndarray | float]
) -> None:
    """Every tensor (group, name, values) replaced."""
    for group, arrays in state.groups().items():
        for name, array in arrays.items():
            array[...] = change(group, name, array)


def with_train(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})


def with_optimizer(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update=changes)})


# ---- a release fitted to a lie -----------------------------------------------------------------


def edit_ledger(folder: Path, change: Callable[[Body], Body | None]) -> None:
    """Every entry changed, or left out for None, and chained anew to the end."""
    chain_anew(
        folder, [changed for body in bodies(folder) if (changed := change(body)) is not None]
    )


def bodies(folder: Path) -> list[Body]:
    """What a ledger's entries say, without their places in the chain."""
    lines = map(json.loads, (folder / layout.LEDGER).read_bytes().splitlines())
    return [{key: value for key, value in line.items() if key not in chain.PLACE} for line in lines]


def chain_anew(folder: Path, found: list[Body]) -> None:
    (folder / layout.LEDGER).write_bytes(b"".join(chain.lines_of(found, chain.LedgerTip())))


def edit_step(folder: Path, step: int, **fields: Any) -> None:
    edit_ledger(
        folder,
        lambda body: body | fields if (body["kind"], body.get("step")) == ("step", step) else body,
    )


def edit_table(path: Path, column: str, change: Callable[[Body], Any]) -> None:
    """A column of a Parquet file, made anew from each row."""
    table = pq.read_table(path)
    values = pa.array([change(row) for row in table.to_pylist()], table.schema.field(column).type)
    index = table.schema.get_field_index(column)
    table = table.set_column(index, table.schema.field(column), values)
    parquet.write(path, table, dictionaries=DICTIONARIES if "text" in table.schema.names else None)


def edit_numbers(folder: Path, table: str, column: str, step: int, value: float) -> None:
    """The published number of a step, in all of its rows."""
    path = folder / layout.METRICS / f"{table}.parquet"
    edit_table(path, column, lambda row: value if row["step"] == step else row[column])


def fit(folder: Path) -> None:
    """Anchors, checkpoints and final model say of themselves what ledger and tensors now give."""
    ledger, config = LedgerFile(folder), architecture_of(folder)
    for step in layout.steps_in(folder / layout.ANCHORS):
        groups = copied(anchors.read(layout.anchor(folder, step)))
        shutil.rmtree(layout.anchor(folder, step))
        anchors.write(layout.anchor(folder, step), groups, described(ledger, step, groups), None)
    for step in layout.steps_in(folder / layout.CHECKPOINTS):
        place = layout.checkpoint(folder, step)
        groups = copied({"weights": tensors.Tensors(place / anchors.WEIGHTS).arrays()})
        shutil.rmtree(place)
        identity = described(ledger, step, groups) | {"state": ledger.step(step)["state"]}
        write_checkpoint(folder, place, groups, load(folder).fork.identity(identity), config)
    for path in layout.checkpoint(folder, ledger.steps_done).iterdir():
        shutil.copyfile(path, folder / path.name)


def architecture_of(folder: Path) -> Body:
    """What the roots of a run's checkpoints cover beside weights and tokenizer."""
    about = files.read_json(folder / layout.TOKENIZER / "manifest.json")
    return huggingface.architecture(
        load(folder).model, about["vocabulary"], about["document_token"]
    )


def described(ledger: LedgerFile, step: int, groups: anchors.Groups) -> Body:
    return anchors.about(ledger.step(step), tensors.state_roots(step, groups))


def copied(groups: anchors.Groups) -> dict[str, dict[str, np.ndarray]]:
    return {
        group: {name: array.copy() for name, array in arrays.items()}
        for group, arrays in groups.items()
    }


def rewritten(folder: Path, kind: str, **changed: object) -> Path:
    """The ledger with some fields of all entries of a kind changed, its chain whole."""
    edit_ledger(folder, lambda body: body | changed if body["kind"] == kind else body)
    return folder


def seal(folder: Path) -> None:
    """Sealed again, so that only what is inside can tell."""
    (folder / layout.MANIFEST).unlink(missing_ok=True)
    publish(folder)


def seal_as_it_is(folder: Path) -> None:
    """A manifest of what is there: publish would make the site anew."""
    manifest.write(folder, load(folder).name, LedgerFile(folder).head)
