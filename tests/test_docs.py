"""The commands and links that the documents show are ones that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from pellucid import demo
from pellucid.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands_in(text: str) -> list[list[str]]:
    """The words of every line that calls pellucid, without prompt and comment."""
    lines = re.findall(r"^\s*(?:\$ )?(?:\S*/)?pellucid ([a-z].*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def check(words: list[str]) -> None:
    """Raises what click raises for a command that cannot be called so."""
    COMMANDS[words[0]].make_context(words[0], words[1:], resilient_parsing=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_shown_can_be_called(page: Path) -> None:
    for words in commands_in(page.read_text(encoding="utf-8")):
        check(words)


def test_the_readme_of_a_release_shows_commands_that_can_be_called(finished: Path) -> None:
    found = commands_in((finished / "README.md").read_text(encoding="utf-8"))
    assert {words[0] for words in found} >= {"verify", "audit", "show", "export"}
    for words in found:
        check(words)


def test_the_readme_shows_every_verb() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [verb for verb in COMMANDS if f"`{verb}`" not in text] == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(KeyError):
        check(["unheard", "x"])
    with pytest.raises(Exception, match="No such option"):
        check(["verify", "--fast"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_states_the_head_that_the_demo_compares_with() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count(demo.HEAD) >= 1


def test_every_test_that_the_threats_name_is_there() -> None:
    text = (ROOT / "docs/threats.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))
    assert len(named) > 10 and text.count("::") == len(re.findall(r"`tests/[\w/]+\.py::\w+`", text))
    missing = [(path, name) for path, name in named if f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")]
    assert missing == []


def test_every_forgery_that_the_threats_quote_is_in_the_table() -> None:
    from tests.forgery.table import FORGERIES

    quoted = re.findall(r'"([^"]+)"', (ROOT / "docs/threats.md").read_text(encoding="utf-8"))
    assert quoted and set(quoted) <= {one.name for one in FORGERIES}
