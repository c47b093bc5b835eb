"""Forks: what they begin with, what they go without, and what they refuse."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from pellucid.errors import (
    DocumentUnknown,
    FolderTaken,
    ForkUnfit,
    RecipeInvalid,
    RecipeTooOld,
    StateDiffers,
    StepUnknown,
)
from pellucid.fork import _WHY, _check, _sections, fork, may_change
from pellucid.inputs import Inputs
from pellucid.look.show import Shown
from pellucid.recipe import known_keys, load, parse
from pellucid.record import chain
from pellucid.release.publish import publish
from pellucid.release.readme import escape
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.replay.materialise import materialise
from pellucid.replay.request import Request
from pellucid.store import anchors, files, layout
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, pellucid


def forked(
    parent: Path, target: Path, step: int = 7, *settings: str, without: tuple[str, ...] = ()
) -> Path:
    inputs = Inputs.load(parent, load(parent))
    fork(inputs, step, target, list(settings), list(without), lambda *_: None)
    return target


def test_a_fork_without_a_change_is_its_parent_again(finished: Path, tmp_path: Path) -> None:
    """But for what the genesis says, every step from there has the parent's bits."""
    folder = finish(forked(finished, tmp_path / "same"))
    parent, child = LedgerFile(finished), LedgerFile(folder)
    assert child.genesis["parent"] == parent.head and child.genesis["step"] == child.first == 7
    place = dict.fromkeys(chain.PLACE)
    steps = [[b for b in one.between(8, 13) if b["kind"] == "step"] for one in (parent, child)]
    assert [{**a, **place} for a in steps[0]] == [{**b, **place} for b in steps[1]]
    assert verify(folder, lambda _: None).problems == []
    publish(folder)
    assert verify(folder, lambda _: None).problems == []
    inputs = Inputs.load(folder, load(folder))
    assert audit_step(inputs, 9, lambda *_: None).ok and audit_step(inputs, 7, lambda *_: None).ok
    whole = Request.of(inputs, [], None, 1, None, True, "").run(lambda *_: None)
    assert (
        whole.ok
        and [one.step for one in whole.findings] == list(range(7, 14))
        and whole.odds.steps == 6
    )
    some = Request.of(inputs, [], 3, 1, None, False, "").run(lambda *_: None)
    assert some.ok and all(8 <= one.step <= 13 for one in some.findings)
    with pytest.raises(StepUnknown, match="from step 7 to step 13"):
        materialise(inputs, 6, lambda *_: None)


def test_the_audit_of_a_fork_after_step_0_speaks_of_this_release(
    finished: Path, tmp_path: Path
) -> None:
    folder = finish(forked(finished, tmp_path / "whole", 0))
    report = Request.of(Inputs.load(folder, load(folder)), [3], None, 1, None, False, "")
    assert "of 13 steps of this release replayed" in str(report.run(lambda *_: None))


def test_another_learning_rate_changes_the_steps_after_it(finished: Path, tmp_path: Path) -> None:
    folder = finish(forked(finished, tmp_path / "slower", 7, "train.lr=1e-4"))
    assert LedgerFile(folder).step(8)["lr"] != LedgerFile(finished).step(8)["lr"]
    assert LedgerFile(folder).step(8)["batch"] == LedgerFile(finished).step(8)["batch"]
    assert verify(folder, lambda _: None).problems == []


def test_without_a_document_no_step_sees_it_and_other_rows_stay(
    finished: Path, tmp_path: Path
) -> None:
    shown = Shown(finished)
    name = shown.step(9)["rows"][1]["segments"][0]["document"]
    folder = finish(forked(finished, tmp_path / "without", 7, without=(name,)))
    after = Shown(folder)
    rows = {step: (shown.step(step)["rows"], after.step(step)["rows"]) for step in range(8, 14)}
    for before, now in rows.values():
        for one, other in zip(before, now, strict=True):
            assert name not in [piece["document"] for piece in other["segments"]]
            if name not in [piece["document"] for piece in one["segments"]]:
                assert one["block"] == other["block"]
    assert rows[9][0][1]["block"] != rows[9][1][1]["block"]
    assert verify(folder, lambda _: None).problems == []
    again = forked(folder, tmp_path / "again", 10, without=())
    assert load(again).fork.without == (name,), "what a fork goes without, its forks go without too"


# Every field of a recipe that a fork must not change, with another value.
REFUSED = {
    "version": "3",
    "seed": "2",
    "data.pipeline": "1",
    "data.validation_per_10000": "3",
    "data.max_document_characters": "7",
    "data.split": "parts",
    "data.invalid_utf8": "drop",
    "data.token_type": "uint32",
    "data.salts": "random",
    "data.sources.stones.licence": "MIT",
    "data.sources.stones.format": "lines",
    "data.sources.stones.text_key": "body",
    "data.sources.stones.id_key": "id",
    "data.sources.stones.licence_key": "licence",
    "data.sources.stones.origin_key": "url",
    "data.sources.stones.date_key": "date",
    "data.sources.stones.include": '["*.md"]',
    "data.sources.stones.exclude": '["*.md"]',
    "data.sources.stones.name": "other",
    "tokenizer.kind": "bytes",
    "tokenizer.vocabulary": "301",
    "tokenizer.pattern": "gpt2",
    "tokenizer.max_pretoken": "9",
    "tokenizer.sample_characters": "9",
    "tokenizer.document_token": "<x>",
    "model.family": "qwen3",
    "model.layers": "3",
    "model.width": "64",
    "model.heads": "2",
    "model.kv_heads": "4",
    "model.mlp_width": "96",
    "model.tied": "false",
    "model.attention": "within",
    "model.norm_epsilon": "1e-6",
    "model.initial_std": "0.1",
    "train.arithmetic": "native",
    "optimizer.kind": "muon",
    "train.frozen": '["*norm.weight"]',
    "data.block": "64",
    "fork.step": "3",
    "fork.tokens": "3",
    "fork.rows": "3",
    "fork.cursors": "{stones = 3}",
    "fork.parent": f'"{"0" * 64}"',
    "fork.state": f'"{"0" * 64}"',
    "fork.without": '["stones/000.txt"]',
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_a_fork_cannot_change(key: str, finished: Path, tmp_path: Path) -> None:
    with pytest.raises((ForkUnfit, RecipeInvalid, RecipeTooOld)) as caught:
        forked(finished, tmp_path / "no", 7, f"{key}={REFUSED[key]}")
    unfit = key.endswith(("id_key", "licence_key", "origin_key", "date_key")) or key in (
        "version",
        "data.pipeline",
        "data.sources.stones.name",
        "tokenizer.document_token",
    )  # What the rest of the recipe does not allow either.
    assert unfit or f"cannot change {key}" in str(caught.value)
    assert not (tmp_path / "no").exists()


def test_a_fork_changes_what_it_may_and_every_field_is_one_or_the_other() -> None:
    """A field that comes later is refused until somebody writes it down."""
    known = [
        key
        for key in known_keys()
        if not key.startswith("placement") and key not in ("name", "data.root")
    ]
    leaves = {key for key in known if not any(other.startswith(f"{key}.") for other in known)}
    leaves -= {"data.sources.path", "tokenizer.path"}
    may = {key for key in leaves if may_change(key)}
    refused = {key.replace("sources.stones.", "sources.") for key in REFUSED} | {
        "train.precision",
        "model.window",
    }
    assert may | refused == leaves and not may & refused
    for key in leaves - may:
        assert any(name in _WHY for name in _sections(key)), f"why can a fork not change {key}?"


def test_sources_in_another_order_are_another_order() -> None:
    plain = parse(b'version = 4\nname = "a"\n[data]\nsources = [{name = "a"}, {name = "b"}]', "a")
    other = parse(b'version = 4\nname = "a"\n[data]\nsources = [{name = "b"}, {name = "a"}]', "b")
    with pytest.raises(ForkUnfit, match=r"cannot change data\.sources"):
        _check(plain, {}, other)


def test_what_cannot_be_forked_is_refused_and_nothing_is_left(
    finished: Path, tmp_path: Path
) -> None:
    target = tmp_path / "no"
    with pytest.raises(DocumentUnknown, match="No document nowhere"):
        forked(finished, target, 7, without=("nowhere",))
    with pytest.raises(RecipeInvalid, match=r"train\.steps: is 13, so no step is left .*steps=19"):
        forked(finished, target, 13)
    with pytest.raises(StepUnknown):
        forked(finished, target, 99)
    with pytest.raises(FolderTaken):
        forked(finished, finished)
    assert not target.exists()


def test_another_state_than_the_parents_is_refused(finished: Path, tmp_path: Path) -> None:
    folder = forked(finished, tmp_path / "other")
    path = folder / layout.PARENT / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(bytes(content))
    with pytest.raises(StateDiffers, match="parent"):
        finish(folder)


def test_verify_checks_the_state_that_a_fork_begins_with(finished: Path, tmp_path: Path) -> None:
    folder = finish(forked(finished, tmp_path / "checked"))
    about = json.loads((folder / layout.PARENT / "anchor.json").read_text())
    (folder / layout.PARENT / "anchor.json").write_text(json.dumps(about | {"step": 6}))
    problems = verify(folder, lambda _: None).problems
    assert [(one.error, one.where) for one in problems] == [("StateDiffers", "parent/anchor.json")]
    # The weights file states the fields that only the parent's ledger holds, too.
    for changed in ({"more": 1}, {"tensors": {}}):
        files.write_json(folder / layout.PARENT / "anchor.json", about | changed)
        assert ("StateDiffers", "parent/anchor.json") in [
            (one.error, one.where) for one in verify(folder, lambda _: None).problems
        ], changed
    files.write_json(folder / layout.PARENT / "anchor.json", about | {"ledger_digest": "0" * 64})
    problems = verify(folder, lambda _: None).problems
    assert [(one.error, one.where) for one in problems] == [
        ("StateDiffers", "parent/model.safetensors")
    ]


def test_a_forks_parent_contradicts_neither_its_recipe_nor_its_form(
    finished: Path, tmp_path: Path
) -> None:
    """All files of `parent` say the same, so the recipe and the form alone catch it."""
    folder = finish(forked(finished, tmp_path / "checked"))
    place, tokens = folder / layout.PARENT, load(folder).fork.tokens
    about = files.read_json(place / anchors.ABOUT)
    groups = {group: dict(of) for group, of in anchors.read(place).items()}
    number, digest = "an integer from 0 to 2^63-1", "64 hex digits"

    def problems(changed: dict[str, object]) -> list[tuple[str, str, str]]:
        shutil.rmtree(place)
        anchors.write(place, groups, about | changed, None)
        return [
            (problem.error, problem.where, problem.detail)
            for problem in verify(folder, lambda _: None).problems
        ]

    for field, value, form in (
        ("tokens", "123456789", f'"{tokens}"'),
        ("tokens", tokens, f'"{tokens}"'),
        ("tokens", "", f'"{tokens}"'),
        ("ledger_entry", -5, number),
        ("ledger_entry", 2**63, number),
        ("ledger_entry", "7", number),
        ("ledger_entry", True, number),
        ("ledger_digest", "AB" * 32, digest),
        ("ledger_digest", "", digest),
        ("ledger_digest", None, digest),
    ):
        detail = f"{field} is {json.dumps(value)}, and should be {form}"
        assert ("StateDiffers", "parent/anchor.json", detail) in problems({field: value})
    assert problems({"ledger_entry": 0, "ledger_digest": "ab" * 32}) == []
    assert problems({}) == []


def test_step_0_is_the_first_entry_of_the_parent(finished: Path, tmp_path: Path) -> None:
    folder = finish(forked(finished, tmp_path / "again", 0, "train.steps=2"))
    assert verify(folder, lambda _: None).problems == []
    path = folder / layout.PARENT / anchors.ABOUT
    files.write_json(path, files.read_json(path) | {"ledger_entry": 1})
    assert [
        (problem.error, problem.detail) for problem in verify(folder, lambda _: None).problems
    ] == [("StateDiffers", "ledger_entry is 1, and should be 0, the entry of step 0")]


def test_every_command_of_a_forks_readme_works(finished: Path, tmp_path: Path) -> None:
    """What the README names is there: steps after the fork's first, checkpoints that it has."""
    name = Shown(finished).step(9)["rows"][1]["segments"][0]["document"]
    folder = finish(forked(finished, tmp_path / "late", 9, without=(name,)))
    publish(folder)
    assert verify(folder, lambda _: None).ok
    said = (folder / "README.md").read_text()
    assert escape(name) in next(line for line in said.splitlines() if "trained without" in line)
    assert all((folder / place).is_dir() for place in re.findall(r'"(checkpoints/\w+)"', said))
    verbs = ("verify", "audit", "show", "export", "where")
    commands = re.findall(rf"(?m)^pellucid ((?:{'|'.join(verbs)}) .*?)(?: +#.*)?$", said)
    assert [one.split()[0] for one in commands] == list(verbs)
    for one in commands:
        words = shlex.split(one.replace("DIR", str(tmp_path / "exported")))
        pellucid(words[0], folder, *words[2:])


def test_what_a_checkpoint_says_of_its_fork_is_checked(finished: Path, tmp_path: Path) -> None:
    folder = finish(forked(finished, tmp_path / "checked"))
    path = folder / "checkpoints/step12/pellucid.json"
    about = files.read_json(path)
    for changed in ({}, {"fork": {**about["fork"], "tokens": "0"}}):
        files.write_json(path, {k: v for k, v in about.items() if k != "fork"} | changed)
        found = [(one.error, one.where) for one in verify(folder, lambda _: None).problems]
        assert found == [("CheckpointDiffers", path.relative_to(folder).as_posix())]


def test_a_finished_run_is_gone_on_with(finished: Path, tmp_path: Path) -> None:
    folder = forked(finished, tmp_path / "on", 13, "train.steps=15")
    assert load(folder).first == 13 and load(folder).train.steps == 15


@pytest.mark.parametrize("name", ["false", "2024"])
def test_a_fork_may_be_called_what_is_no_text_in_toml(
    finished: Path, tmp_path: Path, name: str
) -> None:
    folder = forked(finished, tmp_path / name, 13, "train.steps=15")
    assert load(folder).name == name


def test_from_the_command_line(finished: Path, tmp_path: Path) -> None:
    done = pellucid(
        "fork",
        finished,
        "--step",
        "7",
        "--set",
        "train.steps=9",
        "--to",
        tmp_path / "short",
        "--json",
    )
    assert json.loads(done.stdout)["parent"] == LedgerFile(finished).head
    pellucid("run", tmp_path / "short")
    assert json.loads(pellucid("status", tmp_path / "short", "--json").stdout)["steps_done"] == 9
    assert np.isfinite(
        json.loads(pellucid("show", tmp_path / "short", "step", "9", "--json").stdout)["loss"]
    )


def test_diff_tells_what_the_change_did(finished: Path, tmp_path: Path) -> None:
    from pellucid.replay.diff import diff

    folder = finish(forked(finished, tmp_path / "slower", 7, "train.lr=1e-4"))
    found = diff(finished, folder, lambda *_: None)
    assert (
        not found.equal
        and found.step == 8
        and [one["step"] for one in found.validation] == [10, 13]
    )
    assert "B is a fork of the other run after step 7." in found.notes
    assert (
        found.cause and found.cause.certainty == "proven" and "train.lr" in found.cause.description
    )
    same = diff(finished, finish(forked(finished, tmp_path / "same")), lambda *_: None)
    assert same.equal and same.step is None and same.recipe == []
    assert "The fork changes nothing" in " ".join(same.notes)
    assert all(not each["field"].startswith("fork.") for each in found.recipe)
    pellucid("diff", finished, tmp_path / "same")


def test_going_without_a_text_of_validation_is_refused_for_no_step_trains_on_it(
    finished: Path, tmp_path: Path
) -> None:
    kept = next(
        one["id"] for one in Shown(finished).list_documents() if one["split"] == "validation"
    )
    with pytest.raises(ForkUnfit, match="in the validation split"):
        forked(finished, tmp_path / "no", without=(kept,))
