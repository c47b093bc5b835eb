"""The check that holds the outputs in README and docs against a demo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench import tour
from tests.conftest import pellucid

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("expected", "actual", "without"),
    [
        ("a|b", "a|b", None),
        ("a|…", "a|b|c", None),
        ("a|…|d", "a|b|c|d", None),
        ("…|d", "a|d", None),
        ("in 2.5 s", "in 13.1 s", None),
        ("27,471 tokens/s", "9,001 tokens/s", None),
        ("loss 2.5", "loss 2.6", "loss 2.5"),
        ("a|b", "a", "a"),
        ("a", "a|b", "b"),
        ("a|…|d", "a|d|e", "d"),
        ("a|…|x|…|d", "a|b|c|d", "x"),
        ("a|b|…|b", "a|b|b", None),
        ("a|b|…|b", "a|b", "b"),
        ("a|…|b|…|b|c", "a|b|c", "b"),
        ("309.5 MB in demo", "309.6 MB in demo", None),
        ("127 files", "128 files", "127 files"),
    ],
)
def test_an_output_is_held_against_a_page(expected: str, actual: str, without: str | None) -> None:
    assert tour.missing(expected.split("|"), actual.split("|")) == without


def test_an_output_is_taken_anew_in_its_shape() -> None:
    assert tour.taken_anew(["a", "…", "d"], list("wxyz")) == ["w", "…", "z"]
    assert tour.taken_anew(["a", "…"], list("wxyz")) == ["w", "…"]
    assert tour.taken_anew(["a"], list("wx")) == ["w", "x"]
    kept = ["a in 2.5 s", "…", "c", "…", "e"]
    assert tour.taken_anew(kept, ["a in 3 s", *"bcde"]) == kept


def test_a_page_that_differs_is_found_and_written(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to(finished)
    page = tmp_path / "page.md"
    page.write_text("```\n$ pellucid status demo\nsmall  gone\n…\n```\n", "utf-8")
    assert tour.held(page, tmp_path, [], write=True) == 1
    first = pellucid("status", finished).stdout.splitlines()[0]
    assert page.read_text("utf-8") == f"```\n$ pellucid status demo\n{first}\n…\n```\n"
    assert tour.held(page, tmp_path, [], write=False) == 0


@pytest.mark.slow
def test_the_pages_show_what_the_demo_gives(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-u", "-m", "pellucid", "demo", "demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # In the order in which a terminal shows both.
        text=True,
        check=True,
    )
    log = tmp_path / "demo.log"
    log.write_text(done.stdout, "utf-8")
    command = [sys.executable, "bench/tour.py", str(tmp_path / "demo"), "--log", str(log)]
    held = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert held.returncode == 0, held.stdout
