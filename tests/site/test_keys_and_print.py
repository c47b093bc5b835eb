"""Keys, narrow windows and paper: what a page does beside a screen and a pointer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.site.conftest import watched

PHONE = {"viewport": {"width": 390, "height": 800}}
FOCUSED = "document.activeElement.textContent || document.activeElement.id"


@pytest.mark.parametrize("name", ["index.html", "step.html#3", "timeline.html#2-11"])
def test_the_skip_link_goes_to_the_content_and_keeps_the_address(
    browser: Any, finished: Path, name: str
) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open(name)
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED) == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.wait_for_timeout(100)
        assert page.url.endswith(name) and page.locator("h1").inner_text() != "Nothing is here"
        page.keyboard.press("Tab")
        assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
        assert at.wrong == []


def test_the_texts_of_a_step_are_skipped_and_the_last_stop_leads_back(
    browser: Any, finished: Path
) -> None:
    with watched(browser, finished, "file", reduced_motion="reduce") as at:
        page = at.open("step.html#3")
        page.get_by_role("button", name="Skip the texts").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUSED) == "first"
        assert page.evaluate("!document.activeElement.closest('form')")
        stops = "main :is(a, button, input, summary, [tabindex='0'])"
        assert page.locator(stops).last.inner_text() == "Back to the top"
        page.get_by_role("button", name="Back to the top").click()
        assert page.evaluate("document.activeElement.id") == "main"
        assert page.evaluate("scrollY") < 200 and page.url.endswith("#3")
        assert at.wrong == []


def test_a_wide_table_says_that_it_scrolls_and_takes_the_keys(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file", **PHONE) as at:
        page = at.open("checkpoints.html")
        table = page.locator(".wide").first
        page.wait_for_selector(".wide.scrolls[tabindex='0']")
        hint = "getComputedStyle(document.querySelector('.scrolls caption'), '::after').content"
        assert "scrolls sideways" in page.evaluate(hint)
        assert table.get_attribute("aria-label") == "Stored states"
        table.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(500)  # The policy of the page lets no test wait for an expression.
        assert table.evaluate("box => box.scrollLeft") > 0
        page.set_viewport_size({"width": 1440, "height": 900})
        page.wait_for_selector(".wide:not(.scrolls):not([tabindex])")
        assert at.wrong == []


def test_a_long_step_is_printed_on_few_pages(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open("step.html#3")
        page.wait_for_selector("pre.text:has-text(' ')")
        page.evaluate(
            """() => {
                const row = document.querySelector(".row");
                row.querySelector("pre.text").append("a long text ".repeat(20000));
                for (let n = 0; n < 200; n += 1) row.after(row.cloneNode(true));
            }"""
        )
        assert page.pdf().count(b"/Type /Page\n") < 24
        page.emulate_media(media="print")
        assert sum(row.is_visible() for row in page.locator(".row").all()) == 16
        assert at.wrong == []
