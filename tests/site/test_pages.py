"""Pages of whoever made the run: what they become, what is refused, and what they cannot do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import PageInvalid
from pellucid.release import manifest
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.site import pages
from pellucid.site.check import check, check_pages
from pellucid.site.data import Site
from pellucid.store import files, layout
from pellucid.store.ledger import LedgerFile
from tests.conftest import pellucid
from tests.site.conftest import watched
from tests.site.viewing import browsing

# A picture of one dot.
GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,"
    b"\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
ABOUT = """---
title: About "us" & <them>
permalink: /about/
redirect_from:
  - /team.html
  - /old/team/
excerpt: Who made this run.
author_profile: true
---
# Why

Some *words*, **more**, ~~fewer~~ and `code`, with a [page](projects/first.md#goal), the
[recipe](../recipe.toml), a [step](../site/step.html#3) and <https://example.org/?a=1&b=2>.

### Goal

![One dot](pictures/dot.gif "A dot")

| name | bytes |
|------|------:|
| a    |     1 |

3. three
4. four

```python
print("<b>")
```
"""
PAGE = """<article class="page" dir="auto">
<h1>About &quot;us&quot; &amp; &lt;them&gt;</h1>
<p class="quiet"><a href="../pages/index.html"><bdi>The makers</bdi></a></p>
<h2 id="why">Why</h2>
<p>Some <em>words</em>, <strong>more</strong>, <s>fewer</s> and <code>code</code>, with a \
<a href="../pages/projects/first.html#goal">page</a>, the
<a href="../../recipe.toml">recipe</a>, a <a href="../step.html#3">step</a> and \
<a href="https://example.org/?a=1&amp;b=2">https://example.org/?a=1&amp;b=2</a>.</p>
<h3 id="goal">Goal</h3>
<p><img src="../../pages/pictures/dot.gif" alt="One dot" title="A dot"></p>
<div class="wide" tabindex="0" role="region" aria-label="Table 1"><table>
<thead><tr><th scope="col">name</th>
<th scope="col" class="number">bytes</th>
</tr>
</thead>
<tbody><tr><td>a</td>
<td class="number">1</td>
</tr>
</tbody>
</table></div>
<ol start="3"><li>three</li>
<li>four</li>
</ol>
<pre tabindex="0"><code>print(&quot;&lt;b&gt;&quot;)
</code></pre>
</article>"""


def page(title: str = "A page", text: str = "Text.", **fields: str) -> str:
    lines = [f"title: {title}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\n".join(["---", *lines, "---", text, ""])


def add(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / "pages" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def with_pages(folder: Path) -> Path:
    add(folder, "pictures/dot.gif", GIF)
    add(folder, "we.md", ABOUT)
    add(folder, "home.md", page("The makers", "See [us](we.md).", permalink="/"))
    add(folder, "projects/first.md", page("First", "Up: ![dot](../pictures/dot.gif)"))
    return folder


@pytest.fixture
def draft(release: Path) -> Path:
    """A run with pages that is not sealed."""
    (release / layout.MANIFEST).unlink()
    return with_pages(release)


@pytest.fixture(scope="module")
def published(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with pages. Only to be read."""
    folder = tmp_path_factory.mktemp("paged") / "release"
    shutil.copytree(finished, folder)
    publish(with_pages(folder))
    return folder


@pytest.fixture
def paged(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "paged"))


def refused(folder: Path) -> PageInvalid:
    with pytest.raises(PageInvalid) as raised:
        list(pages.rendered(folder))
    return raised.value


def test_a_page_is_rendered_to_these_bytes(published: Path) -> None:
    """Another result for the same page is a new PAGES_VERSION."""
    text = (published / "site/pages/about.html").read_text(encoding="utf-8")
    assert text[text.index("<article") : text.index("\n</main>")] == PAGE
    head = text[: text.index("</head>")]
    assert pages.PAGES_VERSION == 1 and 'content="Pellucid, pages 1"' in head
    assert "<title>About &quot;us&quot; &amp; &lt;them&gt; · small</title>" in head
    assert "default-src 'none'; style-src 'self'; img-src 'self' data:" in head
    assert "<script" not in text and "script-src" not in text and '<html lang="en">' in text
    assert '<a class="run" href="../index.html"><bdi>small</bdi></a>' in text


def test_the_release_has_the_pages_their_sources_and_the_old_addresses(published: Path) -> None:
    assert set(files.walk(published / "site/pages")) == {
        *("about.html", "index.html", "team.html", "old/team.html", "projects/first.html"),
    }
    report = verify(published, lambda name: None)
    assert report.ok and "pages" in report.checked
    assert "pages/pictures/dot.gif" in (published / layout.MANIFEST).read_text()
    old = (published / "site/pages/old/team.html").read_text(encoding="utf-8")
    assert '<meta http-equiv="refresh" content="0; url=../../pages/about.html">' in old
    assert Site(published).overview["pages"] == [
        {"name": "index", "title": "The makers", "excerpt": ""},
        {"name": "about", "title": 'About "us" & <them>', "excerpt": "Who made this run."},
        {"name": "projects/first", "title": "First", "excerpt": ""},
    ]


def test_an_index_is_made_where_nobody_wrote_one(release: Path) -> None:
    add(release, "b.md", page("B", excerpt="Of b."))
    made = dict(pages.rendered(release))
    assert made.keys() == {"b.html", "index.html"}
    item = b'<li><a href="../pages/b.html"><bdi>B</bdi></a>. <bdi>Of b.</bdi></li>'
    assert item in made["index.html"]


def test_edited_added_and_missing_pages_are_named(paged: Path) -> None:
    site = paged / "site/pages"
    (site / "about.html").write_bytes((site / "about.html").read_bytes() + b"<!-- -->")
    (site / "projects/first.html").write_bytes(b"x" * (site / "projects/first.html").stat().st_size)
    (site / "new.html").write_text("<script>alert(1)</script>")
    (site / "team.html").unlink()
    assert {(one.error, one.where) for one in check_pages(paged)} == {
        ("FileDiffers", "site/pages/about.html"),
        ("FileDiffers", "site/pages/projects/first.html"),
        ("FileAdded", "site/pages/new.html"),
        ("FileMissing", "site/pages/team.html"),
    }
    assert list(check(paged)) == []


def test_verify_names_a_page_that_its_maker_edited_and_sealed(paged: Path) -> None:
    path = paged / "site/pages/about.html"
    path.write_bytes(path.read_bytes().replace(b"</main>", b'</main><script src="x"></script>'))
    manifest.write(paged, "small", LedgerFile(paged).head)
    done = pellucid("verify", paged, check=5)
    assert "site/pages/about.html" in done.stdout + done.stderr


def test_pages_are_checked_in_a_release_without_a_site(paged: Path) -> None:
    (paged / layout.MANIFEST).unlink()
    publish(paged, site=False)
    assert verify(paged, lambda name: None).ok
    add(paged, "we.md", page(permalink="/../x/"))
    manifest.write(paged, "small", LedgerFile(paged).head)
    named = [(one.error, one.where) for one in verify(paged, lambda name: None).problems]
    assert named == [("PageInvalid", "pages/we.md")]


# Front matter, and words of the error.
FRONTS = [
    ("Text.", "does not begin with front matter"),
    ("---\ntitle: A\nText.", "does not begin with front matter"),
    ("\n---\ntitle: A\n---\n", "does not begin with front matter"),
    ("---\n---\n", "has no fields"),
    ("---\n- title\n---\n", "has no fields"),
    ("---\nexcerpt: A\n---\n", "has no title"),
    ("---\ntitle: A\nlayout: x\n---\n", "unknown key 'layout'"),
    ("---\ntitle: A\n? [a]\n: b\n---\n", "unknown key"),
    ("---\ntitle: A\ntitle: B\n---\n", "the key title stands twice"),
    ("---\ntitle: 7\n---\n", "title is a number, not a text"),
    ("---\ntitle: yes\n---\n", "title is a truth value, not a text"),
    ("---\ntitle: 2026-01-01\n---\n", "title is a date, not a text"),
    ("---\ntitle:\n---\n", "title is empty, not a text"),
    ('---\ntitle: " "\n---\n', "title has 0 characters"),
    (f"---\ntitle: {'a' * 201}\n---\n", "title has 201 characters"),
    ("---\ntitle: [A]\n---\n", "title is a list"),
    ("---\ntitle: {a: b}\n---\n", "title is a mapping"),
    ("---\ntitle: A\nexcerpt: {a: [b]}\n---\n", "nests lists or mappings"),
    ("---\ntitle: &a A\nexcerpt: *a\n---\n", "uses an anchor or an alias"),
    ("---\ntitle: *a\n---\n", "uses an anchor or an alias"),
    ("---\ntitle: !!python/object/apply:os.system [ls]\n---\n", "uses the tag"),
    ("---\ntitle: !x A\n---\n", "uses the tag '!x'"),
    ("---\ntitle: [A\n---\n", "line 2: "),
    ("---\ntitle: A: B\n---\n", "line 2: "),
    ("---\ntitle: A\nauthor_profile: 'true'\n---\n", "author_profile is neither true nor false"),
    ("---\ntitle: A\nauthor_profile: [true]\n---\n", "author_profile is neither true nor false"),
    ("---\ntitle: A\nredirect_from: {a: b}\n---\n", "redirect_from is a mapping"),
    ("---\ntitle: A\nredirect_from: [[a]]\n---\n", "nests lists"),
    (f"---\ntitle: A\nredirect_from: {[f'/a{n}/' for n in range(33)]}\n---\n", "more than 32"),
    (f"---\ntitle: A\n#{'a' * 4096}\n---\n", "more than 4,096 bytes"),
    (f"---\ntitle: {'[' * 4000}\n---\n", "nests lists or mappings"),
    ("---\ntitle: A\n---\n\x1b[31m", "control character U+001B in line 4"),
]


@pytest.mark.parametrize(("text", "words"), FRONTS)
def test_other_front_matter_is_refused_by_what_is_wrong(
    release: Path, text: str, words: str
) -> None:
    add(release, "a.md", text)
    error = refused(release)
    assert words in str(error) and error.fields["path"] == release / "pages/a.md"


@pytest.mark.parametrize(
    "address",
    ["/../a/", "../a", "//a/", "/a/b/c/", "/A/", "https://x/", "/a.b/", "/a//b/", "/-a/", "/ä/",
     "/%2e%2e/a/", "a\\b", "/.a/", "/a/..", ".", f"/{'a' * 65}/"],
)  # fmt: skip
@pytest.mark.parametrize("field", ["permalink", "redirect_from"])
def test_no_address_leaves_the_folder(release: Path, field: str, address: str) -> None:
    add(release, "a.md", page(**{field: f"'{address}'"}))
    assert f"{field} {address[:80]!r} is no address" in str(refused(release))


@pytest.mark.parametrize(
    "others",
    [
        {"b.md": page(permalink="/a/")},
        {"b.md": page(redirect_from="/a/")},
        {"b.md": page(redirect_from="/b.html")},
        {"b.md": page(redirect_from="/c/"), "d.md": page(redirect_from="/c.html")},
        {"b.md": page(redirect_from="/")},
        {"b.md": page(permalink="/c/", redirect_from="/d/"), "d.md": page()},
        {"b.md": page(permalink="/"), "index.md": page()},
    ],
)
def test_no_address_belongs_to_two(release: Path, others: dict[str, str]) -> None:
    add(release, "a.md", page())
    for name, text in others.items():
        add(release, name, text)
    assert "has the address" in str(refused(release))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("About.md", page(), "has another name or type"),
        ("a.markdown", page(), "has another name or type"),
        ("a.svg", b"<svg/>", "has another name or type"),
        ("a.html", b"", "has another name or type"),
        ("a.md.png", b"", "has another name or type"),
        ("é.md", page(), "has another name or type"),
        ("A/a.md", page(), "has another name or type"),
        ("a/b/c.md", page(), "is no file"),
        ("a.png", GIF, "is no png picture"),
        ("a.jpg", b"", "is no jpg picture"),
        ("a.webp", b"RIFF0000WAVE", "is no webp picture"),
        ("a.gif", GIF + bytes(8 << 20), "has more than 8,388,608 bytes"),
        ("a.md", page() + "a" * (256 << 10), "has more than 262,144 bytes"),
        ("a.md", page().encode("utf-16"), "is not UTF-8"),
    ],
)
def test_another_file_is_refused_by_its_name(
    release: Path, name: str, content: str | bytes, words: str
) -> None:
    add(release, name, content)
    assert words in str(refused(release))


def test_the_number_and_the_size_of_all_pages_are_bounded(release: Path) -> None:
    for number in range(5):
        add(release, f"a{number}.md", page(text="a" * (240 << 10)))
    assert "above 1,048,576 bytes" in str(refused(release))
    for number in range(257):
        add(release, f"a{number}.md", page())
    assert "more than 256 files" in str(refused(release))


def test_a_link_is_no_page_and_a_hidden_file_is_left_out(draft: Path, tmp_path: Path) -> None:
    add(draft, ".draft.md", "secret")
    assert publish(draft)["left_out"] == ["pages/.draft.md"]
    (tmp_path / "secret.md").write_text(page())
    (draft / "pages/linked.md").symlink_to(tmp_path / "secret.md")
    assert "pages/linked.md: is no file" in str(refused(draft))


@pytest.mark.parametrize(
    "text",
    ["[x](none.md)", "[x](../../x)", "[x](/about/)", "[x](//host/x)", "[x](../record/)", "[x](..)",
     "[x](../data/other.txt)", "[x](../site/pages/none.html)", "[x](pictures/none.png)",
     "[x](?a=b)", "[x](java%0ascript:alert(1))",
     "[x](\\\\host\\x)"],
)  # fmt: skip
def test_a_link_leads_to_a_file_of_the_release(release: Path, text: str) -> None:
    add(release, "a.md", page(text=text))
    assert "has a link to" in str(refused(release))


@pytest.mark.parametrize(
    "address",
    ["https://example.org/x.png", "none.png", "../model.safetensors", "/pages/dot.gif", "a.md",
     "../../x.png", "http:x.png", "//host/x.png"],
)  # fmt: skip
def test_a_picture_is_one_of_the_pages(release: Path, address: str) -> None:
    add(release, "dot.gif", GIF)
    add(release, "a.md", page(text=f"![x]({address})"))
    if address.startswith("http:x"):  # An address of no kind that links have: it stays text.
        assert b"<img" not in dict(pages.rendered(release))["a.html"]
    else:
        assert "which is not in pages/" in str(refused(release))


def test_a_picture_has_a_description(release: Path) -> None:
    add(release, "dot.gif", GIF)
    add(release, "a.md", page(text="![ ](dot.gif)"))
    assert "has no description" in str(refused(release))


@pytest.mark.parametrize("mark", [">", "- ", "> - "])
def test_text_that_the_parser_would_drop_is_refused(release: Path, mark: str) -> None:
    add(release, "a.md", page(text=mark * 4 + "kept"))
    assert b"kept" in dict(pages.rendered(release))["a.html"]
    add(release, "a.md", page(text=mark * 500 + "dropped"))
    assert "nests lists and quotes too deeply" in str(refused(release))


def test_publish_refuses_a_page_before_it_writes_anything(draft: Path) -> None:
    add(draft, "we.md", page(text="[x](none.md)"))
    before = {path: (draft / path).read_bytes() for path in files.walk(draft)}
    done = pellucid("publish", draft, check=2)
    assert "PageInvalid" in done.stderr and "pages/we.md" in done.stderr
    assert {path: (draft / path).read_bytes() for path in files.walk(draft)} == before


def test_view_renders_pages_as_they_are_written(draft: Path) -> None:
    with browsing(draft) as browser:
        reply = browser.ask("/site/pages/about.html")
        assert reply.status == 200 and b"<h2 id=" in reply.body
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert browser.ask("/site/pages/team.html").status == 200
        picture = browser.ask("/pages/pictures/dot.gif")
        assert (picture.headers["Content-Type"], picture.body) == ("image/gif", GIF)
        for path in ("none", "../index", "a/b/c", "About"):
            assert browser.ask(f"/site/pages/{path}.html").status == 404
        add(draft, "we.md", page("Changed", permalink="/about/"))
        assert b"<h1>Changed</h1>" in browser.ask("/site/pages/about.html").body
        add(draft, "we.md", "no front matter")
        assert browser.ask("/site/pages/about.html").json["name"] == "PageInvalid"
        assert browser.ask("/site/data/overview.js").status == 200
    assert "pages/we.md" in Site(draft).overview["pages_invalid"]


def test_a_reader_goes_from_the_overview_to_a_page_and_back(
    browser: Any, published: Path, way: str
) -> None:
    with watched(browser, published, way) as at:
        shown = at.open("index.html")
        shown.get_by_role("link", name='About "us" & <them>').click()
        shown.wait_for_url("**/site/pages/about.html")
        picture = shown.locator("img")
        assert picture.evaluate("one => one.complete && one.naturalWidth") == 1
        shown.get_by_role("link", name="page", exact=True).click()
        shown.wait_for_url("**/site/pages/projects/first.html#goal")
        assert shown.locator("img").evaluate("one => one.naturalWidth") == 1
        shown.get_by_role("link", name="Pages").click()
        shown.get_by_role("link", name="Overview", exact=True).click()
        shown.wait_for_selector("svg.chart")
        at.open("pages/old/team.html")
        shown.wait_for_url("**/site/pages/about.html")
        assert at.wrong == []
