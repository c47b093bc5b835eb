"""A decoder of the Llama family and its training step in plain PyTorch,
as anybody would write them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from shapes import EPSILON, LR, THETA, WEIGHT_DECAY, Shape
from torch import Tensor, nn


def angles(positions: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, (T, C) each."""
    frequencies = 1.0 / THETA ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles_TC = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies).repeat(1, 2)
    return angles_TC.cos(), angles_TC.sin()


def rotate(x_BHTC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    low, high = x_BHTC.chunk(2, dim=-1)
    return x_BHTC * cos_TC + torch.cat((-high, low), dim=-1) * sin_TC


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.rms_norm(x_BTD, self.weight.shape, self.weight, EPSILON)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, kv_width = shape, shape.kv_heads * shape.head_width
        self.q = nn.Linear(shape.width, shape.width, bias=False)
        self.k = nn.Linear(shape.width, kv_width, bias=False)
        self.v = nn.Linear(shape.width, kv_width, bias=False)
        self.o = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
        C, gqa = self.shape.head_width, self.shape.heads != self.shape.kv_heads
        q, k, v = (
            of(x_BTD).unflatten(-1, (-1, C)).transpose(1, 2) for of in (self.q, self.k, self.v)
        )
        q, k = rotate(q, cos_TC, sin_TC), rotate(k, cos_TC, sin_TC)
        out_BHTC = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=gqa)
        return self.o(out_BHTC.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.up = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.before_attention, self.attention = Norm(shape.width), Attention(shape)
        self.before_mlp, self.mlp = Norm(shape.width), MLP(shape)

    def forward(self, x_BTD: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(self.before_attention(x_BTD), cos_TC, sin_TC)
        return x_BTD + self.mlp(self.before_mlp(x_BTD))


class Llama(nn.Module):
    """forward gives the mean cross-entropy of the targets."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        if shape.tied:
            self.head.weight = self.embedding.weight
        cos, sin = angles(shape.context, shape.head_width)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(tokens_BT)
        for layer in self.layers:
            x_BTD = layer(x_BTD, self.cos, self.sin)
        logits_BTV = self.head(self.norm(x_BTD))
        return F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())


def step_of(
    model: nn.Module, forward: Callable[..., Tensor], bf16: bool = False
) -> Callable[[Tensor], float]:
    """A function that takes one step on tokens (B, T+1) and returns its loss; forward
    is the model, or it compiled."""
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=LR, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY, fused=True
    )

    def step(tokens_BS: Tensor) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = forward(tokens_BS[:, :-1], tokens_BS[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item()

    return step
