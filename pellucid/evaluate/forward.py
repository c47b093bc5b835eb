"""A decoder over texts that share a beginning or that grow: what was read once is not read again.

The rows of all texts stand one behind the other in one batch, without padding; attention alone
sees which text a row belongs to. On portable arithmetic every row has the bits that it has in a
pass over its text alone, whatever stands beside it.

Shapes: N rows of all parts; the rest as in families."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pellucid.model import Decoder


class Memory(Protocol):
    """The keys and values of a text's beginning, of every layer (a KV cache): what the operations
    call Kept."""

    length: int  # Positions that were read.

    def copy(self, length: int | None = None) -> Memory:
        """Another text with the same beginning, or with the first positions of it."""
        ...


class Part(NamedTuple):
    """Tokens to read behind what a memory holds."""

    memory: Memory
    tokens: Sequence[int]


def nothing(model: Decoder) -> Memory:
    """Of a text that is not begun."""
    return model.ops.Kept(model.shape.layers, model.shape.kv_heads, model.shape.head_width)


def read(model: Decoder, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """What the output projection reads of every row, (1, N, D), and the projection itself. The
    memories, all different, then hold these rows too."""
    memories, counts = [part.memory for part in parts], [len(part.tokens) for part in parts]

    def attention(
        layer: int,
        q_1NHC: Tensor,
        k_1NKC: Tensor,
        v_1NKC: Tensor,
        angles: tuple[Tensor, Tensor],
        _: Tensor | None,
    ) -> Tensor:
        qkv, sees = (q_1NHC[0], k_1NKC[0], v_1NKC[0]), model.shape.sees(layer)
        return model.ops.attention_kept(layer, memories, counts, qkv, angles, sees)[None]

    tokens_N = torch.tensor([token for part in parts for token in part.tokens])
    with torch.no_grad():
        hidden = model.hidden(tokens_N[None].to(model.device), attention=attention)
    for memory, count in zip(memories, counts, strict=True):
        memory.length += count
    return hidden
