"""Llama (arXiv:2302.13971): the decoder of base.py as it stands there."""

from __future__ import annotations

from typing import Any, Literal

from pellucid.families.base import Model


class Llama(Model):
    family: Literal["llama"] = "llama"

    def described(self) -> dict[str, Any]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "attention_bias": False,
            "mlp_bias": False,
        }
