"""The plan of a run, a recipe, a machine too small; and what it refuses."""

from __future__ import annotations

import json
import math
import shutil
import time
from pathlib import Path

import pytest

from pellucid import counts, machine
from pellucid.errors import CommandInvalid, RecipeInvalid, RunMissing, TokenizerInvalid
from pellucid.optimizers import AdamW, Muon
from pellucid.plan.calibrate import _cut, _line, calibrate
from pellucid.plan.estimate import plan
from pellucid.plan.sizes import sizes
from pellucid.plan.tables import counted, lasting, scaled
from pellucid.recipe import Recipe, load
from pellucid.settings import with_settings
from pellucid.store import files
from tests.conftest import make_run, pellucid


def test_a_plan_by_the_command_line(finished: Path) -> None:
    about = json.loads(pellucid("plan", finished, "--json").stdout)
    assert about["model"]["parameters"] == 28_192 and about["run"]["steps"] == 13
    assert about["time"]["step"] > 0 and about["time"]["calibration"]["seconds"] > 0
    assert about["memory"]["fits"] and about["storage"]["fits"]
    assert about["step"]["forward"] + about["step"]["backward"] == about["step"]["flops"]
    out = pellucid("plan", finished, "--speed", 0.1).stdout
    assert "calibrated" not in out and "at the speed given" in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_plan_writes_nothing(release: Path) -> None:
    before = {name: (release / name).stat().st_mtime_ns for name in files.walk(release)}
    pellucid("plan", release)
    assert {name: (release / name).stat().st_mtime_ns for name in files.walk(release)} == before


def test_a_recipe_alone_is_planned_with_what_is_assumed(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "small", corpus)
    alone = Path(shutil.copy(folder / "recipe.toml", tmp_path / "mine.toml"))
    about = plan(alone, calibrated=False)
    assert about["time"] is None and any("vocabulary has 300" in one for one in about["assumed"])
    assert "the speed is unknown" in pellucid("plan", alone, "--no-calibration").stdout


def test_speed_price_and_gpus_are_arithmetic(finished: Path) -> None:
    about = plan(finished, speed=0.5, tflops=200, price=3)
    flops = about["run"]["flops"]
    assert about["time"]["training"] == pytest.approx(flops / 0.5e12)
    assert about["reference"]["gpu_hours"] == pytest.approx(flops / 200e12 / 3600)
    assert about["reference"]["cost"] == pytest.approx(3 * about["reference"]["gpu_hours"])
    last = about["sizes"][-1]
    assert last["cost"] == pytest.approx(last["flops"] / 200e12 / 3600 * 3)
    assert last["anchor"] == 12 * last["parameters"] and last["state"] == 16 * last["parameters"]


@pytest.mark.parametrize("word", ["--speed=0", "--price=-1", "--tflops=inf", "--speed=nan"])
def test_a_number_that_is_none_is_refused(finished: Path, word: str) -> None:
    name, _, value = word.removeprefix("--").partition("=")
    with pytest.raises(CommandInvalid, match=f"--{name}"):
        plan(finished, calibrated=False, **{name: float(value)})  # type: ignore[arg-type]
    assert f"--{name}" in pellucid("plan", finished, "--no-calibration", word, check=2).stderr


def test_what_is_no_recipe_is_refused(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(RunMissing):
        plan(tmp_path)
    with pytest.raises(RunMissing):
        plan(tmp_path / "nothing.toml")
    assert "RunMissing" in pellucid("plan", tmp_path, check=2).stderr
    broken = tmp_path / "recipe.toml"
    broken.write_text(
        'name = "x"\n[[data.sources]]\nname = "s"\n[train]\nbatch = 3\nmicrobatch = 2\n'
    )
    with pytest.raises(RecipeInvalid):
        plan(tmp_path)
    broken.write_text(
        'name = "x"\n[[data.sources]]\nname = "s"\n[tokenizer]\nkind = "file"\npath = "none.json"\n'
    )
    with pytest.raises(TokenizerInvalid):
        plan(tmp_path, calibrated=False)


def larger(corpus: Path, folder: Path) -> Path:
    make_run(folder, corpus)
    path = folder / "recipe.toml"
    words = [
        "model.width=256",
        "model.context=1024",
        "model.layers=8",
        "train.batch=64",
        "train.microbatch=64",
    ]
    path.write_bytes(with_settings(path.read_bytes(), words, path))
    return folder


def test_a_recipe_too_large_is_said_to_be_so_with_what_would_fit(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = larger(corpus, tmp_path / "large")
    monkeypatch.setattr(machine, "memory", lambda: 1 << 30)
    memory = plan(folder, calibrated=False)["memory"]
    assert not memory["fits"] and memory["peak"] > 1 << 30
    found = {one.split(" = ")[0]: int(one.split(" = ")[1].split()[0]) for one in memory["advice"]}
    assert found["train.microbatch"] < 64
    recipe = load(folder)
    for size, fits in ((found["train.microbatch"], True), (2 * found["train.microbatch"], False)):
        changed = recipe.model_copy(
            update={"train": recipe.train.model_copy(update={"microbatch": size})}
        )
        assert (counts.memory(changed, 300, 1).peak <= 1 << 30) == fits

    monkeypatch.setattr(machine, "memory", lambda: 1 << 20)
    assert plan(folder, calibrated=False)["memory"]["advice"] == []
    assert plan(folder, calibrated=True)["time"] is None  # Not even the cut fits.


def test_the_statement_is_on_the_terminal(
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from pellucid.plan.tables import print_plan

    monkeypatch.setattr(machine, "memory", lambda: 1 << 30)
    monkeypatch.setattr(machine, "free", lambda folder: 1000)
    print_plan(plan(larger(corpus, tmp_path / "large"), calibrated=False))
    out = capsys.readouterr().out
    assert (
        out.count("DOES NOT FIT") == 2
        and "train.microbatch = " in out
        and "placement.anchors.every" in out
    )


@pytest.fixture
def wide(finished: Path) -> Recipe:
    recipe = load(finished)
    model = recipe.model.model_copy(
        update={"layers": 40, "width": 1024, "mlp_width": 4096, "context": 2048}
    )
    return recipe.model_copy(update={"model": model})


def test_a_large_model_is_calibrated_on_less_of_it(wide: Recipe) -> None:
    sequences, context, layers = _cut(wide, 300)
    assert layers == (1, 2) and sequences == 1 and context < 2048
    small = wide.model.model_copy(update={"layers": 2})
    assert counts.flops(small, 300, sequences, context).step <= 2e11
    assert _line((1, 2), [3.0, 5.0], 40) == 81.0 and _line((4,), [3.0], 4) == 3.0


def test_calibration_scales_from_cuts_to_the_whole(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On seconds made up from the cut's own counts, the whole's come out by the same rule."""
    from pellucid.plan import calibrate as room

    recipe = load(finished)
    model = recipe.model.model_copy(update={"layers": 12})
    recipe = recipe.model_copy(update={"model": model})
    monkeypatch.setattr(room, "_WORK", 1.0)

    def timed(cut: Recipe, vocabulary: int) -> tuple[float, ...]:
        sequences = cut.train.microbatch
        flops = counts.flops(cut.model, vocabulary, sequences)
        size = counts.parameters(cut.model, vocabulary).total
        return flops.step * 1e-9, flops.forward * 1e-9, size * 1e-9, size * 2e-9

    monkeypatch.setattr(room, "_timed", timed)
    speed = calibrate(recipe, 300)
    assert speed is not None and speed.layers == (1, 2)
    own = counts.flops(model, 300, recipe.train.microbatch)
    assert speed.microbatch == pytest.approx(own.step * 1e-9, rel=0.05)
    assert speed.forward == pytest.approx(own.forward * 1e-9, rel=0.05)
    assert speed.adding == pytest.approx(counts.parameters(model, 300).total * 1e-9)
    assert speed.step(3) == pytest.approx(3 * speed.microbatch + 2 * speed.adding + speed.updating)


def with_muon(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"optimizer": Muon(kind="muon")})


def test_an_optimizer_s_products_are_in_every_estimate(corpus: Path, tmp_path: Path) -> None:
    adamw, muon = (
        plan(make_run(tmp_path / kind, corpus, [f"optimizer.kind={kind}"]), speed=0.1)
        for kind in ("adamw", "muon")
    )
    recipe = load(tmp_path / "muon")
    more = recipe.optimizer.flops(recipe.model.tensors(300))
    step, steps = muon["step"], muon["run"]["steps"]
    assert adamw["step"]["update"] == 0 and step["update"] == more > 0
    assert step["forward"] + step["backward"] + more == step["flops"]
    assert step["flops"] - more == adamw["step"]["flops"]
    assert muon["run"]["flops"] - adamw["run"]["flops"] == steps * more
    assert muon["run"]["phases"][0]["flops"] == muon["run"]["flops"]
    assert muon["time"]["step"] == pytest.approx(step["flops"] / 0.1e12)
    assert muon["time"]["validating"] == pytest.approx(adamw["time"]["validating"])
    out = pellucid("plan", tmp_path / "muon", "--speed", 0.1).stdout
    assert f"{more / step['flops']:.0%} the optimizer's\n" in out


def test_other_sizes_hold_what_the_optimizer_keeps() -> None:
    for size in sizes():
        shapes = size.shape.tensors(size.vocabulary)
        matrices = sum(math.prod(dims) for name, dims in shapes.items() if "_proj.weight" in name)
        assert size.state(AdamW()) == 12 * size.parameters
        assert size.state(Muon(kind="muon")) == 12 * size.parameters - 4 * matrices


def test_an_update_that_takes_long_is_not_taken_to_be_timed(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Muon's products on wide matrices: from their operations, at the speed of a microbatch."""
    from pellucid.plan import calibrate as room

    recipe = with_muon(load(finished))
    products = counts.step_flops(recipe, recipe.phases[0], 300).update
    tried: list[str] = []

    def timed(cut: Recipe, vocabulary: int) -> tuple[float, ...]:
        tried.append(cut.optimizer.kind)
        return 2.0, 1.0, 0.25, 0.5

    monkeypatch.setattr(room, "_timed", timed)
    monkeypatch.setattr(room, "_cut", lambda recipe, vocabulary: (1, 32, (2,)))
    own = counts.flops(recipe.model, 300, recipe.train.microbatch).step
    for work, kind, more in ((products, "muon", 0.0), (products - 1, "adamw", 1.0)):
        monkeypatch.setattr(room, "_WORK", work)
        speed = calibrate(recipe, 300)
        assert speed is not None and tried.pop() == kind
        assert speed.updating == pytest.approx(0.5 + more * products * speed.microbatch / own)


def test_a_cut_has_no_frozen_layer_to_look_for(
    wide: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pellucid.plan import calibrate as room

    frozen = wide.train.model_copy(update={"frozen": ("model.layers.39.*",)})
    monkeypatch.setattr(room, "_timed", lambda cut, vocabulary: (2.0, 1.0, 0.25, 0.5))
    speed = calibrate(wide.model_copy(update={"train": frozen}), 300)
    assert speed is not None and speed.layers == (1, 2)


def test_numbers_for_people() -> None:
    assert [scaled(12_820_219, "B"), scaled(629, "B"), scaled(2.99e10, "FLOP")] == [
        "12.8 MB",
        "629 B",
        "29.9 GFLOP",
    ]
    assert [lasting(0.214), lasting(1.12), lasting(7200), lasting(4e9), lasting(7e11)] == [
        *("214 ms", "1.12 s", "2.00 h", "127 years", "22.2K years")
    ]
    assert [counted(6_738_415_616), counted(1.259e12), counted(12)] == ["6.74B", "1.26T", "12"]


@pytest.mark.parametrize(
    "settings",
    [
        ["train.steps=64", f"train.batch={2**49}", f"train.microbatch={2**49}", "train.warmup=0"],
        ["model.layers=4096", f"train.steps={2**54}", "checkpoints.every=3"],
        [
            f"model.width={2**62}",
            f"model.mlp_width={2**63 - 1}",
            "model.context=1048576",
            "tokenizer.vocabulary=65536",
        ],
    ],
)
def test_absurd_sizes_are_planned_in_seconds(
    corpus: Path, tmp_path: Path, settings: list[str]
) -> None:
    """Nothing is counted one by one that a recipe may make as many as it likes."""
    folder = make_run(tmp_path / "run", corpus, settings)
    before = time.process_time()
    assert not plan(folder, calibrated=False)["storage"]["fits"]
    assert time.process_time() - before < 15


def test_more_layers_than_a_file_may_name_tensors_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeInvalid, match=r"model\.layers: .* 4096"):
        make_run(tmp_path / "run", corpus, ["model.layers=4097"])
