"""Forgeries of what stands beside the steps: texts, tokenizers, incidents, a fork's
parent; all roots made again."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from pellucid.changes import change_recipe
from pellucid.data import kinds, roots, stage
from pellucid.data.documents import key_of, split_of
from pellucid.data.salts import Public
from pellucid.data.streams import COLUMNS, ROW, Shards
from pellucid.data.tokenizer import Tokenizer
from pellucid.evaluate.suite.english import agreement
from pellucid.evaluate.suite.memorization import Drawn, memorization
from pellucid.evaluate.task import OURS, Task
from pellucid.fork import fork
from pellucid.look.show import Shown
from pellucid.recipe import load
from pellucid.record import digests, entries, evaluations, merkle
from pellucid.record.requests import Choices, Example, Rolling
from pellucid.store import anchors, files, layout, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from tests.conftest import finish, spiking
from tests.forgery.forge import (
    Body,
    architecture_of,
    copied,
    edit_ledger,
    edit_table,
    fit,
    opened,
    quiet,
    untrained,
)
from tests.release.evaluating import answered, memorised, rewrite

PART = "data/documents/00000.parquet"


def other_text(honest: Path, folder: Path) -> None:
    """A harmless text beside the tokens of another: of the same length and
    split, for those are checked."""
    shutil.copytree(honest, folder)
    document = _first_document(folder, 7)
    share = load(folder).data.validation_per_10000

    def text(row: Body) -> str:
        turned = (row["text"][shift:] + row["text"][:shift] for shift in range(1, len(row["text"])))
        return next(
            one
            for one in turned
            if split_of(hashlib.sha256(one.encode()).digest(), share) == row["split"]
        )

    edit_table(
        folder / PART, "text", lambda row: text(row) if row["index"] == document else row["text"]
    )
    edit_table(
        folder / PART, "sha256", lambda row: hashlib.sha256(row["text"].encode()).hexdigest()
    )
    _fit_keys(folder)
    fit_data(folder)


def _fit_keys(folder: Path) -> None:
    """The keys by which validation chooses, made to fit the texts."""
    rows = pq.read_table(folder / PART).to_pylist()
    keys = {row["index"]: key_of(bytes.fromhex(row["sha256"])) for row in rows}
    for path in (folder / stage.SHARDS).glob("*.documents.bin"):
        table = np.fromfile(path, ROW).reshape(-1, COLUMNS)
        table[:, 3] = [keys[index] for index in table[:, 0].tolist()]
        table.tofile(path)


def _first_document(folder: Path, step: int) -> int:
    """The document that a step's first row begins with."""
    from pellucid.data.order import Order

    shards = Shards.open(folder)
    rows = Order.of(folder, load(folder), shards).rows(step)
    return shards.pieces(int(rows.blocks[0]), int(rows.starts[0]), 1)[0].document


def other_origin(folder: Path) -> None:
    edit_table(
        folder / PART, "origin", lambda row: "elsewhere.txt" if row["index"] == 3 else row["origin"]
    )
    edit_table(
        folder / PART,
        "id",
        lambda row: f"{row['source']}/elsewhere.txt" if row["index"] == 3 else row["id"],
    )
    fit_data(folder)


def other_tokenizer(honest: Path, folder: Path) -> None:
    """Neighbouring merges in each other's place, so that their tokens change ids: a file as
    another corpus would give it."""
    shutil.copytree(honest, folder)
    path, fields = folder / "data/tokenizer/tokenizer.json", load(folder).tokenizer
    merges = files.read_json(path)["model"]["merges"]
    for place in range(0, len(merges) - 1, 2):
        if "".join(merges[place]) not in merges[place + 1]:
            merges[place : place + 2] = reversed(merges[place : place + 2])
    path.write_bytes(kinds.bpe_file(merges, fields.pattern, fields.max_pretoken))
    fit_data(folder)


def tokenizer_of_no_kind(honest: Path, folder: Path) -> None:
    """Few merges for the tokens that it has, so that texts would fall apart into
    letters: no bpe gives such a file."""
    shutil.copytree(honest, folder)
    path = folder / "data/tokenizer/tokenizer.json"
    value = files.read_json(path)
    value["model"]["merges"] = value["model"]["merges"][:5]
    path.write_bytes(kinds.spelled(value))
    fit_data(folder)


def fit_data(folder: Path) -> None:
    """Documents, tokenizer, data root, genesis and checkpoints made to fit the texts and the
    tokenizer there; and no index, for that would tell (tests/trace/test_check.py)."""
    shutil.rmtree(folder / layout.TRACE)
    rows = pq.read_table(folder / PART).to_pylist()
    named = ("id", "licence", "origin", "date", "text")
    salts = Public(load(folder).seed)
    leaves = [
        digests.document_leaf(salts.of(row["index"]), *(row[name] for name in named))
        for row in rows
    ]
    part, tokenizer = (
        merkle.root(leaves).hex(),
        Tokenizer.load(folder / layout.TOKENIZER).digest.hex(),
    )
    manifest = files.read_json(folder / "data/documents/manifest.json")
    manifest["parts"][0]["root"] = part
    manifest["root"] = roots.root_of([part]).hex()
    files.write_json(folder / "data/documents/manifest.json", manifest)
    path = folder / "data/tokenizer/manifest.json"
    files.write_json(path, files.read_json(path) | {"digest": tokenizer})
    data = files.read_json(folder / layout.DATA_MANIFEST)
    data |= {"documents_root": manifest["root"], "tokenizer": tokenizer}
    data["root"] = roots.data_root(
        manifest["root"], manifest["sources"], tokenizer, data["streams"], data["pipeline"]
    )
    files.write_json(folder / layout.DATA_MANIFEST, data)
    genesis, config = {"data": data["root"], "tokenizer": tokenizer}, architecture_of(folder)
    weights = {
        step: LedgerFile(folder).step(step)["weights"]
        for step in layout.steps_in(folder / layout.CHECKPOINTS)
    }

    def change(body: Body) -> Body:
        if body["kind"] == "checkpoint":
            return body | {
                "root": entries.checkpoint_root(weights[body["step"]], tokenizer, config).hex()
            }
        return body | genesis if body["kind"] == "genesis" else body

    edit_ledger(folder, change)
    fit(folder)


def hidden_incident(honest: Path, folder: Path) -> None:
    """A spike, and no word of it."""
    untrained(honest, folder)
    change_recipe(folder, ["guards.window=8"])
    with mock.patch.object(loop, "training_step", spiking(loop.training_step, 11)):
        finish(folder)
    assert [body["step"] for body in LedgerFile(folder).every("incident")] == [11]
    edit_ledger(folder, lambda body: None if body["kind"] == "incident" else body)
    fit(folder)


def fork_of_nothing(honest: Path, folder: Path, step: int, tokens: int, steps: int = 4) -> None:
    """A fork that says to go on from a run of any length, which never was."""
    fork(opened(honest), 8, folder, [], [], quiet)
    place = folder / layout.PARENT
    groups, said = copied(anchors.read(place)), files.read_json(place / anchors.ABOUT)
    roots = tensors.state_roots(step, groups)
    claimed = {
        "step": step,
        "tokens": str(tokens),
        "ledger_entry": step,
        "ledger_digest": "ab" * 32,
    }
    shutil.rmtree(place)
    anchors.write(place, groups, anchors.described(said | claimed, roots), None)
    recipe = load(folder)
    text = (folder / "recipe.toml").read_text()
    for before, after in (
        (f"\nsteps = {recipe.train.steps}\n", f"\nsteps = {step + steps}\n"),
        (f"\nstep = {recipe.fork.step}\n", f"\nstep = {step}\n"),
        (f"\ntokens = {recipe.fork.tokens}\n", f"\ntokens = {tokens}\n"),
        (recipe.fork.state, roots.state.hex()),
        (recipe.fork.parent, "c0ffee42" * 8),
    ):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    (folder / "recipe.toml").write_text(text)
    finish(folder)


def other_parent(fitted: bool) -> Callable[[Path, Path], None]:
    """A fork of weights that its parent never had; fitted: its recipe
    names them as the parent's."""

    def make(honest: Path, folder: Path) -> None:
        fork(opened(honest), 8, folder, [], [], quiet)
        if not fitted:
            finish(folder)
        place = folder / layout.PARENT
        said = json.loads((place / anchors.ABOUT).read_bytes())
        groups = copied(anchors.read(place))
        groups["weights"]["model.norm.weight"] *= np.float32(1.001)
        roots = tensors.state_roots(8, groups)
        about = said | anchors.about(LedgerFile(honest).step(8), roots)
        shutil.rmtree(place)
        anchors.write(place, groups, about, None)
        if fitted:
            path = folder / "recipe.toml"
            path.write_text(path.read_text().replace(said["state"], roots.state.hex()))
            finish(folder)

    return make


def extracted(folder: Path, change: Callable[[bytes], bytes] = lambda lines: lines) -> None:
    """Answers in token ids that no model gave, rated as they should be, or not quite."""
    entry, path = memorised(folder, 12, 1), folder / layout.examples(1)
    files.write_bytes(path, change(path.read_bytes()))
    body = entry | {"sha256": files.sha256_file(path)}
    rewrite(folder, [evaluations.genesis(LedgerFile(folder).head), body])


def own_examples(folder: Path) -> None:
    """One easy question under the name of a built-in task."""
    task = replace(agreement(), examples=[easy()])
    _one_evaluation(folder, answered(folder, 12, 1, task))


def own_texts(folder: Path) -> None:
    """A text that the model knows by heart, in place of the run's validation documents."""
    example = Example("stones/0/0", Rolling("the the the the"), None, "0 easy")
    task = Task("validation", "bits_per_byte", [example], {"version": 1}, harness=OURS)
    _one_evaluation(folder, answered(folder, 12, 1, task))


def own_sequences(folder: Path) -> None:
    """Other rows of the training than the order draws, which the model writes better."""
    shown, drawn = Shown(folder), Drawn(9, 7, ranges=2, sequences=2)
    task = memorization(shown.recipe, shown.shards, shown.order, drawn)
    task = replace(task, examples=[*task.examples[1:], task.examples[0]])
    _one_evaluation(folder, answered(folder, 12, 1, task))


def asked_often(folder: Path) -> None:
    """The built-in questions, the first of them once more."""
    task = agreement()
    task = replace(task, examples=[*task.examples, task.examples[0]._replace(name="more")])
    _one_evaluation(folder, answered(folder, 12, 1, task))


def harness_of_its_own(folder: Path) -> None:
    """A built-in name, said to be asked by somebody else."""
    task = replace(agreement(), examples=[easy()], harness=("Pellucid", "9.9"))
    _one_evaluation(folder, answered(folder, 12, 1, task))


def easy() -> Example:
    return Example("matrix/0/0", Choices("The matrix", (" is empty.", " zq.")), 0, "matrix")


def _one_evaluation(folder: Path, entry: Body) -> None:
    rewrite(folder, [evaluations.genesis(LedgerFile(folder).head), entry])


def better_share(lines: bytes) -> bytes:
    """The first sequence as if it were known whole."""
    one = digests.float_bits(1.0).encode()
    return re.sub(
        rb'"exact":"\w+","first":"\w+","share":"\w+"',
        b'"exact":"%b","first":"%b","share":"%b"' % (one, one, one),
        lines,
        count=1,
    )
