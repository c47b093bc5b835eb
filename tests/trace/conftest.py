"""A run over two epochs, its sources weighted, with texts of many bytes a character; and
its texts for a plain scan."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from pellucid.data.documents import Documents
from pellucid.new import new
from pellucid.trace.where import Traced
from tests.conftest import SETTINGS, finish, prose, write_corpus


class Scanned(NamedTuple):
    """The documents of a split in order, for finding texts by reading all of them."""

    ids: list[str]
    texts: list[str]

    @classmethod
    def of(cls, folder: Path, split: str = "train") -> Scanned:
        rows = [
            row
            for batch in Documents.open(folder).rows(["id", "text"], split)
            for row in batch.to_pylist()
        ]
        return cls([row["id"] for row in rows], [row["text"] for row in rows])

    def find(self, query: bytes) -> list[tuple[str, int]]:
        """Every (document, character) at which the bytes occur; of bytes
        inside a character, that one."""
        found = []
        for name, text in zip(self.ids, self.texts, strict=True):
            content = text.encode()
            at = content.find(query)
            while at >= 0:
                begun = sum(1 for byte in content[: at + 1] if byte & 0xC0 != 0x80)
                found.append((name, begun - 1))
                at = content.find(query, at + 1)
        return found


def places(answer: dict) -> list[tuple[str, int]]:
    return [(hit["document"], hit["offset"]) for hit in answer["hits"]]


def write_second(folder: Path) -> Path:
    """Texts of another script, and of runs that overlap themselves."""
    folder.mkdir()
    for number in range(20):
        text = (
            "東京の水は澄んでいる。" * (1 + number % 3)
            + prose(100 + number, 30)
            + "aaaa aaaa\n\n\t aaaa"
            + "é🌊" * number
        )
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("sources")
    return [write_corpus(place / "stones"), write_second(place / "water")]


def make(folder: Path, sources: list[Path], settings: list[str]) -> Path:
    new(folder, list(map(str, sources)), "1M", [*SETTINGS, *settings])
    return folder


def lossy(sources: list[Path], place: Path) -> list[str]:
    """The settings of a run with a tokenizer that does not give its text back."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    model = models.WordPiece(unk_token="[UNK]")  # type: ignore[call-arg]  # noqa: S106
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    texts = [
        path.read_text(encoding="utf-8") for folder in sources for path in sorted(folder.iterdir())
    ]
    made.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[SEP]"])
    )
    made.save(str(place / "tokenizer.json"))
    return ["tokenizer.kind=file", f"tokenizer.path={place / 'tokenizer.json'}"]


@pytest.fixture(scope="session")
def twice(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for more than two epochs; the second source stands twice in each. Only to be read."""
    settings = [
        "data.sources.water.weight=2",
        "train.steps=110",
        "tokenizer.vocabulary=500",
        "checkpoints.every=110",
    ]
    return finish(make(tmp_path_factory.mktemp("runs") / "twice", sources, settings))


@pytest.fixture(scope="session")
def scanned(twice: Path) -> Scanned:
    return Scanned.of(twice)


@pytest.fixture(scope="session")
def traced(twice: Path) -> Traced:
    return Traced(twice)


@pytest.fixture
def indexed(twice: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may damage."""
    return Path(shutil.copytree(twice, tmp_path / "indexed"))
