"""What an error says of records without a text under their key: every key that it offers can be
read, and every command that it tells gives a file that can be."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pellucid.data import shown, sources
from pellucid.data.guess import guess
from pellucid.data.reasons import OF_CONTENT
from pellucid.errors import TextKeyMissing
from pellucid.recipe import Source
from pellucid.settings import settings_of
from tests.data.conftest import text_of
from tests.data.reading import pack
from tests.data.test_recognise import written

WORDS = [text_of(number, 9) for number in range(12)]


def chats(role: str, content: str, key: str = "messages") -> list[Any]:
    return [
        {"id": n, key: [{role: "ann", content: WORDS[n], "ts": n}, {role: "bob", content: "Yes."}]}
        for n in range(9)
    ]


def told(path: Path, recipe_of: Any, format: str = "jsonl") -> str:
    """The error of a file that is a source."""
    with pytest.raises(TextKeyMissing) as caught:
        sources.check(recipe_of({"name": "a", "path": path.name, "format": format}), path.parent)
    return str(caught.value)


def converted(message: str, folder: Path) -> list[str]:
    """The texts of the file that the last command of a message writes, as a source of its own."""
    command = message.rpartition("this writes: ")[2]
    before = set(folder.iterdir())
    subprocess.run(command, shell=True, check=True)
    (made,) = set(folder.iterdir()) - before
    (one,) = guess(str(made))
    assert not one.text_key
    source = Source(name=one.name, format=one.format, path=one.path)  # type: ignore[arg-type]
    return [one.text for one, _ in sources.Reader(source, "replace", 10**6, folder).documents()]


@pytest.mark.parametrize(
    ("rows", "says", "text"),
    [
        (chats("role", "text"), "the keys role, text, ts", f"ann: {WORDS[8]}\nbob: Yes."),
        (chats("from", "text", "turns"), '"turns" is a list', f"ann: {WORDS[8]}\nbob: Yes."),
        (chats("author", "message"), "the keys author, message", f"ann: {WORDS[8]}\nbob: Yes."),
        (chats("n", "said"), '"messages" is a list of objects', f"{WORDS[8]}\nYes."),
        (
            [{"data": one} for one in chats("role", "text")],
            '"data.messages" is a list',
            f"ann: {WORDS[8]}\nbob: Yes.",
        ),
        (
            [{"m": [{"by": {"role": "a"}, "in": {"text": one}}]} for one in WORDS[:9]],
            "by.role, in.text",
            f"a: {WORDS[8]}",
        ),
        (
            [{"text": WORDS[n : n + 2]} for n in range(9)],
            '"text" is a list of strings',
            "\n\n".join(WORDS[8:10]),
        ),
        (WORDS[:9], "The records are strings", WORDS[8]),
        (
            [{"q": "why?", "a": one} for one in WORDS[:9]],
            "q (9), a (9)",
            f"why?\n\n{WORDS[8]}",
        ),
        (
            [{"qa": {"frage": "why?", "antwort": one}} for one in WORDS[:9]],
            "make one text of qa.frage, qa.antwort, and",
            f"why?\n\n{WORDS[8]}",
        ),
        (
            [
                {"output": WORDS[n], "input": "of it" if n == 8 else "", "instruction": "Say."}
                for n in range(9)
            ],
            "make one text of instruction, input, output, and",
            f"Say.\n\nof it\n\n{WORDS[8]}",
        ),
    ],
)
def test_every_command_that_is_told_gives_the_texts(
    tmp_path: Path, recipe_of: Any, rows: list[Any], says: str, text: str
) -> None:
    path = tmp_path / "it's a.jsonl"
    written(path, "jsonl", rows)
    message = told(path, recipe_of)
    assert says in message and "KEY" not in message
    texts = converted(message, tmp_path)
    assert (len(texts), texts[-1]) == (9, text)


@pytest.mark.parametrize(
    "rows",
    [
        chats("from", "text"),
        [
            {"uuid": f"{n:032x}", "day": "2024-03-01", "n": str(n), "title": WORDS[n]}
            for n in range(9)
        ],
        [{"a b": "short", "it's": WORDS[n], "url": "https://example.org/a"} for n in range(9)],
        [{"1": WORDS[n], "0": str(n)} for n in range(9)],
        [{"true": WORDS[n]} for n in range(9)],
        [{"messages": [{"role": "a", "content": ""}], "title": "Words"} for _ in range(9)],
    ],
)
def test_every_key_that_is_offered_can_be_read(
    tmp_path: Path, recipe_of: Any, rows: list[dict[str, Any]]
) -> None:
    written(tmp_path / "a.jsonl", "jsonl", rows)
    message = told(tmp_path / "a.jsonl", recipe_of)
    assert not any(key in message.partition(" Name one")[0] for key in ("uuid (", "day (", "n (9"))
    offered = re.search(r"--set ('data.*?'(?=[.;]| |$)|\S+?)(?=; or|$)", message)
    if "Name one" not in message:
        assert "messages" in rows[0] and not offered
        return
    assert offered
    (word,) = shlex.split(offered[1])
    ((_, key),) = settings_of([word]).items()
    source = {"name": "a", "path": "a.jsonl", "format": "jsonl", "text_key": key}
    sources.check(recipe_of(source), tmp_path)
    (reader,) = sources.readers(recipe_of(source), tmp_path)
    assert len(list(reader.documents())) == 9 and not reader.left.counts


def test_the_key_of_the_longest_texts_is_offered(tmp_path: Path, recipe_of: Any) -> None:
    rows = [{"nr": n, "name": "short", "note": WORDS[n] * 3, "more": WORDS[n]} for n in range(9)]
    written(tmp_path / "a.csv", "csv", rows)
    message = told(tmp_path / "a.csv", recipe_of, "csv")
    assert "--set data.sources.a.text_key=note; or" in message and "nr (" not in message


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_without_names_is_told_so(
    tmp_path: Path, recipe_of: Any, delimiter: str, ending: str
) -> None:
    lines = [f'{n}{delimiter}"{WORDS[n]}\nand, more"{delimiter}x' for n in range(9)]
    (tmp_path / f"a.csv{ending}").write_bytes(pack("\n".join(lines).encode(), ending))
    message = told(tmp_path / f"a.csv{ending}", recipe_of, "csv")
    assert "seems to have no line of names: its first row is 0, text 0: " in message
    assert "--set" not in message
    assert converted(message, tmp_path) == [f"{one}\nand, more" for one in WORDS[:9]]


@pytest.mark.parametrize("names", ["0,1", "id,1999,words", "q1,a1", "Long\nname,words"])
def test_names_that_are_numbers_or_odd_are_names(
    tmp_path: Path, recipe_of: Any, names: str
) -> None:
    quoted = ",".join(f'"{one}"' for one in names.split(","))
    count = quoted.count(",")
    rows = [f"{n}," * count + WORDS[n] for n in range(9)]
    (tmp_path / "a.csv").write_text("\n".join([quoted, *rows]))
    message = told(tmp_path / "a.csv", recipe_of, "csv")
    assert "no line of names" not in message and "first 9 records" in message
    assert f"text_key={names.rpartition(',')[2]}" in message


def test_chats_that_lose_words_are_counted_and_the_root_stays(
    tmp_path: Path, recipe_of: Any
) -> None:
    said = {"role": "a", "content": WORDS[0]}
    rows = [
        [{"role": "a", "content": WORDS[1]}, {"role": "b", "text": "Yes."}],
        [{"role": "a", "text": "No."}],
        [said, {"role": "b", "content": None, "tool_calls": []}],
    ]
    written(tmp_path / "a.jsonl", "jsonl", [{"messages": one} for one in rows])
    fields = {"name": "a", "path": "a.jsonl", "format": "jsonl", "text_key": "messages"}
    (reader,) = sources.readers(recipe_of(fields), tmp_path)
    assert [one.text for one, _ in reader.documents()] == [
        f"a: {WORDS[1]}\nb: ",
        f"a: {WORDS[0]}\nb: ",
    ]
    assert reader.left.counts == {"chat_unread": 1, "no_text": 1, "chat_silent": 1}
    assert OF_CONTENT.isdisjoint({"chat_unread", "chat_silent"})


def test_what_is_a_text() -> None:
    for text in ("words", "CCO", "ACGTACGTACGTACGTACGT", "東京", "a1b2 c", "1 of 2 men", "x" * 99):
        assert shown.is_text(text), text
    for text in ("", " ", "12", "-1.5e3", "2024-03-01", "2024-03-01T10:00:00Z", "1/2/2024", "3 %"):
        assert not shown.is_text(text), text
    for text in ("0" * 32, "550e8400-e29b-41d4-a716-446655440000", "true", "https://a.b/c", "T1"):
        assert not shown.is_text(text), text
