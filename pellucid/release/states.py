"""Every stored state and every checkpoint of a release, against its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pellucid import huggingface
from pellucid.errors import PellucidError
from pellucid.recipe import load as load_recipe
from pellucid.record import chain, digests, entries
from pellucid.record.verdict import Problem
from pellucid.store import anchors, files, layout, tensors
from pellucid.store.ledger import LedgerFile


class States:
    """The anchors, the checkpoints and the final model of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ledger = folder, LedgerFile(folder)
        recipe = load_recipe(folder)
        self._step_tokens = recipe.train.batch * recipe.model.context
        self._tokenizer = folder / layout.TOKENIZER
        about = files.read_json(self._tokenizer / "manifest.json")
        self._digest = about["digest"]
        self._config = huggingface.architecture(recipe.model, about["vocabulary"], about["document_token"])
        self._document = huggingface.document_token(self._tokenizer, self._config)
        self._hashed: dict[tuple[int, int], bytes] = {}  # A file linked in several places is hashed once.

    def check(self) -> Iterator[Problem]:
        """Every state, weights file, checkpoint or description of one that is not what the ledger gives."""
        for step in layout.steps_in(self._folder / layout.ANCHORS):
            yield from self._anchor(step)
        recorded = {body["step"]: body["root"] for body in self._ledger.of_kind("checkpoint")}
        stored = layout.steps_in(self._folder / layout.CHECKPOINTS)
        for step in sorted({*stored, *recorded}):
            where = f"{layout.CHECKPOINTS}/{layout.step_name(step)}"
            if step not in recorded:
                yield Problem("CheckpointDiffers", where, "is a checkpoint that the ledger does not record")
            elif step in stored:
                yield from self._checkpoint(step, layout.checkpoint(self._folder, step), recorded[step])
            elif self._ledger.ended:
                yield Problem("FileMissing", where, "is a checkpoint of the ledger and not in the folder")
        last = self._ledger.steps_done
        if self._ledger.ended and last in recorded:
            yield from self._checkpoint(last, self._folder, recorded[last])

    def _anchor(self, step: int) -> Iterator[Problem]:
        place, entry = layout.anchor(self._folder, step), self._ledger.step(step)
        where = f"{layout.ANCHORS}/{layout.step_name(step)}"
        try:
            _, roots = anchors.check(self._folder, step, entry["state"])
        except PellucidError as error:
            yield Problem(error.name, where, str(error))
            return
        about = self._about(entry, roots)
        self._hashed[_file(place / anchors.WEIGHTS)] = bytes.fromhex(about["weights"])
        if files.read_json(place / anchors.ABOUT) != about:
            yield Problem("StateDiffers", f"{where}/{anchors.ABOUT}", "does not say what the ledger and the state give")

    def _about(self, entry: dict[str, Any], roots: entries.StateRoots) -> dict[str, Any]:
        step = entry.get("step", 0)
        return anchors.about(step, step * self._step_tokens, entry["n"], chain.digest_of_body(entry), roots)

    def _checkpoint(self, step: int, place: Path, recorded: str) -> Iterator[Problem]:
        entry, weights = self._ledger.step(step), place / huggingface.WEIGHTS
        where = place.relative_to(self._folder).as_posix().removeprefix(".").removeprefix("/")
        read = tensors.Tensors(weights)
        root = self._hashed.get(_file(weights)) or digests.tensors_root(read.leaves())
        path = weights.relative_to(self._folder).as_posix()
        if root.hex() != entry["weights"]:
            yield Problem("StateDiffers", path, f"not the weights the ledger records for step {step}")
        identity = self._identity(entry)
        if read.metadata != anchors.weights_metadata(identity):
            yield Problem("StateDiffers", path, f"its metadata is not that of step {step}")
        if entries.checkpoint_root(root.hex(), self._digest, self._config).hex() != recorded:
            yield Problem("CheckpointDiffers", where or path, f"not the checkpoint the ledger records for step {step}")
        for name, value in huggingface.descriptions(self._config, self._document, identity).items():
            if files.read_json(place / name) != value:
                yield Problem(
                    "CheckpointDiffers", (place / name).relative_to(self._folder).as_posix(), f"not that of step {step}"
                )
        if (place / "tokenizer.json").read_bytes() != (self._tokenizer / "tokenizer.json").read_bytes():
            name = (place / "tokenizer.json").relative_to(self._folder).as_posix()
            yield Problem("CheckpointDiffers", name, "not the tokenizer of this run")

    def _identity(self, entry: dict[str, Any]) -> dict[str, Any]:
        step = entry.get("step", 0)
        return anchors.identity(
            step, step * self._step_tokens, entry["n"], chain.digest_of_body(entry), entry["weights"], entry["state"]
        )


def _file(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
