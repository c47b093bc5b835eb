"""The views of evaluations hold what the run keeps, and a forged line is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pellucid import sql
from pellucid.errors import EvaluationBroken
from pellucid.evaluate.tasks import chosen
from pellucid.inputs import Inputs
from pellucid.measured import stored
from pellucid.measured.intervals import of_mean
from pellucid.measured.summary import summary
from pellucid.recipe import load
from pellucid.record import digests
from pellucid.record.evaluations import Line, genesis, line_from, task_digest
from pellucid.release.publish import publish
from pellucid.sql import evaluated
from pellucid.store import layout
from pellucid.store.home import home
from pellucid.store.ledger import LedgerFile
from tests.release.evaluating import answered, evaluate, memorised, rewrite
from tests.serving import serving
from tests.sql.answers import questions, rows


def test_each_number_of_each_entry_has_a_row(release: Path) -> None:
    made = evaluate(release, [6, 12])
    listed = rows(release, "FROM evaluations ORDER BY n, number")
    assert len(listed) == 8
    for row in listed:
        entry = made[row["n"]]
        assert row["value"] == digests.bits_float(entry["numbers"][row["number"]])
        lines = [*stored.lines(release, stored.entries(release)[row["n"] - 1])]
        interval = of_mean(
            [line.numbers[row["number"]] for line in lines],
            [line.example.cluster or line.example.name for line in lines],
        )
        known = (None, None, None) if row["number"] == "chance" else interval
        assert known == (row["low"], row["high"], row["method"])
        assert row["examples"] == len(lines)
        assert json.loads(row["settings"]) == entry["settings"]
        names = ("step", "task", "harness", "version", "metric", "task_digest")
        assert [row[name] for name in names] == [entry[name] for name in names]
    (query,) = (query for title, (query, _) in questions().items() if title.startswith("11."))
    answer = rows(release, query)
    assert [(row["step"], row["value"], row["chance"]) for row in answer] == [
        (6, 0.6, 0.5),
        (12, 0.6, 0.5),
    ]


def test_bits_per_byte_are_those_that_every_table_shows(release: Path) -> None:
    """With their interval, which the means of their parts do not have."""
    (task,) = chosen("validation", Inputs.load(release, load(release)))
    entry = answered(release, 6, 1, task)
    rewrite(release, [genesis(LedgerFile(release).head), entry])
    (entry,) = stored.of_run(release)
    shown = summary(entry, stored.lines(release, entry))
    found = {row["number"]: row for row in rows(release, "FROM evaluations")}
    assert {*found} == {"bits_per_byte", *entry["numbers"]}
    ratio = found["bits_per_byte"]
    assert (ratio["value"], ratio["examples"]) == (shown.value, shown.examples)
    assert shown.interval == (ratio["low"], ratio["high"], ratio["method"])
    assert all(found[part]["low"] is None for part in entry["numbers"])


@pytest.mark.parametrize("batch", [1, 1 << 22])
def test_each_number_of_each_example_has_a_row(
    release: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluated, "_BATCH", batch)
    evaluate(release, [6, 12])
    listed = rows(release, "FROM examples WHERE number = 'acc' ORDER BY n, example")
    assert [row["value"] for row in listed] == [1.0, 0.0, 1.0, 0.0, 1.0] * 2
    first = listed[0]
    assert (first["n"], first["step"], first["task"]) == (1, 6, "arc_easy")
    assert (first["example"], first["cluster"], first["target"]) == ("doc 0", "doc 0", "0")
    assert json.loads(first["request"]) == {"choices": [" 0", " 1"], "context": "yes 0"}
    assert json.loads(first["answer"]) == {"greedy": [False, False], "nats": [-1.0, -2.0]}
    query = """
        SELECT evaluations.value = favg(examples.value) AS same, count(*) AS examples
        FROM evaluations JOIN examples USING (n, number)
        WHERE number = 'acc' GROUP BY n, evaluations.value"""
    assert rows(release, query) == [{"same": True, "examples": 5}] * 2


def test_examples_of_one_cluster_have_no_interval(release: Path) -> None:
    first, made = evaluate(release, [6])
    path = release / layout.examples(1)
    lines = [json.loads(line) | {"cluster": "one"} for line in path.read_bytes().splitlines()]
    written = [digests.canonical(line) + b"\n" for line in lines]
    path.write_bytes(b"".join(written))
    read = [line_from(line, made["metric"]) for line in written]
    asked = task_digest(line.example for line in read if isinstance(line, Line))
    rewrite(release, [first, made | {"task_digest": asked}])
    found = rows(release, "SELECT DISTINCT low, high, method FROM evaluations")
    assert found == [{"low": None, "high": None, "method": None}]


def test_other_questions_beside_an_honest_digest_are_refused_by_who_reads_them(
    release: Path,
) -> None:
    """As verify refuses them: nothing else holds the lines of a file against its entry."""
    first, made = evaluate(release, [6])
    path = release / layout.examples(1)
    content = path.read_bytes().replace(b"yes 0", b"yes 9")
    path.write_bytes(content)
    forged = made | {"sha256": hashlib.sha256(content).hexdigest()}
    rewrite(release, [first, forged])
    with pytest.raises(EvaluationBroken, match="other questions"):
        rows(release, "FROM evaluations")
    with pytest.raises(EvaluationBroken, match="other questions"):
        summary(forged, stored.lines(release, stored.entries(release)[0]))


def test_examples_in_token_ids_have_rows_too(release: Path) -> None:
    rewrite(release, [*evaluate(release, [6]), memorised(release, 6, 2)])
    listed = rows(release, "FROM examples WHERE task = 'memorization' ORDER BY example, number")
    assert [row["number"] for row in listed[:3]] == ["exact", "first", "share"]
    for row in listed:
        request, answer, target = (
            json.loads(row[name]) for name in ("request", "answer", "target")
        )
        assert len(request["ids"]) == 9 and request["tokens"] == len(target) == 7
        assert answer == {"ids": [target[0]] * 7}
    (count,) = rows(release, "SELECT count(DISTINCT example) AS n FROM examples WHERE n = 2")
    assert count == {"n": len(listed) // 3} and count["n"] > 4


def test_the_process_that_answers_reads_examples_from_a_folder_and_a_url(release: Path) -> None:
    evaluate(release, [6])
    publish(release)
    query = "SELECT example, number, value FROM examples ORDER BY ALL"
    here = sql.sql(release, query)
    assert here.num_rows == 20
    with serving(release) as server:
        assert sql.sql(home(server.url), query) == here
        assert sql.sql(home(server.url), "FROM evaluations").num_rows == 4


def test_evaluations_of_abandoned_weights_have_no_row(release: Path) -> None:
    made = evaluate(release, [6, 12])
    made[2] |= {"weights": LedgerFile(release).step(11)["weights"]}
    rewrite(release, made)
    for view in ("evaluations", "examples"):
        assert rows(release, f"SELECT DISTINCT step FROM {view}") == [{"step": 6}]


def test_a_forged_line_or_entry_is_refused(release: Path) -> None:
    evaluate(release, [6])
    path = release / layout.examples(1)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"acc":"3ff0', b'"acc":"4ff0', 1))
    with pytest.raises(EvaluationBroken, match="other numbers than accuracy gives"):
        sql.sql(release, "FROM examples")
    path.write_bytes(b"x" * (1 << 22))
    with pytest.raises(EvaluationBroken, match="no line break"):
        sql.sql(release, "FROM examples")
    chain = release / layout.EVALUATIONS
    chain.write_bytes(chain.read_bytes().replace(b'"metric":"accuracy"', b'"metric":"best"'))
    with pytest.raises(EvaluationBroken):
        sql.sql(release, "FROM evaluations")
