"""Every stored state and every checkpoint of a release, against its ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pellucid import counts, huggingface
from pellucid.data import tokenizer
from pellucid.errors import PellucidError
from pellucid.optimizers.base import Kept
from pellucid.recipe import load as load_recipe
from pellucid.record import digests, entries
from pellucid.record.verdict import Problem
from pellucid.store import anchors, fields, files, layout, tensors
from pellucid.store.ledger import LedgerFile

_LAST_ENTRY = 2**63 - 1


class States:
    """The anchors, the checkpoints and the final model of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ledger = folder, LedgerFile(folder)
        recipe = self._recipe = load_recipe(folder)
        about = tokenizer.recorded(folder)
        self._digest = about.digest
        self._config = huggingface.architecture(
            recipe.model, about.vocabulary, about.document_token
        )
        self._tokenizer = tokenizer.Tokenizer.load(folder)
        self._tensors = counts.state(recipe, about.vocabulary)
        # A file linked in several places is hashed once.
        self._hashed: dict[tuple[int, int], bytes] = {}

    def check(self) -> Iterator[Problem]:
        """Every state, weights file, checkpoint or description of one that
        is not what the ledger gives."""
        recorded = {body["step"]: body["root"] for body in self._ledger.of_kind("checkpoint")}
        yield from self._branch("", self._ledger.step, recorded)
        last = self._ledger.steps_done
        if self._ledger.ended and last in recorded:
            yield from self._tried(
                lambda: self._checkpoint(self._ledger.step(last), "", recorded[last]), ""
            )
        for rollback in self._ledger.rollbacks:
            yield from self._abandoned(rollback)
        if self._recipe.fork.parent:
            yield from self._tried(self._parent, layout.PARENT)
        yield from self._strangers()

    def _branch(
        self, below: str, entry_of: Callable[[int], dict[str, Any]], recorded: dict[int, str]
    ) -> Iterator[Problem]:
        """The anchors and checkpoints below a folder, given each step's entry
        and the checkpoints' roots."""
        for step in layout.steps_in(self._folder / below / layout.ANCHORS):
            where = f"{below}{layout.ANCHORS}/{layout.step_name(step)}"
            yield from self._tried(
                lambda step=step, where=where: self._anchor(entry_of(step), where), where
            )
        stored = layout.steps_in(self._folder / below / layout.CHECKPOINTS)
        for step in sorted({*stored, *recorded}):
            where = f"{below}{layout.CHECKPOINTS}/{layout.step_name(step)}"
            if step not in recorded:
                yield Problem(
                    "CheckpointDiffers", where, "is a checkpoint that the ledger does not record"
                )
            elif step in stored:
                check = self._checkpoint
                yield from self._tried(
                    lambda s=step, w=where, c=check: c(entry_of(s), w, recorded[s]), where
                )
            elif self._ledger.ended:
                yield Problem(
                    "FileMissing", where, "is a checkpoint of the ledger, but not in the folder"
                )

    def _abandoned(self, rollback: dict[str, Any]) -> Iterator[Problem]:
        below = layout.abandoned(self._folder, rollback["branch"])
        stored = {
            step
            for name in (layout.ANCHORS, layout.CHECKPOINTS)
            for step in layout.steps_in(below / name)
        }
        found: dict[int, dict[str, Any]] = {}
        recorded: dict[int, str] = {}
        for body in self._ledger.abandoned(rollback):
            if body["kind"] == "step" and body["step"] in stored:
                found[body["step"]] = body
            elif body["kind"] == "checkpoint":
                recorded[body["step"]] = body["root"]

        def entry_of(step: int) -> dict[str, Any]:
            if step not in found:
                raise self._ledger.unknown(step)
            return found[step]

        yield from self._branch(
            f"{below.relative_to(self._folder).as_posix()}/", entry_of, recorded
        )

    def _parent(self) -> Iterator[Problem]:
        """The state that a fork begins with: its parent's, of which this
        ledger knows the root alone."""
        place, fork = self._folder / layout.PARENT, self._recipe.fork
        _, roots = anchors.check(place, fork.step, fork.state)
        said = files.read_json(place / anchors.ABOUT)
        if detail := _malformed(said, fork.step):
            yield Problem("StateDiffers", f"{layout.PARENT}/{anchors.ABOUT}", detail)
            return
        entry = {
            "format": 1,
            "step": fork.step,
            "tokens": str(fork.tokens),
            "ledger_entry": said["ledger_entry"],
            "ledger_digest": said["ledger_digest"],
        }
        about = anchors.described(entry, roots)
        yield from self._state(layout.PARENT, about)

    def _tried(self, check: Callable[[], Iterator[Problem]], where: str) -> Iterator[Problem]:
        """A check's problems; one that cannot be finished is a problem
        and does not end the others."""
        try:
            yield from check()
        except PellucidError as error:
            yield Problem(error.name, where or ".", str(error))
        except FileNotFoundError as error:
            yield Problem("FileMissing", where or ".", f"{error.filename} is not there")

    def _strangers(self) -> Iterator[Problem]:
        """What lies among the anchors, checkpoints and branches and is none."""
        branches = [
            layout.abandoned(self._folder, rollback["branch"])
            for rollback in self._ledger.rollbacks
        ]
        for place in (self._folder, *branches):
            for name in (layout.ANCHORS, layout.CHECKPOINTS):
                known = {layout.step_name(step) for step in layout.steps_in(place / name)}
                for path in sorted((place / name).glob("*")):
                    if path.name not in known:
                        where = path.relative_to(self._folder).as_posix()
                        yield Problem("FileAdded", where, "is not the folder of a step")
        for path in sorted((self._folder / layout.ABANDONED).glob("*")):
            if path not in branches:
                yield Problem(
                    "FileAdded",
                    f"{layout.ABANDONED}/{path.name}",
                    "is not a branch that the ledger abandoned",
                )
        if (self._folder / layout.PARENT).exists() and not self._recipe.fork.parent:
            yield Problem("FileAdded", layout.PARENT, "is in a run that is not a fork")

    def _anchor(self, entry: dict[str, Any], where: str) -> Iterator[Problem]:
        place, step = self._folder / where, int(entry.get("step", 0))
        _, roots = anchors.check(place, step, entry["state"])
        about = anchors.about(entry, roots)
        self._hashed[_file(place / anchors.WEIGHTS)] = bytes.fromhex(about["weights"])
        yield from self._state(where, about)

    def _state(self, where: str, about: dict[str, Any]) -> Iterator[Problem]:
        """What a stored state says of itself, against the one description that it can have."""
        place = self._folder / where
        if detail := fields.difference(place / anchors.ABOUT, about):
            yield Problem("StateDiffers", f"{where}/{anchors.ABOUT}", detail)
        for name, kept, said in (
            (anchors.WEIGHTS, self._tensors["weights"], anchors.weights_metadata(about)),
            (anchors.OPTIMIZER, anchors.flat(self._tensors), anchors.optimizer_metadata(about)),
        ):
            yield from _wrong(tensors.Tensors(place / name), kept, said, f"{where}/{name}")

    def _checkpoint(self, entry: dict[str, Any], where: str, recorded: str) -> Iterator[Problem]:
        place, step = self._folder / where, entry.get("step", 0)
        inside = f"{where}/" if where else ""
        read = tensors.Tensors(place / huggingface.WEIGHTS)
        root = self._hashed.get(_file(read.path)) or read.root("weights")
        if root.hex() != entry["weights"]:
            detail = f"not the weights the ledger records for step {step}"
            yield Problem("StateDiffers", inside + huggingface.WEIGHTS, detail)
        identity = anchors.identity(entry)
        yield from _wrong(
            read,
            self._tensors["weights"],
            anchors.weights_metadata(identity),
            inside + huggingface.WEIGHTS,
        )
        config = huggingface.with_theta(self._config, self._recipe.schedule.at(step).rope_theta)
        if entries.checkpoint_root(root.hex(), self._digest, config).hex() != recorded:
            yield Problem(
                "CheckpointDiffers",
                where or ".",
                f"not the checkpoint the ledger records for step {step}",
            )
        for name, value in huggingface.descriptions(
            config, self._tokenizer.document, self._recipe.fork.identity(identity)
        ).items():
            if detail := fields.difference(place / name, value):
                yield Problem(
                    "CheckpointDiffers", inside + name, f"not that of step {step}: {detail}"
                )
        if (
            files.sha256_file(place / tokenizer.FILE)
            != hashlib.sha256(self._tokenizer.exported).hexdigest()
        ):
            yield Problem(
                "CheckpointDiffers", f"{inside}tokenizer.json", "not the tokenizer of this run"
            )


def _malformed(said: Mapping[str, Any], step: int) -> str:
    """How the entry that a fork's parent/anchor.json names has not its form; empty where it has.

    Only the parent's ledger holds the entry itself. A parent that is a fork may begin with this
    very step, whose entry is then its genesis: only step 0 fixes the number.
    """
    number, digest = said.get("ledger_entry"), said.get("ledger_digest")
    if type(number) is not int or not 0 <= number <= (_LAST_ENTRY if step else 0):
        form = "an integer from 0 to 2^63-1" if step else "0, the entry of step 0"
        return f"ledger_entry is {fields.short(number)}, and should be {form}"
    if not digests.is_digest(digest):
        return f"ledger_digest is {fields.short(digest)}, and should be 64 hex digits"
    return ""


def _wrong(
    read: tensors.Tensors, kept: Mapping[str, Kept], metadata: Mapping[str, str], where: str
) -> Iterator[Problem]:
    """Other tensors than the recipe's state has, which a reader might load; and
    what the header says otherwise."""
    found = {name: Kept(dtype, shape) for name, (dtype, shape, _, _) in read.entries.items()}
    other = [name for name in sorted({*found, *kept}) if found.get(name) != kept.get(name)]
    if other and other[0] in found:
        yield Problem(
            "StateDiffers", where, f"its tensor {other[0][:100]!r} is not one of the recipe's state"
        )
    elif other:
        yield Problem("StateDiffers", where, f"lacks the tensor {other[0]!r} of the recipe's state")
    if read.metadata != metadata:
        yield Problem("StateDiffers", where, f"its metadata is not that of step {metadata['step']}")
    if not read.in_order:
        yield Problem("StateDiffers", where, "its header has another spelling than pellucid writes")


def _file(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_dev, about.st_ino
