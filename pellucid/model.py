"""A decoder of the Llama family, with Hugging Face's tensor names, so that its weights are a checkpoint.

Shapes: B sequences, T positions, D width, H heads, K key-value heads, C width of a head, V vocabulary.
Sources: RMSNorm (arXiv:1910.07467), rotary embedding (arXiv:2104.09864), SwiGLU (arXiv:2002.05202),
grouped-query attention (arXiv:2305.13245); the whole (arXiv:2302.13971).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.recipe import Model


class RMSNorm(nn.Module):
    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.rms_norm(x_BTD, self.weight.shape, self.weight, self.epsilon)


class Attention(nn.Module):
    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = shape.heads, shape.kv_heads, shape.width // shape.heads
        kv_width = shape.kv_heads * self.head_width
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, kv_width, bias=False)
        self.v_proj = nn.Linear(shape.width, kv_width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], mask_BTT: Tensor | None) -> Tensor:
        B, T, D = x_BTD.shape
        q_BHTC = self.q_proj(x_BTD).view(B, T, self.heads, self.head_width).transpose(1, 2)
        k_BKTC = self.k_proj(x_BTD).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        v_BKTC = self.v_proj(x_BTD).view(B, T, self.kv_heads, self.head_width).transpose(1, 2)
        q_BHTC, k_BKTC = rotate(q_BHTC, rotary), rotate(k_BKTC, rotary)
        out_BHTC = F.scaled_dot_product_attention(
            q_BHTC,
            k_BKTC,
            v_BKTC,
            attn_mask=None if mask_BTT is None else mask_BTT[:, None],
            is_causal=mask_BTT is None,
            enable_gqa=self.heads != self.kv_heads,
        )
        return self.o_proj(out_BHTC.transpose(1, 2).reshape(B, T, D))


def rotate(x_BHTC: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (i, i + C/2) of a head by its position's angle, as Hugging Face pairs them."""
    cos_TC, sin_TC = rotary
    low, high = x_BHTC.chunk(2, dim=-1)
    return x_BHTC * cos_TC + torch.cat((-high, low), dim=-1) * sin_TC


class MLP(nn.Module):
    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down_proj = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Layer(nn.Module):
    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width, shape.norm_epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_epsilon)
        self.mlp = MLP(shape)

    def forward(self, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], mask_BTT: Tensor | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotary, mask_BTT)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Body(nn.Module):
    def __init__(self, shape: Model, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_epsilon)


class Decoder(nn.Module):
    """The whole model. Its parameters hold whatever memory held: train/state.py gives them values."""

    cos_TC: Tensor  # Of every position's angles; not part of a checkpoint.
    sin_TC: Tensor

    def __init__(self, shape: Model, vocabulary: int) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape, vocabulary)
        self.lm_head = None if shape.tied else nn.Linear(shape.width, vocabulary, bias=False)
        half = torch.arange(0, shape.width // shape.heads, 2, dtype=torch.float32)
        frequencies = 1.0 / shape.rope_theta ** (half / (shape.width // shape.heads))
        angles_TC = torch.outer(torch.arange(shape.context, dtype=torch.float32), frequencies).repeat(1, 2)
        self.register_buffer("cos_TC", angles_TC.cos(), persistent=False)
        self.register_buffer("sin_TC", angles_TC.sin(), persistent=False)

    def forward(self, tokens_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Logits of shape (B, T, V). documents_BT is read only where attention stays within documents."""
        T = tokens_BT.shape[1]
        rotary = (self.cos_TC[:T], self.sin_TC[:T])
        mask_BTT = self._mask(documents_BT)
        x_BTD = self.model.embed_tokens(tokens_BT)
        for layer in self.model.layers:
            x_BTD = layer(x_BTD, rotary, mask_BTT)
        x_BTD = self.model.norm(x_BTD)
        head = self.model.embed_tokens if self.lm_head is None else self.lm_head
        return F.linear(x_BTD, head.weight)

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        """The cross-entropy of every target in nats, shape (B, T), float32."""
        logits_BTV = self(inputs_BT, documents_BT)
        losses = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none")
        return losses.view_as(targets_BT)

    def _mask(self, documents_BT: Tensor | None) -> Tensor | None:
        if self.shape.attention == "across" or documents_BT is None:
            return None
        T = documents_BT.shape[1]
        causal_TT = torch.ones(T, T, dtype=torch.bool, device=documents_BT.device).tril()
        return causal_TT & (documents_BT[:, :, None] == documents_BT[:, None, :])
