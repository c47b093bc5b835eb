"""What stored states write, on the page Checkpoints: by rule, and computed again by an audit."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pellucid.data.documents import Documents
from pellucid.release.publish import publish
from pellucid.site import samples
from pellucid.site.check import check
from pellucid.site.data import NoSuchFile, Site
from pellucid.site.pack import canonical, packed, unpacked
from pellucid.store import layout
from tests.conftest import pellucid
from tests.site.conftest import passes_axe, watched

FILE = f"site/data/{samples.NAME}.js"
REFUSED = [("FileDiffers", FILE)]


@pytest.fixture(scope="session")
def written(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with samples, as the verb publishes it. Only to be read."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("runs") / "written"))
    pellucid("publish", folder, "--samples")
    return folder


@pytest.fixture
def own(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "own"))


def held(folder: Path) -> dict[str, Any]:
    (piece,) = unpacked((folder / FILE).read_bytes(), samples.NAME, 1 << 20, FILE)
    return json.loads(piece)


def put(folder: Path, *pieces: bytes) -> list[tuple[str, str]]:
    """Other pieces in place of the file's, and what check says of them."""
    (folder / FILE).write_bytes(packed(samples.NAME, pieces))
    return [(problem.error, problem.where) for problem in check(folder)]


def test_prompts_and_states_follow_from_the_record(written: Path) -> None:
    about = held(written)
    texts = [
        text
        for batch in Documents.open(written).rows(["text"], split="validation")
        for text in batch.column("text").to_pylist()
    ]
    assert len(about["prompts"]) == 3 and about["tokens"] == 32
    for prompt, text in zip(about["prompts"], texts, strict=False):
        assert text.startswith(prompt) and 20 < len(prompt) <= 40
    anchors = layout.steps_in(written / layout.ANCHORS)
    assert [state["step"] for state in about["states"]] == anchors[:8] and len(anchors) < 9
    assert all(len(state["texts"]) == 3 for state in about["states"])


@pytest.mark.parametrize("count", [1, 8, 9, 23, 1000])
def test_states_are_spread_from_the_first_to_the_last(count: int) -> None:
    spread = samples._spread(list(range(count)))
    gaps = [b - a for a, b in itertools.pairwise(spread)]
    assert len(spread) == min(count, 8) and (spread[0], spread[-1]) == (0, count - 1)
    assert not gaps or 0 < min(gaps) <= max(gaps) <= min(gaps) + 1


def test_prompts_are_words_that_a_terminal_takes(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        "",
        " \n",
        "a\u202eb",
        "\x1b[1m",
        "one",
        "one\n",
        "x" * 99,
        "a bc\td e f g",
        "last one",
    ]
    monkeypatch.setattr(samples, "_texts", lambda folder: iter(texts))
    assert [*samples._prompts(finished)] == ["one", "x" * 40, "a bc d e f g", "last one"]


def test_verify_and_the_audit_agree_and_publishing_again_changes_nothing(own: Path) -> None:
    assert [*check(own)] == []
    done = pellucid("audit", own, "--samples")
    states, count = len(held(own)["states"]), 3 * len(held(own)["states"])
    assert done.stdout.endswith(f"{count} texts of {states} states computed again: as published\n")
    before = (own / layout.MANIFEST).read_bytes()
    pellucid("publish", own, "--samples")
    assert (own / layout.MANIFEST).read_bytes() == before


def test_an_audit_names_a_text_that_no_state_writes(own: Path) -> None:
    about = held(own)
    about["states"][2]["texts"][1] += " wise words"
    assert put(own, canonical(about)) == []
    step, prompt = about["states"][2]["step"], about["prompts"][1]
    done = pellucid("audit", own, "--samples", check=5)
    assert f"step {step}: writes another text behind {prompt!r}" in done.stdout
    assert f"AuditFailed: {own}" in done.stderr and f"samples of step {step}" in done.stderr
    told = json.loads(pellucid("audit", own, "--samples", "--json", check=5).stdout)
    assert told["differing"] == [{"step": step, "prompt": prompt}] and not told["ok"]


def prompt_edited(about: Any) -> None:
    about["prompts"][0] = "A prompt of the maker's choice"


def state_left_out(about: Any) -> None:
    del about["states"][0]


def other_step(about: Any) -> None:
    about["states"][0]["step"] = 7


def text_left_out(about: Any) -> None:
    del about["states"][0]["texts"][0]


def letters_for_texts(about: Any) -> None:
    about["states"][0]["texts"] = "abc"


def number_for_text(about: Any) -> None:
    about["states"][0]["texts"][0] = 1


def more_tokens(about: Any) -> None:
    about["tokens"] = 64


def another_field(about: Any) -> None:
    about["states"][0]["loss"] = 0.1


CHANGES = [
    *(prompt_edited, state_left_out, other_step, text_left_out, letters_for_texts),
    *(number_for_text, more_tokens, another_field),
]


@pytest.mark.parametrize("change", CHANGES)
def test_all_but_the_texts_is_compared(own: Path, change: Callable[[Any], None]) -> None:
    about = held(own)
    change(about)
    assert put(own, canonical(about)) == REFUSED
    assert "FormatInvalid" in pellucid("audit", own, "--samples", check=None).stderr


def test_a_file_in_another_form_is_refused(own: Path) -> None:
    piece = canonical(held(own))
    for pieces in ([piece, b""], [piece + b" "], [b"[]"], [b"[" * 900], [b"\xff"], [b"0" * 2**20]):
        assert put(own, *pieces) == REFUSED


def test_a_site_may_have_none_and_a_large_model_has_none(
    own: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NoSuchFile):
        list(Site(finished).pieces(samples.NAME))
    assert "FileMissing" in pellucid("audit", finished, "--samples", check=None).stderr
    monkeypatch.setattr(samples, "_PARAMETERS", 1000)
    told = {(problem.error, problem.where) for problem in check(own)}
    assert told == {("FileAdded", FILE), ("FileDiffers", "site/data/overview.js")}
    publish(own, written=samples.blank)
    assert not (own / FILE).exists() and [*check(own)] == []


def test_options_that_choose_steps_are_refused(finished: Path) -> None:
    for words in (["--step", "3"], ["--steps", "1"], ["--all"], ["--seed", "0"], ["--dry-run"]):
        done = pellucid("audit", finished, "--samples", *words, check=2)
        assert "--samples" in done.stderr


def test_the_command_beside_a_text_prints_it(
    browser: Any, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = held(written)
    monkeypatch.chdir(written)
    with watched(browser, written, "file") as at:
        page = at.open("checkpoints.html")
        shown = page.locator(".sample")
        assert shown.count() == 3 * len(about["states"])
        for number in (0, len(about["states"]) + 1, shown.count() - 1):
            sample = shown.nth(number)
            sample.locator("summary").click()
            words = shlex.split(sample.locator(".command").inner_text())
            assert words[:2] == ["pellucid", "sample"]
            text = sample.locator("pre.text").text_content()
            assert pellucid(*words[1:]).stdout == text + "\n"
        assert at.wrong == []
    passes_axe(browser, written, "checkpoints.html")
