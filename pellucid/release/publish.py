"""Publish: seal a finished run folder in place, and copy it where asked."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import tomlkit

from pellucid.cards import write as cards
from pellucid.data import stage
from pellucid.data.licences import licences
from pellucid.errors import NotFinished, SiteTaken
from pellucid.recipe import FILE, MAX_BYTES, parse
from pellucid.recipe import load as load_recipe
from pellucid.release import evaluations, manifest, readme
from pellucid.site import build, pages
from pellucid.site.samples import Plan
from pellucid.store import files, layout, sealed
from pellucid.store.ledger import LedgerFile

_SEAL = 256 << 20  # Bytes of a manifest: a million files.


def publish(
    folder: Path,
    to: Path | None = None,
    site: bool = True,
    texts: bool | None = None,
    written: Callable[[Plan], list[list[str]]] | None = None,
    progress: stage.Progress = stage.silent,
) -> dict[str, Any]:
    """Write README.md, LICENSE, the site, the cards and the manifest; sealing again gives the same
    bytes.

    site: whether to write one; texts: whether it holds the texts (None: unless they are large);
    written: computes its samples (None: it holds none).

    recipe.toml loses the paths that lead out of the folder. Returns what was sealed, what lies in
    the folder and was left out, and those paths. Raises NotFinished, NotTrained, LinkInside,
    FileMissing, PageInvalid, EvaluationsUnfit, PublisherInvalid, RunBusy, FolderTaken, FolderUnfit,
    SiteTaken, DiskFull."""
    recipe = load_recipe(folder)
    seal = folder / layout.MANIFEST
    if to is not None and not (
        seal.is_file() and files.holds(to / layout.MANIFEST, files.read_bytes(seal, _SEAL))
    ):
        files.require_free(to)
    with layout.writing(folder):
        ledger = LedgerFile(folder)
        if not ledger.ended or not (folder / "model.safetensors").is_file():
            raise NotFinished(path=folder, step=ledger.steps_done, steps=recipe.train.steps)
        files.remove_partial(folder, layout.belongs)
        files.require_file(folder / layout.DATA_MANIFEST)
        # What cannot be sealed or replaced is refused before anything is written.
        evaluations.require(folder)
        cards.require(folder)
        _require_replaceable(folder / layout.SITE)
        _, foreign = manifest.listed(folder)
        rendered = dict(pages.rendered(folder))
        if not (folder / "LICENSE").exists():
            files.write_bytes(
                folder / "LICENSE", resources.files("pellucid").joinpath("LICENSE").read_bytes()
            )
        content, paths = without_paths(files.read_bytes(folder / FILE, MAX_BYTES), folder / FILE)
        if paths:
            files.write_bytes(folder / FILE, content)
        readme.write(folder)
        if site:
            build.write(folder, rendered, texts, written, progress)
        else:
            files.remove_folder(folder / layout.SITE)
        carded = cards.write(folder)  # They tell of the site's samples.
        count = manifest.write(folder, recipe.name, ledger.head)
        if to is not None:
            with files.new_folder(to) as partial:
                layout.carry(
                    folder,
                    partial,
                    only={layout.MANIFEST, *(file.path for file in sealed.read(folder).files)},
                )
        size = _size(folder)
    about = {"folder": str(to or folder), "files": count + 1, "head": ledger.head, "bytes": size}
    unlicensed = licences(folder).unknown
    return about | {"left_out": foreign, "paths": paths, "unlicensed": unlicensed, "cards": carded}


def _require_replaceable(site: Path) -> None:
    """A site is replaced as a whole folder: nothing else may be lost with it. Raises SiteTaken."""
    if site.exists() and not site.is_dir():
        raise SiteTaken(path=site, detail="is not a folder")
    names = [*files.walk(site), *(f"{name}/" for name in files.empty_folders(site))]
    foreign = [name for name in names if not layout.room_of(f"{layout.SITE}/{name}")]
    if foreign:
        more = f" and {len(foreign) - 1:,} more" if foreign[1:] else ""
        raise SiteTaken(path=site, detail=f"holds {foreign[0]}{more}, no part of a site")


def _size(folder: Path) -> int:
    """Bytes on disk: a file linked in several places counts once."""
    sizes = {}
    for file in sealed.read(folder).files:
        about = (folder / file.path).stat()
        sizes[(about.st_dev, about.st_ino)] = about.st_size
    return sum(sizes.values()) + (folder / layout.MANIFEST).stat().st_size


def without_paths(content: bytes, path: Path | str) -> tuple[bytes, dict[str, str]]:
    """The TOML as a release holds it, and what was taken out, by its key: paths that lead out of
    the run folder tell of the maker's machine and user. Comments and the digest stay."""
    document, removed = tomlkit.parse(content.decode("utf-8")), {}
    for source in document["data"]["sources"]:  # type: ignore[index, union-attr]
        if source.get("format") != "package":
            _take_out(source, f"data.sources.{source['name']}", removed)
    _take_out(document.get("tokenizer", {}), "tokenizer", removed)
    result = tomlkit.dumps(document).encode("utf-8") if removed else content
    assert parse(result, path).digest() == parse(content, path).digest()
    return result, removed


def _take_out(table: Any, key: str, removed: dict[str, str]) -> None:
    place = str(table.get("path", ""))
    if not place or files.inner(place):
        return
    removed[f"{key}.path"] = place
    table["path"] = ""
