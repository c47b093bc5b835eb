"""What is read: endings, packings, encodings, FASTA, keys and chats of JSON lines."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random

import pytest

from pellucid.data import documents, encodings, endings, formats, sources
from pellucid.data.readers import READERS
from pellucid.errors import SourceUnreadable
from pellucid.recipe import Source
from tests.data.test_formats import packed, read


def texts(tmp_path, format, content, **fields):
    return [record[2:4] for record in read(tmp_path, format, content, **fields)]


# ---- endings and packings -------------------------------------------------------------------------


def pack(content: bytes, ending: str) -> bytes:
    other = {".xz": lzma.compress, ".bz2": bz2.compress, ".zstd": lambda content: packed(content, ".zst")}
    return other[ending](content) if ending in other else packed(content, ending)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".zstd", ".xz", ".bz2"])
@pytest.mark.parametrize("format", ["text", "lines"])
def test_every_packing_is_read_under_its_ending_and_without(tmp_path, ending, format):
    for name in (f"a.TXT{ending.upper()}", "plain"):
        path = tmp_path / name
        path.write_bytes(pack(b"one\ntwo", ending))
        found = READERS[format](path, formats.How(Source(name="s", format=format)), 0)
        assert "\n".join(record.text for record in found) == "one\ntwo"


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zstd", ".xz", ".bz2"])
@pytest.mark.parametrize("damage", ["cut", "junk"])
def test_damaged_packings_name_the_file(tmp_path, ending, damage):
    whole = pack(b"some line\n" * 5000, ending)
    path = tmp_path / f"x{ending}"
    path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"not compressed at all")
    with pytest.raises(SourceUnreadable, match=path.name):
        list(formats.read_text(path, formats.How(Source(name="s"))))


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.TXT", "txt"), ("b/Notes.Md.GZ", "md"), ("x.gz", ""), ("Makefile", ""), (".txt", ""), ("a.tar.xz", "tar")],
)
def test_endings(name, ending):
    assert endings.of(name) == ending


def test_a_folder_gives_files_of_any_case_and_packing(tmp_path):
    for name, content in {"a.TXT": b"a", "b.txt.gz": gzip.compress(b"b"), "c.md.xz": lzma.compress(b"c")}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "README").write_bytes(b"not taken beside others")
    (tmp_path / "d.png").write_bytes(b"d")
    reader = sources.Reader(Source(name="s", path=str(tmp_path)), "replace", 99, tmp_path)
    assert [document.text for document, _ in reader.documents()] == ["a", "b", "c"]
    assert reader.left.examples == {"not_included": ("README", "d.png")}


def test_files_without_ending_are_taken_where_there_is_nothing_else(tmp_path):
    for name in ("README", "part1", "x.png"):
        (tmp_path / name).write_text(name)
    reader = sources.Reader(Source(name="s", path=str(tmp_path)), "replace", 99, tmp_path)
    assert [document.text for document, _ in reader.documents()] == ["README", "part1"]


# ---- encodings ------------------------------------------------------------------------------------


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
        ("RÉSUMÉ» é è".encode("latin-1") + b" \xe9s and" * 9, "RÉSUMÉ» é è" + " és and" * 9, "latin1_guessed"),
        ("naïve 東京 é ü".encode() + b" \xe9 end", "naïve 東京 é ü \ufffd end", "invalid_utf8_replaced"),
        ("Привет, мир".encode("cp1251"), "\ufffd" * 6 + ", " + "\ufffd" * 3, "invalid_utf8_replaced"),
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
        content = bytes(draw.choice([*b"abc", 0xE2, 0x82, 0xAC, 0xFF, 0xEF, 0xBF, 0xBD]) for _ in range(30))
        found = encodings.decoded(content, "replace")
        kept = content.decode("utf-8", "ignore")
        assert found.replaced == len(content) - len(kept.encode())


# ---- FASTA ----------------------------------------------------------------------------------------


def test_comments_and_blanks_of_fasta_are_no_sequence(tmp_path):
    content = b";head\n>a x\nAC GT\t\n;note\n  acgt\r\n>b\nTT*\n"
    assert read(tmp_path, "fasta", content) == [
        (2, ":a", "ACGTacgt", "", False),
        (6, ":b", "TT*", "", False),
    ]


# ---- JSON lines -----------------------------------------------------------------------------------

CHAT = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": [{"type": "text", "text": "Yes?"}, {}]}]
FROM = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": None}]


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        ({"data": {"text": "a"}}, "data.text", "a"),
        ({"data.text": "b", "data": {"text": "a"}}, "data.text", "b"),
        ({"messages": CHAT}, "messages", "user: Hi.\nassistant: Yes?"),
        ({"conversations": FROM}, "conversations", "human: Hi.\ngpt: "),
        ({"a": {"b": {"messages": CHAT}}}, "a.b.messages", "user: Hi.\nassistant: Yes?"),
        ({"messages": []}, "messages", None),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages", None),
        ({"messages": ["x"]}, "messages", None),
        ({"data": "x"}, "data.text", None),
        ({"text": 5}, "text", None),
        ([{"text": "x"}], "text", None),
    ],
)
def test_texts_stand_under_a_key_or_in_an_object_or_are_chats(tmp_path, value, key, text):
    expected = (text, "") if text else ("", "no_text")
    assert texts(tmp_path, "jsonl", json.dumps(value).encode(), text_key=key) == [expected]


# ---- what was left out ----------------------------------------------------------------------------


@pytest.fixture
def littered(tmp_path, corpus):
    """A corpus with something of most reasons in it."""
    (corpus / "x.png").write_bytes(b"png!")
    (corpus / "latin.txt").write_bytes("très bien, déjà vu; this text is Latin-1 ".encode("latin-1") * 3)
    (corpus / "cyrillic.txt").write_bytes("Привет, мир".encode("cp1251"))
    (corpus / "nul.txt").write_bytes(b"\0" * 7)
    (corpus / "records.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    return corpus


def test_the_report_counts_and_names_what_was_left_out(tmp_path, littered, recipe_of):
    told = []
    recipe = recipe_of({"name": "all", "path": str(littered)})
    documents.prepare(recipe, tmp_path / "run", tell=told.append)
    (report,) = told[0]
    left = {one["reason"]: one for one in report["left_out"]}
    assert {reason: (one["documents"], one["bytes"]) for reason, one in left.items() if reason != "duplicate"} == {
        "not_included": (1, 4),
        "binary": (1, 7),
        "empty": (1, 0),
        "invalid_utf8_replaced": (1, 11),
        "latin1_guessed": (1, 123),
        "json_lines": (1, 28),
    }
    assert left["json_lines"]["examples"] == ["records.json"] and left["latin1_guessed"]["kept"]
    assert report["replaced_bytes"] == 9 and report["documents"] == 63


def test_examples_survive_an_interruption(tmp_path, littered, recipe_of, small_parts, monkeypatch):
    from pellucid.data import stage

    monkeypatch.setattr(stage, "PAUSE", 0.0)
    recipe = recipe_of({"name": "a", "path": str(littered / "a")}, {"name": "all", "path": str(littered)})
    told, again = [], []
    documents.prepare(recipe, tmp_path / "whole", tell=told.append)
    for limit in range(1, 200, 7):
        calls = 0

        def progress(*_, limit=limit):
            nonlocal calls
            calls += 1
            if calls >= limit:
                raise KeyboardInterrupt

        try:
            documents.prepare(recipe, tmp_path / "run", progress, again.append)
            break
        except KeyboardInterrupt:
            continue
    assert limit > 20 and json.loads(json.dumps(again[-1])) == json.loads(json.dumps(told[0]))


def test_the_report_is_told_before_an_error(tmp_path, recipe_of):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"\0")
    told = []
    with pytest.raises(sources.SourceEmpty, match="binary: 1"):
        documents.prepare(recipe_of({"name": "in", "path": "in"}), tmp_path, tell=told.append)
    assert told[0][0]["left_out"][0]["examples"] == ["a.txt"]


def test_what_another_source_of_the_folder_takes_is_not_left_out(tmp_path, recipe_of):
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number}.txt").write_text(f"text {number} " * 9)
    (tmp_path / "in" / "a.fa").write_text("".join(f">r{n}\n{'ACGT' * n}\n" for n in range(1, 40)))
    told = []
    recipe = recipe_of({"name": "t", "path": "in"}, {"name": "f", "path": "in", "format": "fasta"})
    documents.prepare(recipe, tmp_path, tell=told.append)
    assert [[(one["reason"], one["quiet"]) for one in source["left_out"]] for source in told[0]] == [
        [("elsewhere", True)]
    ] * 2


def test_the_table_and_its_warning():
    import io

    from rich.console import Console

    from pellucid.terminal import print_sources, warnings

    left = {"reason": "empty", "words": "empty", "kept": False, "quiet": False, "documents": 4, "bytes": 5}
    one = {"source": "s", "documents": 96, "bytes": 95, "replaced_bytes": 1}
    one["left_out"] = [left | {"examples": ["a", "b\x1b[2J", "c"]}]
    out = io.StringIO()
    print_sources([one], Console(file=out))
    assert "a, b\ufffd[2J, c, …" in out.getvalue() and "replaced bytes" in out.getvalue()
    assert "4 of 100 files or records were left out, 5.0% of the bytes: empty (4)" in out.getvalue()
    assert len(warnings(one)) == 2
    quiet = one | {"replaced_bytes": 0, "left_out": [left | {"quiet": True, "examples": []}]}
    assert warnings(quiet) == []
    few = one | {"documents": 10_000, "bytes": 10_000, "left_out": [left | {"examples": []}]}
    assert warnings(few) == []


def test_damaged_packed_bytes_never_give_another_error(tmp_path):
    """Whatever follows the first bytes of a packing: the file is named, or its bytes are read."""
    draw = random.Random(7)
    for number in range(120):
        ending = draw.choice([".gz", ".zst", ".xz", ".bz2"])
        content = bytearray(pack(b"some line\n" * 40, ending))
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path = tmp_path / f"{number}{ending}"
        path.write_bytes(content)
        try:
            list(formats.read_text(path, formats.How(Source(name="s"))))
        except SourceUnreadable as error:
            assert path.name in str(error)


def test_the_page_lists_every_reason_in_its_words():
    from pathlib import Path

    from pellucid.data.reasons import REASONS

    page = (Path(__file__).parents[2] / "docs/data.md").read_text(encoding="utf-8")
    rows = [f"| `{name}` | {one.words}{'; the document is kept' * one.kept} |" for name, one in REASONS.items()]
    assert page.rstrip().endswith("\n".join(rows))


@pytest.mark.parametrize("format", ["text", "jsonl", "lines", "fasta"])
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


def test_what_every_package_has_is_no_warning():
    from pellucid.data.reasons import LeftOut, report
    from pellucid.terminal import warnings

    left = LeftOut()
    for reason in ("not_included", "empty", "hidden", "excluded"):
        left.add(reason, "a", 100)
    assert warnings(report(Source(name="p", path="package:p", format="package"), 9, 9, left)) == []
    assert "another ending" in warnings(report(Source(name="s"), 9, 9, left))[0]
