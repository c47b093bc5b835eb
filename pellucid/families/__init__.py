"""What a model is. A family is one file here and its name in the union below.

A recipe's section `[model]` is the model itself: `family` chooses the class, the other
fields are its shape. Nothing here imports torch: a plan, a verifier and a recipe know every
weight by its name and shape."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pellucid.families.llama import Llama
from pellucid.families.mistral import Mistral
from pellucid.families.olmo2 import Olmo2
from pellucid.families.olmo3 import Olmo3
from pellucid.families.qwen2 import Qwen2
from pellucid.families.qwen3 import Qwen3


def _with_family(value: Any) -> Any:
    return {"family": "llama", **value} if isinstance(value, dict) else value


Family = Annotated[
    Llama | Mistral | Olmo2 | Olmo3 | Qwen2 | Qwen3,
    Field(discriminator="family"),
    BeforeValidator(_with_family),
]
