"""A run with somebody else's tokenizer, from its file to a release that verifies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pellucid.answers import print_status
from pellucid.data.tokenizer import LOSSY
from pellucid.errors import DocumentTokenUnclear
from pellucid.inputs import Inputs
from pellucid.look.status import status
from pellucid.recipe import load
from pellucid.release.export import export
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.run import run
from pellucid.store import files
from pellucid.terminal import Terminal
from tests.conftest import finish, make_run
from tests.data import shapes


def test_a_run_with_words_says_that_texts_do_not_come_back(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = shapes.bert()
    content["post_processor"] = None
    (tmp_path / "have.json").write_text(json.dumps(content))
    settings = [
        "tokenizer.kind=file",
        f"tokenizer.path={tmp_path / 'have.json'}",
        "train.steps=2",
        "train.warmup=0",
    ]
    with pytest.raises(DocumentTokenUnclear, match=r"\[CLS\], \[SEP\]"):
        finish(make_run(tmp_path / "unclear", corpus, settings))
    folder = make_run(tmp_path / "words", corpus, [*settings, "tokenizer.document_token=[SEP]"])
    run(folder, Terminal(), None)
    assert LOSSY not in " ".join(capsys.readouterr().err.split()), "the status says it, once"
    publish(folder)
    print_status(status(folder))
    assert LOSSY in " ".join(capsys.readouterr().out.split())
    assert LOSSY in (folder / "README.md").read_text(encoding="utf-8")
    assert verify(folder, lambda what: None).problems == []
    export(
        Inputs.load(folder, load(folder)),
        1,
        "hf",
        tmp_path / "one",
        lambda done, total: None,
    )
    assert json.loads((tmp_path / "one" / "tokenizer.json").read_bytes())["padding"] is None
    manifest = folder / "data/tokenizer/manifest.json"
    for said in ({"lossless": True}, {"document_token": 2}):
        honest = files.read_json(manifest)
        files.write_json(manifest, honest | said)
        found = verify(folder, lambda what: None).problems
        assert any(
            one.where == "data/tokenizer/manifest.json" and one.error == "DataDiffers"
            for one in found
        )
        files.write_json(manifest, honest)
