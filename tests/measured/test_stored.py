"""What is read of the evaluations that a run keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.errors import EvaluationBroken
from pellucid.measured import stored
from pellucid.store import files, layout
from pellucid.store.ledger import LedgerFile
from tests.release.evaluating import evaluate, rewrite


def test_a_run_without_evaluations_has_none(release: Path, tmp_path: Path) -> None:
    assert stored.entries(release) == stored.of_run(release) == []
    assert stored.of_run(tmp_path) == []


def test_entries_of_abandoned_weights_are_not_the_runs(release: Path) -> None:
    made = evaluate(release, [6, 12, 13])
    assert [entry["step"] for entry in stored.of_run(release)] == [6, 12, 13]
    made[2] |= {"weights": LedgerFile(release).step(11)["weights"]}
    made[3] |= {"step": 10**9}
    rewrite(release, made)
    assert [entry["n"] for entry in stored.of_run(release)] == [1]
    assert len(stored.entries(release)) == 3


def test_lines_that_are_not_the_entrys_are_named(release: Path) -> None:
    evaluate(release, [12])
    (entry,) = stored.entries(release)
    (about,) = stored.summaries(release, [entry])
    assert (about.number, about.value, about.examples) == ("acc", 0.6, 5)
    with pytest.raises(EvaluationBroken, match="other numbers than its entry"):
        list(stored.lines(release, entry | {"numbers": {"acc": ""}}))
    files.write_bytes(release / layout.examples(1), b"")
    with pytest.raises(EvaluationBroken, match="has no example"):
        list(stored.summaries(release, [entry]))
