"""What makes new weights of gradients. An optimizer is one file here
and its name in the union below.

A recipe's section `[optimizer]` is the optimizer itself: `kind` chooses the class, the other fields
are its constants. Nothing here imports torch: a plan, a verifier and a recipe know every
optimizer's state by its names and shapes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pellucid.optimizers.adamw import AdamW
from pellucid.optimizers.muon import Muon


def _with_kind(value: Any) -> Any:
    return {"kind": "adamw", **value} if isinstance(value, dict) else value


Registered = Annotated[AdamW | Muon, Field(discriminator="kind"), BeforeValidator(_with_kind)]
