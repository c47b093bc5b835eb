"""What `plan` and `fork` say of the targets that phases pass over where they begin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.new import new
from pellucid.plan.estimate import plan
from pellucid.recipe import load
from tests.conftest import SETTINGS, finish, pellucid, write_corpus

PHASES = """[
  {name = "short", steps = 5, context = 8, batch = 3, microbatch = 1},
  {name = "long", steps = 3, context = 32, batch = 2, microbatch = 1},
  {name = "whole", steps = 2, context = 32, batch = 2, microbatch = 1, start = {code = "again"}},
]"""


@pytest.fixture(scope="module")
def phased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("passed")
    sources = [write_corpus(place / "text", 30), write_corpus(place / "code", 16, 40)]
    settings = ["train.warmup=0", "train.steps=10", f"phase={' '.join(PHASES.split())}"]
    new(place / "run", list(map(str, sources)), "1M", [*SETTINGS, *settings, "data.block=32"])
    return finish(place / "run")


def never_seen(folder: Path, cursors: Sequence[int] = (0, 0)) -> dict[str, int]:
    """Targets of each source that no step trains on, below where its cursor stands at the end and
    from where it stood at the beginning on: one by one."""
    recipe, shards = load(folder), Shards.open(folder)
    order = Order.of(folder, recipe, shards)
    names = [source.name for source in recipe.data.sources]
    steps = order.schedule.steps
    seen: dict[str, set[int]] = {name: set() for name in names}
    for stretch in order.stretches:
        for step in range(stretch.after + 1, stretch.last + 1):
            columns = (one.tolist() for one in stretch.targets(step, step))
            for source, first in zip(*columns, strict=True):
                seen[names[source]] |= set(range(first, first + stretch.phase.context))
    ends = order.stretches[-1].cursors_after(steps)
    return {
        name: len(set(range(begin, end)) - seen[name])
        for name, begin, end in zip(names, cursors, ends, strict=True)
    }


def test_a_plan_says_what_its_phases_pass_over(phased: Path) -> None:
    told = plan(phased, calibrated=False)["run"]["passed_over"]
    assert [one["phase"] for one in told] == ["long", "whole"]
    sums = {
        name: sum(one[kind].get(name, 0) for one in told for kind in ("row", "whole"))
        for name in ("text", "code")
    }
    assert sums == never_seen(phased) and all(sums.values())
    assert set(told[1]["whole"]) == {"code"} and not told[0]["whole"]
    out = " ".join(pellucid("plan", phased, "--no-calibration").stdout.split())
    for one in told:
        for name, count in one["row"].items():
            assert f"{count:,} of {name} (the rest of a row)" in out
        assert f"the phase {one['phase']} begins with step {one['step']} and passes over" in out
    assert f"{told[1]['whole']['code']:,} of code (the rest of a pass)" in out
    assert out.count("passes over") == 2, "the first phase passes over nothing"


def test_a_plan_without_data_says_that_it_does_not_know(phased: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes((phased / "recipe.toml").read_bytes())
    about = plan(tmp_path / "recipe.toml", calibrated=False)
    assert "no phase passes over a target where it begins" in about["assumed"]
    assert about["run"]["passed_over"] == []


def test_a_fork_says_what_it_passes_over(phased: Path, tmp_path: Path) -> None:
    parent = Order.of(phased, load(phased), Shards.open(phased))
    seen = parent.stretches[0].cursors_after(2)
    phases = PHASES.replace("steps = 5", "steps = 2").replace("steps = 3", "steps = 6")
    settings = ["--set", f"phase={' '.join(phases.split())}"]
    words = ("fork", phased, "--step", 2, *settings, "--to", tmp_path / "sooner")
    told = json.loads(pellucid(*words, "--json").stdout)["passed_over"]
    sums = {
        name: sum(one[kind].get(name, 0) for one in told for kind in ("row", "whole"))
        for name in ("text", "code")
    }
    assert [one["step"] for one in told] == [3, 9] and told[0]["phase"] == "long"
    assert sums == never_seen(tmp_path / "sooner", seen)
    # What begins at its first step is known from its parent alone; the rest a plan of it tells.
    assert plan(tmp_path / "sooner", calibrated=False)["run"]["passed_over"] == told[1:]


def test_a_fork_that_passes_over_nothing_says_nothing(phased: Path, tmp_path: Path) -> None:
    out = pellucid("fork", phased, "--step", 8, "--set", "train.lr=1e-4", "--to", tmp_path / "x")
    begins = Order.of(tmp_path / "x", load(tmp_path / "x"), Shards.open(phased)).route
    whole = [asdict(one) for one in begins.passed(["text", "code"])]
    assert whole == [] and out.stdout.count("passes over") == 1, "the pass that begins again"
    out = pellucid("fork", phased, "--step", 9, "--set", "train.lr=1e-4", "--to", tmp_path / "y")
    assert "passes over" not in out.stdout
