"""A decoder of the Llama family, with Hugging Face's tensor names, so that its weights are a checkpoint.

It is written once over the operations of `pellucid/operations`, which exist for each arithmetic.

Shapes: B sequences, T positions, D width, H heads, K key-value heads, C width of a head, F width of the
MLP, V vocabulary. Sources: RMSNorm (arXiv:1910.07467), rotary embedding (arXiv:2104.09864), SwiGLU
(arXiv:2002.05202), grouped-query attention (arXiv:2305.13245); the whole (arXiv:2302.13971).
"""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor, nn

from pellucid.recipe import Model


class Weight(nn.Module):
    """A weight alone, under the name that Hugging Face gives it: (outputs, inputs) of a linear, (width,) of a norm."""

    weight: nn.Parameter

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))


class Attention(nn.Module):
    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.head_width = shape.width // shape.heads
        kv_width = shape.kv_heads * self.head_width
        self.q_proj, self.o_proj = Weight(shape.width, shape.width), Weight(shape.width, shape.width)
        self.k_proj, self.v_proj = Weight(kv_width, shape.width), Weight(kv_width, shape.width)

    def forward(
        self, ops: ModuleType, x_BTD: Tensor, past_BTD: Tensor, rotary: tuple[Tensor, Tensor], first_BT: Tensor | None
    ) -> Tensor:
        projected = ops.linears(x_BTD, self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        q_BTHC, k_BTKC, v_BTKC = (one.unflatten(-1, (-1, self.head_width)) for one in projected)
        out_BTHC = ops.attention(q_BTHC, k_BTKC, v_BTKC, rotary, first_BT)
        return ops.linear_add(out_BTHC.flatten(2), self.o_proj.weight, past_BTD)


class MLP(nn.Module):
    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = Weight(shape.mlp_width, shape.width), Weight(shape.mlp_width, shape.width)
        self.down_proj = Weight(shape.width, shape.mlp_width)

    def forward(self, ops: ModuleType, x_BTD: Tensor, past_BTD: Tensor) -> Tensor:
        gate_BTF, up_BTF = ops.linears(x_BTD, self.gate_proj.weight, self.up_proj.weight)
        return ops.linear_add(ops.swiglu(gate_BTF, up_BTF), self.down_proj.weight, past_BTD)


class Layer(nn.Module):
    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.epsilon = shape.norm_epsilon
        self.input_layernorm, self.post_attention_layernorm = Weight(shape.width), Weight(shape.width)
        self.self_attn, self.mlp = Attention(shape), MLP(shape)

    def forward(self, ops: ModuleType, x_BTD: Tensor, rotary: tuple[Tensor, Tensor], first_BT: Tensor | None) -> Tensor:
        past_BTD, y_BTD = ops.norm(x_BTD, self.input_layernorm.weight, self.epsilon)
        x_BTD = self.self_attn(ops, y_BTD, past_BTD, rotary, first_BT)
        past_BTD, y_BTD = ops.norm(x_BTD, self.post_attention_layernorm.weight, self.epsilon)
        return self.mlp(ops, y_BTD, past_BTD)


class Body(nn.Module):
    def __init__(self, shape: Model, vocabulary: int) -> None:
        super().__init__()
        self.embed_tokens = Weight(vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Weight(shape.width)


class Decoder(nn.Module):
    """The whole model. Its parameters hold whatever memory held: train/state.py gives them values."""

    cos: Tensor  # Of every position's angles, as the operations want them; not part of a checkpoint.
    sin: Tensor

    def __init__(self, shape: Model, vocabulary: int, ops: ModuleType) -> None:
        super().__init__()
        self.shape, self.ops = shape, ops
        self.model = Body(shape, vocabulary)
        self.lm_head = None if shape.tied else Weight(vocabulary, shape.width)
        self._theta = shape.rope_theta
        cos, sin = self._angles()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def _angles(self) -> tuple[Tensor, Tensor]:
        return self.ops.rotary(self.shape.context, self.shape.width // self.shape.heads, self._theta)

    def turn(self, theta: float) -> None:
        """Take the angles of another base of the rotary embedding."""
        if theta != self._theta:
            self._theta = theta
            self.cos, self.sin = (table.to(self.device) for table in self._angles())

    @property
    def device(self) -> torch.device:
        return self.cos.device

    def losses(
        self, inputs_BT: Tensor, targets_BT: Tensor, weight: float, first_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The cross-entropy of every target in nats, (B, T), and their sum times weight, from which backward begins.

        first_BT is the first position that each may attend to, int32; None: all before it.
        """
        embedding, head = self._ends()
        return self.ops.loss(self._hidden(inputs_BT, embedding, first_BT), head, targets_BT, weight)

    def forward(self, tokens_BT: Tensor, first_BT: Tensor | None = None) -> Tensor:
        """Logits of shape (B, T, V)."""
        embedding, head = self._ends()
        return self.ops.linears(self._hidden(tokens_BT, embedding, first_BT), head)[0]

    def _ends(self) -> tuple[Tensor, Tensor]:
        """The embedding and the output projection."""
        weight = self.model.embed_tokens.weight
        return self.ops.share(weight) if self.lm_head is None else (weight, self.lm_head.weight)

    def _hidden(self, tokens_BT: Tensor, embedding_VD: Tensor, first_BT: Tensor | None) -> Tensor:
        x_BTD = self.ops.embed(tokens_BT, embedding_VD)
        for layer in self.model.layers:
            x_BTD = layer(self.ops, x_BTD, (self.cos, self.sin), first_BT)
        return self.ops.norm(x_BTD, self.model.norm.weight, self.shape.norm_epsilon)[1]
