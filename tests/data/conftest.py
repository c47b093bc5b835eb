"""What the tests of the data room share: recipes in one line, and small corpora."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pellucid.data import documents, parquet, shards, stage, tokenizer
from pellucid.recipe import Recipe
from pellucid.store import files

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
]


def text_of(number: int, words: int = 60) -> str:
    """A text that is like no other and the same everywhere."""
    return f"text {number}: " + " ".join(
        WORDS[(number * 7 + i * i + i * number) % len(WORDS)] + str(i % 7) for i in range(words)
    )


class Interrupted(Exception):
    """Raised by a test, in the middle of a stage's work."""


def interrupted(words: int) -> stage.Progress:
    """A progress that interrupts when it is told for the so-manieth time."""
    told = itertools.count(1)

    def progress(*_: object) -> None:
        if next(told) >= words:
            raise Interrupted

    return progress


@pytest.fixture
def recipe_of() -> Callable[..., Recipe]:
    """recipe_of({"name": …}, …, data={…}, model={…}): a valid recipe with a small
    model and a quick tokenizer."""

    def make(*sources: dict, data: dict | None = None, **sections) -> Recipe:
        values = {
            "name": "test",
            "data": {"sources": sources, "validation_per_10000": 1500, **(data or {})},
            "tokenizer": {"kind": "bytes"},
            "model": {"context": 32},
            "train": {"batch": 4, "microbatch": 4},
            **sections,
        }
        return Recipe.model_validate(values)

    return make


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder of 60 short texts, with a duplicate, an empty file and one
    that is cut, in two folders."""
    folder = tmp_path / "corpus"
    for number in range(60):
        path = folder / ("a" if number % 3 else "b/c") / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text_of(number).encode())
    (folder / "a" / "same.md").write_bytes(text_of(7).encode())
    (folder / "a" / "nothing.txt").write_bytes(b"")
    (folder / "long.txt").write_bytes("\n".join(text_of(n) for n in range(100, 120)).encode())
    return folder


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and row groups so small that a small corpus has several."""
    monkeypatch.setattr(parquet, "PART_BYTES", 2500)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 800)
    monkeypatch.setattr(shards, "_BATCH_BYTES", 700)


@pytest.fixture
def prepare() -> Callable[..., Path]:
    """Run all stages of the data room in a folder."""

    def run(recipe: Recipe, folder: Path, progress: stage.Progress = stage.silent) -> Path:
        folder.mkdir(exist_ok=True)
        for room in (documents, tokenizer, shards):
            room.prepare(recipe, folder, progress)
        return folder

    return run


@pytest.fixture
def content_of() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, with its bytes."""
    return lambda folder: {name: (folder / name).read_bytes() for name in files.walk(folder)}


@pytest.fixture
def two_sources(corpus, recipe_of):
    """Two sources with several parts each, under small_parts."""
    return recipe_of(
        {"name": "a", "path": str(corpus / "a")}, {"name": "rest", "path": str(corpus), "weight": 2}
    )


@pytest.fixture
def run(tmp_path, two_sources, prepare, small_parts):
    return prepare(two_sources, tmp_path / "run")


@pytest.fixture
def streams_of() -> Callable[
    [Path], dict[tuple[str, str], tuple[list[int], list[tuple[int, int]]]]
]:
    """Per source and split of a run the token ids, and (document, first
    position), by the plainest way."""

    def read(run: Path) -> dict[tuple[str, str], tuple[list[int], list[tuple[int, int]]]]:
        out: dict = {}
        found = documents.Documents.open(run)
        for index in range(found.count):
            row = found.get(index)
            ids, begins = out.setdefault((row["source"], row["split"]), ([], []))
            begins.append((index, len(ids)))
            ids += [0, *(byte + 1 for byte in row["text"].encode())]
        return out

    return read
