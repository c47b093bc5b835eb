"""One step's checkpoint or full state, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

from pellucid import huggingface
from pellucid.errors import FolderTaken
from pellucid.record import chain
from pellucid.replay.inputs import Inputs
from pellucid.replay.materialise import Watch, materialise
from pellucid.store import anchors, files, layout, tensors


def export(inputs: Inputs, step: int, kind: str, target: Path, watch: Watch) -> None:
    """Write a step as "hf" (a Hugging Face folder) or "state" (an anchor), stored or materialised.

    Raises FolderTaken, StepUnknown, StateDiffers, LedgerDiffers.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FolderTaken(path=target, found="something")
    state = materialise(inputs, step, watch)
    groups = state.groups()
    entry = inputs.recorded().step(step)
    digest = chain.digest_of_body(entry)
    tokens = int(entry.get("tokens", "0"))
    about = anchors.about(step, tokens, entry["n"], digest, tensors.state_roots(step, groups))
    if kind == "state":
        anchors.write(target, groups, about, None)
        return
    identity = {key: value for key, value in about.items() if key != "tensors"}
    with files.whole_folder(target) as partial:
        weights = partial / huggingface.WEIGHTS
        tensors.write(weights, groups["weights"], anchors.weights_metadata(about))
        huggingface.write_checkpoint(
            partial, weights, inputs.folder / layout.TOKENIZER, inputs.identity.config, identity
        )
