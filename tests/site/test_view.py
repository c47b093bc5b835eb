"""`pellucid view`: what the server answers, what it refuses, and a run that goes on."""

from __future__ import annotations

import base64
import gc
import hashlib
import http.client
import json
import re
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.errors import FileMissing, PortUnusable, RunMissing
from pellucid.site import shell, steps
from pellucid.site.data import NoSuchFile, Site
from pellucid.site.pack import unpacked
from pellucid.site.view import View, server
from pellucid.store import layout
from tests.conftest import finish, make_run, pellucid
from tests.site.viewing import Browser, Growing, browsing, contents


@pytest.fixture
def browser(finished: Path) -> Iterator[Browser]:
    with browsing(finished) as browser:
        yield browser


def test_it_serves_the_shell_the_data_and_the_files_of_the_run(finished: Path) -> None:
    with browsing(finished) as browser:
        start = browser.ask("/")
        assert (start.status, start.headers["Location"]) == (302, "/site/index.html")
        page = browser.ask("/site/index.html")
        assert (page.status, page.body) == (200, shell.files()["index.html"])
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = page.headers["Content-Security-Policy"]
        step = browser.ask("/site/step.html").body.decode()
        early = re.search("<script data[^>]*>(.+?)</script>", step, re.DOTALL)
        assert early and step.count("<script data") == 1 and b"<script data" not in page.body
        digest = base64.b64encode(hashlib.sha256(early[1].encode()).digest()).decode()
        assert policy.startswith(f"default-src 'none'; script-src 'self' 'sha256-{digest}'; ")
        assert "unsafe" not in policy
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert page.headers["Cache-Control"] == "no-store"
        assert browser.ask("/site/other.html").status == 404
        for path in (
            "recipe.toml",
            layout.LEDGER,
            "model.safetensors",
            "data/shards/00000.train.bin",
        ):
            reply = browser.ask(f"/{path}")
            assert (reply.status, reply.body) == (200, (finished / path).read_bytes())


def test_every_data_file_is_that_of_the_site(finished: Path, browser: Browser) -> None:
    expected = contents(finished)
    assert len(expected) >= 5
    for name, pieces in expected.items():
        reply = browser.ask(f"/site/data/{name}.js")
        assert reply.headers["Content-Type"] == "text/javascript; charset=utf-8"
        served = unpacked(reply.body, name, 1 << 24, name, Site(finished).dictionary(name))
        if name == "overview":
            about = json.loads(served[0])
            mark = browser.ask("/site/live").json["mark"]
            assert about.pop("live") == mark and about.pop("sealed") is True
            assert about == json.loads(pieces[0])
        else:
            assert served == pieces


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "steps/99999",
        "texts/00001",
        "documents/00001",
        "curves/level1/00000",
        "curves/level0/00001",
        "steps/1",
    ],
)
def test_an_unknown_data_file_is_missing(browser: Browser, name: str) -> None:
    reply = browser.ask(f"/site/data/{name}.js")
    assert reply.status == 404 and name in reply.json["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/../recipe.toml",
        "/site/../recipe.toml",
        "/site/../../../../etc/passwd",
        "/site/%2e%2e/recipe.toml",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/site/data/../../recipe.toml",
        "/site/data/..%2f..%2frecipe.js",
        "/..\\recipe.toml",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/recipe%2etoml",
        "/record/../recipe.toml",
        "/record/",
        "/record",
        "/.env",
        "/notes.html",
        "/recipe.toml/",
        "/recipe.toml%00.js",
        "/site/view.py",
        "/site/shell/index.html",
        "/site/data/overview",
        "http://127.0.0.1/recipe.toml",
        "*",
    ],
)
def test_nothing_but_what_the_lists_name_is_served(release: Path, path: str) -> None:
    (release / ".env").write_text("secret")
    (release / "notes.html").write_text("<script>alert(1)</script>")
    with browsing(release) as browser:
        reply = browser.ask(path)
        assert reply.status in (403, 404) and "error" in reply.json


def test_no_link_is_followed(release: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with browsing(release) as browser:
        (release / "LICENSE").unlink()
        (release / "LICENSE").symlink_to(tmp_path / "secret")
        shutil.move(release / "record", tmp_path / "record")
        (release / "record").symlink_to(tmp_path / "record")
        for path in ("LICENSE", "record/journal.jsonl"):
            reply = browser.ask(f"/{path}")
            assert reply.status == 409 and reply.json["name"] in ("FormatInvalid", "PathUnsafe")


def test_the_data_do_not_come_from_a_folder_of_the_release(release: Path) -> None:
    (release / "site" / "index.html").write_text("forged")
    (release / "site" / "data" / "overview.js").write_text("forged()")
    with browsing(release) as browser:
        for path in ("/site/index.html", "/site/data/overview.js"):
            assert b"forged" not in browser.ask(path).body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 302),
        ({"Host": "localhost:PORT"}, 302),
        ({"Host": "LOCALHOST:PORT"}, 302),
        ({"Host": "127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Host": "evil.example:PORT"}, 403),
        ({"Host": "127.0.0.1.evil.example:PORT"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://127.0.0.1:PORT"}, 302),
        ({"Origin": "http://localhost:PORT"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 302),
        ({"Sec_Fetch_Site": "none"}, 302),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Content_Length": "5"}, 400),
        ({"Transfer_Encoding": "chunked"}, 400),
    ],
)
def test_other_pages_and_other_hosts_are_refused(
    browser: Browser, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.replace("PORT", str(browser.port)) for name, value in headers.items()}
    reply = browser.ask("/", **sent)
    assert reply.status == status
    assert status == 302 or reply.json["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(browser: Browser, method: str) -> None:
    reply = browser.ask("/recipe.toml", method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
    assert reply.headers["Connection"] == "close"


@pytest.mark.parametrize("path", ["/recipe.toml", "/site/data/overview.js", "/site/live", "/no"])
def test_head_has_the_headers_of_get(browser: Browser, path: str) -> None:
    asked, headed = browser.ask(path), browser.ask(path, "HEAD")
    assert headed.body == b"" and headed.status == asked.status
    asked.headers.pop("Date"), headed.headers.pop("Date")
    assert headed.headers == asked.headers
    assert int(asked.headers["Content-Length"]) == len(asked.body)


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=5-", 5, None),
        ("bytes=-7", -7, None),
        ("bytes=5-999999999999999999", 5, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_range(
    finished: Path, browser: Browser, asked: str, first: int, stop: int | None
) -> None:
    whole = (finished / "recipe.toml").read_bytes()
    reply = browser.ask("/recipe.toml", Range=asked)
    assert (reply.status, reply.body) == (206, whole[first:stop])
    start = first % len(whole)
    told = f"bytes {start}-{start + len(reply.body) - 1}/{len(whole)}"
    assert reply.headers["Content-Range"] == told


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=-0"])
def test_a_range_that_is_not_there(finished: Path, browser: Browser, asked: str) -> None:
    reply = browser.ask("/recipe.toml", Range=asked)
    size = (finished / "recipe.toml").stat().st_size
    assert (reply.status, reply.body) == (416, b"")
    assert reply.headers["Content-Range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "bytes=9-5", "bytes=-", "lines=0-1", f"bytes={'9' * 30}-"]
)
def test_a_range_of_another_form_gets_the_whole(
    finished: Path, browser: Browser, asked: str
) -> None:
    reply = browser.ask("/recipe.toml", Range=asked)
    assert (reply.status, reply.body) == (200, (finished / "recipe.toml").read_bytes())


def test_a_connection_is_used_again(browser: Browser) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=60)
    for path in ("/site/live", "/no", "/recipe.toml", "/site/live"):
        connection.request("GET", path)
        assert connection.getresponse().read()
    connection.close()


def test_a_page_without_its_folder_is_shown_in_it(browser: Browser) -> None:
    for name in shell.files():
        reply = browser.ask(f"/{name}")
        assert (reply.status, reply.headers["Location"]) == (302, f"/site/{name}")


def test_no_data_come_through_a_link(release: Path, tmp_path: Path) -> None:
    with browsing(release) as browser:
        assert browser.ask("/site/data/steps/00000.js").status == 200
        shutil.move(release / "metrics", tmp_path / "metrics")
        (release / "metrics").symlink_to(tmp_path / "metrics")
        for name in ("overview", "steps/00000", "texts/00000"):
            reply = browser.ask(f"/site/data/{name}.js")
            assert (reply.status, reply.json["name"]) == (409, "LinkInside")


def test_a_run_that_goes_on(release: Path) -> None:
    run = Growing(release)
    run.at(3)
    with browsing(release) as browser:
        before = browser.ask("/site/live").json
        assert before == browser.ask("/site/live").json and not before["ended"]
        while run.length < len(run.lines):
            overview = browser.data("overview")
            assert overview["steps_done"] == run.step
            assert overview["live"] == browser.ask("/site/live").json["mark"]
            curves = browser.data("curves/level0/00000")
            assert len(curves["series"].get("loss", [])) == run.step
            steps = browser.data("steps/00000")
            assert named(steps, steps["entries"][-1])["step"] == run.step
            run.add()
            after = until_told(browser, before)
            assert after["done"] == run.step
            before = after
        assert before["ended"] and browser.data("overview")["finished"]


def named(pack: dict, entry: list) -> dict:
    """What an entry of a pack holds, by its keys."""
    return dict(zip(pack["keys"][entry[0]], entry[1:], strict=True))


def until_told(browser: Browser, before: dict) -> dict:
    """What is told of the run once that is something else."""
    for _ in range(3000):
        if (after := browser.ask("/site/live").json) != before:
            return after
    raise AssertionError("nothing new")


def test_what_a_page_loads_behind_an_overview_is_of_the_same_run(release: Path) -> None:
    run = Growing(release)
    run.at(len(run.lines) - 8)
    with browsing(release) as browser:
        done = browser.data("overview")["steps_done"]
        told = browser.ask("/site/live").json
        run.at(len(run.lines))
        until_told(browser, told)
        assert len(browser.data("curves/level0/00000")["series"]["loss"]) == done
        assert browser.data("overview")["steps_done"] == 13
        assert len(browser.data("curves/level0/00000")["series"]["loss"]) == 13


def test_a_run_that_goes_on_while_it_is_read(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file goes away under the reader's hands: the answer is made again, of the run as it then
    stands. Where the run stands still, the fault is told."""
    run = Growing(release)
    run.at(9)
    pieces, faults = View._pieces, ["the first time"]

    def gone(self: View, site: Site, name: str, mark: str) -> Iterator[bytes]:
        if "the first time" in faults:
            run.at(12)
        if faults:
            raise FileMissing(path=faults.pop())
        return pieces(self, site, name, mark)

    with browsing(release) as browser:
        before = browser.data("overview")["steps_done"]
        monkeypatch.setattr(View, "_pieces", gone)
        assert browser.data("overview")["steps_done"] > before
        faults += ["again"]
        reply = browser.ask("/site/data/overview.js")
        assert reply.status == 404 and reply.json["name"] == "FileMissing"


def test_the_data_are_read_once(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the ledger grows: a million documents are not counted again for every step."""
    from pellucid.site import data

    counted = []
    corpus = data.corpus
    monkeypatch.setattr(data, "corpus", lambda *given: counted.append(1) or corpus(*given))
    run = Growing(release)
    run.at(5)
    with browsing(release) as browser:
        for length in range(6, len(run.lines)):
            told = browser.ask("/site/live").json
            browser.data("overview")
            run.at(length)
            until_told(browser, told)
    assert counted == [1]


def test_other_data_are_read_again(release: Path) -> None:
    with browsing(release) as browser:
        assert browser.data("overview")["documents"] == 40
        told = browser.ask("/site/live").json
        shutil.rmtree(release / "record"), shutil.rmtree(release / "data")
        until_told(browser, told)
        overview = browser.data("overview")
        assert overview["data_made"] is False and "documents" not in overview


@pytest.mark.parametrize("stage", [None, "documents", "tokenizer", "shards"])
def test_a_run_before_its_training(corpus: Path, tmp_path: Path, stage: str | None) -> None:
    folder = make_run(tmp_path / "run", corpus)
    for name in ("documents", "tokenizer", "shards"):
        if stage is None:
            break
        finish(folder, name)
        if name == stage:
            break
    with browsing(folder) as browser:
        assert browser.ask("/site/live").json["done"] == 0
        overview = browser.data("overview")
        assert overview["steps_done"] == 0 and overview["data_made"] == (stage == "shards")
        for name in contents(folder):
            assert browser.ask(f"/site/data/{name}.js").status == 200


def test_a_fork_before_its_first_step(release: Path, tmp_path: Path) -> None:
    fork = tmp_path / "fork"
    pellucid("fork", release, "--step", 6, "--to", fork, "--set", "train.steps=14")
    with browsing(fork) as browser:
        overview = browser.data("overview")
        assert (overview["first"], overview["genesis"]) == (6, None)
        for name in contents(fork):
            assert browser.ask(f"/site/data/{name}.js").status == 200


def test_packs_of_steps_are_counted_from_step_0(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a fork too, so that a step's number tells its pack. In schema 1, from its first step."""
    fork = tmp_path / "fork"
    pellucid("fork", release, "--step", 6, "--to", fork, "--set", "train.steps=10")
    pellucid("run", fork)
    monkeypatch.setattr(steps, "STEPS", 4)
    told = {}
    for schema in (1, 2):
        site = Site(fork, schema=schema)
        names = [name for name in site.names() if name.startswith("steps/")]
        told[schema] = {name[-1]: json.loads(next(site.pieces(name)))["first"] for name in names}
        with pytest.raises(NoSuchFile):
            list(site.pieces("steps/00003"))
    assert told == {1: {"0": 6, "1": 10}, 2: {"1": 6, "2": 8}}


def test_a_damaged_run_is_told_by_name(release: Path) -> None:
    ledger = release / layout.LEDGER
    ledger.write_bytes(b"{}\n" * 9)
    with browsing(release) as browser:
        for path in ("/site/live", "/site/data/overview.js"):
            reply = browser.ask(path)
            assert reply.status == 409 and reply.json["name"] == "FormatInvalid"


def test_a_page_left_open_overnight_leaks_nothing(release: Path) -> None:
    """A poll every two seconds for over an hour, and another step at every fifth."""
    run = Growing(release)

    def night(browser: Browser, polls: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=60)
        for poll in range(polls):
            if poll % 5 == 0:
                run.at(5 + poll // 5 % (len(run.lines) - 5))
            connection.request("GET", "/site/live")
            connection.getresponse().read()
            if poll % 50 == 0:
                browser.data("overview")
                browser.data("curves/level0/00000")
        connection.close()

    with browsing(release) as browser:
        night(browser, 200)
        tracemalloc.start()
        night(browser, 200)
        gc.collect()
        before, opened = tracemalloc.get_traced_memory()[0], open_files()
        night(browser, 2500)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert after - before < 200_000
        assert open_files() <= opened + 2


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_viewing_changes_nothing(finished: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {
            path.relative_to(finished).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(finished.rglob("*"))
        }

    before = state()
    with browsing(finished) as browser:
        for name in contents(finished):
            browser.ask(f"/site/data/{name}.js")
        browser.ask("/trace/00000.keys", Range="bytes=0-31")
    assert state() == before


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunMissing):
        server(tmp_path)


def test_a_port_that_is_taken_is_named(finished: Path) -> None:
    with server(finished) as serving, pytest.raises(PortUnusable, match="--port"):
        server(finished, serving.server_port)
