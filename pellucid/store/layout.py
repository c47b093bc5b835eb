"""Where everything lies in a run folder, and so in a release."""

from __future__ import annotations

import re
from pathlib import Path

LEDGER = "record/ledger.jsonl"
JOURNAL = "record/journal.jsonl"
CODE = "record/code.tar"
ENVIRONMENT = "record/environment.lock"
MANIFEST = "manifest.jsonl"
DATA_MANIFEST = "data/manifest.json"
TOKENIZER = "data/tokenizer"
METRICS = "metrics"
TRACE = "trace"
ANCHORS = "anchors"
CHECKPOINTS = "checkpoints"
PARENT = "parent"  # A fork's first state, as an anchor of its parent.
ABANDONED = "abandoned"  # What rollbacks left behind, by the branch that began with each.

_STEP = re.compile(r"step(0|[1-9][0-9]{0,15})")


def step_name(step: int) -> str:
    return f"step{step}"


def anchor(folder: Path, step: int) -> Path:
    return folder / ANCHORS / step_name(step)


def checkpoint(folder: Path, step: int) -> Path:
    return folder / CHECKPOINTS / step_name(step)


def abandoned(folder: Path, branch: int) -> Path:
    return folder / ABANDONED / f"branch{branch}"


def steps_in(folder: Path) -> list[int]:
    """The steps that have a folder (step512, …) below folder, ascending."""
    if not folder.is_dir():
        return []
    matches = (_STEP.fullmatch(inner.name) for inner in folder.iterdir() if inner.is_dir())
    return sorted(int(match.group(1)) for match in matches if match)


def step_number(text: str) -> int | None:
    """512 from "512", "step512" or the alias "step512-tokens4B"; None where it is no step."""
    match = re.fullmatch(r"(?:step)?(0|[1-9][0-9]{0,15})(?:-tokens[0-9.]+[KMBT]?)?", text)
    return int(match.group(1)) if match else None
