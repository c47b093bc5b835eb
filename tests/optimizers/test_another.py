"""A third optimizer is one file and nothing else:
tests/optimizers/lion.py, which no other file knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid import recipe as recipes
from pellucid.inputs import Inputs
from pellucid.look.status import status
from pellucid.recipe import Recipe, load
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.store import tensors
from tests.conftest import finish, make_run
from tests.optimizers.lion import Lion


class WithLion(Recipe):
    optimizer: Lion = Lion()  # type: ignore[assignment] - What a line in the registry does.


def test_one_file_is_enough(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path / "run", corpus)
    text = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(
        text.replace('kind = "adamw"', 'kind = "lion"').replace("beta2 = 0.95", "")
    )
    monkeypatch.setattr(recipes, "Recipe", WithLion)
    finish(folder)
    publish(folder)
    assert verify(folder, lambda words: None).ok
    inputs = Inputs.load(folder, load(folder))
    assert audit_step(inputs, 7, lambda done, total: None).ok
    names = tensors.Tensors(folder / "anchors/step5/optimizer.safetensors").entries
    assert {name.partition("/")[0] for name in names} == {"exp_avg"}
    assert status(folder)["finished"]
