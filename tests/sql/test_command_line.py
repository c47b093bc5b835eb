"""The verb: what it prints, and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pellucid import sql
from tests.conftest import pellucid
from tests.sql.answers import ENDLESS, rows


def test_without_a_query_it_says_what_there_is(finished: Path) -> None:
    out = pellucid("sql", finished).stdout
    for name, view in sql.VIEWS.items():
        assert re.search(rf"^{name}  ", out, re.M)
        assert all(re.search(rf"^  {one.name} +{one.type} ", out, re.M) for one in view.columns)
    about = json.loads(pellucid("sql", finished, "--json").stdout)
    assert {one["view"]: one["rows"] for one in about["views"]}["steps"] == 13


def test_the_run_may_be_this_folder(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    assert pellucid("sql", "select max(step) as last from steps").stdout.split() == ["last", "13"]
    assert "checkpoints  4 rows" in pellucid("sql").stdout
    pellucid("sql", "select", "1", "2", check=2)


def test_a_table_says_how_many_rows_there_were(finished: Path) -> None:
    done = pellucid("sql", finished, "FROM sequences ORDER BY step, row")
    assert (
        len(done.stdout.splitlines()) == 41
        and done.stderr == "40 of 52 rows; --limit 0 prints all\n"
    )
    done = pellucid("sql", finished, "FROM sequences", "--limit", 3)
    assert len(done.stdout.splitlines()) == 4 and done.stderr.startswith("3 of 52 rows")
    done = pellucid("sql", finished, "FROM sequences", "--limit", 0)
    assert len(done.stdout.splitlines()) == 53 and done.stderr == ""


def test_json_is_a_list_of_all_rows(finished: Path) -> None:
    found = json.loads(
        pellucid(
            "sql", finished, "SELECT * FROM segments ORDER BY step, row, start", "--json"
        ).stdout
    )
    assert found == rows(finished, "SELECT * FROM segments ORDER BY step, row, start")
    assert json.loads(pellucid("sql", finished, "SELECT 1 AS a WHERE false", "--json").stdout) == []
    done = pellucid("sql", finished, "FROM steps", "--json", "--limit", 2)
    assert len(json.loads(done.stdout)) == 2 and done.stderr.startswith("2 of 13 rows")


def test_json_has_only_what_json_has(finished: Path) -> None:
    query = """SELECT 'nan'::DOUBLE AS nan, '-inf'::FLOAT AS inf, 9007199254740992 AS safe,
        9007199254740993 AS big, -9223372036854775808 AS least, sum(7::BIGINT) AS total,
        1.25::DECIMAL(5, 2) AS decimal, NULL AS nothing, [1, NULL] AS list,
        {'a': 'nan'::DOUBLE} AS struct, '\\xFF'::BLOB AS bytes, true AS yes, 'é\x1b' AS text,
        DATE '2026-01-02' AS day, 1e300 AS large"""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    out = pellucid("sql", finished, query, "--json").stdout
    assert json.loads(out, parse_constant=refuse) == [
        {
            "nan": "nan",
            "inf": "-inf",
            "safe": 9007199254740992,
            "big": "9007199254740993",
            "least": "-9223372036854775808",
            "total": 7,
            "decimal": 1.25,
            "nothing": None,
            "list": [1, None],
            "struct": {"a": "nan"},
            "bytes": "ff",
            "yes": True,
            "text": "é\x1b",
            "day": "2026-01-02",
            "large": 1e300,
        }
    ]
    assert "\x1b" not in out


def test_a_table_shows_no_control_characters_and_no_markup(finished: Path) -> None:
    query = """SELECT chr(27) || '[31mred' AS "a[bold]", '[blink]x[/blink]' AS b,
        repeat('long', 100) AS c, NULL AS d, 'two' || chr(10) || 'lines' AS e, 1.0 / 3 AS f"""
    out = pellucid("sql", finished, query).stdout
    assert "\x1b" not in out and "[31mred" in out and "[blink]x[/blink]" in out and "a[bold]" in out
    assert (
        "long" * 15 + " …" in out
        and "long" * 16 not in out
        and "two lines" in out
        and "0.333333" in out
    )
    assert len(out.splitlines()) == 2


def test_errors_have_a_name_one_line_and_their_code(finished: Path) -> None:
    done = pellucid("sql", finished, "SELECT error('\x1b[31m' || chr(10) || 'next')", check=2)
    assert done.stderr.startswith("pellucid: QueryInvalid: ") and done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    done = pellucid("sql", finished, ENDLESS, "--seconds", 0.5, "--json", check=2)
    assert json.loads(done.stdout)["error"] == "QueryStopped"


def test_a_large_answer_is_printed_row_by_row_or_refused(finished: Path) -> None:
    """As a table it would need many times its bytes; the release is not to blame for that."""
    query = "SELECT repeat('a', 1000000) AS text FROM range(40)"
    said = pellucid("sql", finished, query, "--limit", 0, check=2).stderr
    assert (
        "QueryTooLarge" in said
        and "--json prints an answer of up to 1 GiB" in said
        and "trust" not in said
    )
    printed = json.loads(pellucid("sql", finished, query, "--json").stdout)
    assert [len(row["text"]) for row in printed] == [1_000_000] * 40
    assert pellucid("sql", finished, query, "--limit", 2).returncode == 0
