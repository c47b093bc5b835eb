"""One step's checkpoint or full state, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from pellucid.recorder import write_checkpoint
from pellucid.replay.inputs import Inputs
from pellucid.replay.materialise import Watch, about, materialise
from pellucid.store import anchors, files


def export(inputs: Inputs, step: int, kind: str, target: Path, watch: Watch) -> None:
    """Write a step as "hf" (a Hugging Face folder) or "state" (an anchor), stored or materialised.

    Raises FolderTaken, StepUnknown, StateDiffers, LedgerDiffers.
    """
    files.require_free(target)
    state = materialise(inputs, step, watch)
    groups, described = state.groups(), about(inputs, state)
    if kind == "state":
        anchors.write(target, groups, described, None)
    else:
        write_checkpoint(inputs.folder, target, groups, described, inputs.identity.config)
