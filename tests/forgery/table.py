"""The forgeries: how each is made, what catches it, and what is named.

They are made of the small run of tests/conftest.py: 13 steps, anchors after 0, 1, 2, 4, 5, 8, 10 and 13, checkpoints of
steps 0, 6, 12 and 13, validation at 0, 5, 10 and 13.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from pellucid import operations
from pellucid.fork import fork
from pellucid.model import Decoder
from pellucid.recipe import Recipe, load
from pellucid.record import chain, digests, entries
from pellucid.record.guards import Guards
from pellucid.record.history import History
from pellucid.release.verify import verify
from pellucid.replay import inputs as replay_inputs
from pellucid.replay import materialise
from pellucid.replay.audit import audit_step
from pellucid.replay.diff import diff
from pellucid.store import anchors, layout, tensors
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from pellucid.train.events import Batch, Stepped, Validated
from pellucid.train.state import State, initial, restored
from tests.conftest import finish
from tests.forgery import beside
from tests.forgery.forge import (
    Step,
    at,
    change_state,
    copied,
    edit_ledger,
    edit_numbers,
    edit_step,
    edit_table,
    fit,
    train,
    with_train,
)

STEP = 7  # Where most forgeries lie: two steps after an anchor, one before another.


class Forgery(NamedTuple):
    """What is made of an honest release, and what of it is found."""

    name: str
    make: Callable[[Path, Path], None]  # From the honest release, in a folder that is not there yet.
    by: str  # What catches it: "verify", "audit", or for a fork "diff" with its parent.
    error: str  # The error that verify names, the field that an audit does.
    where: str  # What else is named: a file, an entry, a step.
    step: int = STEP  # The step to audit.
    elsewhere: int | None = None  # A step whose audit passes, and cannot but pass.


class Caught(NamedTuple):
    """What came of looking at a forgery."""

    verified: list[str]  # What verify found, …
    audited: list[str]  # … and the audit of the step, …
    compared: list[str]  # … and the comparison with the parent.
    replayed: int
    seconds: float  # Of verify where that is what catches it, else of the audit.

    def by(self, forgery: Forgery) -> str:
        """The finding that names what it should, by what it should be found; empty where there is none."""
        found = {"verify": self.verified, "audit": self.audited, "diff": self.compared}[forgery.by]
        return next((one for one in found if forgery.error in one and forgery.where in one), "")


def look(forgery: Forgery, honest: Path, folder: Path) -> Caught:
    """Everything that the catch takes, and no more."""
    report = verify(folder, lambda _: None)
    verified = [f"{one.error} {one.where}: {one.detail}" for one in report.problems]
    if forgery.by == "verify":
        return Caught(verified, [], [], 0, report.seconds)
    finding = audit_step(opened(folder), forgery.step, quiet)
    compared = []
    if forgery.by == "diff":
        found = diff(honest, folder, quiet)
        compared = [f"step {found.step}: {', '.join(one['field'] for one in found.fields)}"]
    return Caught(verified, list(finding.problems), compared, finding.replayed, finding.seconds)


def opened(folder: Path) -> replay_inputs.Inputs:
    return replay_inputs.load(folder, load(folder))


def quiet(*_: object) -> None:
    pass


# ---- steps taken otherwise, and all that is recorded fitting them ----------------------------------


def replaced(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, recipe)
    change_state(state, lambda group, _, array: array * np.float32(1.01) if group == "weights" else array)
    return stepped


def skipped(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    before = copied(state.groups())
    stepped = real(state, batch, recipe)
    change_state(state, lambda group, name, _: before[group][name])
    return stepped


def interpolated(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """Between two true states: near enough for a proof with a tolerance (docs/threats.md)."""
    before = copied(state.groups())
    stepped = real(state, batch, recipe)
    change_state(state, lambda group, name, array: (array + before[group][name]) / 2)
    return stepped


def one_bit(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, recipe)
    state.groups()["weights"]["model.norm.weight"].view(np.uint32)[0] ^= 1
    return stepped


def moments_zeroed(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, recipe)
    change_state(state, lambda group, _, array: array if group == "weights" else 0.0)
    return stepped


def labels_shifted(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    losses = Decoder.losses
    with mock.patch.object(Decoder, "losses", lambda self, x, y, *rest: losses(self, x, y.roll(1, 1), *rest)):
        return real(state, batch, recipe)


def other_tokens(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    return replace(real(state, replace(batch, tokens_BS=batch.tokens_BS[:, ::-1].copy()), recipe), batch=batch)


def rows_repeated(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """The easiest half of the batch twice."""
    rows = [0, 1, 0, 1]
    seen = replace(batch, tokens_BS=batch.tokens_BS[rows], documents_BS=batch.documents_BS[rows])
    return replace(real(state, seen, recipe), batch=batch)


def other_recipe(**changes: Any) -> Callable[..., Stepped]:
    return lambda real, state, batch, recipe: real(state, batch, with_train(recipe, **changes))


def faster(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    stepped = real(state, batch, with_train(recipe, lr=2 * recipe.train.lr))
    return replace(stepped, lr=stepped.lr / 2)


def by_torch(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """PyTorch's arithmetic in a run that claims the portable one."""
    model, native, shape = state.model, operations.of("native"), recipe.model
    cos, sin = native.rotary(shape.context, shape.width // shape.heads, shape.rope_theta)
    with mock.patch.multiple(model, ops=native, cos=cos, sin=sin):
        return real(state, batch, recipe)


def flattering(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
    """A better loss, and every segment, sequence and source fitted to it."""
    stepped = real(state, batch, recipe)
    stepped.losses_BT[:] *= np.float32(0.9)
    return stepped


def swapped(honest: Path, folder: Path) -> None:
    """Two steps with each other's data."""
    inputs, other = opened(honest), {6: 7, 7: 6}

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        if batch.step not in other:
            return real(state, batch, recipe)
        return replace(real(state, inputs.batch(other[batch.step]), recipe), batch=batch)

    train(honest, folder, cheat)


def spliced(honest: Path, folder: Path) -> None:
    """The steps from 8 on are another run's, whole: trained by another beta2 from the same seed on."""
    inputs = opened(honest)
    own = initial(inputs.recipe, inputs.vocabulary)

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        theirs = real(own, batch, with_train(recipe, beta2=0.8))
        if batch.step < 8:
            return real(state, batch, recipe)
        groups = own.groups()
        change_state(state, lambda group, name, _: groups[group][name])
        state.step = batch.step
        return theirs

    train(honest, folder, cheat)


def validated_better(honest: Path, folder: Path) -> None:
    real = loop.validate

    def validate(state: State, *rest: Any) -> Validated:
        found = real(state, *rest)
        better = [one | {"loss_sum": 0.9 * one["loss_sum"]} for one in found.sources]
        return replace(found, sources=better) if state.step == 10 else found

    with mock.patch.object(loop, "validate", validate):
        train(honest, folder)


def validated_on(honest: Path, folder: Path) -> None:
    """Trained on validation's tokens in the name of a batch."""
    validation = opened(honest).shards.validation[0]

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        rows, S = batch.tokens_BS.shape
        seen = np.stack([validation.read(20 * row, 20 * row + S) for row in range(rows)])
        return replace(real(state, replace(batch, tokens_BS=seen), recipe), batch=batch)

    train(honest, folder, at(STEP, cheat))


def invented(honest: Path, folder: Path) -> None:
    """Somebody else's last state, and on a straight line to it all states between: no step is like any."""
    last, first = copied(anchors.read(layout.anchor(honest, 13))), copied(anchors.read(layout.anchor(honest, 0)))
    last["weights"] = {name: array * np.float32(1.01) for name, array in last["weights"].items()}  # Not ours.

    def cheat(real: Step, state: State, batch: Batch, recipe: Recipe) -> Stepped:
        stepped, share = real(state, batch, recipe), np.float32(batch.step / recipe.train.steps)
        change_state(state, lambda group, name, _: (1 - share) * first[group][name] + share * last[group][name])
        return stepped

    train(honest, folder, cheat)


def trained_before(honest: Path, folder: Path) -> None:
    """Training before the first step, told to nobody."""
    inputs = opened(honest)
    groups = anchors.read(layout.anchor(honest, 13))
    with mock.patch.object(materialise, "first_state", lambda _: restored(inputs.recipe, inputs.vocabulary, 0, groups)):
        train(honest, folder)


def invented_rollback(honest: Path, folder: Path) -> None:
    """A spike that none was, so that the batches of steps 7 to 9 are passed over."""
    real = Guards.step

    def step(self: Guards, body: dict[str, Any]) -> list[dict[str, Any]]:
        if body["step"] != 9 or self.history.branch:
            return real(self, body)
        about = {"rule": "loss", "value": body["loss"], "limit": digests.float_bits(0.1), "width": 1}
        place = {"to": 6, "passed_over": 3, "branch": 1}
        return [entries.incident(9, {**about, "action": "rollback", **place})]

    with mock.patch.object(Guards, "step", step):
        train(honest, folder)
    assert LedgerFile(folder).history != History.begun(0)


# ---- a finished release changed, and fitted ---------------------------------------------------------


def edited(change: Callable[[Path], None]) -> Callable[[Path, Path], None]:
    def make(honest: Path, folder: Path) -> None:
        shutil.copytree(honest, folder)
        change(folder)

    return make


def lower(folder: Path, field: str) -> None:
    """A number of a step lower, in the ledger and in the table."""
    value = 0.9 * digests.bits_float(LedgerFile(folder).step(STEP)[field])
    edit_step(folder, STEP, **{field: digests.float_bits(value)})
    edit_numbers(folder, "steps", field, STEP, value)
    fit(folder)


def segment_loss(folder: Path) -> None:
    edit_numbers(folder, "segments", "loss_sum", STEP, 1.0)


def segment_root(folder: Path) -> None:
    """Segments and their root, and not the loss."""
    edit_numbers(folder, "segments", "loss_sum", STEP, 1.0)
    rows = pq.read_table(folder / "metrics/segments.parquet").to_pylist()
    names = ("row", "document", "start", "tokens", "loss_sum")
    own = [entries.Segment(*(row[name] for name in names)) for row in rows if row["step"] == STEP]
    edit_step(folder, STEP, segments=entries.segments_root(own, 4).hex())
    fit(folder)


def batch_root(folder: Path) -> None:
    edit_step(folder, STEP, batch=LedgerFile(folder).step(8)["batch"])
    fit(folder)


def old_anchor(folder: Path) -> None:
    shutil.rmtree(layout.anchor(folder, 8))
    shutil.copytree(layout.anchor(folder, 5), layout.anchor(folder, 8))
    fit(folder)


def old_anchor_recorded(folder: Path) -> None:
    """The ledger names the old state as the new one's."""
    shutil.rmtree(layout.anchor(folder, 8))
    shutil.copytree(layout.anchor(folder, 5), layout.anchor(folder, 8))
    roots = tensors.state_roots(8, anchors.read(layout.anchor(folder, 8)))
    edit_step(folder, 8, weights=roots.weights.hex(), state=roots.state.hex())
    fit(folder)


def wrong_moments(folder: Path) -> None:
    """An anchor whose weights are right."""
    place = layout.anchor(folder, 8)
    moments = tensors.Tensors(place / anchors.MOMENTS)
    zeroed = {name: np.zeros_like(array) for name, array in moments.arrays().items()}
    tensors.write(place / anchors.MOMENTS, zeroed, moments.metadata)
    fit(folder)


def truncated(folder: Path) -> None:
    """The run ends with step 12, and says so."""

    def change(body: dict[str, Any]) -> dict[str, Any] | None:
        if body["kind"] == "end":
            return body | {"step": 12}
        return body if body.get("step", 0) < 13 else None

    edit_ledger(folder, change)
    shutil.rmtree(layout.anchor(folder, 13))
    shutil.rmtree(layout.checkpoint(folder, 13))
    fit(folder)


def truncated_with_recipe(folder: Path) -> None:
    """The recipe asks for no more than 12 steps: but the learning rates of all follow from how many there are."""
    truncated(folder)
    recipe("\nsteps = 13", "\nsteps = 12")(folder)


def left_out(folder: Path) -> None:
    """A step that went wrong, left out of the ledger."""
    edit_ledger(folder, lambda body: None if (body["kind"], body.get("step")) == ("step", STEP) else body)


def fine_tuned(folder: Path) -> None:
    path = folder / anchors.WEIGHTS
    read = tensors.Tensors(path)
    weights = {name: array * np.float32(1.001) for name, array in read.arrays().items()}
    path.unlink()
    tensors.write(path, weights, read.metadata)


def fine_tuned_throughout(folder: Path) -> None:
    """Also in the last step, its anchor, its checkpoint, and the roots of all of them."""
    place = layout.anchor(folder, 13)
    groups = copied(anchors.read(place))
    groups["weights"]["model.norm.weight"] *= np.float32(1.001)
    roots, ledger = tensors.state_roots(13, groups), LedgerFile(folder)
    shutil.rmtree(place)
    about = anchors.about(13, 0, 0, "", roots)
    anchors.write(place, groups, about, None)
    shutil.copyfile(place / anchors.WEIGHTS, layout.checkpoint(folder, 13) / anchors.WEIGHTS)
    config = json.loads((folder / "config.json").read_bytes())
    root = entries.checkpoint_root(roots.weights.hex(), ledger.genesis["tokenizer"], config)
    fields = {"step": {"weights": roots.weights.hex(), "state": roots.state.hex()}, "checkpoint": {"root": root.hex()}}
    edit_ledger(folder, lambda body: body | fields.get(body["kind"], {}) if body.get("step") == 13 else body)
    fit(folder)


def late_as_early(folder: Path) -> None:
    """The weights of step 12 under the name of step 6 (EleutherAI/pythia, issue 205, found by hashing them)."""
    shutil.copyfile(layout.checkpoint(folder, 12) / anchors.WEIGHTS, layout.checkpoint(folder, 6) / anchors.WEIGHTS)
    fit(folder)


def document(column: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda folder: edit_table(
        folder / "data/documents/00000.parquet",
        column,
        lambda row: change(row[column]) if row["index"] == 3 else row[column],
    )


def other_token(folder: Path) -> None:
    path = folder / "data/shards/00000.train.bin"
    content = bytearray(path.read_bytes())
    content[400] ^= 1
    path.write_bytes(content)


def tokenizer(folder: Path) -> None:
    """Another file, in the data and in every checkpoint."""
    for path in folder.rglob("tokenizer.json"):
        value = json.loads(path.read_bytes())
        value["model"]["merges"] = value["model"]["merges"][:-1]
        path.write_text(json.dumps(value))


def recipe(setting: str, other: str) -> Callable[[Path], None]:
    """Another recipe after the fact, with its digest in the genesis."""

    def change(folder: Path) -> None:
        path = folder / "recipe.toml"
        text = path.read_text()
        assert text.count(setting) == 1
        path.write_text(text.replace(setting, other))
        digest = load(folder).digest().hex()
        edit_ledger(folder, lambda body: body | {"recipe": digest} if body["kind"] == "genesis" else body)
        fit(folder)

    return change


def broken_chain(folder: Path) -> None:
    """An entry changed, and the chain not made again."""
    path = folder / layout.LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    index = next(n for n, line in enumerate(lines) if b'"kind":"step","step":7,' in line)
    body = json.loads(lines[index])
    changed = {key: value for key, value in body.items() if key not in ("prev", "n")} | {"weight_norm": body["loss"]}
    lines[index] = chain.line_of(body["prev"], body["n"], changed)
    path.write_bytes(b"".join(lines))


# ---- forks ------------------------------------------------------------------------------------------


def other_parent(fitted: bool) -> Callable[[Path, Path], None]:
    """A fork of weights that its parent never had; fitted: its recipe names them as the parent's."""

    def make(honest: Path, folder: Path) -> None:
        fork(opened(honest), 8, folder, [], [], quiet)
        if not fitted:
            finish(folder)
        place = folder / layout.PARENT
        said = json.loads((place / anchors.ABOUT).read_bytes())
        groups = copied(anchors.read(place))
        groups["weights"]["model.norm.weight"] *= np.float32(1.001)
        roots = tensors.state_roots(8, groups)
        about = anchors.about(8, int(said["tokens"]), said["ledger_entry"], said["ledger_digest"], roots)
        shutil.rmtree(place)
        anchors.write(place, groups, about, None)
        if fitted:
            path = folder / "recipe.toml"
            path.write_text(path.read_text().replace(said["state"], roots.state.hex()))
            finish(folder)

    return make


def trained(cheat: Callable[..., Stepped], step: int = STEP) -> Callable[[Path, Path], None]:
    return lambda honest, folder: train(honest, folder, at(step, cheat))


LEDGER = "record/ledger.jsonl: "
FORGERIES = [
    # Only a replay tells these: every number and every root fits every other.
    Forgery("weights replaced", trained(replaced), "audit", "weights", "step 7", elsewhere=9),
    Forgery("one bit of the weights", trained(one_bit), "audit", "weights", "step 7", elsewhere=9),
    Forgery("a step skipped", trained(skipped), "audit", "weights", "step 7", elsewhere=9),
    Forgery("a state between two true ones", trained(interpolated), "audit", "weights", "step 7", elsewhere=9),
    Forgery("moments zeroed, weights right", trained(moments_zeroed), "audit", "state", "step 7", elsewhere=9),
    Forgery("labels shifted", trained(labels_shifted), "audit", "microbatches", "step 7", elsewhere=9),
    Forgery("other tokens than the batch's", trained(other_tokens), "audit", "microbatches", "step 7", elsewhere=9),
    Forgery("half of the batch twice", trained(rows_repeated), "audit", "microbatches", "step 7", elsewhere=9),
    Forgery("two steps' data swapped", swapped, "audit", "microbatches", "step 6", 6, elsewhere=9),
    Forgery("clipped at another norm", trained(other_recipe(clip=1e-3)), "audit", "weight_norm", "step 7", 7, 9),
    Forgery("another beta2 for one step", trained(other_recipe(beta2=0.8)), "audit", "weight_norm", "step 7", 7, 9),
    Forgery("a step by another arithmetic", trained(by_torch), "audit", "microbatches", "step 7", elsewhere=9),
    Forgery("validation data trained on", validated_on, "audit", "microbatches", "step 7", elsewhere=9),
    Forgery("states invented on a line", invented, "audit", "weights", "step 1", 1, elsewhere=0),
    Forgery("twice the learning rate, unsaid", trained(faster), "audit", "weight_norm", "step 7", elsewhere=9),
    Forgery("a better loss, all sums fitted", trained(flattering), "audit", "segments", "step 7", elsewhere=9),
    Forgery("another run's steps from 8 on", spliced, "audit", "microbatches", "step 8", 8, elsewhere=5),
    Forgery("validation better than computed", validated_better, "audit", "validation", "step 10", 10, elsewhere=7),
    Forgery("trained before the first step", trained_before, "audit", "initial state", "step 0", 0, elsewhere=7),
    Forgery("a weight norm edited", edited(lambda f: lower(f, "weight_norm")), "audit", "weight_norm", "step 7", 7, 9),
    Forgery("the last step fine-tuned", edited(fine_tuned_throughout), "audit", "weights", "step 13", 13, elsewhere=9),
    Forgery(
        "another beta2 in the recipe", edited(recipe("beta2 = 0.95", "beta2 = 0.96")), "audit", "weight_norm", "step 6"
    ),
    Forgery("an old anchor, recorded", edited(old_anchor_recorded), "audit", "weights", "step 8", 8, elsewhere=7),
    Forgery("another text beside the tokens", beside.other_text, "audit", "tokenizer's of its text", "step 7"),
    Forgery("another tokenizer beside them", beside.other_tokenizer, "audit", "tokenizer's of its text", "step 7"),
    # What is recorded contradicts itself.
    Forgery("a loss edited", edited(lambda f: lower(f, "loss")), "verify", "LossDiffers", LEDGER + "step 7"),
    Forgery("a segment's loss edited", edited(segment_loss), "verify", "NumbersDiffer", "segments.parquet: step 7"),
    Forgery("segments' losses and their root", edited(segment_root), "verify", "LossDiffers", LEDGER + "step 7"),
    Forgery("a learning rate edited", edited(lambda f: lower(f, "lr")), "verify", "LedgerBroken", "step 7: lr"),
    Forgery("another batch recorded", edited(batch_root), "verify", "BatchDiffers", LEDGER + "step 7"),
    Forgery("an entry edited, chain left", edited(broken_chain), "verify", "LedgerBroken", "step 8"),
    Forgery("a step left out", edited(left_out), "verify", "LedgerIncomplete", "step 7"),
    Forgery("the tail cut off", edited(truncated), "verify", "LedgerIncomplete", "step 13"),
    Forgery("the tail and its recipe", edited(truncated_with_recipe), "verify", "LedgerBroken", "step 3: lr"),
    Forgery("an old anchor under a new name", edited(old_anchor), "verify", "StateDiffers", "anchors/step8"),
    Forgery("an anchor's moments zeroed", edited(wrong_moments), "verify", "StateDiffers", "anchors/step8"),
    Forgery("step 12 published as step 6", edited(late_as_early), "verify", "StateDiffers", "checkpoints/step6"),
    Forgery("the final model fine-tuned", edited(fine_tuned), "verify", "StateDiffers", "model.safetensors"),
    Forgery("another text", edited(document("text", str.upper)), "verify", "DataDiffers", "data/documents/00000"),
    Forgery(
        "another licence", edited(document("licence", lambda _: "MIT")), "verify", "DataDiffers", "data/documents/00000"
    ),
    Forgery("another token", edited(other_token), "verify", "DataDiffers", "data/shards: stones train"),
    Forgery("another tokenizer", edited(tokenizer), "verify", "DataDiffers", "data/manifest.json: tokenizer"),
    Forgery(
        "another lr in the recipe",
        edited(recipe("\nlr = 0.004", "\nlr = 0.005")),
        "verify",
        "LedgerBroken",
        "step 1: lr",
    ),
    Forgery("an incident hidden", beside.hidden_incident, "verify", "LedgerIncomplete", "incident of step 11"),
    Forgery("a rollback invented", invented_rollback, "verify", "LedgerIncomplete", "step 9"),
    Forgery("a fork's first state replaced", other_parent(False), "verify", "StateDiffers", "parent"),
    # Nothing in the release tells: the parent's ledger does.
    Forgery("a fork of what its parent never was", other_parent(True), "diff", "state", "step 8", 9),
]
