"""Pages in a browser, and texts that try everything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import serving

HOSTILE = [
    "<script>document.title = 'hacked'</script>",
    '</script><img src="x" onerror="document.title=\'hacked\'">',
    '"]);document.title=\'hacked\';pellucid("overview",["',
    "\u202egnp.exe\u202c \u2066isolated\u2069 \ufeff",
    "\x1b[31mred\x1b[0m \x07bell",
    "שלום עולם، مرحبا بالعالم",
    "a" * 300,
    "\u200bzero\u2060 width\u00ad \U000e0041tags\ufffb\u2028line",
]
LONG = "a b " * 4096 + "\ufeffABCDEFGH"  # The mark begins the second piece of the site's texts.


class Watched:
    """A browser's page, and everything that went wrong on it."""

    def __init__(self, page: Any, base: str) -> None:
        self.page, self.base, self.wrong = page, base, list[str]()
        page.on("console", lambda told: self._console(told))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self.wrong.append(f"failed: {request.url}"))
        page.on("request", lambda request: self._request(request.url))
        page.on("dialog", lambda dialog: self._dialog(dialog))

    def _console(self, told: Any) -> None:
        if told.type in ("error", "warning"):
            self.wrong.append(f"{told.type}: {told.text}")

    def _request(self, url: str) -> None:
        if not url.startswith((self.base, "data:", "about:")):
            self.wrong.append(f"outside: {url}")

    def _dialog(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, name: str) -> Any:
        """Show a page of the site, drawn."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.base}/site/{name}")
        self.page.wait_for_selector("main:not([aria-busy]) h1", timeout=60_000)
        return self.page


def passes_axe(browser: Any, folder: Path, name: str) -> None:
    """A page of a release that is served."""
    with serving(folder.parent) as served:
        passes_axe_at(browser, f"{served.url}/{folder.name}", name)


def passes_axe_at(browser: Any, base: str, name: str) -> None:
    """A page on a phone, light and dark: it fits, axe finds nothing, and nothing goes wrong."""
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": 390, "height": 800}
    for scheme in ("light", "dark"):
        own = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
        with contextlib.closing(own):
            at = Watched(own.new_page(), base)
            page = at.open(name)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            report = Axe().run(page).response
            assert [(one["id"], one["nodes"][0]["html"]) for one in report["violations"]] == []
            assert at.wrong == []


@pytest.fixture(params=["file", "http"])
def way(request: pytest.FixtureRequest) -> str:
    """How the site reaches the browser."""
    return request.param


@contextlib.contextmanager
def watched(browser: Any, folder: Path, way: str, **context: Any) -> Iterator[Watched]:
    """A page of a release in a browser of its own, below a prefix where it is served."""
    with contextlib.ExitStack() as stack:
        base = f"file://{folder}"
        if way == "http":
            base = f"{stack.enter_context(serving(folder.parent)).url}/{folder.name}"
        own = browser.new_context(**context)
        stack.callback(own.close)
        yield Watched(own.new_page(), base)
