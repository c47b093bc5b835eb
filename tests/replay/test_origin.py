"""Where a fork begins, held against its parent by `diff PARENT FORK`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid.fork import fork
from pellucid.recipe import load
from pellucid.replay.diff import diff
from tests.conftest import finish
from tests.replay.differences import inputs_of, quiet

STEP = 8


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("tokens = ", "fork.tokens", 999999999),
        ("rows = ", "fork.rows", 0),
        ("stones = ", "fork.cursors.stones", 3200),
    ],
)
def test_a_false_beginning_is_named_with_both_values(
    line: str, field: str, value: int, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    fork(inputs_of(finished), STEP, folder, [], [], quiet)
    path, right = folder / "recipe.toml", load(folder).fields()[field]
    begun = path.read_text().partition("[fork")
    before, after = f"\n{line}{right}\n", f"\n{line}{value}\n"
    assert begun[2].count(before) == 1, begun[2]
    path.write_text(begun[0] + begun[1] + begun[2].replace(before, after))
    finish(folder)
    for a, b in ((finished, folder), (folder, finished)):
        result = diff(a, b, quiet)
        values = (right, value) if a == finished else (value, right)
        assert result.recipe == [{"field": field, "a": values[0], "b": values[1]}]
        sides = "BA" if a == finished else "AB"
        words = f"{field} is {value} in {sides[0]}, but {sides[1]} gives {right} after step {STEP}."
        assert words in result.notes
        assert not result.equal and result.step == STEP + 1 and result.cause
        assert result.cause.certainty == "proven"
        if field == "fork.tokens":
            assert result.cause.description == "the recipes differ in fork.tokens alone"
        assert "The fork changes nothing" not in " ".join(result.notes)
