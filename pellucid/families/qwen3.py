"""Qwen3 (arXiv:2505.09388): each head's query and key go through an RMSNorm of their
own before they are rotated."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pellucid.families.base import FLOAT, NORMED_HEADS, Model, Reached, Shapes

if TYPE_CHECKING:
    from torch import Tensor


class Qwen3(Model):
    family: Literal["qwen3"] = "qwen3"

    def layer(self) -> Shapes:
        norms = ("self_attn.q_norm.weight", "self_attn.k_norm.weight")
        return super().layer() | dict.fromkeys(norms, (self.head_width,))

    def backward_to_heads(self) -> list[Reached]:
        return NORMED_HEADS

    def read(
        self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        q_BTD, k_BTN, v_BTN = super().read(ops, w, x_BTD)
        q_BTD = self._normed(ops, q_BTD, w["self_attn.q_norm.weight"])
        return q_BTD, self._normed(ops, k_BTN, w["self_attn.k_norm.weight"]), v_BTN

    def _normed(self, ops: ModuleType, x_BTN: Tensor, w_C: Tensor) -> Tensor:
        """Every head of every position by itself: rows of the norm in
        the order of position, head."""
        heads = x_BTN.unflatten(-1, (-1, self.head_width)).flatten(1, 2)
        return ops.norm(heads, w_C, self.norm_epsilon)[1].view_as(x_BTN)

    def saved(self, sequences: int, arithmetic: str, wide: int) -> int:
        """More: q and k before their norms, and r of each head; on native
        arithmetic also q and k normalised."""
        rows, heads, widths = (
            sequences * self.context,
            self.heads + self.kv_heads,
            self.width + self.kv_width,
        )
        more = (
            FLOAT * (widths + heads)
            if arithmetic == "portable"
            else wide * 2 * widths + FLOAT * heads
        )
        return super().saved(sequences, arithmetic, wide) + rows * more

    def described(self) -> dict[str, Any]:
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "attention_bias": False,
            "use_sliding_window": False,
        }
