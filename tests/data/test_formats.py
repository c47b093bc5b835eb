"""Every format, and every reason for which a record is dropped."""

from __future__ import annotations

import json
import random

import pytest

from pellucid.data import formats, packings
from pellucid.data.readers import READERS
from pellucid.errors import SourceUnreadable
from pellucid.recipe import Source
from tests.data.reading import read


def test_text_keeps_every_character_but_the_byte_order_mark(tmp_path):
    content = "\ufeffa\r\nb\rc\n\ufeffd\u2028é".encode()
    assert read(tmp_path, "text", content) == [(1, "", "a\r\nb\rc\n\ufeffd\u2028é", "", False)]


@pytest.mark.parametrize(
    ("content", "policy", "expected"),
    [
        (b"", "replace", ("", "empty", False)),
        (b"\xef\xbb\xbf", "replace", ("", "empty", False)),
        (b"a\0b", "replace", ("", "binary", False)),
        (b"a" * 8191 + b"\0", "replace", ("", "binary", False)),
        (b"a" * 8192 + b"\0", "replace", ("a" * 8192 + "\0", "", False)),
        (b"a\xffb", "replace", ("a\ufffdb", "", True)),
        (b"a\xed\xa0\x80b", "replace", ("a\ufffd\ufffd\ufffdb", "", True)),
        (b"a\xffb", "drop", ("", "invalid_utf8", False)),
    ],
)
def test_text_that_is_dropped_or_changed(tmp_path, content, policy, expected):
    assert [record[2:] for record in read(tmp_path, "text", content, policy=policy)] == [expected]


def test_a_text_file_over_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(formats.LIMITS, "text", 10)
    assert read(tmp_path, "text", b"a" * 10)
    with pytest.raises(SourceUnreadable, match="lines"):
        read(tmp_path, "text", b"a" * 11)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_lines(tmp_path, ending):
    content = b"\xef\xbb\xbfCCO\r\n\nC=C \xc3\xa9\n\xff\nlast"
    assert read(tmp_path, "lines", content, ending) == [
        (1, ":1", "CCO", "", False),
        (2, ":2", "", "empty", False),
        (3, ":3", "C=C é", "", False),
        (4, ":4", "\ufffd", "", True),
        (5, ":5", "last", "", False),
    ]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
def test_lines_do_not_depend_on_where_chunks_end(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(packings, "CHUNK", chunk)
    found = read(tmp_path, "lines", b"one\n\ntwo\n" + b"x" * 50 + b"\n")
    assert [(record[0], record[2]) for record in found] == [
        (1, "one"),
        (2, ""),
        (3, "two"),
        (4, "x" * 50),
    ]


def test_a_record_over_the_limit_is_refused_by_its_line(tmp_path, monkeypatch):
    for format in ("lines", "fasta", "jsonl"):
        monkeypatch.setitem(formats.LIMITS, format, 100)
    monkeypatch.setattr(packings, "CHUNK", 16)
    assert len(read(tmp_path, "lines", b"a\n" + b"b" * 100)) == 2
    with pytest.raises(SourceUnreadable, match="line 2"):
        read(tmp_path, "lines", b"a\n" + b"b" * 101)
    with pytest.raises(SourceUnreadable, match="line 1"):
        read(tmp_path, "jsonl", b'{"text": [' + b"[]," * 40 + b"[]]}")
    with pytest.raises(SourceUnreadable, match="line 3"):
        read(tmp_path, "fasta", b">a\nAC\n>b\n" + b"ACGTACGT\n" * 20)


def test_every_format_bounds_a_record():
    assert set(formats.LIMITS) == set(READERS) and formats.LIMITS["jsonl"] == 32 << 20


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_jsonl(tmp_path, ending):
    lines = [
        json.dumps({"text": "plain", "id": 4}),
        json.dumps({"text": "é 😀"}),
        '{"text": "half \\ud83d of a pair"}',
        json.dumps({"body": "no text"}),
        json.dumps({"text": 5}),
        json.dumps(["text"]),
        '{"text": "broken',
        json.dumps({"text": ""}),
        "",
        "[" * 100_000,
        '{"text": ' + "9" * 5000 + "}",
    ]
    found = read(tmp_path, "jsonl", "\n".join(lines).encode(), ending)
    assert [record[2:] for record in found] == [
        ("plain", "", False),
        ("é 😀", "", False),
        ("half \ufffd of a pair", "", True),
        ("", "no_text", False),
        ("", "no_text", False),
        ("", "no_text", False),
        ("", "malformed", False),
        ("", "empty", False),
        ("", "empty", False),
        ("", "malformed", False),
        ("", "malformed", False),
    ]
    assert [record[1] for record in found] == [f":{number}" for number in range(1, 12)]


def test_lone_surrogates_are_dropped_where_the_recipe_says_so(tmp_path):
    found = read(
        tmp_path, "jsonl", b'{"text": "a\\udc00"}\n{"text": "\\ud83d\\ude00"}', policy="drop"
    )
    assert [record[2:4] for record in found] == [("", "invalid_utf8"), ("😀", "")]


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_fasta(tmp_path, ending):
    content = (
        b"junk\n>NC_1 phage\r\nACgt\r\nNN\r\n>same x\nAA\n>same y\nCC\n>\nGG\n>empty\n>same:6\nTT\n"
    )
    found = read(tmp_path, "fasta", content, ending)
    assert [record[1:4] for record in found] == [
        ("", "", "malformed"),
        (":NC_1", "ACgtNN", ""),
        (":same", "AA", ""),
        (":same:7", "CC", ""),
        (":9", "GG", ""),
        (":empty", "", "empty"),
        (":same:6", "TT", ""),
    ]


def test_fasta_names_stay_unique_in_the_worst_case(tmp_path):
    found = read(tmp_path, "fasta", b">a:3\nA\n>a\nC\n>a\nG\n>a:5\nT\n")
    names = [record[1] for record in found]
    assert len(set(names)) == 4


def test_comments_and_blanks_of_fasta_are_no_sequence(tmp_path):
    content = b";head\n>a x\nAC GT\t\n;note\n  acgt\r\n>b\nTT*\n"
    assert read(tmp_path, "fasta", content) == [
        (2, ":a", "ACGTacgt", "", False),
        (6, ":b", "TT*", "", False),
    ]


@pytest.mark.parametrize("format", ["lines", "jsonl", "fasta"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_binary_files_are_one_drop(tmp_path, format, ending):
    assert [record[2:4] for record in read(tmp_path, format, b"PK\0\1\n" * 9, ending)] == [
        ("", "binary")
    ]


@pytest.mark.parametrize("format", ["lines", "jsonl", "fasta"])
def test_records_before_a_place_are_passed_over(tmp_path, format):
    content = {
        "lines": b"a\nb\nc\n",
        "jsonl": b'{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n',
        "fasta": b">x\na\n>x\nb\n>x\nc\n",
    }[format]
    every = read(tmp_path, format, content)
    assert read(tmp_path, format, content, after=every[1][0]) == every[1:]


def test_a_set_on_disk(tmp_path):
    seen = formats.Seen(tmp_path / "seen")
    assert [seen.add(item) for item in (b"a", b"b", b"a", b"")] == [True, True, False, True]
    seen.close()


@pytest.mark.parametrize("format", ["text", "jsonl", "lines", "fasta", "json", "csv"])
def test_any_bytes_give_records_or_a_named_error(tmp_path, format):
    """Texts are Unicode, places ascend, and reading again from a place gives what follows it."""
    draw = random.Random(format)
    pieces = [
        b'{"text": "',
        b'"}',
        b'{"a": {"b": "c"}}',
        b"\n",
        b"\r\n",
        b">x ",
        b";",
        b"ACGT",
        b"\xff",
        b"\xe9",
        b"\0",
    ]
    pieces += [
        "é東".encode(),
        "é\ud7ff".encode("utf-16"),
        b"\xef\xbb\xbf",
        b"\\ud800",
        b" ",
        b"\x1f\x8b",
        b"BZh9",
        b"[",
        b"5",
    ]
    path = tmp_path / "x"
    for _ in range(300):
        path.write_bytes(b"".join(draw.choices(pieces, k=draw.randrange(12))))
        how = formats.How(Source(name="s", format=format), draw.choice(["replace", "drop"]))
        try:
            found = list(READERS[format](path, how, 0))
        except SourceUnreadable:
            continue
        numbers = [record.number for record in found]
        assert numbers == sorted(set(numbers)) or format == "fasta"
        for record in found:
            record.text.encode("utf-8")
            assert bool(record.text) != bool(record.dropped)
        if numbers:
            after = draw.choice(numbers)
            assert [one for one in READERS[format](path, how, after) if one.number >= after] == [
                one for one in found if one.number >= after
            ]
