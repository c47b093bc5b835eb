"""A dishonest trainer's tools.

Two ways to forge: train dishonestly, so that our own recorder writes a release that fits in every place it can; or
change a finished release, and make everything that follows from the change again: the chain to its end, the
descriptions of states, the published numbers, the manifest.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pellucid import huggingface
from pellucid.data import roots
from pellucid.data.documents import split_of
from pellucid.data.parquet import Documents
from pellucid.data.streams import Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.recipe import load
from pellucid.record import chain, digests, entries
from pellucid.record.entries import Segment
from pellucid.recorder import LN2, write_checkpoint
from pellucid.release.publish import publish
from pellucid.replay import inputs as replay_inputs
from pellucid.replay.inputs import Inputs
from pellucid.store import anchors, files, layout, metrics, tensors
from pellucid.train import loop
from pellucid.train import step as training
from pellucid.train.events import Batch, Stepped
from pellucid.train.state import State
from tests.conftest import finish

Trick = Callable[[State, Batch, Any], Stepped]
Body = dict[str, Any]
honest = training.training_step


def train(prepared: Path, folder: Path, trick: Trick) -> Path:
    """A release of a trainer that takes steps by a trick; prepared is a run whose data is made."""
    shutil.copytree(prepared, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "training_step", lambda state, batch, recipe, *_: trick(state, batch, recipe))
        finish(folder)
    publish(folder)
    return folder


# ---- what a trick may do to a state -------------------------------------------------------------


def arrays_of(state: State) -> dict[str, list[torch.Tensor]]:
    weights = [parameter.data for parameter in state.model.parameters()]
    return {"weights": weights, "first": [*state.first_moment.values()], "second": [*state.second_moment.values()]}


def copied(state: State) -> dict[str, list[torch.Tensor]]:
    """A state's tensors, to be put back."""
    return {group: [one.clone() for one in of] for group, of in arrays_of(state).items()}


def put_back(state: State, kept: dict[str, list[torch.Tensor]]) -> None:
    for group, of in arrays_of(state).items():
        for target, source in zip(of, kept[group], strict=True):
            target.copy_(source)


def put_anchor(state: State, place: Path) -> None:
    """A stored state's tensors into a state."""
    groups = anchors.read(place)
    for name, parameter in state.model.named_parameters():
        parameter.data.copy_(torch.tensor(groups["weights"][name]))
        state.first_moment[name].copy_(torch.tensor(groups["first_moment"][name]))
        state.second_moment[name].copy_(torch.tensor(groups["second_moment"][name]))


def norm_of(state: State) -> float:
    """The norm that a forger records for weights of his own."""
    named = sorted(state.model.named_parameters(), key=lambda item: item[0].encode())
    return state.model.ops.norm_of([parameter.data for _, parameter in named])


# ---- what may be changed in a release -----------------------------------------------------------


def bodies(folder: Path) -> list[Body]:
    """The ledger's entries without their links."""
    lines = (folder / layout.LEDGER).read_bytes().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("prev", "n")} for line in lines]


def body_of(found: list[Body], kind: str, step: int) -> Body:
    return next(body for body in found if body["kind"] == kind and body.get("step", 0) == step)


def settle(folder: Path, found: list[Body]) -> None:
    """Write a ledger with these entries and fit everything that follows from them, then seal."""
    for body in found:
        if body["kind"] == "checkpoint":
            body["root"] = checkpoint_root(folder, body_of(found, "step" if body["step"] else "genesis", body["step"]))
    prev, lines, places = chain.START, [], {}
    for n, body in enumerate(found):
        lines.append(chain.line_of(prev, n, body))
        prev = chain.digest_of(lines[-1])
        if body["kind"] in ("genesis", "step"):
            places[body.get("step", 0)] = (body, n, prev)
    (folder / layout.LEDGER).write_bytes(b"".join(lines))
    for step in layout.steps_in(folder / layout.ANCHORS):
        describe_anchor(folder, step, *places[step])
    for step in layout.steps_in(folder / layout.CHECKPOINTS):
        describe_checkpoint(folder, step, *places[step])
    fit_numbers(folder, found)
    publish(folder)


def checkpoint_root(folder: Path, entry: Body) -> str:
    config = json.loads((folder / "config.json").read_bytes())
    tokenizer = Tokenizer.load(folder / layout.TOKENIZER).digest.hex()
    return entries.checkpoint_root(entry["weights"], tokenizer, config).hex()


def describe_anchor(folder: Path, step: int, entry: Body, n: int, digest: str) -> None:
    """A stored state under this step's name, as if it were its own; the ledger's numbers where they fit the tensors."""
    place = layout.anchor(folder, step)
    groups = {group: {name: a.copy() for name, a in of.items()} for group, of in anchors.read(place).items()}
    about = anchors.about(step, int(entry.get("tokens", "0")), n, digest, tensors.state_roots(step, groups))
    anchors.write(place, groups, about, None)


def describe_checkpoint(folder: Path, step: int, entry: Body, n: int, digest: str) -> None:
    place, config = layout.checkpoint(folder, step), json.loads((folder / "config.json").read_bytes())
    identity = anchors.identity(step, int(entry.get("tokens", "0")), n, digest, entry["weights"], entry["state"])
    final = (folder / "pellucid.json").is_file() and json.loads((folder / "pellucid.json").read_bytes())["step"] == step
    weights = {name: a.copy() for name, a in tensors.Tensors(place / "model.safetensors").arrays().items()}
    write_checkpoint(folder, place, {"weights": weights}, identity, config)
    if final:
        weights = {name: a.copy() for name, a in tensors.Tensors(folder / "model.safetensors").arrays().items()}
        (folder / "model.safetensors").unlink()
        tensors.write(folder / "model.safetensors", weights, anchors.weights_metadata(identity))
        target = folder / "model.safetensors"
        huggingface.write_checkpoint(folder, target, folder / layout.TOKENIZER, config, identity)


def fit_numbers(folder: Path, found: list[Body]) -> None:
    """The published numbers of steps and validations, as the ledger has them now."""
    steps = {body["step"]: body for body in found if body["kind"] == "step"}

    def fit_step(row: Body) -> Body:
        named = ("loss", "lr", "grad_norm", "weight_norm")
        return {**row, **{name: digests.bits_float(steps[row["step"]][name]) for name in named}}

    def fit_validation(row: Body) -> Body:
        sources = body_of(found, "validation", row["step"])["sources"]
        one = next(one for one in sources if one["source"] == row["source"])
        nats, tokens, size = digests.bits_float(one["loss_sum"]), int(one["tokens"]), int(one["bytes"])
        counts = {"tokens": tokens, "bytes": size}
        return {**row, **counts, "loss_sum": nats, "loss": nats / tokens, "bits_per_byte": nats / LN2 / size}

    change_table(folder, "steps", lambda rows: [fit_step(row) for row in rows if row["step"] in steps])
    change_table(folder, "validation", lambda rows: [fit_validation(row) for row in rows])


def change_table(folder: Path, table: str, change: Callable[[list[Body]], list[Body]]) -> None:
    path = folder / layout.METRICS / f"{table}.parquet"
    rows = change(pq.read_table(path).to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, metrics.TABLES[table]), path)


def change_state(place: Path, change: Callable[[dict[str, dict[str, np.ndarray]]], None]) -> None:
    """Another stored state, described as the old one was; `settle` describes it anew."""
    groups = {group: {name: a.copy() for name, a in of.items()} for group, of in anchors.read(place).items()}
    about = json.loads((place / "anchor.json").read_bytes())
    change(groups)
    anchors.write(place, groups, about, None)


def change_weights(path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Another file of weights with the metadata of the old one."""
    read = tensors.Tensors(path)
    arrays = {name: array.copy() for name, array in read.arrays().items()}
    change(arrays)
    path.unlink()
    tensors.write(path, arrays, read.metadata)


def change_documents(folder: Path, change: Callable[[Body], Body]) -> None:
    """Other documents in the first part, their row of numbers fitted, the manifests' hashes left as they are."""
    path = folder / "data/documents/00000.parquet"
    read = pq.read_table(path)
    rows = [change(row) for row in read.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, read.schema), path)


def settle_data(folder: Path) -> str:
    """The manifests of documents, tokenizer, shards and data made to fit what lies there; returns the data root."""
    recipe, documents, shards = load(folder), Documents.open(folder), Shards.open(folder)
    tables: Any = []
    part_roots, _ = roots._documents(documents, recipe, tables)
    manifest = files.read_json(folder / "data/documents/manifest.json")
    for entry, root in zip(manifest["parts"], part_roots, strict=True):
        entry["root"] = root
    manifest["root"] = roots.root_of(part_roots).hex()
    files.write_json(folder / "data/documents/manifest.json", manifest)
    tokenizer = Tokenizer.load(folder / layout.TOKENIZER)
    about = files.read_json(folder / "data/tokenizer/manifest.json") | {"digest": tokenizer.digest.hex()}
    files.write_json(folder / "data/tokenizer/manifest.json", about)
    streams = [
        roots.summary(stream, shards.context, roots.stream_root(stream, shards.context, recipe.seed, place).hex())
        for place, stream in enumerate([*shards.train, *shards.validation])
    ]
    files.write_json(folder / "data/shards/manifest.json", shards.manifest | {"streams": streams})
    root = roots.data_root(manifest["root"], manifest["sources"], about["digest"], streams)
    data = files.read_json(folder / layout.DATA_MANIFEST)
    data |= {"root": root, "documents_root": manifest["root"], "tokenizer": about["digest"], "streams": streams}
    files.write_json(folder / layout.DATA_MANIFEST, data)
    return root


def settle_all(folder: Path) -> None:
    """After other documents or another tokenizer: the data's roots, the genesis and all that follows from it."""
    root, found = settle_data(folder), bodies(folder)
    tokenizer = files.read_json(folder / "data/tokenizer/manifest.json")["digest"]
    found[0].update(data=root, tokenizer=tokenizer)
    settle(folder, found)


def fit_sums(folder: Path, step: int, segments: list[Segment]) -> None:
    """The sums over a step's segments in the tables of sequences and sources."""

    def sums(rows: list[Body], mine: Callable[[Body, Segment], bool]) -> list[Body]:
        for row in rows:
            if row["step"] == step:
                row["loss_sum"] = math.fsum(one.loss_sum for one in segments if mine(row, one))
        return rows

    change_table(folder, "sequences", lambda rows: sums(rows, lambda row, one: one.row == row["row"]))
    change_table(folder, "sources", lambda rows: sums(rows, lambda row, one: True))  # There is one source.


def flip_last(folder: Path) -> None:
    """One bit flipped in every copy of the last weights."""

    def flip(arrays: dict[str, np.ndarray]) -> None:
        arrays["model.norm.weight"].view(np.uint32)[3] ^= 1

    for path in ("anchors/step13", "checkpoints/step13", "."):
        change_weights(folder / path / "model.safetensors", flip)


def steps_with_and_without(folder: Path) -> tuple[int, int, int]:
    """A step that trains on a document, one that does not, and the document."""
    inputs = opened(folder)
    seen = {step: set(inputs.batch(step).documents_BS.ravel().tolist()) for step in range(2, 13)}
    document = next(iter(seen[7]))
    return 7, next(step for step, documents in seen.items() if document not in documents), document


def opened(folder: Path) -> Inputs:
    return replay_inputs.load(folder, load(folder))


def other_text(row: Body, validation_per_10000: int = 1500) -> Body:
    """A document with another text of the same length and split, its row fitted."""
    text = row["text"]
    for shift in range(1, len(text)):
        changed = text[shift:] + text[:shift]
        digest = hashlib.sha256(changed.encode())
        if split_of(digest.digest(), validation_per_10000) == row["split"]:
            break
    return {**row, "text": changed, "sha256": digest.hexdigest()}
