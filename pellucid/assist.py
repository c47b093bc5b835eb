"""Several processes that train one run: what each of them must share with the first, and what
every process but the first does."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pellucid.inputs import Inputs
from pellucid.journal import code_archive
from pellucid.recipe import load as load_recipe
from pellucid.record import digests
from pellucid.train import loop, state
from pellucid.train.processes import Processes, Word
from pellucid.train.signals import stop_signals


def assist(folder: Path, processes: Processes) -> None:
    """What every process but the first does: its part of the
    training, and nothing in the folder."""
    if processes.told()[0] == Word.END:
        return  # There was nothing to train.
    inputs = Inputs.load(folder, load_recipe(folder))
    processes.compare(facts(inputs))
    with stop_signals() as processes.signals:
        loop.follow(
            state.empty(inputs.recipe, inputs.vocabulary),
            inputs.recipe,
            inputs.order,
            inputs.shards,
            processes,
        )


def facts(inputs: Inputs) -> dict[str, bytes]:
    """The digests that every process of a run must share with the first."""
    identity = inputs.identity
    return {
        "code of pellucid": hashlib.sha256(code_archive()).digest(),
        "recipe": inputs.recipe.digest(),
        "data root": bytes.fromhex(identity.data),
        "tokenizer": bytes.fromhex(identity.tokenizer),
        "arithmetic or stack": digests.of_value("stack", [identity.arithmetic, identity.stack]),
    }
