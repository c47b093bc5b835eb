"""Every stored state and every checkpoint of a release, against its ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pellucid import huggingface
from pellucid.data import tokenizer
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
        self._tokenizer = folder / layout.TOKENIZER
        self._digest, *about = tokenizer.recorded(folder)
        self._config = huggingface.architecture(recipe.model, *about)
        self._document = huggingface.document_token(self._tokenizer, self._config)
        self._hashed: dict[tuple[int, int], bytes] = {}  # A file linked in several places is hashed once.

    def check(self) -> Iterator[Problem]:
        """Every state, weights file, checkpoint or description of one that is not what the ledger gives."""
        for step in self._steps(layout.ANCHORS):
            yield from self._tried(self._anchor, step, f"{layout.ANCHORS}/{layout.step_name(step)}")
        recorded = {body["step"]: body["root"] for body in self._ledger.of_kind("checkpoint")}
        stored = self._steps(layout.CHECKPOINTS)
        for step in sorted({*stored, *recorded}):
            where = f"{layout.CHECKPOINTS}/{layout.step_name(step)}"
            if step not in recorded:
                yield Problem("CheckpointDiffers", where, "is a checkpoint that the ledger does not record")
            elif step in stored:
                yield from self._tried(self._checkpoint, step, where, recorded[step])
            elif self._ledger.ended:
                yield Problem("FileMissing", where, "is a checkpoint of the ledger and not in the folder")
        last = self._ledger.steps_done
        if self._ledger.ended and last in recorded:
            yield from self._tried(self._checkpoint, last, "", recorded[last])
        yield from self._strangers()

    def _steps(self, name: str) -> list[int]:
        return layout.steps_in(self._folder / name)

    def _tried(self, check: Callable[..., Iterator[Problem]], step: int, where: str, *more: str) -> Iterator[Problem]:
        """A check's problems; one that cannot be finished is a problem and does not end the others."""
        try:
            yield from check(step, where, *more)
        except PellucidError as error:
            yield Problem(error.name, where or ".", str(error))
        except FileNotFoundError as error:
            yield Problem("FileMissing", where or ".", f"{error.filename} is not there")

    def _strangers(self) -> Iterator[Problem]:
        """What lies among the anchors and checkpoints and is none."""
        for name in (layout.ANCHORS, layout.CHECKPOINTS):
            known = {layout.step_name(step) for step in self._steps(name)}
            for path in sorted((self._folder / name).glob("*")):
                if path.name not in known:
                    yield Problem("FileAdded", f"{name}/{path.name}", "is not the folder of a step")

    def _anchor(self, step: int, where: str) -> Iterator[Problem]:
        place, entry = layout.anchor(self._folder, step), self._ledger.step(step)
        _, roots = anchors.check(self._folder, step, entry["state"])
        about = self._about(entry, roots)
        weights, moments = tensors.Tensors(place / anchors.WEIGHTS), tensors.Tensors(place / anchors.MOMENTS)
        self._hashed[_file(place / anchors.WEIGHTS)] = bytes.fromhex(about["weights"])
        if not _same(files.read_json(place / anchors.ABOUT), about):
            yield Problem("StateDiffers", f"{where}/{anchors.ABOUT}", "does not say what the ledger and the state give")
        for name, read, said in (
            (anchors.WEIGHTS, weights, anchors.weights_metadata(about)),
            (anchors.MOMENTS, moments, anchors.moments_metadata(about)),
        ):
            if read.metadata != said:
                yield Problem("StateDiffers", f"{where}/{name}", f"its metadata is not that of step {step}")

    def _about(self, entry: dict[str, Any], roots: entries.StateRoots) -> dict[str, Any]:
        step = entry.get("step", 0)
        return anchors.about(step, int(entry.get("tokens", "0")), entry["n"], chain.digest_of_body(entry), roots)

    def _checkpoint(self, step: int, where: str, recorded: str) -> Iterator[Problem]:
        place, entry = self._folder / where, self._ledger.step(step)
        inside = f"{where}/" if where else ""
        read = tensors.Tensors(place / huggingface.WEIGHTS)
        root = self._hashed.get(_file(read.path)) or digests.tensors_root(read.leaves())
        if root.hex() != entry["weights"]:
            detail = f"not the weights the ledger records for step {step}"
            yield Problem("StateDiffers", inside + huggingface.WEIGHTS, detail)
        identity = self._identity(entry)
        if read.metadata != anchors.weights_metadata(identity):
            yield Problem("StateDiffers", inside + huggingface.WEIGHTS, f"its metadata is not that of step {step}")
        if entries.checkpoint_root(root.hex(), self._digest, self._config).hex() != recorded:
            yield Problem("CheckpointDiffers", where or ".", f"not the checkpoint the ledger records for step {step}")
        for name, value in huggingface.descriptions(self._config, self._document, identity).items():
            if not _same(files.read_json(place / name), value):
                yield Problem("CheckpointDiffers", inside + name, f"not that of step {step}")
        if (place / "tokenizer.json").read_bytes() != (self._tokenizer / "tokenizer.json").read_bytes():
            yield Problem("CheckpointDiffers", f"{inside}tokenizer.json", "not the tokenizer of this run")

    def _identity(self, entry: dict[str, Any]) -> dict[str, Any]:
        step = entry.get("step", 0)
        return anchors.identity(
            step,
            int(entry.get("tokens", "0")),
            entry["n"],
            chain.digest_of_body(entry),
            entry["weights"],
            entry["state"],
        )


def _same(found: object, expected: object) -> bool:
    # Python takes 128.0 for 128 and 1 for True; their canonical forms differ.
    return digests.canonical(found) == digests.canonical(expected)


def _file(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
