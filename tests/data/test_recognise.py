"""What files are by their bytes, the command that converts them, and the keys of records."""

from __future__ import annotations

import csv
import json
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pellucid.data import joining, json_heads, keys, recognise, shown, sources
from pellucid.data.formats import How
from pellucid.errors import FormatForeign, TextKeyMissing
from pellucid.recipe import Source
from tests.data.reading import CHAT, pack

GENBANK = b"LOCUS       X1   12 bp DNA\nORIGIN\n        1 gatc ctcc\n       61 ccga\n//\n"
GENBANK += b"LOCUS       X2   4 bp\nORIGIN\n 1 aa\n//\n"
FASTQ = b"@r1\nACGTAC\n+\nIIIIII\n@r2\nAC\n+\n@@\n"
CSV = b'id,text\n1,"one, two"\n2,"three\nfour"\n'


def parquet(rows: int = 2) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table({"id": list(range(rows)), "text": [f"text {n}" for n in range(rows)]}), sink
    )
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"PAR1\x15\x04", "parquet"),
        (b"WARC/1.0\r\nWARC-Type: response\r\n", "warc"),
        (GENBANK, "genbank"),
        (FASTQ, "fastq"),
        (b">a x\nACGTACGTACGTACGTACGT\n>b\nAC GT\n", "fasta"),
        (b";c\n>a\nacgtacgtacgtacgtacgtacgt\n", "fasta"),
        (b'{"a": 1}\n{"b": 2}\n', "json_lines"),
        ('{"a": 1}\n{"b": 2}\n'.encode("utf-16"), "json_lines"),
        (b'[{"a": 1},\n {"a": 2}]', "json_array"),
        (b'{\n "a": 1\n}\n', "json_object"),
        (b'{"a": 1}\n', ""),
        (b"id,name\n1,a\n2,b\n3,c\n4,d\n5,e\n", "csv"),
        (b"> quoted\nwith an answer below it\n", ""),
        (b"Roses are red, violets are blue\nSugar is sweet, and so are you\n", ""),
        (b"Dear all,\n[1] a list\n", ""),
        (b"[section]\nkey = 1\n", ""),
        (b"@article{x,\n title\n}\n\n", ""),
        (b"", ""),
        (b"\0\0", ""),
    ],
)
def test_kinds(head, kind):
    assert recognise.recognised(head) == kind


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([{"text": "line\n" * 9, "n": -1.5e3, "deep": [{}, [], None]}] * 900, "json_array"),
        (['a \\ " text'] * 9000, "json_array"),
        ([[{"role": "user", "content": "hello"}] * 2] * 2000, "json_array"),
        ({"version": "1", "data": [{"text": "hello"}] * 9000}, "json_records"),
        ({"messages": [{"role": "user", "content": "hello"}] * 9000}, ""),
        ({"text": "long " * 20_000}, ""),
    ],
)
def test_json_on_one_line_is_told_from_its_beginning(value, kind):
    content = json.dumps(value).encode()
    assert recognise.recognised(content[: recognise.HEAD], "json") == kind


def test_json_is_told_wherever_it_is_cut():
    value = [
        {"a": 'x\\ "y" \u00e9\ud83d\ude00', "b": [1, -2.5e-7, True, None, {}], "": []},
        "z",
        [[]],
    ]
    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        assert json_heads.shape(text, cut=False) == "array"
        assert all(json_heads.shape(text[:end], cut=True) == "array" for end in range(1, len(text)))
        assert not any(json_heads.shape(text[:end], cut=False) for end in range(len(text)))


@pytest.mark.parametrize(
    "text",
    ["[1] a list", "[a]", "[1 2]", '{"a" 1}', "[,", "{1:2}", "[1,,2]", '[":"}', "]", "[" * 600],
)
def test_what_is_no_json(text):
    assert json_heads.shape(text, cut=True) == ""


@pytest.mark.parametrize(
    ("content", "ending", "kind"),
    [
        (b"id,text\n" + b'1,"many\n\nlines, quoted"\n' * 9000, "", "csv"),
        (b"id,text\n" + b'1,"many\n\nlines, quoted"\n' * 9000, "csv", "csv"),
        (b"1,some text\n2,other text, really\n", "csv", "csv"),
        (b"a;b\n" + b"1;2\n" * 9, "txt", "csv"),
        (b"text\none column\nof text\n", "csv", "csv"),
        (b"a\tb\n" + b"1\t2\n" * 9, "", "tsv"),
        (b"a b\nc\n", "tsv", "tsv"),
        (b"a, b\n" * 9, "py", ""),
    ],
)
def test_tables(content, ending, kind):
    assert recognise.recognised(content[: recognise.HEAD], ending) == kind


@pytest.mark.parametrize("kind", ["json_records", "fastq", "warc"])
def test_a_conversion_writes_over_nothing(tmp_path, kind):
    target = tmp_path / f"t.{recognise.KINDS[kind].target}"
    for made in (target, target.with_name(f"t-2{target.suffix}"), tmp_path / "t.csv"):
        made.write_text("mine")
    (tmp_path / "t.csv.gz").write_bytes(pack(CSV, ".gz"))
    command = recognise.command(kind, tmp_path / "t.csv.gz")
    assert f"t-3{target.suffix}" in command and "t.csv\n" not in command.replace("t.csv.gz", "")
    assert "> " + str(tmp_path / "t.csv") + ";" not in command


def test_a_kind_is_told_of_any_bytes():
    import random

    draw = random.Random(2)
    for _ in range(400):
        head = bytes(
            draw.choice(b'>;@+{}[]",\n\r\tACGT01\xff\0 ') for _ in range(draw.randrange(80))
        )
        assert recognise.recognised(head) in ("", *recognise.KINDS)


@pytest.mark.parametrize(
    ("name", "content", "packing", "made", "expected"),
    [
        (
            "it's t.json",
            b'{"n": 2, "data": [["x"], "y"]}',
            ".gz",
            "it's t.jsonl",
            b'{"text": ["x"]}\n{"text": "y"}\n',
        ),
        ("t.gb", GENBANK, "", "t.fasta", b">X1\nGATCCTCC\nCCGA\n>X2\nAA\n"),
        ("t.fastq", FASTQ, "", "t.fasta", b">r1\nACGTAC\n>r2\nAC\n"),
        ("t.fastq", FASTQ, ".xz", "t.fasta", b">r1\nACGTAC\n>r2\nAC\n"),
    ],
)
def test_the_command_that_is_told_converts(tmp_path, name, content, packing, made, expected):
    path = tmp_path / (name + packing)
    path.write_bytes(pack(content, packing))
    kind = recognise.kind_of(path, "s")
    told = recognise.command(kind, path)
    assert not told.startswith("python")  # That of the path may lack our libraries.
    subprocess.run(told, shell=True, check=True)
    assert (tmp_path / made).read_bytes() == expected


@pytest.mark.parametrize("format", ["jsonl", "fasta"])
def test_a_file_of_another_format_is_refused_before_any_work(tmp_path, recipe_of, format):
    (tmp_path / "t.csv").write_bytes(CSV * 9)
    recipe = recipe_of({"name": "t", "path": "t.csv", "format": format})
    with pytest.raises(FormatForeign, match=r"is CSV.*--data csv:"):
        sources.check(recipe, tmp_path)


def test_parquet_is_refused_as_text_too(tmp_path, recipe_of):
    (tmp_path / "x.txt").write_bytes(parquet())
    with pytest.raises(FormatForeign, match=r"is Parquet.*--data parquet:"):
        sources.check(recipe_of({"name": "t", "path": "x.txt"}), tmp_path)


def test_a_text_that_stands_elsewhere_names_the_keys(tmp_path, recipe_of):
    lines = [
        {"id": str(n), "data": {"body": "long text"}, "messages": CHAT if n % 2 else None}
        for n in range(10)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = recipe_of({"name": "a", "path": "a.jsonl", "format": "jsonl"})
    with pytest.raises(TextKeyMissing) as caught:
        sources.check(recipe, tmp_path)
    message = str(caught.value)
    assert 'the first 10 records have no text under "text"' in message
    assert "in how many records: data.body (10), messages (5)." in message  # No id: it is a number.
    assert message.endswith("--set data.sources.a.text_key=data.body")


def test_a_near_key_is_meant_and_an_empty_one_is_not(tmp_path, recipe_of):
    lines = [
        {"content": " ", "promt_id": "", "prompt": "words", "title": "words"} for _ in range(3)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for key, near in (("promt", " (did you mean prompt?)"), ("text", "")):
        source = {"name": "a", "path": "a.jsonl", "format": "jsonl", "text_key": key}
        with pytest.raises(TextKeyMissing) as caught:
            sources.check(recipe_of(source), tmp_path)
        assert f'no text under "{key}"{near}. ' in str(caught.value)
        assert (
            "records: prompt (3), title (3). Name one: --set data.sources.a.text_key=prompt"
            in str(caught.value)
        )
    # Records whose text is empty may have one further on.
    sources.check(recipe_of({**source, "text_key": "content"}), tmp_path)


def written(path, format, rows):
    """A file of records, as its format has them."""
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif format == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        content = json.dumps(rows) if format == "json" else "\n".join(map(json.dumps, rows))
        path.write_bytes(pack(content.encode(), path.suffix))


@pytest.mark.parametrize(
    ("name", "format", "made"),
    [
        ("a b.jsonl", "jsonl", "a b-2.jsonl"),
        ("a b.jsonl.gz", "jsonl", "a b.jsonl"),
        ("a b.json", "json", "a b.jsonl"),
        ("it's.csv", "csv", "it's.jsonl"),
        ("a b.parquet", "parquet", "a b.jsonl"),
    ],
)
@pytest.mark.parametrize(
    "together", ["prompt completion", "instruction input output", "question answer"]
)
def test_questions_and_answers_are_told_with_the_line_that_joins_them(
    tmp_path, recipe_of, together, name, format, made
):
    names = together.split()
    rows = [
        {"id": n, **{key: f"it's {key} {n}\u00e9" for key in reversed(names)}} for n in range(3)
    ]
    written(tmp_path / name, format, rows)
    recipe = recipe_of({"name": "a", "path": name, "format": format})
    with pytest.raises(TextKeyMissing, match=f"make one text of {', '.join(names)}, ") as caught:
        sources.check(recipe, tmp_path)
    command = str(caught.value).partition("this writes: ")[2]
    assert not command.startswith("python")  # That of the path may lack our libraries.
    subprocess.run(command, shell=True, check=True)
    texts = ["\n\n".join(f"it's {key} {n}\u00e9" for key in names) for n in range(3)]
    lines = (tmp_path / made).read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == texts


def test_joining_names_what_it_leaves_out(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text(
        '{"question": "a", "answer": "b"}\n{"question"\n{"answer": "c"}\n'
    )
    joining.join(str(tmp_path / "a.jsonl"), "jsonl", ["question", "answer"])
    said = capsys.readouterr()
    assert said.out.splitlines() == ['{"text": "a\\n\\nb"}', '{"text": "c"}']
    assert said.err == f"{tmp_path / 'a.jsonl'}:2 is left out: malformed\n"


def test_the_usual_key_is_one_that_most_records_have(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"text": "x", "data": {"content": "y"}}\n' + '{"data": {"content": "y"}}\n' * 3
    )
    assert keys.usual_of(shown.found(path, How(Source(name="s", format="jsonl")))) == "data.content"


def test_the_command_for_warc_is_a_program():
    """Its libraries are no requirement of ours: here it is only parsed."""
    compile(recognise.KINDS["warc"].code, "warc", "exec")
