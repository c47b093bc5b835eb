"""Pages of whoever made the run: Markdown in pages/, HTML in site/pages/ (docs/site.md).

Names, sizes and types are bounded, and a page is rendered the same way everywhere: publish writes
it, verify renders it again and compares, `pellucid view` renders it on request."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from pellucid.errors import PageInvalid
from pellucid.recipe import load as load_recipe
from pellucid.site import shell
from pellucid.store import files, layout

if TYPE_CHECKING:
    from pellucid.site.front import Front

PAGES_VERSION = 1  # Of the template and the renderer. Another form of a page is a new version.
PAGE = 256 << 10  # Bytes of a page.
PAGES = 1 << 20  # Of all pages.
PICTURE = 8 << 20
FILES = 256
_INDEX = "index"
_HEAD = 12  # Bytes that tell what a picture is.
_PICTURES = {
    "png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "jpg": re.compile(rb"\xff\xd8\xff"),
    "jpeg": re.compile(rb"\xff\xd8\xff"),
    "gif": re.compile(rb"GIF8[79]a"),
    "webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NAMES = (
    "Use lowercase ASCII letters, digits, - and _, at most one folder, and .md, .png, .jpg, "
    ".jpeg, .gif or .webp"
)


class Page(NamedTuple):
    """A page as it was written. name: it becomes site/pages/NAME.html."""

    path: str  # From the run folder; empty for an index that nobody wrote.
    name: str
    front: Front
    text: str


class Pages:
    """The pages of a run, read whole. Raises PageInvalid, and what the readers raise."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pages: dict[str, Page] = {}
        self._moved: dict[str, str] = {}  # Old names, and the names that they lead to.
        self._pictures = set[str]()
        size = 0
        for path in _listed(folder):
            if path.endswith(".md"):
                size += self._read(path)
                if size > PAGES:
                    self._wrong(
                        path, f"brings the pages above {PAGES:,} bytes", "Make them smaller"
                    )
            else:
                self._look_at(path)
        if self._pages:
            self._index()
            for page in [*self._pages.values()]:
                self._redirect(page)
        self._by_path = {page.path: page.name for page in self._written}

    def listed(self) -> list[dict[str, str]]:
        """What the overview tells of each page, the first one first."""
        return [
            {"name": page.name, "title": page.front.title, "excerpt": page.front.excerpt}
            for page in self._written
        ]

    def names(self) -> list[str]:
        """Of every file in site/pages, without .html."""
        return sorted([*self._pages, *self._moved])

    def render(self, name: str) -> bytes:
        """A page, or what leads from an old name to one. Raises KeyError, PageInvalid."""
        if name in self._moved:
            page = self._pages[self._moved[name]]
            target = f"{_root(name)}pages/{page.name}.html"
            moved = f'<meta http-equiv="refresh" content="0; url={target}">\n'
            told = f'<p>Moved to <a href="{target}">{escape(page.front.title)}</a>.</p>\n'
            return self._filled(name, page.front.title, told, moved)
        page = self._pages[name]
        return self._filled(name, page.front.title, self._body(page))

    @property
    def _written(self) -> list[Page]:
        """Without an index that nobody wrote; the home page first."""
        written = [page for page in self._pages.values() if page.path]
        return sorted(written, key=lambda page: (page.name != _INDEX, page.name))

    def _read(self, path: str) -> int:
        from pellucid.site.front import split

        place = files.inside(self._folder, path, str(self._folder))
        if place.stat().st_size > PAGE:
            self._wrong(path, f"has more than {PAGE:,} bytes", "Make two pages of it")
        content = files.read_bytes(place, PAGE)
        try:
            text = content.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError:
            self._wrong(path, "is not UTF-8", "Convert the file to UTF-8")
        if control := _CONTROL.search(text):
            line = text.count("\n", 0, control.start()) + 1
            detail = f"has the control character U+{ord(control[0]):04X} in line {line}"
            self._wrong(path, detail, "Remove it")
        front, text = split(text, place)
        name = front.permalink or path.removeprefix(f"{layout.PAGES}/").removesuffix(".md")
        if name in self._pages:
            other = self._pages[name].path
            self._wrong(path, f"has the address of {other}", "Change the permalink of a page")
        self._pages[name] = Page(path, name, front, text)
        return len(content)

    def _look_at(self, path: str) -> None:
        """Whether a picture is one, by its size and its first bytes."""
        with files.open_file(files.inside(self._folder, path, str(self._folder))) as file:
            head, size = file.read(_HEAD), file.seek(0, 2)
        if size > PICTURE:
            self._wrong(path, f"has more than {PICTURE:,} bytes", "Make the picture smaller")
        ending = path.rpartition(".")[2]
        if not _PICTURES[ending].match(head):
            self._wrong(path, f"is no {ending} picture", "Convert the picture, or rename it")
        self._pictures.add(path)

    def _index(self) -> None:
        from pellucid.site.front import Front

        self._pages.setdefault(_INDEX, Page("", _INDEX, Front(title="Pages"), ""))

    def _redirect(self, page: Page) -> None:
        for old in page.front.redirect_from:
            other = self._pages.get(old) or self._pages.get(self._moved.get(old, ""))
            if other is not None:
                taken = f"redirect_from: {other.path or 'the index of pages'} has the address {old}"
                self._wrong(page.path, taken, "Remove the address, or change it")
            self._moved[old] = page.name

    def _body(self, page: Page) -> str:
        from pellucid.site.markdown import render

        above = ""
        home = self._pages[_INDEX]
        if page.front.author_profile and home.path and page is not home:
            above = f'<p class="quiet">{_entry(page.name, home)}</p>\n'
        body = render(
            page.text,
            lambda url: self._link(page, url),
            lambda url: self._picture(page, url),
            self._folder / page.path,
        )
        return above + body + (self._list() if page is home else "")

    def _list(self) -> str:
        """Every page but the home page, which ends with this list."""
        others = (page for page in self._written if page.name != _INDEX)
        inner = "".join(f"<li>{_entry(_INDEX, page)}</li>\n" for page in others)
        return f"<ul>\n{inner}</ul>\n" if inner else ""

    def _link(self, page: Page, url: str) -> str:
        """A link of the text as the page has it. Raises PageInvalid where it leads to no file."""
        path, mark, part = url.partition("#")
        if not path:
            return url
        inner = _inner(page, path)
        site = f"{layout.SITE_PAGES}/"
        if name := self._by_path.get(inner):
            inner = f"{site}{name}.html"
        known = layout.room_of(inner) is not None
        if inner.startswith(site):
            target = inner.removeprefix(site).removesuffix(".html")
            known = known and (target in self._pages or target in self._moved)
        elif inner.startswith(f"{layout.PAGES}/"):
            known = inner in self._pictures
        if not known:
            detail = f"has a link to {path[:80]!r}, which no release has"
            fix = "Write the path of a page, or of another file of the run, from this page"
            self._wrong(page.path, detail, fix)
        own = inner.removeprefix(f"{layout.SITE}/")
        return f"{_root(page.name)}{own if own != inner else f'../{inner}'}{mark}{part}"

    def _picture(self, page: Page, url: str) -> str:
        inner = _inner(page, url)
        if inner not in self._pictures:
            detail = f"shows the picture {url[:80]!r}, which is not in {layout.PAGES}/"
            self._wrong(page.path, detail, "Put the picture there, and write its relative path")
        return f"{_root(page.name)}../{inner}"

    def _filled(self, name: str, title: str, body: str, moved: str = "") -> bytes:
        filled = shell.template("pages.html").substitute(
            version=PAGES_VERSION,
            moved=moved,
            title=escape(title),
            run=escape(self._run),
            root=_root(name),
            body=body,
        )
        return filled.encode("utf-8")

    @cached_property
    def _run(self) -> str:
        return load_recipe(self._folder).name

    def _wrong(self, path: str, detail: str, fix: str) -> NoReturn:
        raise PageInvalid(path=self._folder / path, detail=detail, fix=fix)


def rendered(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of site/pages, by its name there. Raises PageInvalid."""
    pages = Pages(folder)
    for name in pages.names():
        yield f"{name}.html", pages.render(name)


def told(folder: Path) -> dict[str, Any]:
    """What the overview tells of the pages; of invalid ones why there are none, for a run is shown
    while they are written."""
    try:
        return {"pages": Pages(folder).listed()}
    except PageInvalid as error:
        return {"pages": [], "pages_invalid": str(error)}


def _listed(folder: Path) -> list[str]:
    """Every file in pages/ as a '/'-path of the run, but for hidden ones, which no release has.
    Raises PageInvalid for a name that none may have."""
    listed, below = list[str](), [layout.PAGES]
    while below:
        above = below.pop()
        if not (folder / above).is_dir():
            continue
        for entry in (folder / above).iterdir():
            path = f"{above}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir() and not entry.is_symlink() and above == layout.PAGES:
                below.append(path)
            elif entry.is_symlink() or not entry.is_file():
                fix = "Put a file in its place"
                raise PageInvalid(path=folder / path, detail="is no file", fix=fix)
            elif layout.room_of(path) is None:
                raise PageInvalid(path=folder / path, detail="has another name or type", fix=_NAMES)
            else:
                listed.append(path)
            if len(listed) > FILES:
                detail = f"holds more than {FILES} files"
                raise PageInvalid(path=folder / layout.PAGES, detail=detail, fix="Remove some")
    return sorted(listed)


def _inner(page: Page, url: str) -> str:
    """Where a relative address leads, from the run folder."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page.path), url))


def _entry(name: str, page: Page) -> str:
    """A link to a page from the page of that name, and what the page is."""
    excerpt = f". <bdi>{escape(page.front.excerpt)}</bdi>" if page.front.excerpt else ""
    title = f"<bdi>{escape(page.front.title)}</bdi>"
    return f'<a href="{_root(name)}pages/{page.name}.html">{title}</a>{excerpt}'


def _root(name: str) -> str:
    """The way from a page to site/."""
    return "../" * (name.count("/") + 1)
