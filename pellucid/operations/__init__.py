"""What the model and the training step are made of, once for each arithmetic, under the same names.

portable  our kernels: the same bits on every CPU
native    PyTorch's own: any device, bf16; equal bits on an equal stack
"""

from __future__ import annotations

import importlib
from types import ModuleType


def of(arithmetic: str) -> ModuleType:
    """The operations of "portable" or "native"."""
    return importlib.import_module(f"pellucid.operations.{arithmetic}")
