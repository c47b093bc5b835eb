"""Hostile Markdown in pages: no element but the listed ones, and a browser that runs nothing."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pellucid.errors import PageInvalid
from pellucid.release.publish import publish
from pellucid.site.markdown import render
from tests.site.conftest import HOSTILE, passes_axe, watched
from tests.site.test_pages import GIF, add, page

CROSS = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
ATTACKS = [
    *HOSTILE,
    CROSS,
    "[x](javascript:alert(1)) <javascript:alert(1)> [x](data:text/html,<script>alert(1)</script>)",
    "![x](javascript:alert(1)) ![x](data:image/svg+xml;base64,AAAA) [x](vbscript:a) [x](file:///x)",
    "[x][r]\n\n[r]: javascript:alert(1)",
    "[x](JaVaScRiPt&#58;alert(1)) [x](&#106;avascript:alert(1)) [x](&#9;javascript:a)",
    '[x](https://example.org/ "\' onmouseover=\'alert(1)\' \\" onfocus=alert(1) x=\\"")',
    '[x](https://example.org/"onclick="alert(1)) <https://example.org/"onclick="alert(1)>',
    '![" onerror="alert(1)](dot.gif "\\"><script>alert(1)</script>")',
    '```"><script>alert(1)</script>\n</code></pre><script>alert(1)</script>\n```',
    "| <b>a</b> |  |\n|--:|---|\n| <script>alert(1)</script> | x |",
    "| a |\n|---|",
    "[](https://example.org) [ ](https://example.org)",
    "# \n\n#### Deep\n\n# main\n\n# main\n\n## <script>\n\n# [](https://example.org)\n\n#",
    "*" * 300 + "a" + "_" * 300 + "[" * 300 + "x" + "](https://example.org)" * 300,
    "<!-- <script> -->\n\n<div onclick=alert(1)>\n\n</article></main></body></html>",
    "&lt;script&gt; &#60;script&#62; <style>*{display:none}</style> <base href=https://x/>",
    "$root ${title} $moved {title} %s",
    "0. a\n1. b\n\n999999999) c",
    "a" * 3000 + "\n\n`" + "b" * 3000 + "`",
]


class _Elements(HTMLParser):
    """Every element of a page, with the names of its attributes."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.seen = set[tuple[str, str]]()
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {(tag, name) for name, _ in [("", ""), *attrs]}

    def handle_comment(self, data: str) -> None:
        self.seen.add(("!--", ""))


PLAIN = (
    "p h2 h3 h4 h5 h6 blockquote ul ol li hr br pre code em strong s a img div table thead tbody"
)
WRITTEN = {(tag, "") for tag in f"h1 tr th td {PLAIN}".split()} | {
    ("a", "href"), ("a", "title"), ("img", "src"), ("img", "alt"), ("img", "title"),
    ("pre", "tabindex"), ("ol", "start"), ("th", "scope"), ("th", "class"), ("td", "class"),
    ("div", "class"), ("div", "tabindex"), ("div", "role"), ("div", "aria-label"),
    ("h1", "hidden"), *((f"h{level}", name) for level in range(2, 7) for name in ("id", "hidden")),
}  # fmt: skip
MARKS = ["<", ">", '"', "'", "&", "&#", ";", "[", "](", ")", "![", "`", "```\n", "|", "\n|-|-:|\n",
         "\n", "\n\n", "# ", "- ", "1. ", "> ", "*", "**", "~~", "\\", "<script>", "</a>", "<!--",
         "javascript:", "https://e.org/", "data:", "onclick=", " ", "x",
         "]: ", "&lt;", "="]  # fmt: skip


def html_of(text: str) -> str:
    return render(text, lambda url: "link", lambda url: "picture", Path("a.md"))


@given(st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=3)), max_size=40).map("".join))
@example("[]()")
@example("- - -\n  a\n***")
def test_a_page_holds_the_listed_elements_and_no_other(text: str) -> None:
    try:
        html = html_of(text)
    except PageInvalid:
        return
    assert _Elements(html).seen <= WRITTEN


def test_every_heading_has_an_id_of_its_own() -> None:
    """Also where many have one text, or one that is cut to what the others have."""
    text = f"# a\n\n# a-2\n\n# {'x' * 64}\n\n# {'x' * 64}\n\n# {'x' * 70}\n" + "# a\n" * 3000
    ids = re.findall(r' id="([^"]*)"', html_of(text))
    assert ids[:2] == ["a", "a-2"] and ids[4:7] == [f"{'x' * 64}-3", "a-3", "a-4"]
    assert len(ids) == len(set(ids)) == 3005


@pytest.mark.parametrize("target", ["https://{}", 'x "{}"'])
def test_a_long_address_that_is_named_often_is_refused(target: str) -> None:
    """Else 35 KB of Markdown are 50 MB of HTML."""
    text = f"[a]: {target.format('x' * 20_000)}\n\n"
    assert len(html_of(text + "[a] " * 90)) > 1_800_000
    with pytest.raises(PageInvalid, match="becomes more than 2,097,152 characters of HTML"):
        html_of(text + "[a]" * 5000)


@pytest.fixture(scope="module")
def hostile_pages(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacks") / "release"
    shutil.copytree(finished, folder)
    add(folder, "dot.gif", GIF)
    text = "\n\n".join(attack for attack in ATTACKS if "\x1b" not in attack)
    add(folder, "a.md", page(f"'{CROSS.replace(chr(39), chr(39) * 2)}'", text, redirect_from="/b/"))
    add(folder, "c.md", page("C", excerpt=f"'{CROSS.replace(chr(39), chr(39) * 2)}'"))
    publish(folder)
    return folder


@pytest.mark.parametrize("name", ["pages/a.html", "pages/index.html", "index.html", "pages/b.html"])
def test_hostile_markdown_runs_nothing(
    browser: Any, hostile_pages: Path, way: str, name: str
) -> None:
    with watched(browser, hostile_pages, way) as at:
        shown = at.open(name)
        if name == "pages/b.html":
            shown.wait_for_url("**/pages/a.html")
        assert not shown.title().startswith("hacked")
        tags = "script, style, base, iframe, main b, main div:not(.wide)"
        if name.startswith("pages"):
            assert shown.locator(tags).count() == 0
        assert (
            shown.locator("img[src=x], [onclick], [onerror], [onmouseover], [onfocus]").count() == 0
        )
        addresses = shown.eval_on_selector_all("main a", "all => all.map(one => one.protocol)")
        assert set(addresses) <= {"http:", "https:", "file:"}
        assert shown.locator("main > article, main > section").count() >= 1
        assert at.wrong == []


@pytest.mark.parametrize("name", ["pages/a.html", "pages/index.html", "index.html"])
def test_every_page_passes_axe_on_a_phone(browser: Any, hostile_pages: Path, name: str) -> None:
    passes_axe(browser, hostile_pages, name)
