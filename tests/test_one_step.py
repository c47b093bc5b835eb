"""docs/one-step.md is a script, and the values that it shows are those that the script prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/one-step.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BETWEEN = "--- the next block ---"  # Printed behind each block of code.


def blocks_of(page: str) -> tuple[list[str], list[str]]:
    """The blocks of code, and what the page shows behind each; refused where one shows nothing."""
    found = BLOCK.findall(page)
    assert [kind for kind, _ in found] == ["python", "text"] * (len(found) // 2)
    return [text for _, text in found[::2]], [text for _, text in found[1::2]]


def printed(code: list[str], folder: Path) -> list[str]:
    """What each block prints, all of them run in turn as one script."""
    script = folder / "one_step.py"
    script.write_text("".join(f"{block}print({BETWEEN!r})\n" for block in code), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(f"{BETWEEN}\n")[:-1]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    code, _ = blocks_of(PAGE.read_text(encoding="utf-8"))
    return printed(code, tmp_path_factory.mktemp("one-step"))


def test_the_page_shows_what_its_script_prints(output: list[str]) -> None:
    _, shown = blocks_of(PAGE.read_text(encoding="utf-8"))
    assert output == shown


def test_the_recorder_writes_the_same_entry(output: list[str]) -> None:
    assert output[-1].startswith("equal: True\n")


def test_the_script_is_short() -> None:
    code, _ = blocks_of(PAGE.read_text(encoding="utf-8"))
    assert len(code) >= 10 and sum(block.count("\n") for block in code) <= 150


def test_a_block_that_shows_nothing_is_refused() -> None:
    with pytest.raises(AssertionError):
        blocks_of("```python\nprint(1)\n```\n\n```python\nprint(2)\n```\n")
