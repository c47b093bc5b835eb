"""From bytes to text: wide encodings by their mark, Latin-1 by a guess, and what is replaced."""

from __future__ import annotations

import random

import pytest

from pellucid.data import encodings
from tests.data.reading import read, texts


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("format", ["text", "lines"])
def test_wide_texts_are_told_by_their_mark(tmp_path, encoding, format):
    text = "é東京 😀 and more\nnext"
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    expected = [text] if format == "text" else text.split("\n")
    content = (mark + text).encode(encoding)
    assert [one[0] for one in texts(tmp_path, format, content)] == expected


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_wide_texts_do_not_depend_on_where_chunks_end(chunk):
    content = "é東京 😀\nnext".encode("utf-16")
    pieces = (content[start : start + chunk] for start in range(0, len(content), chunk))
    assert b"".join(encodings.unmarked(pieces)).decode() == "é東京 😀\nnext"


def test_half_a_wide_letter_is_counted_or_drops_the_text(tmp_path):
    content = "ab".encode("utf-16") + b"\x3d\xd8" + "c".encode("utf-16-le") + b"x"
    assert read(tmp_path, "text", content) == [(1, "", "ab\ufffdc\ufffd", "", True)]
    assert texts(tmp_path, "text", content, policy="drop") == [("", "invalid_utf8")]


@pytest.mark.parametrize(
    ("content", "text", "changed"),
    [
        ("café à la crème".encode("latin-1"), "café à la crème", "latin1_guessed"),
        (b"\x93quoted\x94 \x96 by Windows", "“quoted” – by Windows", "latin1_guessed"),
        (
            "RÉSUMÉ» é è".encode("latin-1") + b" \xe9s and" * 9,
            "RÉSUMÉ» é è" + " és and" * 9,
            "latin1_guessed",
        ),
        (
            "naïve 東京 é ü".encode() + b" \xe9 end",
            "naïve 東京 é ü \ufffd end",
            "invalid_utf8_replaced",
        ),
        (
            "Привет, мир".encode("cp1251"),
            "\ufffd" * 6 + ", " + "\ufffd" * 3,
            "invalid_utf8_replaced",
        ),
        (b"plain and \xff", "plain and \ufffd", "invalid_utf8_replaced"),
        (b"control \x01 \xe9 letters", "control \x01 \ufffd letters", "invalid_utf8_replaced"),
        ("é".encode(), "é", ""),
    ],
)
def test_latin_1_is_guessed_from_the_bytes_alone(content, text, changed):
    found = encodings.decoded(content, "replace")
    assert (found.text, found.changed, found.dropped) == (text, changed, "")
    assert encodings.decoded(content, "drop").dropped == ("invalid_utf8" if changed else "")


def test_replaced_bytes_are_those_that_are_not_in_the_text():
    draw = random.Random(4)
    for _ in range(300):
        content = bytes(
            draw.choice([*b"abc", 0xE2, 0x82, 0xAC, 0xFF, 0xEF, 0xBF, 0xBD]) for _ in range(30)
        )
        found = encodings.decoded(content, "replace")
        kept = content.decode("utf-8", "ignore")
        assert found.replaced == len(content) - len(kept.encode())
