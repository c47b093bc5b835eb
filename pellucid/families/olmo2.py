"""OLMo 2 (arXiv:2501.00656): norms behind attention and MLP in place of before them,
and one over all queries of a position and one over all its keys."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from pellucid.families.base import FLOAT, MLP, NORMED_HEADS, Model, Reached, Seen, Shapes

if TYPE_CHECKING:
    from torch import Tensor


class Olmo2(Model):
    family: Literal["olmo2"] = "olmo2"

    def layer(self) -> Shapes:
        before = "input_layernorm.weight"
        return {name: dims for name, dims in super().layer().items() if name != before} | {
            "self_attn.q_norm.weight": (self.width,),
            "self_attn.k_norm.weight": (self.kv_width,),
            "post_feedforward_layernorm.weight": (self.width,),
        }

    def forward(
        self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor, seen: Seen
    ) -> Tensor:
        x_BTD, past_BTD = ops.share(x_BTD)
        out_BTD = self.attended(ops, w, x_BTD, seen)
        (y_BTD,) = ops.linears(out_BTD, w["self_attn.o_proj.weight"])
        norm_D = w["post_attention_layernorm.weight"]
        x_BTD, past_BTD = ops.share(ops.norm_add(y_BTD, norm_D, self.norm_epsilon, past_BTD))
        (y_BTD,) = ops.linears(self.fed(ops, w, x_BTD), w["mlp.down_proj.weight"])
        norm_D = w["post_feedforward_layernorm.weight"]
        return ops.norm_add(y_BTD, norm_D, self.norm_epsilon, past_BTD)

    def read(
        self, ops: ModuleType, w: Mapping[str, Tensor], x_BTD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        q_BTD, k_BTN, v_BTN = super().read(ops, w, x_BTD)
        q_BTD = ops.norm(q_BTD, w["self_attn.q_norm.weight"], self.norm_epsilon)[1]
        return q_BTD, ops.norm(k_BTN, w["self_attn.k_norm.weight"], self.norm_epsilon)[1], v_BTN

    def backward(self) -> list[Reached]:
        behind = "norm_backward of {}."
        return [
            Reached(
                ("post_feedforward_layernorm.weight",),
                "product (gradient of its input) of the weights after "
                "{}.post_feedforward_layernorm, add_into there, or norm_backward of model.norm",
            ),
            Reached(("mlp.down_proj.weight",), behind + "post_feedforward_layernorm"),
            Reached(("mlp.gate_proj.weight", "mlp.up_proj.weight"), MLP),
            Reached(
                ("post_attention_layernorm.weight",),
                "product (gradient of its input) of {0}.mlp.gate_proj or up_proj, "
                "or add_into behind {0}.post_attention_layernorm",
            ),
            Reached(("self_attn.o_proj.weight",), behind + "post_attention_layernorm"),
            *NORMED_HEADS,
        ]

    def saved(self, sequences: int, arithmetic: str, wide: int) -> int:
        """More: q and k before their norms, and r of two norms; on native arithmetic also q
        and k normalised. What feeds a branch is x itself, and what comes out of it is kept."""
        rows, widths = sequences * self.context, self.width + self.kv_width
        more = FLOAT * widths if arithmetic == "portable" else wide * 2 * widths
        return super().saved(sequences, arithmetic, wide) + rows * (more + FLOAT * 2)

    def described(self) -> dict[str, Any]:
        return {
            "architectures": ["Olmo2ForCausalLM"],
            "model_type": "olmo2",
            "attention_bias": False,
            "pad_token_id": None,  # Its class would take 1, a token of ours as any other.
        }
