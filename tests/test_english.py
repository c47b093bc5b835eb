"""How the pages read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import english
from tests.test_imports import ROOMS

ROOT = Path(__file__).parents[1]
MAX_SHARE, MAX_WORDS = 2.4, 17.0  # Percent of sentences that open weakly; mean words of a sentence.


@pytest.mark.parametrize("page", english.pages(), ids=lambda page: page.name)
def test_a_page_reads_plainly(page: Path) -> None:
    reading = english.read(page.read_text("utf-8"))
    assert reading.sentences >= 10
    assert reading.share <= MAX_SHARE and reading.length < MAX_WORDS, reading


def test_what_reads_badly_is_noticed() -> None:
    reading = english.read(
        "It is said here. What is found, one may keep.\n\nA reader opens a file."
    )
    assert (reading.sentences, reading.weak) == (3, 2) and reading.length == 5


def test_contributing_lists_the_rooms_in_order() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    listed = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", text, re.MULTILINE)
    assert listed == ROOMS
