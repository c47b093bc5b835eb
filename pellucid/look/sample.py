"""Text from the model of any step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from pellucid import philox
from pellucid.data.tokenizer import Tokenizer
from pellucid.train.state import State


def sample(
    state: State,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
) -> Iterator[str]:
    """The continuation of a prompt, piece by piece, until it ends a
    document or has `tokens` tokens.

    Draw i of the seed decides token i; temperature 0 takes the likeliest.
    """
    key = philox.key_of(seed, "sample")
    ids = [tokenizer.document_token, *tokenizer.encode(prompt)]
    shown = tokenizer.decode(ids[1:])
    for index in range(tokens):
        ids.append(
            _next(state, ids, temperature, top_k, float(philox.uniform_signed(key, index, 1)[0]))
        )
        if ids[-1] == tokenizer.document_token:
            return
        # Decoded whole each time: one character may be several tokens.
        text = tokenizer.decode(ids[1:])
        if not text.endswith("\ufffd") or index == tokens - 1:
            yield text[len(shown) :]
            shown = text


@torch.no_grad()
def _next(state: State, ids: list[int], temperature: float, top_k: int, draw: float) -> int:
    context = state.model.shape.context
    inputs = torch.tensor([ids[-context:]], device=state.model.device)
    logits_V = state.model(inputs)[0, -1].double()
    if temperature == 0:
        return int(logits_V.argmax())
    values, indices = (logits_V / temperature).topk(min(top_k or len(logits_V), len(logits_V)))
    cumulative = torch.softmax(values, 0).cumsum(0)
    place = int(torch.searchsorted(cumulative, (draw + 1) / 2 * cumulative[-1]))
    return int(indices[min(place, len(indices) - 1)])
