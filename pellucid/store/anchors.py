"""Anchors: full training states on disk, each a folder with its weights, what its
optimizer keeps, and what they are.

The weights file is the very one of that step's checkpoint, where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pellucid.errors import FormatInvalid, StateDiffers
from pellucid.record import chain
from pellucid.record.entries import CHUNK, Content, StateRoots
from pellucid.store import files, tensors

WEIGHTS, OPTIMIZER, ABOUT = "model.safetensors", "optimizer.safetensors", "anchor.json"

Groups = Mapping[str, Mapping[str, np.ndarray]]
T = TypeVar("T")


def write(target: Path, groups: Groups, contents: Mapping[str, Any], weights: Path | None) -> None:
    """Write a state as a whole folder; weights is a file that holds them already, or None."""
    with files.whole_folder(target) as partial:
        if weights is None:
            tensors.write(partial / WEIGHTS, groups["weights"], weights_metadata(contents))
        else:
            files.link_or_copy(weights, partial / WEIGHTS)
        tensors.write(partial / OPTIMIZER, flat(groups), optimizer_metadata(contents))
        files.write_json(partial / ABOUT, contents)


def flat(groups: Mapping[str, Mapping[str, T]]) -> dict[str, T]:
    """The tensors of the optimizer's file, by the names that they have there."""
    return {
        f"{group}/{name}": tensor
        for group, members in groups.items()
        if group != "weights"
        for name, tensor in members.items()
    }


def identity(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of itself, from the entry of its step or the
    genesis: one identity everywhere."""
    return {
        "format": 1,
        "step": entry.get("step", 0),
        "tokens": entry.get("tokens", "0"),
        "ledger_entry": entry["n"],
        "ledger_digest": chain.digest_of_body(entry),
        "weights": entry["weights"],
        "state": entry["state"],
    }


def about(entry: Mapping[str, Any], roots: StateRoots) -> dict[str, Any]:
    """What an anchor says of itself, from the entry of its step."""
    return described(identity(entry), roots)


def described(own: Mapping[str, Any], roots: StateRoots) -> dict[str, Any]:
    """A state's identity, and the digest of every chunk of every tensor,
    to name the one that differs."""
    chunks = {group: _chunks(of) for group, of in sorted(roots.tensors.items())}
    order = ("format", "step", "tokens", "ledger_entry", "ledger_digest")
    known = {name: own[name] for name in order}
    return {**known, "weights": roots.weights.hex(), "state": roots.state.hex(), "tensors": chunks}


def _chunks(contents: Mapping[str, Content]) -> dict[str, list[str]]:
    return {
        name: [chunk.hex() for chunk in content.chunks]
        for name, content in sorted(contents.items())
    }


def tells_of(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file is there and says to be of the step of this entry."""
    try:
        return files.is_file(path) and identity(entry).items() <= files.read_json(path).items()
    except FormatInvalid:
        return False


def weights_metadata(contents: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a weights file; "format" is what transformers asks for."""
    named = ("step", "tokens", "ledger_entry", "ledger_digest", "weights")
    return {"format": "pt", **{key: str(contents[key]) for key in named}}


def optimizer_metadata(contents: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of an optimizer's file."""
    return {"step": str(contents["step"])}


def read(place: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of an anchor's folder, mapped from disk, unchecked. Raises FormatInvalid."""
    groups: dict[str, dict[str, np.ndarray]] = {
        "weights": tensors.Tensors(place / WEIGHTS).arrays()
    }
    for key, array in tensors.Tensors(place / OPTIMIZER).arrays().items():
        group, _, name = key.partition("/")
        if group == "weights" or not name:
            raise FormatInvalid(
                path=place / OPTIMIZER,
                detail=f"holds {key!r}, which is not a tensor of an optimizer",
            )
        groups.setdefault(group, {})[name] = array
    return groups


def check(
    place: Path, step: int, recorded: str
) -> tuple[dict[str, dict[str, np.ndarray]], StateRoots]:
    """The arrays of an anchor, with their roots, where that is the one recorded for
    its step. Raises StateDiffers."""
    groups = read(place)
    roots = tensors.state_roots(step, groups)
    if roots.state.hex() != recorded:
        differing = {"path": place, "found": roots.state.hex(), "recorded": recorded, "step": step}
        fix = f"The state is damaged or was replaced. Delete {place} to use the anchor before it."
        raise StateDiffers(**differing, blame=_blame(place, roots), fix=fix)
    return groups, roots


def _blame(place: Path, roots: StateRoots) -> str:
    """Which chunks differ from what anchor.json says of them, and which
    tensors are too few or too many."""
    try:
        listed = files.read_json(place / ABOUT)["tensors"]
        differing = [
            f"{group} {name}, elements {chunk * CHUNK} to "
            f"{min((chunk + 1) * CHUNK, math.prod(content.shape)) - 1}"
            for group, contents in sorted(roots.tensors.items())
            for name, content in sorted(contents.items())
            if name in listed[group]
            for chunk, digest in enumerate(content.chunks)
            if listed[group][name][chunk] != digest.hex()
        ]
        for group in sorted(listed):
            present = roots.tensors[group]
            differing += [
                f"{group} {name}, absent" for name in sorted(set(listed[group]) - set(present))
            ]
            differing += [
                f"{group} {name}, not one of the state's"
                for name in sorted(set(present) - set(listed[group]))
            ]
    except (FormatInvalid, LookupError, TypeError, OSError):
        return ""
    more = "; …" if len(differing) > 3 else ""
    return f" (differing: {'; '.join(differing[:3])}{more})" if differing else ""


def size_of(groups: Groups) -> int:
    """Bytes of a state's arrays."""
    return sum(array.nbytes for arrays in groups.values() for array in arrays.values())
