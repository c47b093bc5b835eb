"""One step's checkpoint or full state, in a folder of its own."""

from __future__ import annotations

import itertools
from pathlib import Path

from pellucid import huggingface
from pellucid.data.parquet import Documents
from pellucid.data.tokenizer import FILE, Tokenizer
from pellucid.errors import PatternReplaced, TokenizerInvalid
from pellucid.inputs import Inputs
from pellucid.recorder import write_checkpoint
from pellucid.replay.materialise import Watch, about, materialise
from pellucid.store import anchors, files, layout

_TEXTS, _CHARACTERS = 500, 4_000_000  # Of the corpus, held against what an exported folder gives.


def export(inputs: Inputs, step: int, kind: str, target: Path, watch: Watch) -> None:
    """Write a step as "hf" (a Hugging Face folder) or "state" (an anchor), stored or materialised.

    To a folder that holds just that it can be written again.

    Raises FolderTaken, FolderUnfit, StepUnknown, StateDiffers, LedgerDiffers; of "hf" also
    PatternReplaced and TokenizerInvalid where the folder's tokenizer would not give the ids
    that the run was trained on."""
    model_type = inputs.identity.config.get("model_type")
    if kind == "hf" and model_type in huggingface.SPLIT_BY_TRANSFORMERS:
        raise PatternReplaced(path=target, model_type=model_type)
    name = anchors.ABOUT if kind == "state" else "pellucid.json"
    if not anchors.tells_of(target / name, inputs.recorded().step(step)):
        files.require_free(target)  # At once: what follows takes long.
    state = materialise(inputs, step, watch)
    groups, described = state.groups(), about(inputs, state)
    with files.new_folder(target) as partial:
        if kind == "state":
            anchors.write(partial, groups, described, None)
            return
        config = huggingface.with_theta(
            inputs.identity.config, inputs.recipe.schedule.at(step).rope_theta
        )
        identity = inputs.recipe.fork.identity(described)
        write_checkpoint(inputs.folder, partial, groups, identity, config)
        if differing := _other_ids(inputs, partial):
            detail = (
                f"AutoTokenizer would give different ids for {differing} than this run, so "
                "nothing was exported"
            )
            raise TokenizerInvalid(path=inputs.folder / layout.TOKENIZER / FILE, detail=detail)


def _other_ids(inputs: Inputs, target: Path) -> str:
    """The first text for which an exported folder gives other ids than those of the
    run's shards; empty for none."""
    ids_of, characters, own = huggingface.reader(target), 0, Tokenizer.load(inputs.folder)
    for spelled in own.added:
        for text in ("", "A", spelled, f"the {spelled} of {spelled}"):
            if ids_of(text) != own.encode(text):
                return f"a text that spells {spelled}"
    rows = Documents.open(inputs.folder).rows(["index", "source", "text"], "train")
    for row in itertools.islice((row for batch in rows for row in batch.to_pylist()), _TEXTS):
        stream = next(train for train in inputs.shards.train if train.source == row["source"])
        first = stream.token_of(row["index"])
        if (
            ids_of(row["text"])
            != stream.read(first + 1, first + stream.length_of(row["index"])).tolist()
        ):
            return f"document {row['index']}"
        characters += len(row["text"])
        if characters > _CHARACTERS:
            break
    return ""
