"""Where everything lies in a run folder, and so in a release: a closed list of names.

What seals, copies and checks a release asks `room_of`; a file that the list does
not name is no part of one."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from pellucid.errors import FileTaken, LinkInside
from pellucid.store import files

RECIPE = "recipe.toml"
LEDGER = "record/ledger.jsonl"
JOURNAL = "record/journal.jsonl"
CODE = "record/code.tar"
ENVIRONMENT = "record/environment.lock"
MANIFEST = "manifest.jsonl"
DATA = "data"
DATA_MANIFEST = "data/manifest.json"
TOKENIZER = "data/tokenizer"
METRICS = "metrics"
TRACE = "trace"
EVALUATIONS = "evaluations/chain.jsonl"
CARDS = "cards"
SITE = "site"
SITE_PAGES = "site/pages"  # Made from those below, which people write.
PAGES = "pages"
ANCHORS = "anchors"
CHECKPOINTS = "checkpoints"
PARENT = "parent"  # A fork's first state, as an anchor of its parent.
NEXT = "next"  # Data that are made beside those of another recipe: no part of a release.
ABANDONED = "abandoned"  # What rollbacks left behind, by the branch that began with each.

_NUMBER = "(?:0|[1-9][0-9]{0,15})"
_STEP = re.compile(f"step({_NUMBER})")
# What Transformers, PEFT, sentence-transformers and their like look for in a
# folder; none begins with a dot.
_LOADED = re.compile(
    r"(?:[^/]+/)*(?!\.)(?:[^/]+\."
    r"(?:json|jinja|py|model|safetensors|bin|gguf|pt|pth|h5|msgpack|onnx)"
    r"|vocab\.txt|merges\.txt)|additional_chat_templates/"
)


class Room(NamedTuple):
    """The files that a folder of a release may hold. A number stands for {n},
    five or more digits for {part}, a name of its maker's choice for {name}."""

    folder: str
    names: tuple[str, ...]
    # False: we or people write to it in place, and a hard link of it would change with it.
    linked: bool = True


_STATE = ("anchor.json", "model.safetensors", "optimizer.safetensors")
_CHECKPOINT = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "pellucid.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_TABLES = ("microbatches", "segments", "sequences", "sources", "steps", "validation")
_SPLITS = ("train", "validation")
_SITE_DATA = tuple(
    f"{name}.js"
    for name in (
        *("baselines", "dictionary", "evaluations", "overview", "ranked", "samples", "states"),
        *("tokenizer", "validation"),
    )
)
# The pages of the site (site/shell.py), and its scripts: each page has one of its own.
_PAGES = ("check", "checkpoints", "data", "document", "index", "search", "step", "timeline")
_SCRIPTS = (
    *("core", "curves", "draw", "find", "finder", "hits", "packs", "pieces", "ranges", "runs"),
    *("seams", "tokens", "words", *_PAGES),
)
_INDEX = ("before", "counts", "keys", "positions", "starts", "text", "top")
_DATA_KINDS = ("documents", "seams", "steps", "texts")  # Of the site, in files by number.
_OPEN = tuple(f"{{name}}.{ending}" for ending in ("md", "png", "jpg", "jpeg", "gif", "webp"))

# What a release holds, by the format that its manifest names. Later work adds lines.
ROOMS: dict[int, tuple[Room, ...]] = {
    1: (
        Room("", ("LICENSE", "README.md", RECIPE, MANIFEST, "publisher.toml"), linked=False),
        Room("", ("CITATION.cff",)),
        Room("", _CHECKPOINT),
        Room(CARDS, ("croissant.json", "dataset.md", "eu-summary.md", "mof.yaml", "release.json")),
        Room("record", ("journal.jsonl", "ledger.jsonl"), linked=False),
        Room("record", ("code.tar", "code-{n}.tar", "environment.lock", "environment-{n}.lock")),
        Room("checkpoints/step{n}", _CHECKPOINT),
        Room("anchors/step{n}", _STATE),
        Room("parent", _STATE),
        Room("data", ("manifest.json",)),
        Room("data/documents", ("manifest.json", "{part}.parquet", "{part}.salts.bin")),
        Room("data/tokenizer", ("manifest.json", "tokenizer.json")),
        Room("data/shards", ("manifest.json",)),
        Room(
            "data/shards",
            tuple(
                f"{{part}}.{split}{end}" for split in _SPLITS for end in (".bin", ".documents.bin")
            ),
        ),
        Room("metrics", tuple(f"{table}.parquet" for table in _TABLES)),
        Room("trace", ("manifest.json", *(f"{{part}}.{kind}" for kind in _INDEX))),
        Room("evaluations", ("chain.jsonl",), linked=False),
        Room("evaluations", ("{part}.jsonl",)),
        Room("site", ("style.css", *(f"{name}.js" for name in _SCRIPTS))),
        Room("site", tuple(f"{name}.html" for name in _PAGES)),
        Room("site/data", _SITE_DATA),
        Room("site/data/curves/level{n}", ("{part}.js",)),
        *(Room(f"site/data/{kind}", ("{part}.js",)) for kind in _DATA_KINDS),
        *(Room(f"site/pages{inner}", ("{name}.html",)) for inner in ("", "/{name}")),
        *(Room(f"pages{inner}", _OPEN, linked=False) for inner in ("", "/{name}")),
        Room("abandoned/branch{n}/checkpoints/step{n}", _CHECKPOINT),
        Room("abandoned/branch{n}/anchors/step{n}", _STATE),
        Room("abandoned/branch{n}/metrics", tuple(f"{table}.parquet" for table in _TABLES)),
    )
}
VERSION = max(ROOMS)


def room_of(path: str, version: int = VERSION) -> Room | None:
    """The line of the list that names a file, given as a '/'-path; None where none does."""
    match = _names(version).fullmatch(path)
    return ROOMS[version][int(match.lastgroup[1:])] if match and match.lastgroup else None


def is_loaded(path: str) -> bool:
    """Whether who loads a model or a tokenizer by its folder may take a file
    of this name, by the ending."""
    return _LOADED.fullmatch(path) is not None


def belongs(path: str) -> bool:
    """Whether a '/'-path is one of a run's own files or lies in one of its
    folders, named by the list or not."""
    top = path.partition("/")[0]
    return top in _tops() or top.startswith(files.TEMPORARY) or room_of(path) is not None


@functools.cache
def _tops() -> set[str]:
    return {
        NEXT,
        *(
            room.folder.partition("/")[0]
            for rooms in ROOMS.values()
            for room in rooms
            if room.folder
        ),
    }


@functools.cache
def _names(version: int) -> re.Pattern[str]:
    """All of a version's names; the group that matches tells the room."""
    rooms = []
    for number, room in enumerate(ROOMS[version]):
        folder = f"{room.folder}/" if room.folder else ""
        rooms.append(f"(?P<r{number}>{'|'.join(_pattern(folder + name) for name in room.names)})")
    return re.compile("|".join(rooms))


def _pattern(name: str) -> str:
    plain = re.escape(name)
    plain = plain.replace(r"\{n\}", _NUMBER).replace(r"\{name\}", "[a-z0-9][a-z0-9_-]{0,63}")
    return plain.replace(r"\{part\}", "(?:[0-9]{5}|[1-9][0-9]{5,8})")


def step_name(step: int) -> str:
    return f"step{step}"


def anchor(folder: Path, step: int) -> Path:
    return folder / ANCHORS / step_name(step)


def checkpoint(folder: Path, step: int) -> Path:
    return folder / CHECKPOINTS / step_name(step)


def examples(number: int) -> str:
    """The file of an evaluation's examples, by the number of its entry: a '/'-path."""
    return f"evaluations/{number:05}.jsonl"


def abandoned(folder: Path, branch: int) -> Path:
    return folder / ABANDONED / f"branch{branch}"


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold a run for this process alone, which may write into it. Raises RunBusy, LinkInside."""
    with files.locked(folder):
        refuse_links(folder)
        yield


def refuse_links(folder: Path) -> None:
    """Raises LinkInside where something of a run is a symbolic link: a
    write or a removal would follow it.

    The folder itself may be reached by one. A link that appears while the folder is locked is not
    looked for: whoever can make one there can write there."""
    for path in files.links(folder, belongs):
        raise LinkInside(path=folder / path, target=(folder / path).readlink())


def require_new_file(path: Path) -> None:
    """For a file that a verb is asked to write: it replaces no file, and lies in no run's folders,
    of which `verify` names what does not belong there. Raises FileTaken."""
    if os.path.lexists(path):
        raise FileTaken(path=path, detail="it exists")
    place = path.parent.resolve() / path.name
    for above in place.parents:
        if files.is_file(above / RECIPE) and belongs(place.relative_to(above).as_posix()):
            raise FileTaken(path=path, detail=f"the name belongs to the run {above}")


def carry(folder: Path, target: Path, below: str = "", only: Container[str] | None = None) -> None:
    """Bring a run's files, or those below one of its folders, into another folder: what the list
    names and no more, and of that only what is asked for.

    They are hard links where the file system allows it, but for what is written in place: a
    copy must not change with it."""
    for inner in files.walk(folder / below):
        path = f"{below}/{inner}" if below else inner
        if (room := room_of(path)) and (only is None or path in only):
            files.require_file(folder / path)
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (files.link_or_copy if room.linked else files.copy)(folder / path, target / path)


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
