"""How a step may be computed, by name and version: docs/arithmetic.md says what each is."""

from __future__ import annotations

from typing import NamedTuple


class Arithmetic(NamedTuple):
    name: str  # With its version, as genesis has it.
    stack: bool  # Whether its bits follow from a stack too, which genesis then names.


ARITHMETICS = {  # As train.arithmetic names them.
    "portable": Arithmetic("portable 1", stack=False),
    "native": Arithmetic("native 1", stack=True),
}


def has_stack(name: object) -> bool:
    """Whether a genesis of this arithmetic, as it names it, has a stack."""
    return any(name == arithmetic.name and arithmetic.stack for arithmetic in ARITHMETICS.values())
