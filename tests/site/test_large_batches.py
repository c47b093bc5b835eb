"""The page of a step with many rows: it loads the texts that are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pellucid.look.show import Shown
from pellucid.release.publish import publish
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run
from tests.serving import serving
from tests.site.conftest import Watched
from tests.site.viewing import Growing, browsing

ROWS, STEP = 96, 2
AT_ONCE = 16
EMPTY = ".row:not(:has(pre.text:not(:empty)))"


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    settings = ["train.steps=4", f"train.batch={ROWS}", "train.warmup=1"]
    run = finish(make_run(tmp_path_factory.mktemp("runs") / "wide", corpus, settings))
    publish(run)
    return run


@pytest.fixture
def opened(browser: Any, wide: Path) -> Any:
    """The step in a window, and what the server was asked for."""
    with serving(wide) as server:
        own = browser.new_context(viewport={"width": 1000, "height": 700}, reduced_motion="reduce")
        at = Watched(own.new_page(), server.url)
        at.open(f"step.html#{STEP}")
        yield at, server
        assert at.wrong == []
        own.close()


def texts_of(wide: Path) -> list[str]:
    """The segments' texts without their ends: the first token of a row is not shown, and the last
    can end inside a character."""
    return [
        text[16:-3].strip()
        for row in Shown(wide).step(STEP)["rows"]
        for piece in row["segments"]
        for text in piece["text"].split("<|document|>")
    ]


def test_an_address_leads_to_a_row(opened: Any) -> None:
    """The row is marked and in the window, with its text, and stays there."""
    at, _ = opened
    page = at.page
    for row in (ROWS - 40, ROWS // 2):
        at.open(f"step.html#{STEP}:{row}")
        page.wait_for_timeout(300)
        assert page.locator("mark").all_inner_texts() == [f"Row {row}"]
        top = page.locator("mark").bounding_box()["y"]
        assert 0 <= top < 100
        assert page.locator(".row").nth(row).locator(EMPTY).count() == 0
    at.open(f"step.html#{STEP}:{ROWS}")
    assert f"There is no row {ROWS} in step {STEP}." in page.locator("[role=alert]").inner_text()


def test_rows_get_their_texts_when_they_come_near(opened: Any) -> None:
    at, server = opened
    page = at.page
    asked = [request for request in server.requests if "texts/" in request.path]
    assert page.locator(".row").count() == ROWS
    assert len(asked) < ROWS and page.locator(EMPTY).count() > ROWS / 3
    for row in page.locator(".row").all()[:AT_ONCE]:
        assert row.locator("pre.text").first.inner_text()
    last = page.locator(".row").last
    assert not last.locator("pre.text").first.inner_text()
    page.get_by_role("button", name="Skip the texts").click()
    page.wait_for_selector(".row:last-of-type pre.text:not(:empty)")
    assert page.locator(EMPTY).count() > 0


def test_all_texts_are_loaded_for_a_search_of_the_browser(opened: Any, wide: Path) -> None:
    page = opened[0].page
    page.get_by_role("button", name="Load all texts").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#all-texts", state="detached", timeout=60_000)
    page.wait_for_selector(EMPTY, state="detached", timeout=60_000)
    told = page.locator("main").inner_text()
    texts = texts_of(wide)
    assert [text for text in texts if text not in told] == []


def test_the_rows_that_are_printed_have_their_texts(opened: Any) -> None:
    page = opened[0].page
    page.emulate_media(media="print")
    printed = [row for row in page.locator(".row").all() if row.is_visible()]
    assert len(printed) == AT_ONCE
    assert all(row.locator("pre.text").first.inner_text() for row in printed)
    assert not page.locator("#all-texts").is_visible()


def test_a_text_that_is_missing_is_named_when_it_is_reached(opened: Any) -> None:
    at, server = opened
    server.fault = lambda request, answer: answer._replace(status=404)
    at.page.get_by_role("button", name="Skip the texts").click()
    at.page.wait_for_selector("h1:has-text('cannot be shown')")
    assert "data/texts/00000.js is missing" in at.page.locator("[role=alert]").inner_text()
    assert all("404" in one for one in at.wrong)
    at.wrong.clear()


def test_a_step_that_is_read_stays_while_the_run_goes_on(browser: Any, release: Path) -> None:
    lines = [entry["kind"] for entry in LedgerFile(release).every("step")]
    growing = Growing(release)
    growing.at(len(growing.lines) // 2)
    with browsing(release) as server:
        at = Watched(browser.new_context().new_page(), f"http://127.0.0.1:{server.port}")
        page = at.open("step.html#2")
        page.evaluate("document.querySelector('h1').dataset.kept = 'yes'")
        page.wait_for_timeout(2500)
        while growing.length < len(growing.lines):
            growing.add()
        last = page.locator("form .neighbours a", has_text="last")
        page.wait_for_selector(f"form .neighbours a[href='#{len(lines)}']", timeout=20_000)
        assert last.count() == 1 and page.locator("h1[data-kept=yes]").count() == 1
        page.context.close()
