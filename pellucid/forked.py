"""What a fork tells of itself: its own steps and tokens, apart from those that it claims for the
run before it. A release of a fork holds one state of that run, which may be invented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # It brings pydantic, which the words below do without.
    from pellucid.recipe import Recipe

NOT_HERE = "what came before is not in this release"


def fork_of(recipe: Recipe, entry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a fork claims of the run before it, and apart from that what is its own up to the step
    of a ledger entry (None: before training). None where the run is no fork."""
    if (claimed := recipe.fork.claims()) is None:
        return None
    return claimed | {
        "own_steps": entry.get("step", 0) - recipe.first if entry else 0,
        "own_tokens": str(int(entry.get("tokens", "0")) - recipe.fork.tokens if entry else 0),
        "without": list(recipe.fork.without),
    }


def fork_in_words(fork: dict[str, Any]) -> str:
    """What no release of a fork may be taken for."""
    return f"fork of {fork['parent']} after step {fork['step']:,}; {NOT_HERE}"


def tokens_in_words(tokens: int, fork: dict[str, Any] | None) -> str:
    """Tokens so far; of a fork its own, apart from those of the run that it says to go on from."""
    if not fork:
        return f"{tokens:,}"
    own = f"{int(fork['own_tokens']):,} in the {fork['own_steps']:,} steps of this release"
    return f"{own}, after {int(fork['tokens']):,} claimed for the {fork['step']:,} steps before"
