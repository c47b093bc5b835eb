from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pellucid.data.tokenizer import Tokenizer
from pellucid.evaluate.scoring import Scorer
from pellucid.inputs import Inputs, anchored_state
from pellucid.recipe import load
from pellucid.store import layout


@pytest.fixture
def trained(finished: Path, tmp_path: Path) -> Path:
    """A finished run that is not sealed, so that evaluations may be added."""
    folder = Path(shutil.copytree(finished, tmp_path / "trained"))
    (folder / layout.MANIFEST).unlink()
    shutil.rmtree(folder / layout.SITE)
    return folder


@pytest.fixture(scope="session")
def inputs(finished: Path) -> Inputs:
    return Inputs.load(finished, load(finished))


@pytest.fixture
def scorer(inputs: Inputs) -> Scorer:
    """Of the last state of a small run."""
    state = anchored_state(inputs, layout.steps_in(inputs.folder / layout.ANCHORS)[-1])
    return Scorer.of(state, Tokenizer.load(inputs.folder / layout.TOKENIZER), inputs.recipe)


@pytest.fixture(scope="module")
def own_data_sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No data that another test or user left is used."""
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield
