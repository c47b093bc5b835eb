"""How wide the sources are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 100


def too_wide(path: Path) -> list[int]:
    """Lines over 100 characters, but for tables, addresses and the output of programs."""
    lines = path.read_text("utf-8").splitlines()
    inside, wide = False, []
    for number, line in enumerate(lines, 1):
        if path.suffix == ".md" and re.match(r" *```", line):
            inside = not inside
        allowed = path.suffix == ".md" and (inside or line.startswith("|"))
        whole = " " not in line.strip(" -*(")  # A name that cannot be broken.
        if len(line) > WIDTH and not allowed and not whole and "://" not in line:
            wide.append(number)
    return wide


def sources() -> list[Path]:
    """Markdown, Python, C, scripts and styles of this project, and the Makefile."""
    folders = ("pellucid", "tests", "bench", "fuzz", "docs")
    kinds = ("*.md", "*.py", "*.c", "*.h", "*.js", "*.css")
    inside = [path for folder in folders for kind in kinds for path in (ROOT / folder).rglob(kind)]
    return sorted([*inside, *ROOT.glob("*.md"), ROOT / "setup.py", ROOT / "Makefile"])


def test_no_line_is_over_100_characters() -> None:
    wide = {str(path.relative_to(ROOT)): lines for path in sources() if (lines := too_wide(path))}
    assert len(sources()) > 300
    assert wide == {}


def test_a_wide_line_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{'a ' * 51}\n| {'b ' * 51} |\n```\n{'c ' * 51}\n```\n{'d ' * 51}\n", "utf-8")
    assert too_wide(page) == [1, 6]
