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
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_readme_states_the_head_that_the_demo_compares_with() -> None:
    assert (ROOT / "README.md").read_text(encoding="utf-8").count(demo.HEAD) >= 1


NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    """The log too: a test that is renamed is renamed there."""
    missing = [
        (path, name)
        for path, name in NAMED.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / path).is_file()
        or (name and f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert missing == []


def test_every_test_of_the_threats_is_named_in_full() -> None:
    text = (ROOT / "docs/threats.md").read_text(encoding="utf-8")
    assert text.count("::") == sum(bool(name) for _, name in NAMED.findall(text)) > 10


def test_every_forgery_that_the_threats_quote_is_in_the_table() -> None:
    from tests.forgery.table import FORGERIES

    words = (ROOT / "docs/threats.md").read_text(encoding="utf-8").split()
    quoted = re.findall(r'"([^"]+)"', " ".join(words))
    assert quoted and set(quoted) <= {one.name for one in FORGERIES}


def section(title: str) -> str:
    """What docs/format.md says under a heading, up to the next of its level."""
    text = (ROOT / "docs/format.md").read_text(encoding="utf-8")
    level, _, rest = text.partition(f" {title}\n")
    marks = level.rpartition("\n")[2]
    return re.split(rf"^{marks} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def fields_of(kind: type[Any], prefix: str = "") -> dict[str, tuple[Any, set[str]]]:
    """Every field of a recipe by its dotted key: its default, and its marks: P."""
    from pellucid.phases import Phase
    from pellucid.recipe import Source, sections_of

    found = {}
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        inner = {"sources": Source, "phase": Phase}.get(name, field.annotation)
        sections = sections_of(inner)
        for section in sections:
            own = fields_of(section, f"{prefix}{name}{'[]' if inner in (Source, Phase) else ''}.")
            found |= {
                key: (default, marks | _marks(extra)) for key, (default, marks) in own.items()
            }
        if not sections:
            found[prefix + name] = field.default, _marks(extra)
    return found


def _marks(extra: dict[str, Any]) -> set[str]:
    return {"P"} if extra.get("placement") else set()


def test_the_format_lists_every_field_of_a_recipe_and_no_other() -> None:
    from pellucid.recipe import Recipe

    listed = {}
    for row in re.findall(
        r"^\| (`.*?) \|(.*)\|(.*)\|(.*) \|$", section("4. The recipe"), re.MULTILINE
    ):
        first, *others = re.findall(r"`([^`]+)`", row[0])
        section_of = first.rpartition(".")[0]
        marks = {mark for word in re.split("[;:,]", row[3]) if (mark := word.strip()) == "P"}
        for name in (first, *others):
            listed[f"{section_of}{name}" if name.startswith(".") else name] = marks
    assert listed == {key: marks for key, (_, marks) in fields_of(Recipe).items()}


def test_the_format_names_every_file_of_a_release() -> None:
    from pellucid.store import layout

    text = section("14. The run folder")
    for rooms in layout.ROOMS.values():
        for room in rooms:
            assert room.folder.partition("/")[0] in text
            for name in room.names:
                constant = max(re.split(r"\{n\}|\{part\}|\{name\}", name), key=len)
                assert constant in text or constant.removeprefix(".") in text, (
                    f"{room.folder}/{name}"
                )


def test_the_format_names_every_field_of_an_entry_and_every_column() -> None:
    from pellucid.record import evaluations, notes, verdict
    from pellucid.store import metrics

    for kind, fields in verdict._FIELDS.items():
        text = section(kind) + section("12. The ledger").partition("### genesis")[0]
        missing = [
            name for name in re.findall(r"\w+", fields) if not re.search(rf"[`\"]{name}[`\"]", text)
        ]
        assert missing == [], kind
    text = section("13. The journal")
    for kind, names in notes.FIELDS.items():
        missing = [
            name for name in (kind, *names.split()) if not re.search(rf"[`\"]{name}[`\"]", text)
        ]
        assert missing == [], kind
    text = section("Evaluations")
    names = {*evaluations.GENESIS, *evaluations.FIELDS, *evaluations.EXAMPLE}
    assert [name for name in names if f"`{name}`" not in text] == []
    text = section("Metrics")
    for table, schema in metrics.TABLES.items():
        assert [name for name in (table, *schema.names) if f"`{name}`" not in text] == []


def test_the_format_names_the_checks_of_a_report_in_order(release: Path) -> None:
    from pellucid.release.publish import publish
    from pellucid.release.verify import verify
    from tests.release.evaluating import evaluate

    evaluate(release, [6])
    (release / "pages").mkdir()
    (release / "pages/about.md").write_text("---\ntitle: About\n---\n", encoding="utf-8")
    publish(release)
    text = section("15. What a verifier checks, in order")
    listed = text.partition("in this order: ")[2].partition(". ")[0]
    checks = re.findall(r"`(\w+)`\s\((\d+)(?:(?:,| to)\s(\d+))?\)", listed)
    assert [name for name, *_ in checks] == verify(release, lambda what: None).checked
    numbers = [
        number for _, first, last in checks for number in range(int(first), int(last or first) + 1)
    ]
    items = re.findall(r"^(\d+)[.] [*][*]", text, re.MULTILINE)
    assert numbers == [int(number) for number in items] == [*range(1, len(items) + 1)]


def test_the_format_names_every_problem_of_a_verifier() -> None:
    text = section("15. What a verifier checks, in order")
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "pellucid").rglob("*.py"))
    problems = set(re.findall(r"Problem\(\s*\"(\w+)\"", sources))
    assert len(problems) > 10
    assert [name for name in sorted(problems) if f"`{name}`" not in text] == []


def test_the_format_names_every_reason_for_which_a_text_is_left_out() -> None:
    from pellucid.data.reasons import REASONS

    text = section("5. Documents") + (ROOT / "docs/data.md").read_text(encoding="utf-8")
    assert [reason for reason in REASONS if f"`{reason}`" not in text] == []
