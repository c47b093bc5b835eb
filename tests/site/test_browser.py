"""The site in a browser, from a folder and from a static server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from pellucid.look.show import Shown
from pellucid.site import build, shell, steps
from pellucid.site.data import Site
from pellucid.site.server import Refused
from pellucid.site.view import Live, View
from tests.conftest import make_run, pellucid
from tests.serving import Answer, Request, serving
from tests.site.conftest import HOSTILE, Watched, passes_axe, watched
from tests.site.reading import documents as documents_of
from tests.site.reading import value
from tests.site.viewing import Growing, browsing

PAGES = [f"{name}.html" for name in shell.PAGES]


def test_a_walk_from_the_curve_to_a_document_and_back(
    browser: Any, finished: Path, way: str
) -> None:
    shown = Shown(finished)
    with watched(browser, finished, way) as at:
        page = at.open("index.html")
        page.locator("svg.chart").first.click(position={"x": 400, "y": 100})
        page.wait_for_url(re.compile(r"step\.html#\d+$"))
        page.wait_for_selector("main:not([aria-busy]) article.row")
        number = int(page.url.rpartition("#")[2])
        expected = shown.step(number)
        assert page.locator("article.row").count() == len(expected["rows"])
        body = page.locator("main").inner_text()
        assert expected["state"] in body and f"{expected['loss']:.4f}" in body
        first = next(
            piece for piece in expected["rows"][0]["segments"] if piece["loss"] is not None
        )
        link = page.locator(".segment .head a").first
        assert link.inner_text() == first["document"]
        link.click()
        page.wait_for_selector("main:not([aria-busy]) mark")
        assert page.locator("h1").inner_text() == first["document"]
        marked = page.locator("mark").inner_text()
        stored = shown.documents.get(first["index"])
        assert marked and marked in stored["text"]
        assert page.locator("pre.text").inner_text() == stored["text"]
        seen = {step["step"] for block in shown.document(stored["id"])["blocks"]
                for step in block["steps"]}  # fmt: skip
        told = {int(text.split()[1]) for text in page.locator("td a[href^=step]").all_inner_texts()}
        assert number in told and told == seen
        link = page.locator("td a[href^=step]").last
        row = link.get_attribute("href").rpartition(":")[2]
        link.click()
        page.wait_for_selector("main:not([aria-busy]) article.row")
        assert page.locator("mark").all_inner_texts() == [f"Row {row}"]
        page.get_by_role("link", name="Checkpoints").click()
        page.wait_for_selector("table")
        assert "step 12" in page.locator("table").first.inner_text()
        assert at.wrong == []


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_drawn_for_phones_and_passes_axe(
    browser: Any, finished: Path, name: str
) -> None:
    passes_axe(browser, finished, name)
    with watched(browser, finished, "file") as at:
        assert at.open(name).locator("h1").count() == 1


@pytest.mark.parametrize("name", PAGES)
def test_hostile_texts_are_shown_and_run_nothing(
    browser: Any, hostile: Path, name: str, way: str
) -> None:
    with watched(browser, hostile, way) as at:
        page = at.open(name)
        assert "hacked" not in page.title()
        assert page.locator("main img, main script, main i").count() == 0
        assert at.wrong == []


def test_every_hostile_document_is_shown_letter_by_letter(browser: Any, hostile: Path) -> None:
    documents = documents_of(value(Site(hostile), "documents/00000"))
    shown = 0
    with watched(browser, hostile, "file") as at:
        for number, document in enumerate(documents):
            if "<img src" not in document["id"]:
                continue
            page = at.open(f"document.html#{number}")
            assert page.locator("h1").inner_text() == document["id"]
            told = page.locator("pre.text").inner_text()
            stored = Shown(hostile).documents.get(number)["text"]
            for mark in "\u202e\x1b\u2066\ufeff\x07\u200b\u2060\u00ad\ufffb\u2028\U000e0041":
                code = f"U+{ord(mark):04X}"
                assert mark not in told and told.count(code) == stored.count(mark)
            if stored.isprintable() or stored.startswith(("<", '"', "a", "ש")):
                assert told.rstrip("\n") == stored.rstrip("\n")
            shown += 1
        assert shown == len(HOSTILE)
        assert at.wrong == []


@pytest.mark.parametrize("ranges", [True, False])
def test_a_step_reads_only_the_texts_that_it_shows(
    browser: Any, finished: Path, ranges: bool
) -> None:
    """From a host that knows ranges; and whole packs from one that does not."""

    def whole(request: Request, answer: Answer) -> Answer:
        if not request.ranged:
            return answer
        return answer._replace(status=200, body=(finished / request.path).read_bytes())

    with serving(finished) as server:
        server.fault = (lambda request, answer: answer) if ranges else whole
        page = browser.new_context().new_page()
        page.goto(f"{server.url}/site/step.html#7")
        page.wait_for_selector("main:not([aria-busy]) article.row")
        expected = Shown(finished).step(7)["rows"][0]["segments"][0]["text"]
        assert (
            len(expected) > 20
            and expected[-20:-2] in page.locator("article.row").first.inner_text()
        )
        asked = [request for request in server.requests if "texts/" in request.path]
        assert asked
        if ranges:
            pack = (finished / asked[0].path).stat().st_size
            assert all(request.ranged for request in asked)
            assert all(request.stop - request.start < pack / 4 for request in asked)
        page.context.close()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize(
    ("address", "pack"),
    [("step.html#7", "steps/00000"), ("document.html#from-3", "documents/00000")],
)
def test_a_pack_is_asked_for_before_the_scripts_are_there(
    browser: Any, finished: Path, address: str, pack: str, live: bool
) -> None:
    """Two requests follow each other, from a static host and behind `pellucid view`."""
    with contextlib.ExitStack() as stack:
        if live:
            base = f"http://127.0.0.1:{stack.enter_context(browsing(finished)).port}"
        else:
            base = stack.enter_context(serving(finished)).url
        at = Watched(browser.new_page(), base)
        held, asked = list[Any](), list[str]()
        at.page.on("request", lambda request: asked.append(request.url))
        free = list[None]()
        at.page.route("**/*.js", lambda route: route.continue_() if free else held.append(route))
        at.page.goto(f"{base}/site/{address}", wait_until="commit")
        while len(held) < 4:
            at.page.wait_for_timeout(20)
        name = address.partition(".")[0]
        expected = {"core.js", f"{name}.js", "data/overview.js", f"data/{pack}.js"}
        assert {route.request.url.partition("/site/")[2] for route in held} == expected
        free.append(None)
        for route in held:
            route.continue_()
        at.page.wait_for_selector("main:not([aria-busy]) h1")
        assert sum(pack in url for url in asked) == 1
        assert at.wrong == []
        at.page.close()


def test_a_step_is_shown_where_its_pack_is_another_than_the_address_tells(
    browser: Any, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of very large runs; and where the script inside the page has asked for a missing file."""
    monkeypatch.setattr(steps, "STEPS", 4)
    build.write(release, {}, None, None)
    shown = Shown(release)
    with watched(browser, release, "http") as at:
        for number in (3, 4, 12):
            page = at.open(f"step.html#{number}")
            body = page.locator("main").inner_text()
            assert f"Step {number}\n" in body and shown.step(number)["state"] in body
            assert page.locator("article.row").count() == len(shown.step(number)["rows"])
        assert at.wrong == []
        (release / "site" / "data" / "steps" / "00000.js").unlink()
        page = at.open("step.html#2")
        assert "data/steps/00000.js is missing" in page.locator("main").inner_text()


def test_pages_allow_no_script_but_their_own(finished: Path) -> None:
    digest = base64.b64encode(hashlib.sha256(shell.early().encode("utf-8")).digest()).decode()
    for name in PAGES:
        page = (finished / "site" / name).read_text("utf-8")
        (policy,) = re.findall(r"script-src ([^;]*);", page)
        inside = re.findall(r"<script(?! src)[^>]*>(.*?)</script>", page, re.DOTALL)
        own = name in ("step.html", "document.html")
        assert inside == ([shell.early()] if own else [])
        assert policy == (f"'self' 'sha256-{digest}'" if own else "'self'")


def test_the_list_of_documents_leads_to_each(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open("document.html")
        assert page.locator("tbody tr").count() == 40
        page.locator("tbody a[href^='#']").nth(3).click()
        page.wait_for_selector("main:not([aria-busy]) pre.text")
        assert page.locator("h1").inner_text().startswith("stones/")
        page.get_by_role("link", name="all documents").click()
        page.wait_for_selector("form")
        assert page.locator("h1").inner_text() == "Documents"
        assert at.wrong == []


def test_a_run_that_goes_on_is_followed(browser: Any, release: Path) -> None:
    """Behind `pellucid view` a page that is open shows new steps by itself."""
    growing = Growing(release)
    growing.at(len(growing.lines) // 2)
    with browsing(release) as server:
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{server.port}/site/index.html")
        page.wait_for_selector(f"dd:has-text('{growing.step} of 13')")
        before = growing.step
        while growing.step < before + 2:
            growing.add()
        page.wait_for_selector(f"dd:has-text('{growing.step} of 13')")
        page.context.close()


def test_a_step_before_the_first_question_is_shown(browser: Any, release: Path) -> None:
    growing = Growing(release)
    growing.at(len(growing.lines) // 2)
    with browsing(release) as server:
        page = browser.new_context().new_page()
        held = list[Any]()
        page.route("**/live", lambda route: route.continue_() if held else held.append(route))
        page.goto(f"http://127.0.0.1:{server.port}/site/index.html")
        page.wait_for_selector(f"dd:has-text('{growing.step} of 13')")
        while not held:
            page.wait_for_timeout(50)
        growing.add()
        held[0].continue_()
        page.wait_for_selector(f"dd:has-text('{growing.step} of 13')")
        page.context.close()


def test_a_page_that_is_turned_away_asks_again(
    browser: Any, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing, turned = Growing(release), list[None]()
    growing.at(len(growing.lines) // 2)

    def busy(self: View) -> Live:
        turned.append(None)
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")

    with browsing(release) as server:
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{server.port}/site/index.html")
        page.wait_for_selector(f"dd:has-text('{growing.step} of 13')")
        with monkeypatch.context() as patch:
            patch.setattr(View, "live", busy)
            while len(turned) < 2:
                page.wait_for_timeout(200)
        assert page.locator("#run.lost").count() == 0
        growing.add()
        page.wait_for_selector(f"dd:has-text('{growing.step} of 13')")
        page.context.close()


@pytest.mark.parametrize("name", ["data.html", "document.html"])
def test_documents_that_are_not_prepared_are_no_damage(
    browser: Any, corpus: Path, tmp_path: Path, name: str
) -> None:
    with browsing(make_run(tmp_path / "run", corpus)) as server:
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{server.port}/site/{name}")
        page.wait_for_selector("h1:has-text('Nothing is here yet')")
        assert page.locator("[role=status]").inner_text() == "The documents are not prepared yet."
        page.context.close()


def test_view_searches_for_the_page(browser: Any, finished: Path) -> None:
    with browsing(finished) as server:
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{server.port}/site/search.html#the%20river")
        page.wait_for_selector("article mark", timeout=60_000)
        expected = json.loads(pellucid("where", finished, "the river", "--json").stdout)
        told = page.locator("#told").inner_text()
        assert told.startswith(f"{expected['count']:,} places in the run's training texts; ")
        assert page.locator("article").count() == 10
        assert {*page.locator("mark").all_inner_texts()} == {"the river"}
        page.locator("article h2 a").first.click()
        page.wait_for_selector("main:not([aria-busy]) h1:has-text('stones/')")
        assert page.locator("mark").inner_text() == "the river"
        page.context.close()


def test_a_mark_at_the_beginning_of_a_piece_is_a_character(browser: Any, hostile: Path) -> None:
    documents = documents_of(value(Site(hostile), "documents/00000"))
    (number,) = [at for at, one in enumerate(documents) if one["id"].endswith("long.txt")]
    with watched(browser, hostile, "file") as at:
        page = at.open(f"document.html#{number}:16385-16389")
        page.wait_for_selector("main:not([aria-busy]) mark")
        assert page.locator("mark").inner_text() == "ABCD"
        told = page.locator("pre.text").inner_text()
        assert told.endswith("a b U+FEFFABCDEFGH")
        assert at.wrong == []


@pytest.mark.parametrize("span", ["0:5-2", "0:0-9999999", "0:99999-3"])
def test_no_address_shows_the_text_of_another_document(
    browser: Any, finished: Path, span: str
) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open(f"document.html#{span}")
        assert page.locator("h1").inner_text() == "Nothing is here"
        assert at.wrong == []


def test_the_overview_names_the_training_texts(browser: Any, finished: Path) -> None:
    about = value(Site(finished), "overview")
    (source,) = about["sources"]
    held = sum(int(one["tokens"]) for one in about["streams"] if one["split"] == "train")
    documents = source["documents"] - source["validation_documents"]
    with watched(browser, finished, "file") as at:
        told = at.open("index.html").locator("main").inner_text()
        assert (
            f"Training texts: {source['name']} "
            f"({documents} documents, licence {source['licence']}). They have {held:,} tokens. "
            f"The steps read {int(about['tokens']):,} tokens, repeats included."
        ) in told
        assert at.wrong == []


@pytest.mark.parametrize("address", ["step.html#3", "document.html"])
def test_an_empty_number_goes_nowhere(browser: Any, finished: Path, address: str) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open(address)
        before, field = page.url, page.locator("input[type=number]")
        field.fill("")
        page.get_by_role("button", name="Go").click()
        assert page.url == before
        assert page.evaluate("document.querySelector('input[type=number]').validity.valueMissing")
        field.fill("5")
        page.get_by_role("button", name="Go").click()
        page.wait_for_url(re.compile("5$"))
        assert at.wrong == []


def test_a_step_says_what_loss_is(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        told = at.open("step.html#3").locator("main").inner_text()
        assert "lower is better." in told and "the highest of this step" in told


def test_the_last_of_two_addresses_is_shown(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "http") as at:
        page = at.open("step.html#2")
        page.evaluate("location.hash = '3'; setTimeout(() => { location.hash = '11'; }, 5);")
        page.wait_for_selector("h1:has-text('Step 11')")
        page.wait_for_timeout(300)
        assert page.locator("h1").inner_text() == "Step 11"
        assert at.wrong == []


def test_numbers_without_steps_between_them_have_few_ticks(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open("index.html")
        for low, high in ((1e16, 1e16 + 4), (0, 1e300), (-1e-300, 1e-300), (3, 3)):
            made = page.evaluate(f"ticks({low!r}, {high!r}, 5)")
            assert 0 < len(made) <= 7 and made == sorted(set(made))


def test_no_command_holds_a_letter_that_a_terminal_obeys(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open("search.html#a%1b%5B201~%0Als%E2%80%AE")
        told = page.locator("pre.command code").inner_text()
        assert told.splitlines() == ["pellucid view .", "pellucid where . -- 'some text'"]
        page = at.open("search.html#it's%20--help")
        assert "where . -- 'it'\\''s --help'" in page.locator("pre.command code").inner_text()


def test_the_keyboard_reads_and_opens_the_curve(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open("timeline.html")
        page.locator("svg.chart").first.focus()
        for key in ("Home", "ArrowRight", "ArrowRight"):
            page.keyboard.press(key)
        told = page.locator("output.told").first.inner_text()
        assert told.startswith("step 3: Training loss ")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"step\.html#3$"))
        assert at.wrong == []


def test_a_part_of_the_timeline_is_dragged_larger(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open("timeline.html")
        box = page.locator("svg.chart").first.bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 50)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + 60, steps=5)
        page.mouse.up()
        page.wait_for_selector("button:has-text('All'):not([disabled])")
        assert re.search(r"timeline\.html#\d+-\d+$", page.url)
        page.get_by_role("button", name="All").click()
        page.wait_for_selector("button:has-text('All')[disabled]")
        page.locator("#axis").select_option("tokens")
        page.wait_for_selector("svg[aria-label*='tokens']")
        assert at.wrong == []


@pytest.mark.parametrize("name", ["index.html", "timeline.html"])
@pytest.mark.parametrize("axis", ["tokens", "time"])
def test_curves_are_drawn_over_tokens_and_time(
    browser: Any, finished: Path, name: str, axis: str
) -> None:
    """The axis stands in the address, and whoever chose it by keyboard is still at the field."""
    series = value(Site(finished), "curves/level0/00000")["series"]
    with watched(browser, finished, "file") as at:
        page = at.open(name)
        page.locator("#axis").focus()
        page.locator("#axis").select_option(axis)
        unit = "seconds" if axis == "time" else axis
        page.wait_for_selector(f"svg[aria-label*='; {unit} 0 to ']")
        assert page.url.endswith(f"{name}#{axis}")
        assert page.evaluate("document.activeElement.id") == "axis"
        label = page.locator("svg.chart:not(.swatch)").first.get_attribute("aria-label")
        loss, along = series["loss"], series[axis]
        assert f"from {loss[0]:.4f} to {loss[-1]:.4f}; {unit} 0 to {round(along[-1]):,}" in label
        validation = page.locator(
            "svg[aria-label^='Validation:'] .dot, svg[aria-label^='Validation:'] .line"
        )
        assert validation.count() > 0
        assert at.wrong == []


def test_a_part_of_the_tokens_is_dragged_larger(browser: Any, finished: Path) -> None:
    tokens = value(Site(finished), "curves/level0/00000")["series"]["tokens"]
    with watched(browser, finished, "file") as at:
        page = at.open(f"timeline.html#tokens:{tokens[2]:.0f}-{tokens[9]:.0f}")
        label = page.locator("svg.chart:not(.swatch)").first.get_attribute("aria-label")
        assert f"tokens {tokens[2]:,.0f} to {tokens[9]:,.0f}" in label
        page.get_by_role("button", name="Zoom out").focus()
        page.keyboard.press("Enter")
        page.wait_for_selector("button:has-text('All')[disabled]")
        assert page.url.endswith("timeline.html#tokens")
        assert at.wrong == []


def test_a_part_without_points_is_said_to_be_one(browser: Any, finished: Path) -> None:
    """No validation lies in steps 6 to 9. What is told of a curve is of its part."""
    with watched(browser, finished, "file") as at:
        page = at.open("timeline.html#6-9")
        text = page.locator("main").inner_text()
        assert "Validation: nothing is recorded here." in text
        losses = json.loads(next(Site(finished).pieces("curves/level0/00000")))["series"]["loss"]
        label = page.locator("svg.chart").first.get_attribute("aria-label")
        assert f"from {losses[5]:.4f} to {losses[8]:.4f}; steps 6 to 9" in label
        for chart in page.locator("svg.chart").all():
            chart.hover()
        page.set_viewport_size({"width": 500, "height": 800})
        page.locator("svg.chart").first.hover()
        assert at.wrong == []


@pytest.mark.parametrize(
    "address",
    [
        "step.html#99",
        "step.html#x",
        "step.html#3:99",
        "step.html#3:",
        "document.html#40",
        "document.html#from-40",
        "document.html#%3Cimg%3E",
    ],
)
def test_an_unknown_place_is_said_to_be_none(browser: Any, finished: Path, address: str) -> None:
    with watched(browser, finished, "file") as at:
        page = at.open(address)
        assert page.locator("h1").inner_text() == "Nothing is here"
        assert "There is no" in page.locator("[role=alert]").inner_text()
        assert at.wrong == []


def test_a_missing_data_file_is_named(browser: Any, release: Path) -> None:
    (release / "site" / "data" / "steps" / "00000.js").unlink()
    with watched(browser, release, "file") as at:
        page = at.open("step.html#3")
        assert "data/steps/00000.js is missing" in page.locator("[role=alert]").inner_text()
