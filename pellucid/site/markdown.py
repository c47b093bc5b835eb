"""Markdown of others as HTML: CommonMark with tables and strikethrough.

Markup in the text is text. Every element and attribute of the result is written here, by a closed
list: none comes from the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from pellucid.errors import PageInvalid

HTML = 2 << 20  # Characters. A text can name one long address many times.
_NESTING = 20  # Levels of blocks; the parser drops without a word what lies deeper.
_SCHEME = re.compile("[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_OUTSIDE = re.compile("https?://|mailto:", re.IGNORECASE)
_TAGS = {
    "paragraph": "p",
    "blockquote": "blockquote",
    "bullet_list": "ul",
    "list_item": "li",
    "thead": "thead",
    "tbody": "tbody",
    "tr": "tr",
    "em": "em",
    "strong": "strong",
    "s": "s",
}

Address = Callable[[str], str]  # Of a relative link in the text, as the page has it.


class _Parser(MarkdownIt):
    def validateLink(self, url: str) -> bool:  # noqa: N802
        """A link of another kind stays text."""
        return leads_outside(url) or _SCHEME.match(url) is None


def leads_outside(url: str) -> bool:
    return _OUTSIDE.match(url) is not None


def render(text: str, link: Address, picture: Address, path: Path) -> str:
    """The HTML of a page below its title. Raises PageInvalid, and what link and picture raise."""
    parser = _Parser("commonmark", {"html": False, "maxNesting": _NESTING})
    tokens = parser.enable(["table", "strikethrough"]).parse(text)
    if any(token.nesting == 1 and token.level >= _NESTING - 1 for token in tokens):
        raise PageInvalid(
            path=path,
            detail="nests lists and quotes too deeply",
            fix="Write it with fewer levels",
        )
    parts, size = list[str](), 0
    for part in _Writer(link, picture, path).blocks(tokens):
        parts.append(part)
        size += len(part)
        if size > HTML:
            detail = f"becomes more than {HTML:,} characters of HTML"
            raise PageInvalid(path=path, detail=detail, fix="Make two pages of it")
    return "".join(parts)


class _Writer:
    """The HTML of one page."""

    def __init__(self, link: Address, picture: Address, path: Path) -> None:
        self._link, self._picture, self._path = link, picture, path
        self._heading = "h1"  # The last one: a level is never passed over.
        self._cell = "td"
        self._tables = 0
        self._ids = {"main": 1}  # Those of the page, each with how many it was the beginning of.

    def blocks(self, tokens: Sequence[Token]) -> Iterator[str]:
        for at, token in enumerate(tokens):
            kind, _, side = token.type.rpartition("_")
            if token.type == "inline":
                yield from self._inline(token.children or [])
            elif token.type in ("fence", "code_block"):
                yield f'<pre tabindex="0"><code>{escape(token.content)}</code></pre>\n'
            elif token.type == "hr":
                yield "<hr>\n"
            elif token.hidden:
                continue
            elif side == "open":
                yield self._opened(kind, token, _plain(tokens[at + 1].children or []))
            else:
                assert side == "close", token.type
                yield f"{self._closed(kind)}\n"

    def _opened(self, kind: str, token: Token, inner: str) -> str:
        """inner: the text of what follows, of a heading or a cell."""
        if kind == "heading":
            return self._headed(int(token.tag[1]), inner)
        if kind == "ordered_list":
            return f'<ol start="{int(token.attrGet("start") or 0)}">' if token.attrs else "<ol>"
        if kind == "table":
            self._tables += 1
            name = f"Table {self._tables}"
            return f'<div class="wide" tabindex="0" role="region" aria-label="{name}"><table>\n'
        if kind in ("th", "td"):
            right = token.attrGet("style") == "text-align:right"
            style = ' class="number"' if right else ""
            self._cell = kind if inner.strip() else "td"  # A header without a name heads nothing.
            scope = ' scope="col"' if self._cell == "th" else ""
            return f"<{self._cell}{scope}{style}>"
        return f"<{_TAGS[kind]}>"

    def _closed(self, kind: str) -> str:
        if kind == "table":
            return "</table></div>"
        own = {"heading": self._heading, "ordered_list": "ol"} | dict.fromkeys(
            ("th", "td"), self._cell
        )
        return f"</{own.get(kind) or _TAGS[kind]}>"

    def _headed(self, level: int, inner: str) -> str:
        """A heading, one level lower than in the text: the title is the first."""
        if not inner.strip():
            return f"<{self._heading} hidden>"
        self._heading = f"h{min(level + 1, int(self._heading[1]) + 1, 6)}"
        return f'<{self._heading} id="{self._id(inner)}">'

    def _id(self, inner: str) -> str:
        """The id of a heading: its words, with a number where the page has that id already."""
        name = re.sub("[^a-z0-9]+", "-", inner.lower()).strip("-")[:64] or "section"
        chosen, count = name, self._ids.get(name, 1)
        while chosen in self._ids:
            count += 1
            chosen = f"{name}-{count}"
        self._ids |= {chosen: 1, name: count}
        return chosen

    def _inline(self, tokens: Sequence[Token]) -> Iterator[str]:
        for at, token in enumerate(tokens):
            kind, _, side = token.type.rpartition("_")
            if token.type == "text":
                yield escape(token.content)
            elif token.type == "code_inline":
                yield f"<code>{escape(token.content)}</code>"
            elif token.type == "softbreak":
                yield "\n"
            elif token.type == "hardbreak":
                yield "<br>\n"
            elif token.type == "image":
                yield self._image(token)
            elif token.type == "link_open":
                yield self._linked(tokens, at)
            elif token.type == "link_close":
                yield "</a>"
            else:
                yield f"<{'' if side == 'open' else '/'}{_TAGS[kind]}>"

    def _linked(self, tokens: Sequence[Token], at: int) -> str:
        token, url = tokens[at], str(tokens[at].attrGet("href"))
        target = url if leads_outside(url) else self._link(url)
        end = at
        while tokens[end].type != "link_close":
            end += 1
        name = "" if _plain(tokens[at:end]).strip() else escape(url or "link")
        return f'<a href="{escape(target)}"{_title(token)}>{name}'

    def _image(self, token: Token) -> str:
        url, described = str(token.attrGet("src")), " ".join(_plain(token.children or []).split())
        if not described:
            raise PageInvalid(
                path=self._path,
                detail=f"the picture {url[:80]!r} has no description",
                fix=f"Write ![what the picture shows]({url[:80]})",
            )
        source = self._picture(url)
        return f'<img src="{escape(source)}" alt="{escape(described)}"{_title(token)}>'


def _title(token: Token) -> str:
    title = token.attrGet("title")
    return f' title="{escape(str(title))}"' if title else ""


def _plain(tokens: Sequence[Token]) -> str:
    """The text of inline tokens, without markup."""
    parts = []
    for token in tokens:
        if token.type in ("text", "code_inline"):
            parts.append(token.content)
        elif token.type == "image":
            parts.append(_plain(token.children or []))
        elif token.type in ("softbreak", "hardbreak"):
            parts.append(" ")
    return "".join(parts)
