"""What a rollback leaves behind: moved out of the way, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pellucid.store import anchors, files, layout, metrics

_ABOUT = {layout.ANCHORS: anchors.ABOUT, layout.CHECKPOINTS: "pellucid.json"}


def set_aside(folder: Path, rollback: Mapping[str, Any]) -> None:
    """Move the anchors, checkpoints and rows of the steps that an incident
    abandoned into abandoned/branchN.

    They appear there whole, or not at all; doing it again does what is left to do.
    """
    target, last = layout.abandoned(folder, rollback["branch"]), rollback["to"]
    if not target.exists():
        with files.whole_folder(target) as partial:
            for name in _ABOUT:
                for step in _after(folder / name, last):
                    layout.carry(folder, partial, f"{name}/{layout.step_name(step)}")
            metrics.copy(folder, partial, last + 1, rollback["step"])
    for name, about in _ABOUT.items():
        for step in _after(target / name, last):
            place = Path(name) / layout.step_name(step)
            if (folder / place).exists() and _same(folder / place / about, target / place / about):
                files.remove_folder(folder / place)


def _after(folder: Path, last: int) -> list[int]:
    return [step for step in layout.steps_in(folder) if step > last]


def _same(left: Path, right: Path) -> bool:
    """Whether two states are one: the new branch may have made another of the same step."""
    return files.read_json(left) == files.read_json(right)
