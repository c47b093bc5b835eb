"""where, trace and sample --trace as a person and a script call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import pellucid
from tests.trace.conftest import Scanned


def as_json(*words: object) -> Any:
    return json.loads(pellucid(*words, "--json").stdout)


@pytest.fixture(scope="module")
def scanned(finished: Path) -> Scanned:
    return Scanned.of(finished)


def test_where_tells_a_person_and_a_script_the_same(finished: Path, scanned: Scanned) -> None:
    count = len(scanned.find(b"the river"))
    about = as_json("where", finished, "the river", "--limit", 2)
    told = pellucid("where", finished, "the river", "--limit", 2).stdout
    assert about["count"] == count > 2 and len(about["hits"]) == 2
    assert told.startswith(
        f"{count:,} places in the training texts, the first 2 in the documents' order"
    )
    for hit in about["hits"]:
        assert (
            f"{hit['document']}  character {hit['offset']:,}" in told
            and f"block {hit['block']}, " in told
        )
    assert len(as_json("where", finished, "the river", "--limit", 0)["hits"]) == count


def test_where_takes_a_file_and_a_step(finished: Path, scanned: Scanned, tmp_path: Path) -> None:
    text = scanned.texts[0][4:30]
    (tmp_path / "text").write_text(text + "\n")
    assert as_json("where", finished, "--file", tmp_path / "text") == as_json(
        "where", finished, text
    )
    assert as_json("where", finished, text, "--before", "step1")["count"] == 0
    assert as_json("where", finished, text.upper(), "--ignore-case")["count"] == len(
        scanned.find(text.encode())
    )
    assert as_json("where", finished, text.replace(" ", "\n"), "--fold-space")["count"] > 0


def test_a_file_is_read_as_the_texts_were_or_refused(
    finished: Path, scanned: Scanned, tmp_path: Path
) -> None:
    text = scanned.texts[0][4:30]
    path = tmp_path / "text"
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        path.write_bytes((text + "\n").encode(encoding))
        assert as_json("where", finished, "--file", path) == as_json("where", finished, text)
    for content in (
        text.encode("utf-16-le"),
        "Привет".encode("koi8-r"),
        f"{text} café".encode("latin-1"),
    ):
        path.write_bytes(content)
        told = pellucid("where", finished, "--file", path, check=2).stderr
        assert f"TextInvalid: The text is not Unicode: {path} is not UTF-8" in told


def test_trace_shows_the_text_and_its_spans(finished: Path, scanned: Scanned) -> None:
    known = scanned.texts[0][4:50]
    about = as_json("trace", finished, f"¤¤ {known}¤¤")
    told = pellucid("trace", finished, f"¤¤ {known}¤¤").stdout
    assert known in about["spans"][0]["text"] and about["spans"][0]["start"] in (2, 3)
    assert told.startswith(f"¤¤ {known}¤¤\n") and scanned.ids[0] in told
    assert "no span of 24 or more characters" in pellucid("trace", finished, "¤" * 30).stdout


def test_sample_traces_what_it_writes_to_what_its_model_had_seen(finished: Path) -> None:
    words = ("sample", finished, "--step", 7, "--prompt", "light", "--tokens", 40)
    plain, traced = as_json(*words), as_json(*words, "--trace")
    assert traced["text"] == plain["text"] and traced["before"] == 8
    assert all(step["step"] < 8 for span in traced["spans"] for step in span["steps"])
    assert pellucid(*words, "--trace").stdout.startswith(pellucid(*words).stdout.rstrip("\n"))


def test_what_a_text_holds_never_reaches_the_terminal_raw(finished: Path) -> None:
    assert "\x1b" not in pellucid("trace", finished, "a\x1b[31m red \x07 the river " * 3).stdout
    assert pellucid(
        "where", finished, b"\xff\xfe".decode("utf-8", "surrogateescape")
    ).stdout.startswith("0 places")


@pytest.mark.parametrize("words", [(), ("a", "b", "c")])
@pytest.mark.parametrize("verb", ["where", "trace"])
def test_other_numbers_of_words_are_refused(verb: str, words: tuple[str, ...]) -> None:
    assert "CommandInvalid" in pellucid(verb, *words, check=2).stderr


def test_nothing_and_no_run_are_named(finished: Path, tmp_path: Path) -> None:
    assert "QueryEmpty" in pellucid("where", finished, "", check=2).stderr
    assert "QueryEmpty" in pellucid("trace", finished, "", check=2).stderr
    assert "TextInvalid" in pellucid("sample", finished, "--prompt", "\udcff", check=2).stderr
    assert "no such file" in pellucid("where", finished, "--file", tmp_path / "no", check=2).stderr
    assert pellucid("where", tmp_path, "text", check=2).stderr.startswith("pellucid: ")
