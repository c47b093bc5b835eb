"""Sources from the command line's words."""

from __future__ import annotations

import json

import pytest

from pellucid.data.guess import guess
from pellucid.errors import CommandInvalid, FormatForeign
from pellucid.recipe import Source
from tests.data.reading import CHAT
from tests.data.test_recognise import CSV, FASTQ, parquet

LINES = b'{"text": "one"}\n{"text": "two"}\n'
FASTA = b">a\nACGTACGTACGTACGTACGTACGT\n"


@pytest.mark.parametrize(
    ("given", "name", "format", "path"),
    [
        ("package:sympy==1.14.0", "sympy", "package", "package:sympy==1.14.0"),
        ("fasta:x/My Genome.txt", "My-Genome", "fasta", "x/My Genome.txt"),
        ("reads.FA.gz", "reads", "fasta", "reads.FA.gz"),
        ("a/mols.smi", "mols", "lines", "a/mols.smi"),
        ("posts.jsonl.zstd", "posts", "jsonl", "posts.jsonl.zstd"),
        ("books", "books", "text", "books"),
        ("book.txt.gz", "book", "text", "book.txt.gz"),
        ("-._", "source", "text", "-._"),
    ],
)
def test_by_the_ending_alone(given, name, format, path):
    (one,) = guess(given)
    assert (one.name, one.format, one.path, one.text_key) == (name, format, path, "")
    Source.model_validate(one._asdict())


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("a.json", LINES, "jsonl"),
        ("a.txt", LINES, "jsonl"),
        ("a.json", b'{\n "a": 1\n}', "text"),
        ("a.txt", FASTA, "fasta"),
        ("a.txt", b"> a quotation\nand words\n", "text"),
        ("a.jsonl", b'{"text": "one"}\n', "jsonl"),
    ],
)
def test_a_file_by_what_is_in_it(tmp_path, name, content, format):
    (tmp_path / name).write_bytes(content)
    assert [one.format for one in guess(str(tmp_path / name))] == [format]


def test_a_format_that_is_none_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(
        CommandInvalid,
        match="xml is not a format of pellucid; use text, lines, fasta, jsonl, json, csv, parquet",
    ):
        guess(f"xml:{tmp_path / 'a.txt'}")


@pytest.mark.parametrize("word", ["http://a.org/b.txt", "s3://a/b", "jsonl:https://a.org/b"])
def test_addresses_are_not_read(word):
    with pytest.raises(CommandInvalid, match="addresses are not read: download"):
        guess(word)


@pytest.mark.parametrize(
    ("name", "fix"),
    [("a.zip", "Unpack"), ("a.tar.gz", "Unpack"), ("a.PDF", "Convert"), ("a.png", "Convert")],
)
def test_what_holds_texts_otherwise_is_told_what_to_do(tmp_path, name, fix):
    (tmp_path / name).write_bytes(b"\0")
    with pytest.raises(FormatForeign, match=fix):
        guess(str(tmp_path / name))


def test_what_no_reader_takes_is_named(tmp_path):
    (tmp_path / "x.csv").write_bytes(FASTQ)
    for word in (tmp_path / "x.csv", tmp_path):
        with pytest.raises(FormatForeign, match="Convert it with: "):
            guess(str(word))
    (tmp_path / "a.txt").write_text("beside a text it is left out")
    assert [one.format for one in guess(str(tmp_path))] == ["text"]


@pytest.mark.parametrize(
    ("content", "format"), [(CSV * 5, "csv"), (parquet(), "parquet"), (b'[{"text": "a"}]', "json")]
)
def test_tables_are_read_where_nothing_else_is_there(tmp_path, content, format):
    (tmp_path / "x.csv").write_bytes(content)
    for word in (tmp_path / "x.csv", tmp_path):
        assert [one.format for one in guess(str(word))] == [format]
    (tmp_path / "a.txt").write_text("beside a text they are left out")
    assert [one.format for one in guess(str(tmp_path))] == ["text"]


def test_a_folder_is_one_source_for_each_format_that_is_more_than_a_trace(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.md").write_text("words " * 9000)
    (tmp_path / "a.json").write_bytes(LINES * 1000)
    (tmp_path / "b.fna").write_bytes(FASTA * 2000)
    (tmp_path / "one.smi").write_text("CCO\n")
    found = guess(str(tmp_path))
    assert [one.format for one in found] == ["text", "fasta", "jsonl"]
    assert len({one.name for one in found}) == 3 and {one.path for one in found} == {str(tmp_path)}


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"text": "a", "content": "b"}, ""),
        ({"id": "1", "content": "b"}, "content"),
        ({"id": "1", "messages": CHAT}, "messages"),
        ({"data": {"text": "b"}}, "data.text"),
        ({"id": "1", "unusual": "b"}, ""),
    ],
)
def test_the_key_of_json_lines(tmp_path, record, key):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(record)}\n" * 3)
    assert [one.text_key for one in guess(str(tmp_path / "a.jsonl"))] == [key]
