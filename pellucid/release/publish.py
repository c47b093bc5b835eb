"""Publish: seal a finished run folder in place, and copy it where asked."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from pellucid.errors import NotFinished
from pellucid.recipe import load as load_recipe
from pellucid.release import manifest, readme
from pellucid.store import files, layout, sealed
from pellucid.store.ledger import LedgerFile


def publish(folder: Path, to: Path | None = None) -> dict[str, Any]:
    """Write README.md, LICENSE and the manifest; sealing again gives the same bytes.

    Returns what was sealed, and what lies in the folder and was left out. Raises NotFinished, NotTrained, LinkInside,
    FileMissing, RunBusy, FolderTaken, DiskFull.
    """
    recipe = load_recipe(folder)
    if to is not None:
        files.require_free(to)
    with layout.writing(folder):
        ledger = LedgerFile(folder)
        if not ledger.ended or not (folder / "model.safetensors").is_file():
            raise NotFinished(path=folder, step=ledger.steps_done, steps=recipe.train.steps)
        files.remove_partial(folder, layout.belongs)
        files.require_file(folder / layout.DATA_MANIFEST)
        _, foreign = manifest.listed(folder)  # What cannot be sealed is refused before anything is written.
        if not (folder / "LICENSE").exists():
            files.write_bytes(folder / "LICENSE", resources.files("pellucid").joinpath("LICENSE").read_bytes())
        files.write_text(folder / "README.md", readme.readme(folder))
        count = manifest.write(folder, recipe.name, ledger.head)
        if to is not None:
            with files.whole_folder(to) as partial:
                layout.carry(folder, partial)
        size = _size(folder)
    about = {"folder": str(to or folder), "files": count + 1, "head": ledger.head, "bytes": size}
    return about | {"left_out": foreign}


def _size(folder: Path) -> int:
    """Bytes on disk: a file linked in several places counts once."""
    seen = {}
    for one in sealed.read(folder).files:
        about = (folder / one.path).stat()
        seen[(about.st_dev, about.st_ino)] = about.st_size
    return sum(seen.values()) + (folder / layout.MANIFEST).stat().st_size
