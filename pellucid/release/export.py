"""One step's checkpoint or full state, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from pellucid.record import chain
from pellucid.recorder import write_checkpoint
from pellucid.replay.inputs import Inputs
from pellucid.replay.materialise import Watch, materialise
from pellucid.store import anchors, files, tensors


def export(inputs: Inputs, step: int, kind: str, target: Path, watch: Watch) -> None:
    """Write a step as "hf" (a Hugging Face folder) or "state" (an anchor), stored or materialised.

    Raises FolderTaken, StepUnknown, StateDiffers, LedgerDiffers.
    """
    files.require_free(target)
    state = materialise(inputs, step, watch)
    groups, entry = state.groups(), inputs.recorded().step(step)
    digest, tokens = chain.digest_of_body(entry), int(entry.get("tokens", "0"))
    about = anchors.about(step, tokens, entry["n"], digest, tensors.state_roots(step, groups))
    if kind == "state":
        anchors.write(target, groups, about, None)
    else:
        write_checkpoint(inputs.folder, target, groups, about, inputs.identity.config)
