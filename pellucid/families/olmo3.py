"""OLMo 3 (arXiv:2512.13961): OLMo 2, and of four layers three attend to the positions just before
each, so many in all; every fourth attends to all."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pellucid.families.olmo2 import Olmo2

_FULL = 4  # One layer of so many sees everything before it.


class Olmo3(Olmo2):
    family: Literal["olmo3"] = "olmo3"  # type: ignore[assignment]
    window: Annotated[int, Field(ge=1, le=2**20)] = 4096  # Positions, the own one included.

    def sees(self, layer: int) -> int:
        return self.context if (layer + 1) % _FULL == 0 else min(self.window, self.context)

    def described(self) -> dict[str, Any]:
        period = ["sliding_attention"] * (_FULL - 1) + ["full_attention"]
        return super().described() | {
            "architectures": ["Olmo3ForCausalLM"],
            "model_type": "olmo3",
            "sliding_window": self.window,
            "layer_types": [period[layer % _FULL] for layer in range(self.layers)],
        }
