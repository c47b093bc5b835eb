"""Formats whose records have named fields: each against what its own library writes."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data import formats, packings, shown, tables
from pellucid.data.readers import READERS
from pellucid.data.sources import check
from pellucid.errors import SourceUnreadable, TextKeyMissing
from pellucid.recipe import Source
from tests.data.reading import CHAT

# Whatever a field may hold: quotes, delimiters, line ends, other planes;
# no half of a surrogate pair.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
FROM = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": None}]


def read(path: Path, format: str, key: str = "text", after: int = 0, policy: str = "replace"):
    source = Source.model_validate({"name": "s", "format": format, "text_key": key})
    return list(READERS[format](path, formats.How(source, policy), after))


def texts(path: Path, format: str, key: str = "text") -> list[str]:
    return [record.text or record.dropped for record in read(path, format, key)]


@pytest.mark.parametrize(
    ("value", "key", "text"),
    [
        ({"data": {"text": "a"}}, "data.text", "a"),
        ({"data.text": "b", "data": {"text": "a"}}, "data.text", "b"),
        ({"messages": CHAT}, "messages", "user: Hi.\nassistant: Yes?"),
        ({"conversations": FROM}, "conversations", "human: Hi.\ngpt: "),
        ({"a": {"b": {"messages": CHAT}}}, "a.b.messages", "user: Hi.\nassistant: Yes?"),
        (
            {"messages": [{"role": "a", "text": "x"}, *CHAT]},
            "messages",
            "a: \nuser: Hi.\nassistant: Yes?",
        ),
        ({"messages": [{"role": "user", "text": "x"}]}, "messages", None),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages", None),
        ({"messages": [{"role": "user", "content": " "}, FROM[1]]}, "messages", None),
        ({"messages": []}, "messages", None),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages", None),
        ({"messages": ["x"]}, "messages", None),
        ({"data": "x"}, "data.text", None),
        ({"text": 5}, "text", None),
        ([{"text": "x"}], "text", None),
    ],
)
def test_texts_stand_under_a_key_or_in_an_object_or_are_chats(
    tmp_path: Path, value: Any, key: str, text: str | None
) -> None:
    expected = (text, "") if text else ("", "no_text")
    (tmp_path / "t.jsonl").write_text(json.dumps(value))
    assert [record[2:4] for record in read(tmp_path / "t.jsonl", "jsonl", key)] == [expected]


@pytest.mark.parametrize(
    ("message", "noted"),
    [
        ({"role": "b", "content": "more"}, ()),
        ({"role": "b", "content": None, "tool_calls": [{"id": "1"}]}, ("chat_silent",)),
        ({"role": "b", "tool_calls": [{"id": "1"}]}, ("chat_silent",)),
        ({"role": "b", "content": [{"type": "image_url"}]}, ("chat_silent",)),
        ({"role": "b", "text": "more"}, ("chat_unread",)),
        ({"role": "b"}, ("chat_unread",)),
        ({"role": "b", "content": None, "text": "more"}, ("chat_unread",)),
        ({"role": "b", "content": "", "thoughts": "several words"}, ("chat_unread",)),
        ({"role": "b", "content": ["more", "words"]}, ("chat_unread",)),
    ],
)
def test_messages_whose_text_is_not_read_are_noted(
    tmp_path: Path, message: Any, noted: tuple[str, ...]
) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"messages": [CHAT[0], message]}))
    (record,) = read(tmp_path / "t.jsonl", "jsonl", "messages")
    assert (record.noted, record.dropped) == (noted, "")


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        (
            'id,"Long\nname",text\n0,x,"a\nb"\n1,x,c\n',
            ["id", "Long\nname", "text"],
            {3: "a\nb", 5: "c"},
        ),
        ('"a,\r\n;b";text\r\n1;a\r\n', ["a,\r\n;b", "text"], {3: "a"}),
        # What no later line closes goes over none.
        ('id,"text\n1,a\n2,b\n', ["id", "text"], {2: "a", 3: "b"}),
        ('id,"text\n1,"a"\n2,b\n', ["id", "text"], {2: "a", 3: "b"}),
        ('5",text\n1,a\n', ['5"', "text"], {2: "a"}),
        ('id,"text', ["id", "text"], {}),
    ],
)
def test_names_of_columns_may_go_over_lines(
    tmp_path: Path, content: str, names: list[str], rows: dict[int, str]
) -> None:
    (tmp_path / "t.csv").write_bytes(content.encode())
    how = formats.How(Source.model_validate({"name": "s", "format": "csv"}))
    assert tables.columns(tmp_path / "t.csv", how)[1] == names
    found = read(tmp_path / "t.csv", "csv")
    assert {one.number: one.text for one in found} == rows


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from(tables.DELIMITERS))
def test_csv_gives_back_what_the_csv_module_wrote(
    tmp_path_factory: Any, rows: list[str], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(rows))
    assert texts(path, "csv") == [row or "empty" for row in rows]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(TEXTS, st.none(), st.lists(st.integers())), max_size=6),
    st.sampled_from([None, 1]),
    st.sampled_from([1, 3, 1 << 20]),
)
def test_an_array_gives_back_what_json_wrote(
    tmp_path_factory: Any, rows: list[Any], indent: Any, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "t.json"
    path.write_text(
        json.dumps(
            [{"n": 1.5e3, "text": row} for row in rows], indent=indent, ensure_ascii=chunk == 3
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packings, "CHUNK", chunk)
        found = read(path, "json")
    expected = [(row or "empty") if isinstance(row, str) else "no_text" for row in rows]
    assert [record.text or record.dropped for record in found] == expected
    assert [record.number for record in found] == list(range(1, len(rows) + 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(TEXTS, st.none()), min_size=1, max_size=6), st.integers(1, 3))
def test_parquet_gives_back_what_arrow_wrote(
    tmp_path_factory: Any, rows: list[Any], group: int
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "t.parquet"
    column = pa.array([{"text": row, "other": 1} for row in rows])
    pq.write_table(pa.table({"n": range(len(rows)), "data": column}), path, row_group_size=group)
    expected = ["no_text" if row is None else row or "empty" for row in rows]
    assert texts(path, "parquet", "data.text") == expected
    assert texts(path, "parquet", "text") == ["no_text"] * len(rows)
    assert [record.number for record in read(path, "parquet", "data.text", after=2)] == list(
        range(2, len(rows) + 1)
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[]", []),
        (b"\xef\xbb\xbf [ ]\n", []),
        (b'{"text": "a"}', ["malformed"]),
        (b"", ["malformed"]),
        (b'[{"text": "a"}', ["a", "malformed"]),
        (b'[{"text": "a"},', ["a", "malformed"]),
        (b'[{"text": "a"} {"text": "b"}]', ["a", "malformed"]),
        (b'[{"text": "a"}] x', ["a", "malformed"]),
        (b'[{"text": "a"}, 12, "b", [1]]', ["a", "no_text", "no_text", "no_text"]),
        (b'[{"text": "caf\xe9"}]', ["caf\u00e9"]),
        (b'[{"text": "\\ud800"}]', ["\ufffd"]),
        ('[{"text": "\u00e4"}]'.encode("utf-16"), ["\u00e4"]),
    ],
)
def test_arrays_that_are_not_as_they_should_be(
    tmp_path: Path, content: bytes, expected: list[str]
) -> None:
    (tmp_path / "t.json").write_bytes(content)
    assert texts(tmp_path / "t.json", "json") == expected


@pytest.mark.parametrize("chunk", [3, 1 << 20])
@pytest.mark.parametrize(
    ("taken", "lost"),
    [
        (b'[{"text": "a"} ', b'{"text": "b"}, 5]\n'),
        (b'[{"text": "a"}, ', b'{"text": "\xc3\xa9\xff'),
        (b'[{"text": "a"}] ', "x\u00e9".encode()),
        (b"", b'{"text": "a"}'),
    ],
)
def test_what_an_array_loses_is_counted_to_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, taken: bytes, lost: bytes
) -> None:
    monkeypatch.setattr(packings, "CHUNK", chunk)
    (tmp_path / "t.json").write_bytes(taken + lost)
    last = read(tmp_path / "t.json", "json")[-1]
    assert (last.dropped, last.size) == ("malformed", len(lost))


def test_a_row_of_parquet_counts_as_the_mean_of_all(tmp_path: Path) -> None:
    rows = [{"n": "1" * 80, "text": None if n % 2 else "x" * 80} for n in range(600)]
    path, options = tmp_path / "t.parquet", {"use_dictionary": False, "row_group_size": 7}
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", **options)
    for key in ("text", "nowhere"):
        sizes = {record.size for record in read(path, "parquet", key)}
        assert len(sizes) == 1 and 120 < sizes.pop() < 200


def test_rows_of_a_table_are_called_by_the_line_they_begin_at(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        b'id;text;n\r\n1;"a;b\r\n""q""";3\r\n\r\n2;z\r\n3;caf\xe9;4\r\n'
    )
    found = [
        (one.name, one.text, one.dropped, one.changed) for one in read(tmp_path / "t.csv", "csv")
    ]
    assert found == [
        (":2", 'a;b\r\n"q"', "", ""),
        (":5", "", "malformed", ""),
        (":6", "caf\u00e9", "", "latin1_guessed"),
    ]
    assert [one.name for one in read(tmp_path / "t.csv", "csv", after=5)] == [":5", ":6"]
    assert read(tmp_path / "t.csv", "csv", policy="drop")[-1].dropped == "invalid_utf8"


def test_what_no_reader_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for format in ("json", "csv", "parquet"):
        monkeypatch.setitem(formats.LIMITS, format, 100)
    monkeypatch.setattr(packings, "CHUNK", 16)
    (tmp_path / "t.json").write_text('[{"text": "a"}, {"text": "' + "b" * 200)
    with pytest.raises(SourceUnreadable, match="line 2"):
        read(tmp_path / "t.json", "json")
    before = csv.field_size_limit()
    (tmp_path / "t.csv").write_text('text\n"never closed\n' + "b\n" * 200)
    with pytest.raises(SourceUnreadable, match="field limit"):
        read(tmp_path / "t.csv", "csv")
    assert csv.field_size_limit() == before
    pq.write_table(pa.table({"text": ["a", "b" * 101]}), tmp_path / "t.parquet")
    with pytest.raises(SourceUnreadable, match="line 2"):
        read(tmp_path / "t.parquet", "parquet")
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(SourceUnreadable, match="Parquet"):
        read(tmp_path / "t.parquet", "parquet")


def test_a_long_array_takes_time_in_proportion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packings, "CHUNK", 1000)
    (tmp_path / "t.json").write_text(json.dumps([{"text": "x" * 200_000}]))
    tried, decode = [], tables._decode
    monkeypatch.setattr(
        tables, "_decode", lambda text, at: tried.append(len(text)) or decode(text, at)
    )
    assert len(texts(tmp_path / "t.json", "json")[0]) == 200_000
    assert sum(tried) < 5 * 200_000


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_name_of_a_column_may_be_long(tmp_path: Path, quote: str) -> None:
    """Longer than the csv module reads if nobody says otherwise; beyond our own limit refused."""
    name, before = "n" * 200_000, csv.field_size_limit()
    (tmp_path / "t.csv").write_text(f"text,{quote}{name}{quote}\none,two\n")
    assert texts(tmp_path / "t.csv", "csv") == ["one"]
    how = formats.How(Source.model_validate({"name": "s", "format": "csv"}))
    assert tables.columns(tmp_path / "t.csv", how)[1] == ["text", name]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_columns_are_named_where_the_text_stands_elsewhere(
    tmp_path: Path, recipe_of: Any, format: str
) -> None:
    path = tmp_path / f"t.{format}"
    rows = [{"title": "t", "body": f"some words {n}"} for n in range(9)]
    if format == "csv":
        path.write_text("title,body\n" + "".join(f"t,some words {n}\n" for n in range(9)))
    elif format == "json":
        path.write_text(json.dumps(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    how = formats.How(Source.model_validate({"name": "t", "format": format}))
    found = shown.found(path, how)
    assert (found.records, found.counts) == (9, {"title": 9, "body": 9})
    with pytest.raises(TextKeyMissing, match=r"title \(9\), body \(9\).*text_key=body"):
        check(recipe_of({"name": "t", "path": path.name, "format": format}), tmp_path)
    assert texts(path, format, "body")[8] == "some words 8"


def test_reading_a_table_needs_no_more_than_arrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused:
        def find_spec(self, name: str, *_: Any) -> None:
            assert name.partition(".")[0] != "pandas"

    monkeypatch.setattr(sys, "meta_path", [Refused(), *sys.meta_path])
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "t.parquet")
    assert texts(tmp_path / "t.parquet", "parquet") == ["a"]
