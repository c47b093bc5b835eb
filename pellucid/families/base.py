"""What a family is to the rest of the code: its fields, its weights, a layer's
arithmetic, and what that costs.

Written here is the decoder that families agree on, and each overrides where it differs: RMSNorm
before a branch (arXiv:1910.07467), rotary embedding (arXiv:2104.09864), SwiGLU (arXiv:2002.05202),
grouped-query attention (arXiv:2305.13245).

Shapes: B sequences, T positions, D width, H heads, K key-value heads, C width of a head, F
width of the MLP, V vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from pellucid.sections import Count, Positive, Section

if TYPE_CHECKING:
    from torch import Tensor

FLOAT = 4  # Bytes of a float32.
# Of weights, by their names: (outputs, inputs) of a linear, (width,) of a norm.
Shapes = dict[str, tuple[int, ...]]


class Seen(NamedTuple):
    """Where a layer's attention looks."""

    rotary: tuple[Tensor, Tensor]  # Of every position's angles, as the operations want them.
    # The first position that each may attend to, int32; None: all before it.
    first_BT: Tensor | None
    # In place of the operations' own: of texts that go on behind what was read before.
    attention: Callable[..., Tensor] | None = None


class Reached(NamedTuple):
    """Weights of a layer whose gradients backward makes side by side, by
    their names within the layer."""

    names: tuple[str, ...]
    between: str  # The operations after the weights that are reached before them; {} is the layer.


class Model(Section, ABC):
    """A section of the recipe that says what is trained."""

    # More tensors than a safetensors file of ours may name.
    layers: Annotated[int, Field(ge=1, le=2**12)] = 4
    width: Count = 128
    heads: Count = 4
    kv_heads: Count = 4
    mlp_width: Count = 352
    context: Annotated[int, Field(ge=2, le=2**20)] = 256  # The longest that any phase trains with.
    tied: bool = True
    attention: Literal["across", "within"] = "across"  # May a token attend to other documents?
    rope_theta: Positive = 10000.0
    norm_epsilon: Positive = 1e-5
    initial_std: Positive = 0.02

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if self.width % (2 * self.heads):
            raise ValueError("width must be a multiple of 2 * heads")
        if self.heads % self.kv_heads:
            raise ValueError("heads must be a multiple of kv_heads")
        return self

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Of all keys of a position, and of all values."""
        return self.kv_heads * self.head_width

    def sees(self, layer: int) -> int:
        """How many positions a query of a layer, from 0, may attend to at most, its
        own included."""
        return self.context

    # ---- weights --------------------------------------------------------------------------------

    def tensors(self, vocabulary: int) -> Shapes:
        """Every weight by Hugging Face's name."""
        shapes: Shapes = {"model.embed_tokens.weight": (vocabulary, self.width)}
        for number in range(self.layers):
            shapes |= {f"model.layers.{number}.{name}": dims for name, dims in self.layer().items()}
        shapes["model.norm.weight"] = (self.width,)
        return shapes if self.tied else shapes | {"lm_head.weight": (vocabulary, self.width)}

    def layer(self) -> Shapes:
        """The weights of one layer, by their names within it."""
        D, F, kv = self.width, self.mlp_width, self.kv_width
        return {
            "input_layernorm.weight": (D,),
            "self_attn.q_proj.weight": (D, D),
            "self_attn.k_proj.weight": (kv, D),
            "self_attn.v_proj.weight": (kv, D),
            "self_attn.o_proj.weight": (D, D),
            "post_attention_layernorm.weight": (D,),
            "mlp.gate_proj.weight": (F, D),
            "mlp.up_proj.weight": (F, D),
            "mlp.down_proj.weight": (D, F),
        }

    def backward(self) -> list[Reached]:
        """The weights of a layer in the order in which backward reaches their gradients."""
        return [
            Reached(
                ("mlp.down_proj.weight",),
                "norm_backward, the one before {}.mlp.down_proj is reached",
            ),
            Reached(
                ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
                MLP,
            ),
            _norm("post_attention_layernorm"),
            Reached(
                ("self_attn.o_proj.weight",),
                "norm_backward, the one before {}.self_attn.o_proj is reached",
            ),
            *self.backward_to_heads(),
            _norm("input_layernorm"),
        ]

    def backward_to_heads(self) -> list[Reached]:
        """The part of it from the attention's result to what attention reads."""
        return [Reached(PROJECTIONS, ATTENTION)]

    # ---- the arithmetic of a layer --------------------------------------------------------------

    def forward(
        self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor, seen: Seen
    ) -> Tensor:
        """A layer with the weights w, by their names within it, on the
        operations of an arithmetic."""
        past_BTD, y_BTD = ops.norm(x_BTD, w["input_layernorm.weight"], self.norm_epsilon)
        out_BTD = self.attended(ops, w, y_BTD, seen)
        x_BTD = ops.linear_add(out_BTD, w["self_attn.o_proj.weight"], past_BTD)
        past_BTD, y_BTD = ops.norm(x_BTD, w["post_attention_layernorm.weight"], self.norm_epsilon)
        return ops.linear_add(self.fed(ops, w, y_BTD), w["mlp.down_proj.weight"], past_BTD)

    def attended(
        self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor, seen: Seen
    ) -> Tensor:
        """What attention gives to its output projection, (B, T, D)."""
        heads = (part.unflatten(-1, (-1, self.head_width)) for part in self.read(ops, w, x_BTD))
        attention = seen.attention or ops.attention
        return attention(*heads, seen.rotary, seen.first_BT).flatten(2)

    def read(
        self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, T, D), keys and values (B, T, K·C), before they are rotated."""
        return ops.linears(x_BTD, *(w[f"self_attn.{letter}_proj.weight"] for letter in "qkv"))

    def fed(self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor) -> Tensor:
        """What the MLP gives to its output projection, (B, T, F)."""
        return ops.swiglu(*ops.linears(x_BTD, w["mlp.gate_proj.weight"], w["mlp.up_proj.weight"]))

    # ---- what it costs --------------------------------------------------------------------------

    def pairs(self, context: int) -> int:
        """Pairs of a query and a key in all layers, of a sequence of so many positions, where
        documents fill it."""
        near = (min(self.sees(layer), context) for layer in range(self.layers))
        return sum(width * (width + 1) // 2 + (context - width) * width for width in near)

    def saved(self, sequences: int, arithmetic: str, wide: int) -> int:
        """Bytes that one layer keeps for backward, by what its operations save
        (operations/portable.py, native.py); wide are those of an activation on native arithmetic.

        portable: x and r of both norms, what both feed, q, k, v, o, a maximum and a factor a query,
        the first key each sees; gate, up and their product. native: the normalised x of both norms
        and silu(gate) besides, one number a query."""
        T, D, F, H, kv = self.context, self.width, self.mlp_width, self.heads, self.kv_width
        rows = sequences * T
        if arithmetic == "portable":
            return rows * FLOAT * (6 * D + 2 * kv + 3 * F + 2 * H + 3)
        # Where some layers see all and need no mask, it is counted for them too.
        masked = self.attention == "within" or self.sees(0) < T
        mask = sequences * T * T * FLOAT if masked else 0
        return rows * (wide * (8 * D + 2 * kv + 4 * F) + FLOAT * (H + 2)) + mask

    # ---- Hugging Face ---------------------------------------------------------------------------

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """Which of Hugging Face's classes it is, and the keys of config.json that only this family
        has: `architectures`, `model_type` …"""


PROJECTIONS = tuple(f"self_attn.{letter}_proj.weight" for letter in "qkv")
ATTENTION = "product (gradient of its input) of {}.self_attn.o_proj, or attention_backward there"
MLP = "product (gradient of its input) of {}.mlp.down_proj, or swiglu_backward there"
# Where queries and keys go through norms before attention.
NORMED_HEADS = [
    Reached(("self_attn.q_norm.weight", "self_attn.k_norm.weight"), ATTENTION),
    Reached(
        PROJECTIONS,
        "norm_backward of {0}.self_attn.q_norm or k_norm, or attention_backward there",
    ),
]


def _norm(name: str) -> Reached:
    between = (
        f"product (gradient of its input) of the weights after {{}}.{name}, or norm_backward there"
    )
    return Reached((f"{name}.weight",), between)
