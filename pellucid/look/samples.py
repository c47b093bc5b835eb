"""Texts of several states behind the same prompts, as a site shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pellucid.data.tokenizer import Tokenizer
from pellucid.inputs import Inputs
from pellucid.look.sample import sample
from pellucid.replay.materialise import walk
from pellucid.store import layout
from pellucid.train.state import State


def samples(
    inputs: Inputs, steps: Sequence[int], prompts: Sequence[str], tokens: int
) -> Iterator[list[str]]:
    """Of each step, ascending, a text for each prompt: the likeliest tokens, which `pellucid sample
    --temperature 0` prints too. Raises StateDiffers, LedgerDiffers."""
    tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)

    def written(state: State, prompt: str) -> str:
        return "".join(
            sample(state, tokenizer, prompt, tokens=tokens, temperature=0, top_k=0, seed=0)
        )

    for state in walk(inputs, steps, lambda done, total: None):
        yield [written(state, prompt) for prompt in prompts]
