"""What a step minimises. An objective is one file here and its name in the union below.

A recipe's section `[objective]` is the objective itself: `kind` chooses the class, the other fields
are its constants. Nothing here imports torch: an objective is a function of numbers that the model
gave, written out term by term, so that the same numbers give the same bits everywhere."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from pellucid.objectives.base import Minimised, Objective, Said, Use
from pellucid.objectives.cross_entropy import CrossEntropy

__all__ = ["CrossEntropy", "Minimised", "Objective", "Registered", "Said", "Use"]


def _with_kind(value: Any) -> Any:
    return {"kind": "cross_entropy", **value} if isinstance(value, dict) else value


# A second one makes it a union with Field(discriminator="kind"), as in pellucid/optimizers.
Registered = Annotated[CrossEntropy, BeforeValidator(_with_kind)]
