"""A decoder in float64 as anybody would write it: dense masks, autograd, nothing of
ours but the shape's numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.families import Family


def logits(
    shape: Family, w: Mapping[str, Tensor], tokens_BT: Tensor, within: Tensor | None = None
) -> Tensor:
    """(B, T, V); within is the document that each position is of, where
    attention is kept within documents."""
    x = w["model.embed_tokens.weight"][tokens_BT]
    for number in range(shape.layers):
        window = getattr(shape, "window", shape.context)
        if shape.family == "olmo3" and number in (3, 7, 11):
            window = shape.context
        named = lambda name, n=number: w.get(f"model.layers.{n}.{name}")  # noqa: E731
        x = _layer(shape, named, x, within, window)
    x = _norm(shape, x, w["model.norm.weight"])
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


def _layer(shape: Family, w: Any, x: Tensor, within: Tensor | None, window: int) -> Tensor:
    after = shape.family in ("olmo2", "olmo3")
    y = x if after else _norm(shape, x, w("input_layernorm.weight"))
    y = _attention(shape, w, y, within, window)
    x = x + (_norm(shape, y, w("post_attention_layernorm.weight")) if after else y)
    y = x if after else _norm(shape, x, w("post_attention_layernorm.weight"))
    y = (F.silu(y @ w("mlp.gate_proj.weight").T) * (y @ w("mlp.up_proj.weight").T)) @ w(
        "mlp.down_proj.weight"
    ).T
    return x + (_norm(shape, y, w("post_feedforward_layernorm.weight")) if after else y)


def _attention(shape: Family, w: Any, x: Tensor, within: Tensor | None, window: int) -> Tensor:
    B, T, _ = x.shape
    C = shape.width // shape.heads
    parts = []
    for one in "qkv":
        y = x @ w(f"self_attn.{one}_proj.weight").T
        bias, norm = w(f"self_attn.{one}_proj.bias"), w(f"self_attn.{one}_norm.weight")
        assert (bias is not None) == (shape.family == "qwen2")
        assert (norm is not None) == (shape.family in ("qwen3", "olmo2", "olmo3") and one != "v")
        y = y if bias is None else y + bias
        y = y if norm is None or norm.shape[0] == C else _norm(shape, y, norm)
        y = y.view(B, T, -1, C)
        y = y if norm is None or norm.shape[0] != C else _norm(shape, y, norm)
        y = y.transpose(1, 2)
        parts.append(y if one == "v" else _rotated(shape, y))
    q, k, v = parts
    k, v = (one.repeat_interleave(shape.heads // shape.kv_heads, dim=1) for one in (k, v))
    i, j = torch.arange(T)[:, None], torch.arange(T)[None, :]
    seen = (j <= i) & (j > i - window)
    if within is not None:
        seen = seen & (within[:, None, :, None] == within[:, None, None, :])
    scores = (q @ k.transpose(2, 3) / math.sqrt(C)).masked_fill(~seen, -math.inf)
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(B, T, shape.width)
    return out @ w("self_attn.o_proj.weight").T


def _norm(shape: Family, x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + shape.norm_epsilon).sqrt() * weight


def _rotated(shape: Family, x_BHTC: Tensor) -> Tensor:
    T, C = x_BHTC.shape[2:]
    angles = torch.outer(
        torch.arange(T).double(), shape.rope_theta ** (-torch.arange(0, C, 2).double() / C)
    )
    a, b = x_BHTC.chunk(2, -1)
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)
