"""Qwen2 (arXiv:2407.10671): queries, keys and values have biases."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pellucid.families.base import ATTENTION, PROJECTIONS, Model, Reached, Shapes

if TYPE_CHECKING:
    from torch import Tensor


class Qwen2(Model):
    family: Literal["qwen2"] = "qwen2"

    def layer(self) -> Shapes:
        return super().layer() | {
            "self_attn.q_proj.bias": (self.width,),
            "self_attn.k_proj.bias": (self.kv_width,),
            "self_attn.v_proj.bias": (self.kv_width,),
        }

    def backward_to_heads(self) -> list[Reached]:
        biases = tuple(f"self_attn.{letter}_proj.bias" for letter in "qkv")
        return [Reached((*PROJECTIONS, *biases), ATTENTION)]

    def read(
        self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        parts = (
            (w[f"self_attn.{letter}_proj.weight"], w[f"self_attn.{letter}_proj.bias"])
            for letter in "qkv"
        )
        return ops.biased_linears(x_BTD, *parts)

    def described(self) -> dict[str, Any]:
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "use_sliding_window": False,
        }
