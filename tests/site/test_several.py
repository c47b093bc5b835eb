"""`pellucid view A B`: curves of other runs over those of the first."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid.errors import CommandInvalid, NotTrained, RunMissing, RunTwice
from pellucid.site.data import Site
from pellucid.site.view import server
from pellucid.store import layout
from pellucid.store.home import home
from tests.conftest import finish, make_run, pellucid
from tests.serving import serving
from tests.site.conftest import Watched, passes_axe_at
from tests.site.reading import value
from tests.site.test_view import until_told
from tests.site.viewing import Growing, browsing

BOLD = "<img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="session")
def longer(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run of more steps and another batch, with the name of the other one, in a folder whose name
    would break a careless page."""
    settings = ["train.steps=20", "train.batch=6", "name=small"]
    folder = finish(make_run(tmp_path_factory.mktemp("runs") / "longer", corpus, settings))
    return folder.rename(folder.with_name(BOLD))


def named(run: Path) -> str:
    """As pages tell of one of two runs with one name."""
    return f"small ({run})".replace("\u202e", "U+202E")


def loss_of(folder: Path) -> list[float]:
    return value(Site(folder), "curves/level0/00000")["series"]["loss"]


def test_the_server_has_the_curves_of_the_others_and_nothing_else(
    finished: Path, longer: Path
) -> None:
    with browsing(finished, longer) as browser:
        about = browser.data("overview")
        assert (about["at"], about["others"]) == (str(finished), [str(longer)])
        for name in ("overview", "validation", "curves/level0/00000"):
            reply = browser.ask(f"/site/others/0/data/{name}.js")
            assert reply.status == 200 and reply.body.startswith(f'pellucid("{name}",'.encode())
        for path in (
            *("0/data/steps/00000.js", "0/data/texts/00000.js", "0/data/states.js"),
            *("0/data/tokenizer.js", "0/data/documents/00000.js", "0/recipe.toml"),
            *("1/data/overview.js", "-1/data/overview.js", "00/data/overview.js"),
            *("0/data/curves/../overview.js", "0/data/curves/level9/00000.js"),
        ):
            assert browser.ask(f"/site/others/{path}").status == 404, path


def test_the_documents_of_another_run_are_not_read(release: Path, finished: Path) -> None:
    shutil.rmtree(release / "data" / "documents")
    (release / layout.MANIFEST).unlink()
    with browsing(finished, release) as browser:
        assert browser.ask("/site/others/0/data/overview.js").status == 200
        assert browser.ask("/site/others/0/data/curves/level0/00000.js").status == 200
    with browsing(release) as browser:
        assert browser.ask("/site/data/overview.js").status != 200


def test_another_run_that_goes_on_is_told(finished: Path, release: Path) -> None:
    growing = Growing(release)
    growing.at(len(growing.lines) // 2)
    with browsing(finished, release) as browser:
        told = browser.ask("/site/live").json
        assert told["done"] == 13 and not told["ended"]
        while growing.length < len(growing.lines):
            growing.add()
        assert until_told(browser, told)["ended"]


def test_a_run_that_breaks_is_named_and_the_first_stays(finished: Path, release: Path) -> None:
    (release / layout.LEDGER).write_bytes(b"{}\n" * 9)
    with browsing(finished, release) as browser:
        assert browser.ask("/site/live").json["ended"]
        assert browser.data("overview")["steps_done"] == 13
        reply = browser.ask("/site/others/0/data/overview.js")
        assert (reply.status, reply.json["name"]) == (409, "FormatInvalid")


def test_no_link_of_another_run_is_followed(finished: Path, release: Path, tmp_path: Path) -> None:
    with browsing(finished, release) as browser:
        shutil.move(release / "metrics", tmp_path / "metrics")
        (release / "metrics").symlink_to(tmp_path / "metrics")
        reply = browser.ask("/site/others/0/data/curves/level0/00000.js")
        assert (reply.status, reply.json["name"]) == (409, "LinkInside")


def test_a_release_behind_a_url_is_another_run(finished: Path, longer: Path) -> None:
    with serving(finished) as served, browsing(longer, home(served.url)) as browser:
        assert browser.data("overview")["others"] == [served.url]
        assert browser.ask("/site/others/0/data/curves/level0/00000.js").status == 200


def test_the_same_run_twice(finished: Path, longer: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(finished)
    for others in ([finished], [longer, longer], [finished / ".." / finished.name],
                   [tmp_path / "link"]):  # fmt: skip
        with pytest.raises(RunTwice, match="Name each run once"):
            server(finished, 0, others)
    with serving(finished) as served, pytest.raises(RunTwice):
        server(home(served.url), 0, [home(f"{served.url}/")])


def test_no_run_or_one_without_steps(finished: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RunMissing):
        server(finished, 0, [tmp_path])
    with pytest.raises(NotTrained, match="no curve to draw"):
        server(finished, 0, [make_run(tmp_path / "new", corpus)])
    with pytest.raises(CommandInvalid, match="more than 8 runs"):
        server(finished, 0, [tmp_path / str(number) for number in range(8)])
    told = pellucid("view", finished, finished, "--no-open", check=2)
    assert "RunTwice" in told.stderr


def opened(browser: Any, port: int, name: str, **context: Any) -> Watched:
    at = Watched(browser.new_context(**context).new_page(), f"http://127.0.0.1:{port}")
    at.open(name)
    return at


def label(at: Watched, title: str) -> str:
    return at.page.locator(f"svg[aria-label^='{title}:']").get_attribute("aria-label")


@pytest.mark.parametrize("name", ["index.html", "timeline.html"])
def test_curves_lie_over_each_other_and_are_switched_by_keyboard(
    browser: Any, finished: Path, longer: Path, name: str
) -> None:
    own, other = loss_of(finished), loss_of(longer)
    with browsing(finished, longer) as server:
        at = opened(browser, server.port, name)
        told = label(at, "Training loss")
        for run, losses in ((finished, own), (longer, other)):
            assert f"{named(run)} from {losses[0]:.4f} to {losses[-1]:.4f}; " in told
        assert told.endswith("; steps 0 to 20")
        assert named(longer) in label(at, "Validation")
        group = at.page.get_by_role("group", name="Runs")
        assert named(longer) in group.inner_text()
        curves = at.page.locator("svg[aria-label^='Training loss:'] .curve")
        looks = [curve.get_attribute("class") for curve in curves.all()]
        assert looks == ["curve c0", "curve c1"]
        group.get_by_role("checkbox").focus()
        at.page.keyboard.press("Space")
        at.page.wait_for_selector("svg[aria-label^='Training loss:'][aria-label$='steps 0 to 13']")
        assert named(longer) not in label(at, "Training loss") + label(at, "Validation")
        assert at.page.evaluate("document.activeElement.id") == "run1"
        at.page.keyboard.press("Space")
        at.page.wait_for_selector("svg[aria-label^='Training loss:'][aria-label$='steps 0 to 20']")
        assert at.wrong == []
        at.page.context.close()


def test_over_time_and_tokens_and_the_cursor_reads_both(
    browser: Any, finished: Path, longer: Path
) -> None:
    with browsing(finished, longer) as server:
        at = opened(browser, server.port, "timeline.html#tokens")
        tokens = value(Site(longer), "curves/level0/00000")["series"]["tokens"]
        assert label(at, "Training loss").endswith(f"tokens 0 to {tokens[-1]:,.0f}")
        at.page.locator("svg.chart:not(.swatch)").first.focus()
        for key in ("Home", "ArrowRight", "ArrowRight"):
            at.page.keyboard.press(key)
        told = at.page.locator("output.told").first.inner_text()
        # 3 steps of 4 rows have the tokens of 2 steps of 6.
        pattern = "step 3: {} [0-9.]+, {} [0-9.]+ at step 2$".format(
            *(re.escape(named(run)) for run in (finished, longer))
        )
        assert re.match(pattern, told), told
        at.page.locator("#axis").select_option("time")
        at.page.wait_for_selector("svg[aria-label*='seconds 0 to']")
        assert at.wrong == []
        at.page.context.close()


def test_a_part_behind_the_end_of_the_first_run_opens_no_step(
    browser: Any, finished: Path, longer: Path
) -> None:
    with browsing(finished, longer) as server:
        at = opened(browser, server.port, "timeline.html#14-20")
        chart = at.page.locator("svg[aria-label^='Training loss:']")
        assert label(at, "Training loss").endswith("steps 14 to 20")
        chart.click(position={"x": 400, "y": 100})
        assert "timeline.html#14-20" in at.page.url and chart.get_attribute("tabindex") is None
        assert at.wrong == []
        at.page.context.close()


def test_a_broken_run_is_named_on_the_page(browser: Any, finished: Path, release: Path) -> None:
    (release / layout.LEDGER).write_bytes(b"{}\n" * 9)
    with browsing(finished, release) as server:
        at = opened(browser, server.port, "timeline.html")
        told = at.page.locator("fieldset [role=alert]").inner_text()
        assert str(release) in told and "is left out: " in told and layout.LEDGER in told
        assert label(at, "Training loss").endswith("steps 0 to 13")
        # The browser tells of the answer.
        assert all("409" in one or "others/0/data/overview.js" in one for one in at.wrong)
        at.page.context.close()


@pytest.mark.parametrize("name", ["index.html", "timeline.html#time"])
def test_pages_of_two_runs_fit_a_phone_and_pass_axe(
    browser: Any, finished: Path, longer: Path, name: str
) -> None:
    with browsing(finished, longer) as server:
        passes_axe_at(browser, f"http://127.0.0.1:{server.port}", name)


def test_another_run_in_training_is_followed(browser: Any, finished: Path, release: Path) -> None:
    growing = Growing(release)
    growing.at(len(growing.lines) // 2)
    with browsing(finished, release) as server:
        at = opened(browser, server.port, "timeline.html")
        before = at.page.locator("svg[aria-label^='Training loss:'] .c1").inner_html()
        at.page.wait_for_timeout(2500)
        while growing.length < len(growing.lines):
            growing.add()
        at.page.wait_for_selector(
            "svg[aria-label^='Training loss:']"
            f"[aria-label*='({release}) from {loss_of(finished)[0]:.4f} to "
            f"{loss_of(finished)[-1]:.4f}']",
            timeout=20_000,
        )
        assert at.page.locator("svg[aria-label^='Training loss:'] .c1").inner_html() != before
        assert at.wrong == []
        at.page.context.close()
