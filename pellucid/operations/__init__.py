"""What the model and the training step are made of, under the same names for every arithmetic.

portable  our kernels: the same bits on every CPU
native    PyTorch's own: any device, bf16; equal bits on an equal stack

Nothing here imports torch: a recipe asks which there are."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple

from pellucid.errors import OperationsMissing


class Computed(NamedTuple):
    module: str  # Of this package.
    precisions: tuple[str, ...]  # As train.precision names them.


BY = {  # (train.arithmetic, placement.device)
    ("portable", "cpu"): Computed("portable", ("fp32",)),
    ("native", "cpu"): Computed("native", ("fp32",)),
    ("native", "cuda"): Computed("native", ("fp32", "bf16")),
}


def of(arithmetic: str, device: str) -> ModuleType:
    """The operations of an arithmetic on a device. Raises OperationsMissing."""
    if (arithmetic, device) not in BY:
        raise OperationsMissing(arithmetic=arithmetic, device=device, known=_known())
    return importlib.import_module(f"{__name__}.{BY[arithmetic, device].module}")


def missing(arithmetic: str, device: str, precision: str) -> str:
    """Why nothing computes this combination of a recipe, in words; empty where something does."""
    computed = BY.get((arithmetic, device))
    if computed is not None and precision in computed.precisions:
        return ""
    settings = f'train.arithmetic = "{arithmetic}" with train.precision = "{precision}"'
    return f'nothing computes {settings} on placement.device = "{device}". There are {_known()}'


def _known() -> str:
    return ", ".join(
        f"{arithmetic} {precision} on {device}"
        for (arithmetic, device), computed in BY.items()
        for precision in computed.precisions
    )
