"""Mistral (arXiv:2310.06825): a position attends to its own and to those
just before it, so many in all."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pellucid.families.base import Model


class Mistral(Model):
    family: Literal["mistral"] = "mistral"
    window: Annotated[int, Field(ge=1, le=2**20)] = 4096  # Positions, the own one included.

    def sees(self, layer: int) -> int:
        return min(self.window, self.context)

    def described(self) -> dict[str, Any]:
        return {
            "architectures": ["MistralForCausalLM"],
            "model_type": "mistral",
            "sliding_window": self.window,
        }
