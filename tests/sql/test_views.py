"""The views are what the docs say, and hold what the ledger says."""

from __future__ import annotations

import ast
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pellucid import sql
from pellucid.errors import (
    QueryInvalid,
)
from pellucid.record import digests
from pellucid.sql import asked, tables
from pellucid.store.home import home
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from tests.conftest import finish, make_run, pellucid, spiking
from tests.serving import serving
from tests.sql.answers import DOCS, connect, questions, rows, table

# ---- the schema ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sql.VIEWS)
def test_a_view_has_the_columns_that_the_docs_and_the_module_say(name: str, finished: Path) -> None:
    section = DOCS.read_text().split(f"\n### {name}\n")[1].split("\n### ")[0]
    documented = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+) \|$", section, re.M)
    assert documented == [(one.name, one.type, one.meaning) for one in sql.VIEWS[name].columns]
    with connect(finished) as connection:
        found = connection.sql(f"DESCRIBE {name}").fetchall()
    assert [(row[0], row[1]) for row in found] == [(column, kind) for column, kind, _ in documented]


def test_the_docs_describe_every_view_and_no_other() -> None:
    described = re.findall(r"^### (\w+)$", DOCS.read_text(), re.M)
    assert described == list(sql.VIEWS) and len(set(described)) == len(described)


def test_before_anything_is_done_the_views_are_there_and_empty(
    tmp_path: Path, corpus: Path
) -> None:
    folder = make_run(tmp_path / "run", corpus)
    views = sql.schema(folder)["views"]
    assert [one["view"] for one in views] == list(sql.VIEWS) and {one["rows"] for one in views} == {
        0
    }
    with connect(folder) as connection:
        for name, view in sql.VIEWS.items():
            found = connection.sql(f"DESCRIBE {name}").fetchall()
            assert [(row[0], row[1]) for row in found] == [
                (one.name, one.type) for one in view.columns
            ]


@pytest.mark.parametrize("title", questions())
def test_a_question_of_the_docs_gives_the_columns_shown_there(title: str, finished: Path) -> None:
    query, columns = questions()[title]
    assert table(finished, query).schema.names == columns


def test_there_are_eleven_questions_and_they_find_something(finished: Path) -> None:
    assert len(questions()) == 11
    found = {title: table(finished, query).num_rows for title, (query, _) in questions().items()}
    assert {title[:2] for title, count in found.items() if count} >= {
        "1.",
        "3.",
        "5.",
        "7.",
        "8.",
        "9.",
    }


# ---- what is in the views ----------------------------------------------------------------------


def test_steps_are_those_of_the_ledger(finished: Path) -> None:
    ledger, found = LedgerFile(finished), rows(finished, "FROM steps ORDER BY step")
    assert [one["step"] for one in found] == list(range(1, 14))
    for one in found:
        entry = ledger.step(one["step"])
        for name in ("loss", "lr", "grad_norm", "weight_norm"):
            assert one[name] == digests.bits_float(entry[name])


def test_losses_of_the_views_add_up(finished: Path) -> None:
    for view in ("sequences", "segments", "sources", "microbatches"):
        found = rows(
            finished,
            f"SELECT step, sum(loss_sum) / sum(tokens) AS loss FROM {view} GROUP BY step "
            "ORDER BY step",
        )
        recorded = rows(finished, "SELECT step, loss FROM steps ORDER BY step")
        assert [one["step"] for one in found] == [one["step"] for one in recorded]
        assert all(
            math.isclose(a["loss"], b["loss"], rel_tol=1e-12)
            for a, b in zip(found, recorded, strict=True)
        )
        assert rows(
            finished, f"SELECT count(*) AS n FROM {view} WHERE loss != loss_sum / tokens"
        ) == [{"n": 0}]


def test_segments_name_documents_by_their_index(finished: Path) -> None:
    from pellucid.look.show import Shown

    shown = Shown(finished).step(7)
    expected = {
        (row["row"], one["document"])
        for row in shown["rows"]
        for one in row["segments"]
        if one["loss"]
    }
    query = "SELECT row, id FROM segments JOIN documents USING (document) WHERE step = 7"
    assert {(one["row"], one["id"]) for one in rows(finished, query)} == expected


def test_sources_have_their_weight_and_checkpoints_their_folder(
    finished: Path, tmp_path: Path
) -> None:
    assert rows(finished, "SELECT DISTINCT source, weight FROM sources") == [
        {"source": "stones", "weight": 1}
    ]
    copy = Path(shutil.copytree(finished, tmp_path / "phases"))
    with (copy / "recipe.toml").open("a") as recipe:
        phases = ("5\nweights = {stones = 2}", "5\nshares = {stones = 3}", "3")
        for number, steps in enumerate(phases):
            recipe.write(f'\n[[phase]]\nname = "p{number}"\nsteps = {steps}\n')
    query = "SELECT weight FROM sources ORDER BY step"
    assert [one["weight"] for one in rows(copy, query)] == [2] * 5 + [None] * 5 + [1] * 3
    found, ledger = rows(finished, "FROM checkpoints ORDER BY step"), LedgerFile(finished)
    assert [one["step"] for one in found] == [0, 6, 12, 13]
    assert [one["tokens"] for one in found] == [0, 6 * 128, 12 * 128, 13 * 128]
    for one in found:
        entry = ledger.step(one["step"])
        assert (one["weights"], one["state"]) == (entry["weights"], entry["state"])
        assert (finished / one["path"] / "model.safetensors").is_file()
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints/step6")
    assert rows(copy, "SELECT path FROM checkpoints WHERE step = 6") == [{"path": None}]


def test_incidents_are_listed_and_what_a_rollback_abandoned_is_left_out(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = {
        "loss": "{action = 'rollback', deviations = 8.0, least = 0.1, width = 2}",
        "window": "8",
        "back": "3",
    }
    settings = ["train.steps=16", "placement.anchors.every=4"] + [
        f"guards.{key}={value}" for key, value in guards.items()
    ]
    folder = make_run(tmp_path / "run", corpus, settings)
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, 11, 12))
    finish(folder)
    incident = next(iter(LedgerFile(folder).every("incident")))
    assert incident["action"] == "rollback"
    (found,) = rows(folder, "FROM incidents")
    assert (found["step"], found["rule"], found["back_to"]) == (
        incident["step"],
        "loss",
        incident["to"],
    )
    assert (
        found["threshold"] == digests.bits_float(incident["limit"])
        and found["value"] > found["threshold"]
    )
    assert found["branch"] == 1 and found["abandoned"] is False and "is over" in found["why"]
    assert found["passed_over"] == incident["passed_over"] and found["quantity"] is None
    for view, each in (("steps", 1), ("sequences", 4)):
        counted = rows(
            folder, f"SELECT step, count(*) AS n FROM {view} GROUP BY step ORDER BY step"
        )
        assert counted == [{"step": step, "n": each} for step in range(1, 17)]
    assert rows(folder, "SELECT max(loss) < 20 AS calm FROM steps") == [{"calm": True}]


def test_a_run_that_goes_on_is_read_from_its_parts(finished: Path, release: Path) -> None:
    from pellucid.store import metrics

    whole = table(finished, "FROM segments ORDER BY step, row, start")
    metrics.Metrics(release).forget_after(13)  # Joined tables become parts again.
    assert not (release / "metrics/segments.parquet").exists()
    assert table(release, "FROM segments ORDER BY step, row, start").equals(whole)


def test_a_folder_with_a_name_like_a_pattern(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "it's [1]* ?"
    shutil.copytree(finished, folder)
    shutil.copytree(finished, tmp_path / "it's 1x x")
    assert rows(folder, "SELECT count(*) AS n FROM steps") == [{"n": 13}]


@pytest.mark.parametrize("title", questions())
def test_a_release_behind_a_url_gives_the_same_answers(title: str, finished: Path) -> None:
    query, _ = questions()[title]
    with serving(finished) as server:
        found = table(home(server.url), query)
    here = table(finished, query)
    assert found.schema == here.schema and found.num_rows == here.num_rows
    # The others add floats up, in an order that threads decide.
    if title.startswith(("2.", "3.", "8.", "10.")):
        assert found.equals(here)


def test_behind_a_url_only_the_tables_named_are_fetched(finished: Path) -> None:
    with serving(finished) as server:
        folder = home(server.url)
        server.forget()
        assert rows(folder, "SELECT step, loss FROM steps WHERE step = 7") == rows(
            finished, "FROM steps SELECT step, loss WHERE step = 7"
        )
        assert {one.path for one in server.requests} <= {"recipe.toml", "metrics/steps.parquet"}
        assert rows(folder, "FROM checkpoints") == rows(finished, "FROM checkpoints")
        assert sql.schema(folder) == sql.schema(finished)  # Through the process that answers.
        with pytest.raises(QueryInvalid):
            sql.sql(folder, f"FROM read_parquet('{server.url}/metrics/steps.parquet')")
        done = pellucid("sql", server.url, "SELECT count(*) AS n FROM steps", "--json")
        assert json.loads(done.stdout) == [{"n": 13}]


# ---- sums of floats ----------------------------------------------------------------------------


def plain_sums(text: str) -> list[str]:
    """Sums and means of DOUBLE columns whose bits depend on the order in which threads add."""
    doubles = {
        one.name for view in sql.VIEWS.values() for one in view.columns if one.type == "DOUBLE"
    }
    return re.findall(
        rf"\b(?:sum|avg|mean)\((?:\w+\.)?(?:{'|'.join(sorted(doubles))})\b", text, re.I
    )


def test_nothing_of_ours_adds_floats_in_the_order_of_threads() -> None:
    root = DOCS.parents[1]
    assert plain_sums("SELECT sum(s.loss_sum), AVG(loss), fsum(loss), sum(tokens)") == [
        "sum(s.loss_sum",
        "AVG(loss",
    ]
    for path in [root / "README.md", *(root / "docs").glob("*.md")]:
        assert plain_sums(path.read_text()) == [], path
    for path in [*(root / "pellucid").rglob("*.py"), *(root / "bench").rglob("*.py")]:
        texts = [
            one.value
            for one in ast.walk(ast.parse(path.read_bytes()))
            if isinstance(one, ast.Constant)
        ]
        assert [
            plain_sums(text) for text in texts if isinstance(text, str) and plain_sums(text)
        ] == [], path


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_that_the_docs_advise_has_one_value(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    numbers = drawn.random(300_000) * 10.0 ** drawn.integers(-3, 3, 300_000)
    with tables.engine(asked.MEMORY) as connection:
        connection.register(
            "numbers", pa.table({"x": numbers, "g": drawn.integers(0, 3, len(numbers))})
        )
        found = {
            connection.execute("SELECT fsum(x), favg(x) FROM numbers").fetchall()[0]
            for _ in range(6)
        }
    total = math.fsum(numbers)
    assert len(found) == 1 and next(iter(found)) == pytest.approx(
        (total, total / len(numbers)), rel=4e-16
    )
