"""Where a stage of the data room works: in the run's own data/, or beside it.

What is prepared stays until what replaces it is complete. A stage that finds data made from other
fields of the recipe works in next/data/, where the stages before it are hard links. Once that is
whole it takes the place of data/, all at once: of sealed data when it is sealed itself, of what was
never sealed as soon as a stage is done. So a mistake in a recipe, or in a path, costs nothing that
was made before, and the old recipe finds its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from pellucid.data import stage
from pellucid.errors import StageNotReady
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.sections import bits
from pellucid.store import files, layout
from pellucid.store.layout import NEXT

_TRAINED = (
    "vocabulary",
    "pattern",
    "max_pretoken",
    "sample_characters",
)  # Of the tokenizer: for bpe alone.
_KINDS = {stage.DOCUMENTS: "documents", stage.TOKENIZER: "tokenizer", stage.SHARDS: "shards"}
_ORDER = (stage.DOCUMENTS, stage.TOKENIZER, stage.SHARDS)


class Place(NamedTuple):
    """Where one stage is done, or is to be worked on: `root` has the data/."""

    folder: Path
    root: Path
    stage: str
    made_from: str
    # Whether the stage can work there as it is; else what was begun beside the data has to go.
    free: bool

    @property
    def path(self) -> Path:
        return self.root / self.stage

    @property
    def done(self) -> bool:
        return stage.done(self.path, _KINDS[self.stage], self.made_from)

    def begin(self) -> dict[str, Any] | None:
        """Make room for the stage's work; returns what a stopped process wrote
        down about it. Raises DiskFull."""
        with files.named_errors(self.path):
            if not self.free:
                files.remove_folder(self.root)
                for name in _ORDER[: _ORDER.index(self.stage)]:
                    layout.carry(self.folder, self.root, name)
            (self.root / stage.DATA).unlink(missing_ok=True)
            self.path.mkdir(parents=True, exist_ok=True)
        return stage.unfinished(self.path, self.made_from)


def find(folder: Path, recipe: Recipe, name: str) -> Place:
    """The place of a stage, stage.DOCUMENTS or a later one. Raises StageNotReady where
    an earlier one is not done."""
    _settle_at_last(folder)
    roots = [folder, folder / NEXT]
    for before in _ORDER[: _ORDER.index(name)]:
        roots = [
            root
            for root in roots
            if _is_done(root, before, made_from(recipe, folder, root, before))
        ]
        if not roots:
            raise StageNotReady(stage=_KINDS[name], needs=_KINDS[before], path=folder)
    places = [
        Place(folder, root, name, made_from(recipe, folder, root, name), True) for root in roots
    ]
    for fits in (_is_done, _is_begun, _is_free):
        for place in places:
            if fits(place.root, name, place.made_from):
                return place
    # Another recipe's work on this stage, which nobody can have finished.
    if roots == [folder / NEXT]:
        for later in _ORDER[_ORDER.index(name) :]:
            files.remove_folder(folder / NEXT / later)
        return places[0]
    return places[0]._replace(root=folder / NEXT, free=False)


def settle(place: Place) -> None:
    """What a stage made beside the data takes their place: where these are sealed,
    not before it is sealed too."""
    sealed = (place.folder / stage.DATA).is_file()
    if place.root != place.folder:
        if sealed and not (place.root / stage.DATA).is_file():
            return
        files.replace_folder(place.root / "data", place.folder / "data")
    elif not sealed:
        return
    files.remove_folder(place.folder / NEXT)


def _settle_at_last(folder: Path) -> None:
    """A process was killed between taking the old data away and putting the new ones there."""
    if (folder / NEXT / "data").is_dir() and not (folder / "data").exists():
        (folder / NEXT / "data").rename(folder / "data")


def _is_done(root: Path, name: str, digest: str) -> bool:
    return stage.done(root / name, _KINDS[name], digest)


def _is_begun(root: Path, name: str, digest: str) -> bool:
    place = root / name
    return not (place / stage.MANIFEST).exists() and stage.unfinished(place, digest) is not None


def _is_free(root: Path, name: str, _: str) -> bool:
    return not any((root / name / file).exists() for file in (stage.MANIFEST, stage.UNFINISHED))


# ---- what the stages are made from -------------------------------------------------------------


def made_from(recipe: Recipe, folder: Path, root: Path, name: str) -> str:
    """A digest of all that a stage's output follows from: of the recipe the fields that
    are no placement, and the stages before it. A source that moves, or a
    tokenizer.json, is what it was."""
    fields = {stage.DOCUMENTS: _documents, stage.TOKENIZER: _tokenizer, stage.SHARDS: _shards}[name]
    return digests.of_value(f"{_KINDS[name]} stage", fields(recipe, folder, root)).hex()


def _documents(recipe: Recipe, folder: Path, root: Path) -> dict[str, Any]:
    """A source's weight only says how often it is seen, and a block is cut from shards."""
    data: dict[str, Any] = bits(recipe.data)
    sources = [
        {key: value for key, value in source.items() if key != "weight"}
        for source in data["sources"]
    ]
    return {**data, "seed": recipe.seed, "sources": sources, "token_type": "", "block": 0}


def _tokenizer(recipe: Recipe, folder: Path, root: Path) -> dict[str, Any]:
    fields = bits(recipe.tokenizer)
    kind = recipe.tokenizer.kind
    if kind != "bpe":
        fields = {key: value for key, value in fields.items() if key not in _TRAINED}
    if kind == "file":
        # Where the file is gone, what was made of it stands: a copy of it, byte for byte.
        own, kept = folder / recipe.tokenizer.path, root / stage.TOKENIZER / "tokenizer.json"
        path = next((candidate for candidate in (own, kept) if candidate.is_file()), None)
        fields["content"] = files.sha256_file(path) if path else ""
    documents = _recorded(root, stage.DOCUMENTS, "root") if kind in ("bpe", "characters") else ""
    return {**fields, "pipeline": recipe.data.pipeline, "documents": documents}


def _shards(recipe: Recipe, folder: Path, root: Path) -> dict[str, Any]:
    return {
        "pipeline": recipe.data.pipeline,
        "seed": recipe.seed,
        "token_type": recipe.data.token_type,
        "block": recipe.block,
        "documents": _recorded(root, stage.DOCUMENTS, "root"),
        "tokenizer": _recorded(root, stage.TOKENIZER, "digest"),
    }


def _recorded(root: Path, name: str, key: str) -> str:
    path = root / name / stage.MANIFEST
    return stage.digest_in(stage.read_manifest(path, _KINDS[name]), key, path)
