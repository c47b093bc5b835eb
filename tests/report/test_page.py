"""The page of a report: nothing foreign runs or breaks it, and it can be read by everybody."""

from __future__ import annotations

import contextlib
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from pellucid.report.blocks import MOST_ROWS, Report, Section, Table, Words, say
from pellucid.report.markdown import markdown
from pellucid.report.page import page
from pellucid.report.write import report
from tests.report.conftest import Family
from tests.site.conftest import HOSTILE, Watched
from tests.site.test_hostile_pages import ATTACKS

ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "nav", "ul"),
    *("li", "a", "main", "section", "div", "table", "caption", "thead", "tbody", "tr", "th"),
    *("td", "figure", "svg", "rect", "text", "path", "circle", "code", "dl", "dt", "dd"),
}


class Elements(HTMLParser):
    """Every element of a page, and every attribute."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.names, self.attributes = set[str](), set[str]()
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}


def shown(text: str) -> Report:
    """A report whose every foreign place has this text."""
    table = Table(text, (text, Words("what")), [(text, text)])
    return Report(text, say(text), [Section(text, [table, say(Words("so"), text)])])


@pytest.mark.parametrize("text", ATTACKS)
def test_foreign_text_is_text(text: str) -> None:
    made = Elements(page(shown(text)))
    assert made.names <= ELEMENTS
    assert not any(name.startswith("on") for name in made.attributes)
    rendered = (
        MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown(shown(text)))
    )
    safe = {*("h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "strong")}
    assert Elements(rendered).names <= safe


def test_words_of_the_report_have_code() -> None:
    made = Report("a", say(Words("Run `a < b` now.")), [])
    assert "Run <code>a &lt; b</code> now." in page(made)
    assert "Run `a < b` now." in markdown(made)


def test_a_long_table_is_cut_and_says_so() -> None:
    rows = [(str(number),) for number in range(MOST_ROWS + 7)]
    made = Report("a", say(), [Section(Words("b"), [Table(Words("c"), (Words("n"),), rows)])])
    for content in (page(made), markdown(made)):
        assert "7 more rows" in content and str(MOST_ROWS + 3) not in content


def test_the_policy_allows_the_style_of_the_page_alone(family: Family, tmp_path: Path) -> None:
    target, _ = report([str(family.parent)], tmp_path / "out")
    content = html.unescape((target / "report.html").read_text())
    assert content.count("<style>") == 1 and "<script" not in content
    assert "default-src 'none'" in content and "style-src 'sha256-" in content
    assert not re.search(r"\b(src|href)=\"(?!#)", content), "one file, which loads nothing"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_everybody_can_read_it(
    browser: Any, hostile: Path, family: Family, tmp_path: Path, scheme: str, width: int
) -> None:
    """A hostile run, and three runs side by side: on a telephone and a screen, light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    report([str(hostile)], tmp_path / "hostile")
    report([str(family.parent), *map(str, family.forks)], tmp_path / "beside")
    size = {"width": width, "height": 800}
    for name in ("hostile", "beside"):
        own = browser.new_context(viewport=size, color_scheme=scheme)
        with contextlib.closing(own):
            at = Watched(own.new_page(), f"file://{tmp_path}")
            at.page.goto(f"file://{tmp_path}/{name}/report.html")
            assert at.page.title() != "hacked" and at.wrong == []
            assert at.page.evaluate("document.documentElement.scrollWidth") <= width
            paper = at.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
            assert (paper == "rgb(255, 255, 255)") == (scheme == "light"), "the style is allowed"
        if width > 390:
            continue
        own = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
        with contextlib.closing(own):
            opened = own.new_page()
            opened.goto(f"file://{tmp_path}/{name}/report.html")
            found = Axe().run(opened).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_a_picture_by_itself_is_drawn(browser: Any, family: Family, tmp_path: Path) -> None:
    target, _ = report([str(family.parent)], tmp_path / "out")
    own = browser.new_context(viewport={"width": 400, "height": 300}, color_scheme="dark")
    with contextlib.closing(own):
        at = Watched(own.new_page(), f"file://{tmp_path}")
        at.page.goto(f"file://{target}/pictures/validation.svg")
        fill = "getComputedStyle(document.querySelector('.paper')).fill"
        assert at.page.evaluate(fill) == "rgb(18, 22, 27)" and at.wrong == []


def test_hostile_texts_stand_in_the_report(hostile: Path, tmp_path: Path) -> None:
    target, _ = report([str(hostile)], tmp_path / "out")
    content = (target / "report.html").read_text()
    assert "&lt;script&gt;document.title=" in content, "the licence is shown"
    assert len(HOSTILE) == 8
