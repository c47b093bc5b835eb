"""A finished release changed, and made to fit itself as far as its maker can."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pellucid.recipe import load
from pellucid.record import chain, digests, entries
from pellucid.store import anchors, layout, tensors
from pellucid.store.ledger import LedgerFile
from tests.forgery.forge import (
    STEP,
    architecture_of,
    copied,
    edit_ledger,
    edit_numbers,
    edit_step,
    edit_table,
    fit,
)


def edited(change: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    def make(honest: Path, folder: Path) -> None:
        shutil.copytree(honest, folder)
        change(folder)

    return make


def lower(folder: Path, field: str) -> None:
    """A number of a step lower, in the ledger and in the table."""
    value = 0.9 * digests.bits_float(LedgerFile(folder).step(STEP)[field])
    edit_step(folder, STEP, **{field: digests.float_bits(value)})
    edit_numbers(folder, "steps", field, STEP, value)
    fit(folder)


def segment_loss(folder: Path) -> None:
    edit_numbers(folder, "segments", "loss_sum", STEP, 1.0)


def segment_root(folder: Path) -> None:
    """Segments and their root, and not the loss."""
    edit_numbers(folder, "segments", "loss_sum", STEP, 1.0)
    rows = pq.read_table(folder / "metrics/segments.parquet").to_pylist()
    names = ("row", "document", "start", "tokens", "weight", "loss_sum")
    own = [entries.Segment(*(row[name] for name in names)) for row in rows if row["step"] == STEP]
    edit_step(folder, STEP, segments=entries.segments_root(own, 4).hex())
    fit(folder)


def batch_root(folder: Path) -> None:
    edit_step(folder, STEP, batch=LedgerFile(folder).step(8)["batch"])
    fit(folder)


def old_anchor(folder: Path) -> None:
    shutil.rmtree(layout.anchor(folder, 8))
    shutil.copytree(layout.anchor(folder, 5), layout.anchor(folder, 8))
    fit(folder)


def old_anchor_recorded(folder: Path) -> None:
    """The ledger names the old state as the new one's."""
    shutil.rmtree(layout.anchor(folder, 8))
    shutil.copytree(layout.anchor(folder, 5), layout.anchor(folder, 8))
    roots = tensors.state_roots(8, anchors.read(layout.anchor(folder, 8)))
    edit_step(folder, 8, weights=roots.weights.hex(), state=roots.state.hex())
    fit(folder)


def wrong_moments(folder: Path) -> None:
    """An anchor whose weights are right."""
    place = layout.anchor(folder, 8)
    moments = tensors.Tensors(place / anchors.OPTIMIZER)
    zeroed = {name: np.zeros_like(array) for name, array in moments.arrays().items()}
    tensors.write(place / anchors.OPTIMIZER, zeroed, moments.metadata)
    fit(folder)


def truncated(folder: Path) -> None:
    """The run ends with step 12, and says so."""

    def change(body: dict[str, Any]) -> dict[str, Any] | None:
        if body["kind"] == "end":
            return body | {"step": 12}
        return body if body.get("step", 0) < 13 else None

    edit_ledger(folder, change)
    shutil.rmtree(layout.anchor(folder, 13))
    shutil.rmtree(layout.checkpoint(folder, 13))
    fit(folder)


def truncated_with_recipe(folder: Path) -> None:
    """The recipe asks for no more than 12 steps: but the learning rates of all
    follow from how many there are."""
    truncated(folder)
    recipe("\nsteps = 13", "\nsteps = 12")(folder)


def left_out(folder: Path) -> None:
    """A step that went wrong, left out of the ledger."""
    edit_ledger(
        folder, lambda body: None if (body["kind"], body.get("step")) == ("step", STEP) else body
    )


def fine_tuned(folder: Path) -> None:
    path = folder / anchors.WEIGHTS
    read = tensors.Tensors(path)
    weights = {name: array * np.float32(1.001) for name, array in read.arrays().items()}
    path.unlink()
    tensors.write(path, weights, read.metadata)


def fine_tuned_throughout(folder: Path) -> None:
    """Also in the last step, its anchor, its checkpoint, and the roots of all of them."""
    place = layout.anchor(folder, 13)
    groups = copied(anchors.read(place))
    groups["weights"]["model.norm.weight"] *= np.float32(1.001)
    roots, ledger = tensors.state_roots(13, groups), LedgerFile(folder)
    shutil.rmtree(place)
    about = anchors.about(ledger.step(13), roots)
    anchors.write(place, groups, about, None)
    shutil.copyfile(place / anchors.WEIGHTS, layout.checkpoint(folder, 13) / anchors.WEIGHTS)
    root = entries.checkpoint_root(
        roots.weights.hex(), ledger.genesis["tokenizer"], architecture_of(folder)
    )
    fields = {
        "step": {"weights": roots.weights.hex(), "state": roots.state.hex()},
        "checkpoint": {"root": root.hex()},
    }
    edit_ledger(
        folder, lambda body: body | fields.get(body["kind"], {}) if body.get("step") == 13 else body
    )
    fit(folder)


def late_as_early(folder: Path) -> None:
    """The weights of step 12 under the name of step 6 (EleutherAI/pythia, issue
    205, found by hashing them)."""
    shutil.copyfile(
        layout.checkpoint(folder, 12) / anchors.WEIGHTS,
        layout.checkpoint(folder, 6) / anchors.WEIGHTS,
    )
    fit(folder)


def document(column: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: edit_table(
        folder / "data/documents/00000.parquet",
        column,
        lambda row: change(row[column]) if row["index"] == 3 else row[column],
    )


def other_token(folder: Path) -> None:
    path = folder / "data/shards/00000.train.bin"
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)


def tokenizer(folder: Path) -> None:
    """Another file, in the data and in every checkpoint."""
    for path in folder.rglob("tokenizer.json"):
        value = json.loads(path.read_bytes())
        value["model"]["merges"] = value["model"]["merges"][:-1]
        path.write_text(json.dumps(value))


def recipe(setting: str, other: str) -> Callable[[Path], None]:
    """Another recipe after the fact, with its digest in the genesis."""

    def change(folder: Path) -> None:
        path = folder / "recipe.toml"
        text = path.read_text()
        assert text.count(setting) == 1
        path.write_text(text.replace(setting, other))
        digest = load(folder).digest().hex()
        edit_ledger(
            folder, lambda body: body | {"recipe": digest} if body["kind"] == "genesis" else body
        )
        fit(folder)

    return change


def broken_chain(folder: Path) -> None:
    """An entry changed, and the chain not made again."""
    path = folder / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    index = next(n for n, line in enumerate(lines) if b'"kind":"step","step":7,' in line)
    body = json.loads(lines[index])
    lines[index] = chain.line_of(body | {"weight_norm": body["loss"]})
    path.write_bytes(b"".join(lines))
