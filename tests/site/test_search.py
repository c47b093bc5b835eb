"""Search in the browser, by ranges of the release's files: it finds what `where` does."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pellucid.data.parquet import Documents
from pellucid.release.publish import publish
from pellucid.site.pack import packed
from pellucid.trace import index
from pellucid.trace.where import Traced
from tests.conftest import finish, make_run, write_corpus
from tests.serving import Answer, Request, serving
from tests.site.conftest import watched
from tests.site.searching import HOLD, answered, expected, phrases
from tests.site.test_check import problems
from tests.trace.conftest import lossy, make, write_second

KINDS = {
    "tokens": ["data.sources.water.weight=2", "tokenizer.vocabulary=500", "train.steps=60"],
    "characters": ["tokenizer.kind=characters"],
    "text": [],
    "cut": ["data.max_document_characters=30", "data.split=texts"],
    "cut text": ["data.max_document_characters=40", "data.split=parts"],
}


@pytest.fixture(scope="module", params=KINDS)
def searched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in many pieces, of each kind, of long texts in parts too."""
    place = tmp_path_factory.mktemp("searched")
    sources = [write_corpus(place / "stones"), write_second(place / "water")]
    settings = [*KINDS[request.param], *(lossy(sources, place) if "text" in request.param else [])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "PIECE_BYTES", 4000)
        run = finish(make(place / "run", sources, settings))
        publish(run)
    return run


@pytest.fixture
def searching(browser: Any, finished: Path) -> Iterator[Any]:
    """The page of a small release, open, and what goes wrong on it."""
    with watched(browser, finished, "http") as at:
        at.open("search.html")
        yield at


def test_it_finds_what_where_finds(browser: Any, searched: Path) -> None:
    traced, documents = Traced(searched), Documents.open(searched)
    with watched(browser, searched, "http") as at:
        page = at.open("search.html")
        for phrase in phrases(documents, 60, seed=1):
            assert answered(page, phrase) == expected(traced, phrase), phrase
        assert at.wrong == []
    manifest = json.loads((searched / "trace" / "manifest.json").read_text())
    assert len(manifest["pieces"]) > 4


def test_a_text_that_stands_often_behind_parts_of_tokens(searching: Any, finished: Path) -> None:
    """More suffixes than are read one by one: tokens that end with its head tell them."""
    traced, page = Traced(finished), searching.page
    page.evaluate("""told = 0; behindTokens = ((told) => function (...asked) {
        window.told += asked[1].length;
        return told(...asked);
    })(behindTokens); null""")
    for phrase in phrases(Documents.open(finished), 60, seed=2):
        assert answered(page, phrase, 10) == expected(traced, phrase, 10), phrase
    assert page.evaluate("told") > 64
    assert searching.wrong == []


CLEAR = [
    ("ab", "cx", "b", True),
    ("ab", "cd", "b", False),  # Or the token abcde, which does not end with the head.
    ("  ", " ", " ", False),  # Or one blank, with the second before the tail.
    ("aa", "aa", "a", False),  # Or a alone, with aaa behind it.
    ("xb", "xb", "b", True),
]


@pytest.mark.parametrize(("word", "tail", "head", "clear"), CLEAR)
def test_when_bytes_tell_a_token(
    searching: Any, word: str, tail: str, head: str, clear: bool
) -> None:
    tokens = ["a", "b", "aa", "ab", "abcde", "x", "xb", "\u0120", "\u0120\u0120"]
    about = {
        "model": {"vocab": {token: id for id, token in enumerate(tokens)}},
        "decoder": {"type": "ByteLevel"},
    }
    made = "([about, ...asked]) => new Words(about, 20).isClear(...asked)"
    assert searching.page.evaluate(made, [about, word, tail, head]) is clear


def test_a_search_takes_few_rounds(searching: Any, finished: Path) -> None:
    page = searching.page
    answered(page, "the", 0)
    page.evaluate(HOLD)
    rounds = []
    for phrase in phrases(Documents.open(finished), 60, seed=3):
        page.evaluate("""() => {
            held.rounds = 0;
            for (const file of search.reader.files.values()) file.pages.clear();
            search.finder.packs.clear();
            cache.clear();
        }""")
        answered(page, phrase, 10)
        if len(phrase) >= 8:
            rounds.append(page.evaluate("held.rounds"))
    # The tops of the keys were read again, and the overview.
    assert 3 < max(rounds) <= 6 + 2


def seen_first(hits: list[Any]) -> list[Any]:
    return sorted(hits, key=lambda hit: not hit["steps"])


@pytest.mark.parametrize(
    "phrase",
    ["the river", "ré", "東", "京 naïve", "aaaa", "e", "zq", "<|document|>", "\ufeff", " "],
)
def test_the_page_shows_it(searching: Any, finished: Path, phrase: str) -> None:
    told = expected(Traced(finished), phrase, 10)
    page = searching.page
    page.locator("#wanted").fill(phrase)
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("#told p:not(.quiet)")
    count = told["count"]
    noun = "place" if count == 1 else "places"
    words = page.locator("#told").inner_text()
    assert words.startswith(f"{count:,} {noun} in the run's training texts; ")
    assert f"; {told['validation']:,} in those of validation." in words
    heads = page.locator("article h2").all_inner_texts()
    hits = seen_first(told["hits"])
    assert heads == [hit["document"] for hit in hits]
    for hit, article in zip(hits, page.locator("article").all(), strict=True):
        assert hit["context"][1] == phrase
        links = article.locator("a[href^=step]").all_inner_texts()
        assert links == [f"step {step}, row {row}" for step, row in hit["steps"]]
    assert "request" in page.locator("#cost").inner_text()
    assert searching.wrong == []


def test_a_pasted_text_of_two_lines_is_found(searching: Any, finished: Path) -> None:
    """A paste keeps its line break, Shift+Enter types one, and Enter searches."""
    page = searching.page
    documents = Documents.open(finished)
    text = next(
        text[at - 8 : at + 9]
        for text in (documents.get(index)["text"] for index in range(documents.count))
        for at in [text.find("\n", 8, -9)]
        if at > 0
    )
    first, second = text.split("\n", 1)
    told = expected(Traced(finished), text)
    page.get_by_label("Text").focus()
    page.keyboard.insert_text(text)
    assert page.locator("#wanted").input_value() == text
    page.locator("#wanted").fill("")
    page.keyboard.type(first)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type(second)
    page.keyboard.press("Enter")
    page.wait_for_selector("#told p:not(.quiet)")
    assert page.locator("#wanted").input_value() == text
    assert page.locator("#told").inner_text().startswith(f"{told['count']} place")
    assert told["count"] + told["validation"] > 0
    assert searching.wrong == []


def test_a_text_without_a_place_gets_advice(searching: Any) -> None:
    page = searching.open("search.html#THE%20river")
    page.wait_for_selector("#told p:not(.quiet)")
    told = page.locator("#told").inner_text()
    assert told.startswith("0 places")
    assert "Capitals, blanks and line breaks count. Try fewer words." in told
    page.evaluate("location.hash = 'the%20river'")
    page.wait_for_selector("article mark")
    assert "Capitals" not in page.locator("#told").inner_text()


def test_places_that_a_step_saw_come_first(searching: Any) -> None:
    page = searching.open("search.html#the%20river")
    page.wait_for_selector("article mark")
    heads = page.evaluate("""drawnAll([[], [[3, 1]], [], [[2, 0]]].map((steps, index) => ({
        index, offset: 0, end: 1, document: String(index), context: ["", "a", ""], steps,
    }))).map((article) => article.innerText)""")
    assert [head[0] for head in heads] == ["1", "3", "0", "2"]
    assert "step 3, row 1" in heads[0] and "No step trained on it" in heads[2]


def test_a_place_leads_to_its_row(searching: Any) -> None:
    page = searching.open("search.html#the%20river")
    page.wait_for_selector("article mark")
    link = page.locator("article a[href^=step]").last
    row = link.inner_text().rpartition(" ")[2]
    link.click()
    page.wait_for_url(f"**/step.html#*:{row}")
    page.wait_for_selector("main:not([aria-busy]) mark")
    assert page.locator("mark").all_inner_texts() == [f"Row {row}"]
    assert "the river" in page.locator("article.row:focus").inner_text()
    assert searching.wrong == []


def test_more_places_are_shown_by_a_button(searching: Any, finished: Path) -> None:
    told = expected(Traced(finished), "the river")
    page = searching.open("search.html#the%20river")
    page.wait_for_selector("article mark")
    assert page.locator("article").count() == 10 < told["count"]
    while (button := page.get_by_role("button", name="Show more")).count():
        shown = page.locator("article").count()
        button.click()
        page.locator("article").nth(shown).wait_for()
    heads = page.locator("article h2").all_inner_texts()
    tens = [told["hits"][at : at + 10] for at in range(0, told["count"], 10)]
    assert heads == [hit["document"] for ten in tens for hit in seen_first(ten)]
    page.locator("article h2 a").last.click()
    page.wait_for_selector("mark")
    assert page.locator("mark").inner_text() == "the river"
    assert searching.wrong == []


def test_a_place_over_a_cut_leads_to_its_document(
    browser: Any, tmp_path: Path, corpus: Path
) -> None:
    settings = ["data.max_document_characters=120", "data.split=texts"]
    run = finish(make_run(tmp_path / "run", corpus, settings))
    publish(run)
    documents = Documents.open(run)
    rows = [documents.get(index) for index in range(documents.count)]
    ends = [one["id"].endswith("#1") and one["split"] == "train" for one in rows]
    first = ends.index(True)
    phrase = (rows[first]["text"][-40:] + rows[first + 1]["text"][:40]).strip()
    with watched(browser, run, "http") as at:
        page = at.open("search.html")
        told = expected(Traced(run), phrase)
        assert answered(page, phrase) == told and told["count"]
        page.locator("#wanted").fill(phrase)
        page.keyboard.press("Enter")
        page.locator("article h2 a").first.click()
        page.wait_for_selector("mark")
        assert page.locator("h1").inner_text() == rows[first]["id"]
        assert rows[first]["text"].endswith(page.locator("mark").text_content())
        assert at.wrong == []
    assert problems(run) == set()
    path = run / "site" / "data" / "seams" / "00000.js"
    path.write_bytes(packed("seams/00000", [b'{"first":0,"seams":[]}']))
    assert problems(run) == {("FileDiffers", "site/data/seams/00000.js")}


def test_results_pass_axe(browser: Any, finished: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with watched(browser, finished, "http", bypass_csp=True) as at:
        page = at.open("search.html#the%20river")
        page.wait_for_selector("article mark")
        report = Axe().run(page).response
        assert [(one["id"], one["nodes"][0]["html"]) for one in report["violations"]] == []


def test_the_last_of_two_texts_is_told(searching: Any, finished: Path) -> None:
    page = searching.page
    page.evaluate("location.hash = 'river'; setTimeout(() => { location.hash = 'stone'; }, 20);")
    page.wait_for_selector("article mark:has-text('stone')")
    assert {*page.locator("article mark").all_inner_texts()} == {"stone"}


def test_few_bytes_are_read(browser: Any, finished: Path) -> None:
    with serving(finished) as server:
        page = browser.new_context().new_page()
        page.goto(f"{server.url}/site/search.html#the%20river")
        page.wait_for_selector("article mark")
        read = [request for request in server.requests if request.path.startswith("trace/0")]
        assert read and all(request.ranged for request in read)
        whole = sum(path.stat().st_size for path in (finished / "trace").iterdir())
        assert sum(request.stop - request.start for request in read) < whole
        page.context.close()


def whole_files(folder: Path) -> Any:
    def whole(request: Request, answer: Answer) -> Answer:
        if not request.ranged:
            return answer
        return answer._replace(status=200, body=(folder / request.path).read_bytes())

    return whole


@contextlib.contextmanager
def on_a_host_without_ranges(browser: Any, folder: Path) -> Iterator[Any]:
    """The page "search", open."""
    with serving(folder) as server:
        server.fault = whole_files(folder)
        page = browser.new_context().new_page()
        page.goto(f"{server.url}/site/search.html")
        page.wait_for_selector("h1")
        yield page
        page.context.close()


def test_a_host_without_ranges_sends_small_files_whole(browser: Any, finished: Path) -> None:
    with on_a_host_without_ranges(browser, finished) as page:
        assert answered(page, "the river") == expected(Traced(finished), "the river")


def test_a_host_without_ranges_is_named_where_a_file_is_large(browser: Any, finished: Path) -> None:
    with on_a_host_without_ranges(browser, finished) as page:
        # As if the shards were large.
        page.evaluate("""Reader.prototype.file = ((file) => function (path, size) {
            return file.call(this, path, path.endsWith(".bin") ? size + (8 << 20) : size);
        })(Reader.prototype.file); null""")
        page.evaluate("location.hash = 'the river'")
        page.wait_for_selector("#told [role=alert]")
        told = page.locator("[role=alert]").inner_text()
        assert "does not send parts of files (HTTP Range)" in told and ".bin has" in told
        assert "pellucid view ." in page.locator("#hits").inner_text()


def positions_beyond(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def ids_beyond(path: Path) -> None:
    path.write_bytes(b"\xff\x7f" * (path.stat().st_size // 2))


def old(path: Path) -> None:
    path.write_text(path.read_text().replace('"every": 64', '"every": 4096'))


def elsewhere(path: Path) -> None:
    path.write_text(path.read_text().replace("00000.train.bin", "../../recipe.toml"))


def missing(path: Path) -> None:
    path.unlink()


DAMAGES = [
    ("trace/00000.positions", positions_beyond, "has a position after the end of its text"),
    ("trace/00000.positions", shorter, "trace/00000.positions is shorter than its index says"),
    ("trace/00000.top", missing, "trace/00000.top is missing from this host"),
    ("data/shards/00000.train.bin", ids_beyond, "has a token that is not in the vocabulary"),
    ("data/shards/00000.train.documents.bin", positions_beyond, "is not the table of this index"),
    ("trace/manifest.json", old, "is of another version"),
    ("trace/manifest.json", shorter, "trace/manifest.json is not JSON"),
    ("data/shards/manifest.json", elsewhere, "does not describe an index"),
]


@pytest.mark.parametrize(("name", "damage", "words"), DAMAGES)
def test_a_damaged_file_is_named(
    browser: Any, release: Path, name: str, damage: Any, words: str
) -> None:
    damage(release / name)
    with watched(browser, release, "http") as at:
        page = at.open("search.html#river")
        page.wait_for_selector("#told [role=alert]")
        assert words in page.locator("#told").inner_text()
        assert not [line for line in at.wrong if not re.search(f"404|416|{name}", line)]


def test_a_key_order_that_lies_ends(browser: Any, release: Path) -> None:
    for name in ("top", "keys"):
        positions_beyond(release / "trace" / f"00000.{name}")
    with watched(browser, release, "http") as at:
        page = at.open("search.html#river")
        page.wait_for_selector("#told p:not(.quiet)")
        assert re.match(r"[0-9,]+ places in the run's", page.locator("#told").inner_text())


def test_a_text_that_reads_too_much_is_refused(searching: Any) -> None:
    page = searching.page
    page.evaluate("""Reader.prototype.spend = ((spend) => function (requests, size) {
        return spend.call(this, requests, size * 1e6);
    })(Reader.prototype.spend); null""")
    page.evaluate("location.hash = 'e'")
    page.wait_for_selector("#told [role=alert]")
    assert "would read more than" in page.locator("#told").inner_text()


def test_a_run_without_an_index_says_so(browser: Any, release: Path) -> None:
    shutil.rmtree(release / "trace")
    shutil.rmtree(release / "site")
    publish(release)
    with watched(browser, release, "http") as at:
        page = at.open("search.html#river")
        assert "has no index of its texts" in page.locator("#told").inner_text()
        assert at.wrong == []
